"""Scores, curves and galleries of the test predictions; needs no TensorFlow."""

from _stage import run

from brain_tumor.evaluation.cohorts import cohorts
from brain_tumor.evaluation.cross_validation import fold_scores
from brain_tumor.evaluation.curve_plots import write_curves
from brain_tumor.evaluation.decisions import decide, decision_scores
from brain_tumor.evaluation.galleries import answer_galleries
from brain_tumor.evaluation.summary import metrics_table
from brain_tumor.files import write_json
from brain_tumor.metrics.arrays import as_arrays
from brain_tumor.metrics.reliability import calibration_scores
from brain_tumor.metrics.scores import cohort_metrics
from brain_tumor.prediction.tables import UNCALIBRATED, class_names, load_external, load_predictions, probabilities
from brain_tumor.tables.store import Store


def main(params, arguments):
    folds, least, options = params.run.folds, params.evaluate.min_class_images, params.evaluate
    split = "data/split/folds.csv"
    frame = load_predictions("data/predictions/test", split, folds)
    validation = load_predictions("data/predictions/validation", split, folds)
    classes = class_names(frame)
    parts = cohorts(frame, params.split.strategy)
    parts |= load_external("data/predictions/external", options.external, folds[0])
    decided = {name: decide(part, validation, options.target_error) for name, part in parts.items()}

    def scores(name, part):
        p, groups, patients = probabilities(part), part.get("group"), part.get("patient")
        actual = as_arrays(part["label"], p, classes)[0]
        before = calibration_scores(probabilities(part, UNCALIBRATED), actual)
        own = cohort_metrics(part["label"], p, classes, least, groups, patients, options.healthy_class)
        return own | {"uncalibrated": before} | decision_scores(decided[name], classes, options.target_error)

    test = {name: scores(name, part) for name, part in parts.items()}
    headline = next(iter(parts))
    test[headline] |= fold_scores(parts[headline], options.searched_folds, least)
    write_json("metrics/test.json", test)
    write_curves("plots", parts[headline], decided[headline], headline)
    answer_galleries("data/galleries", parts[headline], frame, Store("data/prepared"), "data/maps")
    print(metrics_table(test), end="")


if __name__ == "__main__":
    run(main)
