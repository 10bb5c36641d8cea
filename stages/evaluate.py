"""Scores, curves and galleries of the test predictions, for each source; needs no TensorFlow."""

import pandas as pd
from _stage import run

from brain_tumor.evaluation.cohorts import cohorts
from brain_tumor.evaluation.cross_validation import fold_scores
from brain_tumor.evaluation.curve_plots import write_curves
from brain_tumor.evaluation.decisions import decide, decision_scores
from brain_tumor.evaluation.galleries import answer_galleries
from brain_tumor.evaluation.sources import external_cohorts, partial_scores, source_cohorts
from brain_tumor.evaluation.summary import metrics_table
from brain_tumor.evaluation.thresholds import HeldOut, Targets
from brain_tumor.files import write_json
from brain_tumor.metrics.arrays import as_arrays
from brain_tumor.metrics.reliability import calibration_scores
from brain_tumor.metrics.scores import cohort_metrics
from brain_tumor.prediction import tables
from brain_tumor.prediction.tables import UNCALIBRATED, class_names, load_predictions, probabilities
from brain_tumor.tables.labels import is_exact
from brain_tumor.tables.store import Store

SPLIT = "data/split/folds.csv"


def main(params, arguments):
    folds, least, options, data = params.run.folds, params.evaluate.min_class_images, params.evaluate, params.data
    all_folds, strategy = params.runs_all_folds, params.split.strategy
    part = tables.held_out_part(strategy, all_folds)
    rows = tables.held_out_predictions(f"data/predictions/{part}", SPLIT, folds, data.learned, part)
    held_out = HeldOut(rows, all_folds, Targets(options.target_error, options.target_miss, options.healthy_class))

    frame = load_predictions("data/predictions/test", SPLIT, folds, data.main)
    classes = class_names(frame)
    scored = [frame]
    if strategy != "official":  # there each network is tested on the published test folder
        scored.append(tables.load_served("data/served/official_test.csv", SPLIT))
    parts = cohorts(pd.concat(scored, ignore_index=True), strategy)
    headline = next(iter(parts))
    for name in data.learned[1:]:
        further = load_predictions("data/predictions/test", SPLIT, folds, name)
        parts |= source_cohorts(name, further[further["role"] == "test"], frame)
    for name in data.external:
        parts |= external_cohorts(name, tables.load_external("data/served", "data/audit/external.csv", SPLIT, name))

    def scores(part):
        p, groups, patients = probabilities(part), part["group"], part.get("patient")
        actual = as_arrays(part["label"], p, classes)[0]
        before = calibration_scores(probabilities(part, UNCALIBRATED), actual)
        own = cohort_metrics(part["label"], p, classes, least, groups, patients, options.healthy_class)
        return own | {"uncalibrated": before} | decision_scores(decide(part, held_out), classes, held_out)

    test = {}
    for name, part in parts.items():
        exact = part["label"].map(is_exact).all()
        test[name] = scores(part) if exact else partial_scores(part, held_out, least)
    test[headline] |= fold_scores(parts[headline], options.searched_folds, least)
    write_json("metrics/test.json", test)
    write_curves("plots", parts[headline], decide(parts[headline], held_out), headline)
    answer_galleries("data/galleries", parts[headline], frame, Store("data/prepared"), "data/maps")
    print(metrics_table(test), end="")


if __name__ == "__main__":
    run(main)
