"""Scores on the validation folds, which recipes are chosen by, and the learning curves; needs no TensorFlow."""

from _stage import run

from brain_tumor.evaluation import plots
from brain_tumor.evaluation.cohorts import class_names, load_controls, load_predictions, probabilities
from brain_tumor.evaluation.crossvalidation import validation_figures
from brain_tumor.evaluation.history import read_history
from brain_tumor.evaluation.metrics import cohort_metrics
from brain_tumor.files import write_json


def main(params, arguments):
    folds, least = params.train.folds, params.evaluate.min_class_images
    frame = load_predictions("data/predictions/validation", "data/split/folds.csv", folds)
    shifted = load_controls("data/predictions/validation", frame, folds)
    scores = validation_figures(frame, shifted, least)
    for fold, part in frame.groupby("model_fold"):
        figures = cohort_metrics(part["label"], probabilities(part), class_names(frame), least, part["group"])
        scores[f"fold_{fold}"] = figures
    write_json("metrics/validation.json", scores)
    plots.training_png("plots/training.png", {k: read_history(f"plots/training/fold-{k}") for k in folds})
    told = {name: value for name, value in scores.items() if name.startswith("macro_f1")}
    print("validation: " + ", ".join(f"{name} {value:.4f}" for name, value in told.items()))


if __name__ == "__main__":
    run(main)
