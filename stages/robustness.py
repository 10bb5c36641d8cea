"""The score under eleven corruptions at five strengths, on a fixed sample of the test set: metrics/robustness.json.

From a single view of each image, which halves the time; the stage `predict` may average two.
"""

from pathlib import Path

from _stage import run

from brain_tumor.drawing.probes import robustness_svg
from brain_tumor.evaluation.cohorts import cohorts
from brain_tumor.files import write_json
from brain_tumor.networks.determinism import make_deterministic
from brain_tumor.prediction.predicting import Predictor
from brain_tumor.prediction.tables import load_predictions
from brain_tumor.probes.robustness import (
    SCORE,
    corrupted_predictions,
    robustness_rows,
    robustness_scores,
    stratified_sample,
)
from brain_tumor.tables.csv_tables import write_table


def main(params, arguments):
    make_deterministic(params.run.threads)
    frame = load_predictions("data/predictions/test", "data/split/folds.csv", params.run.folds, params.data.main)
    headline = next(iter(cohorts(frame, params.split.strategy).values()))
    sample = stratified_sample(headline, params.robustness.images, params.robustness.seed)
    options = {"batch_size": params.predict.batch_size, "flips": False}
    predictors = {k: Predictor(f"models/fold-{k}/model.keras", **options) for k in sample["model_fold"].unique()}
    rows = robustness_rows(corrupted_predictions(sample, Path("data/raw"), predictors))
    write_table("plots/robustness.csv", rows)
    robustness_svg("plots/robustness.svg", rows, SCORE, f"Balanced accuracy of {len(sample)} test images by strength")
    write_json("metrics/robustness.json", scores := robustness_scores(rows))
    print(", ".join(f"{name} {value:.3f}" for name, value in scores.items() if isinstance(value, float)))


if __name__ == "__main__":
    run(main)
