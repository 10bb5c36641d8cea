"""Scores on the validation folds, which recipes are chosen by, and the learning curves; needs no TensorFlow."""

from _stage import run

from brain_tumor.drawing.training import training_png
from brain_tumor.evaluation.cross_validation import validation_scores
from brain_tumor.evaluation.learning_curves import read_history
from brain_tumor.files import write_json
from brain_tumor.metrics.scores import cohort_metrics
from brain_tumor.prediction.tables import class_names, load_controls, load_predictions, probabilities


def main(params, arguments):
    folds, least = params.run.folds, params.evaluate.min_class_images
    frame = load_predictions("data/predictions/validation", "data/split/folds.csv", folds, params.data.main)
    shifted = load_controls("data/predictions/validation", frame, folds)
    scores = validation_scores(frame, shifted, least)
    for fold, part in frame.groupby("model_fold"):
        own = cohort_metrics(part["label"], probabilities(part), class_names(frame), least, part["group"])
        scores[f"fold_{fold}"] = own
    write_json("metrics/validation.json", scores)
    training_png("plots/training.png", {k: read_history(f"plots/training/fold-{k}") for k in folds})
    shown = {name: value for name, value in scores.items() if name.startswith("macro_f1")}
    print("validation: " + ", ".join(f"{name} {value:.4f}" for name, value in shown.items()))


if __name__ == "__main__":
    run(main)
