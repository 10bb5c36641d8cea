"""Scores, curves and galleries of the test predictions, for each source; needs no TensorFlow."""

from _stage import run

from brain_tumor.evaluation.cohorts import cohorts
from brain_tumor.evaluation.cross_validation import fold_scores
from brain_tumor.evaluation.curve_plots import write_curves
from brain_tumor.evaluation.decisions import decide, decision_scores
from brain_tumor.evaluation.galleries import answer_galleries
from brain_tumor.evaluation.sources import external_cohorts, partial_scores, source_cohorts
from brain_tumor.evaluation.summary import metrics_table
from brain_tumor.files import write_json
from brain_tumor.metrics.arrays import as_arrays
from brain_tumor.metrics.reliability import calibration_scores
from brain_tumor.metrics.scores import cohort_metrics
from brain_tumor.prediction.tables import UNCALIBRATED, class_names, load_external, load_predictions, probabilities
from brain_tumor.tables.labels import is_exact
from brain_tumor.tables.store import Store

SPLIT = "data/split/folds.csv"


def main(params, arguments):
    folds, least, options, data = params.run.folds, params.evaluate.min_class_images, params.evaluate, params.data
    frame = load_predictions("data/predictions/test", SPLIT, folds, data.main)
    validation = load_predictions("data/predictions/validation", SPLIT, folds, data.main)
    classes = class_names(frame)
    parts = cohorts(frame, params.split.strategy)
    headline = next(iter(parts))
    for name in data.learned[1:]:
        further = load_predictions("data/predictions/test", SPLIT, folds, name)
        parts |= source_cohorts(name, further[further["role"] == "test"], frame)
    for name in data.external:
        rows = load_external("data/predictions/external", "data/audit/external.csv", SPLIT, name)
        parts |= external_cohorts(name, rows.assign(model_fold=folds[0]))

    def scores(part, decided):
        p, groups, patients = probabilities(part), part["group"], part.get("patient")
        actual = as_arrays(part["label"], p, classes)[0]
        before = calibration_scores(probabilities(part, UNCALIBRATED), actual)
        own = cohort_metrics(part["label"], p, classes, least, groups, patients, options.healthy_class)
        return own | {"uncalibrated": before} | decision_scores(decided, classes, options.target_error)

    test = {}
    for name, part in parts.items():
        if part["label"].map(is_exact).all():
            test[name] = scores(part, decide(part, validation, options.target_error))
        else:
            test[name] = partial_scores(part, validation, options.healthy_class, least, options.target_error)
    test[headline] |= fold_scores(parts[headline], options.searched_folds, least)
    write_json("metrics/test.json", test)
    decided = decide(parts[headline], validation, options.target_error)
    write_curves("plots", parts[headline], decided, headline)
    answer_galleries("data/galleries", parts[headline], frame, Store("data/prepared"), "data/maps")
    print(metrics_table(test), end="")


if __name__ == "__main__":
    run(main)
