"""The score under eleven corruptions at five strengths, on a fixed sample of the test: metrics/robustness.json.

Each scan is corrupted as it came, then prepared as any other, and judged by the model that never saw its patient.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from _stage import quiet_tensorflow, run

quiet_tensorflow("robustness")

from brain_tumor.evaluation.cohorts import cohorts, load_predictions  # noqa: E402
from brain_tumor.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupted  # noqa: E402
from brain_tumor.evaluation.decision_plots import robustness_png  # noqa: E402
from brain_tumor.evaluation.robustness import (  # noqa: E402
    SCORE,
    robustness_figures,
    robustness_rows,
    stratified_sample,
)
from brain_tumor.files import write_json  # noqa: E402
from brain_tumor.imaging import Preprocessing, decode, prepare  # noqa: E402
from brain_tumor.model.determinism import make_deterministic  # noqa: E402
from brain_tumor.model.predicting import prediction_table  # noqa: E402
from brain_tumor.model.saving import load_model  # noqa: E402
from brain_tumor.progress import bar  # noqa: E402
from brain_tumor.tables import write_table  # noqa: E402

VARIANTS = [("none", 0), *((name, strength) for name in CORRUPTIONS for strength in STRENGTHS)]


def prepared(path, preprocessing, corruption, strength, seed):
    grey = decode((Path("data/raw") / path).read_bytes())
    if strength:
        grey = corrupted(grey, corruption, strength, seed)
    # Without loss and without compression, so that the one preprocessing takes it like a file.
    return prepare(cv2.imencode(".bmp", grey)[1].tobytes(), preprocessing).pixels


def main(params, arguments):
    make_deterministic(params.train.threads)
    frame = load_predictions("data/predictions/test", "data/split/folds.csv", params.train.folds)
    headline = next(iter(cohorts(frame, params.split.strategy).values()))
    sample = stratified_sample(headline, params.robustness.images, params.robustness.seed)
    options = params.predict.model_dump(exclude={"controls"})
    models = {fold: load_model(f"models/fold-{fold}/model.keras") for fold in sample["model_fold"].unique()}
    results = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for corruption, strength in bar(VARIANTS, desc="robustness", unit="variant"):
            for fold, part in sample.groupby("model_fold"):
                model, metadata = models[fold]
                preprocessing = Preprocessing(**metadata["preprocessing"])
                jobs = [
                    pool.submit(prepared, path, preprocessing, corruption, strength, seed)
                    for seed, path in zip(part.index, part["path"], strict=True)
                ]
                images, rows = np.stack([job.result() for job in jobs]), np.arange(len(part))
                about = part[["label", "group"]].assign(corruption=corruption, strength=strength)
                results.append(prediction_table(model, metadata, images, rows, about, **options))
    rows = robustness_rows(pd.concat(results))
    write_table("plots/robustness.csv", rows)
    robustness_png("plots/robustness.png", rows, SCORE, f"Balanced accuracy of {len(sample)} test images by strength")
    write_json("metrics/robustness.json", figures := robustness_figures(rows))
    print(", ".join(f"{name} {value:.3f}" for name, value in figures.items() if isinstance(value, float)))


if __name__ == "__main__":
    run(main)
