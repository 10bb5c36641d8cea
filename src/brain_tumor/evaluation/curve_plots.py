"""The curves of the headline cohort, each as a table for `dvc plots` and as a figure."""

from pathlib import Path

import pandas as pd

from brain_tumor.drawing import classification, decisions
from brain_tumor.metrics import curves, reliability, selective
from brain_tumor.metrics.arrays import as_arrays
from brain_tumor.prediction.tables import UNCALIBRATED, class_names, probabilities
from brain_tumor.tables.csv_tables import write_table


def write_curves(folder: Path | str, frame: pd.DataFrame, decided: pd.DataFrame, title: str) -> None:
    """Write confusion, roc, precision_recall, reliability and risk_coverage, each as .csv and as .svg.

    Args:
        folder: existing, to write to.
        frame: rows of what `prediction.tables.load_predictions` returns, of one cohort.
        decided: what `decisions.decide` returns for them.
        title: of the figures.
    """
    folder, shown = Path(folder), (frame["label"], probabilities(frame), class_names(frame))
    write_table(folder / "confusion.csv", curves.confusion_rows(*shown))
    classification.confusion_svg(folder / "confusion.svg", curves.confusion_counts(*shown), title)

    roc, recalls = curves.roc_curves(*shown), curves.precision_recall_curves(*shown)
    write_table(folder / "roc.csv", roc.melt("fpr", var_name="class", value_name="tpr"))
    classification.roc_svg(folder / "roc.svg", roc, curves.roc_areas(*shown), title)
    write_table(folder / "precision_recall.csv", recalls.melt("recall", var_name="class", value_name="precision"))
    averages = curves.average_precisions(*shown)
    classification.precision_recall_svg(folder / "precision_recall.svg", recalls, averages, title)

    actual, _, calibrated = as_arrays(*shown)
    stages = {"before calibration": probabilities(frame, UNCALIBRATED), "after calibration": calibrated}
    rows = reliability.reliability_rows(stages, actual)
    errors = {name: reliability.expected_calibration_error(values, actual) for name, values in stages.items()}
    write_table(folder / "reliability.csv", rows)
    decisions.reliability_svg(folder / "reliability.svg", rows, errors, title)

    risks = selective.risk_coverage(decided["confidence"].to_numpy(), decided["correct"].to_numpy())
    write_table(folder / "risk_coverage.csv", risks)
    decisions.risk_coverage_svg(folder / "risk_coverage.svg", risks, selective.risk_coverage_area(risks), title)
