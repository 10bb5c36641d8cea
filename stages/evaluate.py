"""Figures, curves and pictures of what the models predicted of the test images; needs no TensorFlow."""

import numpy as np
from _stage import run

from brain_tumor.data.store import Store
from brain_tumor.evaluation.cohorts import (
    UNCALIBRATED,
    class_names,
    cohorts,
    load_external,
    load_predictions,
    probabilities,
)
from brain_tumor.evaluation.crossvalidation import fold_figures
from brain_tumor.evaluation.decisions import decide, decision_figures
from brain_tumor.evaluation.galleries import galleries
from brain_tumor.evaluation.headline import draw_headline
from brain_tumor.evaluation.inputs import as_arrays
from brain_tumor.evaluation.metrics import cohort_metrics
from brain_tumor.evaluation.reliability import calibration_scores
from brain_tumor.evaluation.table import metrics_table
from brain_tumor.files import write_json


def show(headline, frame):
    """Galleries with the maps of the stage `explain`, which are in the order of the predictions."""
    store = Store("data/prepared")
    row = {path: i for i, path in enumerate(store.index["path"])}
    maps = {fold: np.load(f"data/maps/fold-{fold}.npy", mmap_mode="r") for fold in frame["model_fold"].unique()}
    place = {(fold, path): i for fold, part in frame.groupby("model_fold") for i, path in enumerate(part["path"])}
    pixels, at = (lambda path: store.images[row[path]]), (lambda fold, path: maps[fold][place[fold, path]])
    galleries("data/galleries", headline, pixels, at)


def main(params, arguments):
    folds, least, options = params.train.folds, params.evaluate.min_class_images, params.evaluate
    split = "data/split/folds.csv"
    frame = load_predictions("data/predictions/test", split, folds)
    validation = load_predictions("data/predictions/validation", split, folds)
    classes = class_names(frame)
    parts = cohorts(frame, params.split.strategy)
    parts |= load_external("data/predictions/external", options.external, folds[0])
    decided = {name: decide(part, validation, options.target_error) for name, part in parts.items()}

    def figures(name, part):
        p, groups, patients = probabilities(part), part.get("group"), part.get("patient")
        actual = as_arrays(part["label"], p, classes)[0]
        before = calibration_scores(probabilities(part, UNCALIBRATED), actual)
        scores = cohort_metrics(part["label"], p, classes, least, groups, patients, options.healthy_class)
        return scores | {"uncalibrated": before} | decision_figures(decided[name], classes, options.target_error)

    test = {name: figures(name, part) for name, part in parts.items()}
    headline = next(iter(parts))
    test[headline] |= fold_figures(parts[headline], options.searched_folds, least)
    write_json("metrics/test.json", test)
    draw_headline("plots", parts[headline], decided[headline], headline)
    show(parts[headline], frame)
    print(metrics_table(test), end="")


if __name__ == "__main__":
    run(main)
