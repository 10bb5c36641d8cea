"""Scores on the validation folds, which recipes are chosen by, and the learning curves; needs no TensorFlow.

Of the main source the four classes, of every further source that is learned from tumour vs. no tumour.
"""

from _stage import run

from brain_tumor.drawing.training import training_svg
from brain_tumor.evaluation.cross_validation import validation_scores
from brain_tumor.evaluation.learning_curves import read_history
from brain_tumor.evaluation.sources import one_per_picture
from brain_tumor.files import write_json
from brain_tumor.metrics.scores import cohort_metrics, tumour_scores
from brain_tumor.prediction.tables import class_names, load_controls, load_predictions, probabilities

PREDICTIONS, SPLIT = "data/predictions/validation", "data/split/folds.csv"


def main(params, arguments):
    folds, least, healthy = params.run.folds, params.evaluate.min_class_images, params.evaluate.healthy_class
    frame = load_predictions(PREDICTIONS, SPLIT, folds, params.data.main)
    shifted = load_controls(PREDICTIONS, frame, folds)
    scores = validation_scores(frame, shifted, least)
    for fold, part in frame.groupby("model_fold"):
        own = cohort_metrics(part["label"], probabilities(part), class_names(frame), least, part["group"])
        scores[f"fold_{fold}"] = own
    for name in params.data.learned[1:]:
        part = one_per_picture(load_predictions(PREDICTIONS, SPLIT, folds, name))
        if healthy in class_names(frame) and len(part):
            found = tumour_scores(part["label"], probabilities(part), class_names(part), healthy, 1, part["group"])
            scores[f"source_{name}"] = found
    write_json("metrics/validation.json", scores)
    histories = {k: read_history(f"plots/training/fold-{k}") for k in folds}
    training_svg("plots/training.svg", histories, best=params.train.patience > 0)
    shown = {name: value for name, value in scores.items() if name.startswith("macro_f1")}
    print("validation: " + ", ".join(f"{name} {value:.4f}" for name, value in shown.items()))


if __name__ == "__main__":
    run(main)
