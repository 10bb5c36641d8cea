"""Scores of one cohort, from labels and probabilities (see `arrays` for their shapes and errors).

What is stated follows Metrics Reloaded (Maier-Hein et al., Nature Methods 21, 2024) for image-level
classification: counting scores per class and averaged, ranking scores, and scores of calibration.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import (
    cohen_kappa_score,
    confusion_matrix,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
)

from brain_tumor.metrics.arrays import as_arrays
from brain_tumor.metrics.bootstrap import (
    confusion_scores,
    detection_interval,
    interval,
    mean_interval,
    resampled_confusions,
)
from brain_tumor.metrics.curves import average_precisions, roc_areas
from brain_tumor.metrics.reliability import calibration_scores
from brain_tumor.metrics.rounding import rounded
from brain_tumor.tables.labels import SEPARATOR


def cohort_metrics(
    labels: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    min_class_images: int = 20,
    groups: Sequence[str] | None = None,
    patients: Sequence[str] | None = None,
    healthy: str = "",
) -> dict:
    """Scores of one cohort, as nested dictionaries of numbers for JSON and DVC.

    A class without any image in the cohort has no key, in `confusion` either: images predicted as such a class are the
    difference between a row of `confusion` and `n_<class>` (`curves.confusion_counts` shows them).

    Args:
        labels: true classes.
        probabilities: probability of each class.
        classes: names of the columns.
        min_class_images: number of images of every class that an average over classes requires; with fewer, a
            single image would change it by several points.
        groups: patient group of each image; with it, the main scores have 95 % intervals of a bootstrap over
            groups (see `bootstrap.interval`) as <score>_ci_low and <score>_ci_high.
        patients: patient of each image, "" if unknown; with it, `patients` is stated.
        healthy: the class of images without a tumour; with it, `tumour` is stated.

    Returns:
        n, n_<class>, accuracy; balanced_accuracy, macro_{precision,recall,f1,roc_auc,average_precision} if every
        class has `min_class_images` images; weighted_{precision,recall,f1} over the classes present; mcc and
        cohen_kappa if at least two classes are present; log_loss, brier and ece (see `reliability`);
        per_class.<class>.{precision,recall,f1}, and {specificity,roc_auc,average_precision} if there are images of
        other classes; tumour, see `tumour_scores`; tumour_types, see `tumour_type_scores`; patients, see
        `patient_scores`; confusion.<actual>.<predicted>. Precision and F1 of a class that is never predicted are 0.

    Example:
        >>> scores = cohort_metrics(["a", "b"], np.array([[0.9, 0.1], [0.6, 0.4]]), ["a", "b"], min_class_images=1)
        >>> scores["accuracy"], scores["per_class"]["b"]["recall"]
        (0.5, 0.0)
    """
    actual, predicted, probabilities = as_arrays(labels, probabilities, classes)
    matrix = confusion_matrix(actual, predicted, labels=range(len(classes)))
    counts = matrix.sum(axis=1)
    present = [i for i in range(len(classes)) if counts[i]]
    precision, recall, f1, _ = precision_recall_fscore_support(
        actual, predicted, labels=range(len(classes)), zero_division=0
    )
    areas, averages = (rank(labels, probabilities, classes) for rank in (roc_areas, average_precisions))

    figures = {"n": len(actual)}
    figures |= {f"n_{classes[i]}": int(counts[i]) for i in present}
    figures["accuracy"] = rounded(np.mean(actual == predicted))
    if counts.min() >= max(min_class_images, 1):
        figures["balanced_accuracy"] = rounded(recall.mean())  # by its definition, the mean recall
        figures["macro_precision"] = rounded(precision.mean())
        figures["macro_recall"] = rounded(recall.mean())
        figures["macro_f1"] = rounded(f1.mean())
        if areas:
            figures["macro_roc_auc"] = rounded(np.mean(list(areas.values())))
            figures["macro_average_precision"] = rounded(np.mean(list(averages.values())))
    shares = counts / counts.sum()
    figures["weighted_precision"] = rounded(shares @ precision)
    figures["weighted_recall"] = rounded(shares @ recall)
    figures["weighted_f1"] = rounded(shares @ f1)
    if len(present) > 1:
        figures["mcc"] = rounded(matthews_corrcoef(actual, predicted))
        figures["cohen_kappa"] = rounded(cohen_kappa_score(actual, predicted))
    if groups is not None:
        for name, bounds in interval(actual, predicted, groups, len(classes)).items():
            if name in figures:
                figures[f"{name}_ci_low"], figures[f"{name}_ci_high"] = map(rounded, bounds)
    figures |= calibration_scores(probabilities, actual)
    others = len(actual) - counts
    specificity = 1 - (matrix.sum(axis=0) - np.diagonal(matrix)) / np.maximum(others, 1)
    figures["per_class"] = {
        classes[i]: {"precision": rounded(precision[i]), "recall": rounded(recall[i])}
        | ({"specificity": rounded(specificity[i])} if others[i] else {})
        | {"f1": rounded(f1[i])}
        | ({"roc_auc": areas[classes[i]], "average_precision": averages[classes[i]]} if others[i] else {})
        for i in present
    }
    if healthy in classes:
        if found := tumour_scores(labels, probabilities, classes, healthy, min_class_images, groups):
            figures["tumour"] = found
        if found := tumour_type_scores(labels, probabilities, classes, healthy, min_class_images, groups):
            figures["tumour_types"] = found
    if patients is not None and (found := patient_scores(actual, probabilities, patients, classes)):
        figures["patients"] = found
    figures["confusion"] = {classes[i]: {classes[j]: int(matrix[i, j]) for j in present} for i in present}
    return figures


def tumour_scores(
    labels: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    healthy: str,
    min_class_images: int,
    groups: Sequence[str] | None = None,
) -> dict:
    """Tumour vs. no tumour: all kinds of tumour count as one class, so labels may be partial.

    Args:
        labels: see `tables.labels`; images whose label leaves both possible do not count.
        probabilities: (n, classes).
        classes: names of the columns.
        healthy: the class without a tumour.
        min_class_images: with fewer images of either side nothing is stated.
        groups: as for `cohort_metrics`.

    Returns:
        n (images with a tumour), n_healthy, sensitivity, specificity, precision and f1 of the predicted classes, and
        roc_auc of the probability of a tumour; sensitivity, specificity and roc_auc with their intervals.
    """
    side = np.array([tumour_side(label, healthy) for label in labels])
    known = side != ""
    column, truth = list(classes).index(healthy), side[known] == "tumour"
    if min(truth.sum(), (~truth).sum()) < max(min_class_images, 1):
        return {}
    values = np.asarray(probabilities, np.float64)[known]
    called, score = values.argmax(axis=1) != column, 1 - values[:, column]
    precision, recall, f1, _ = precision_recall_fscore_support(truth, called, average="binary", zero_division=0)
    figures = {
        "n": int(truth.sum()),
        "n_healthy": int((~truth).sum()),
        "sensitivity": rounded(recall),
        "specificity": rounded(np.mean(~called[~truth])),
        "precision": rounded(precision),
        "f1": rounded(f1),
        "roc_auc": rounded(roc_auc_score(truth, score)),
    }
    if groups is not None:
        for name, bounds in detection_interval(truth, score, called, np.asarray(groups)[known]).items():
            figures[f"{name}_ci_low"], figures[f"{name}_ci_high"] = map(rounded, bounds)
    return figures


def tumour_side(label: str, healthy: str) -> str:
    """Whether a label says "tumour" or "healthy"; "" if it leaves both possible."""
    if label == healthy:
        return "healthy"
    return "" if healthy in label.split(SEPARATOR) else "tumour"


def tumour_type_scores(
    labels: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    healthy: str,
    min_class_images: int,
    groups: Sequence[str] | None = None,
) -> dict:
    """How well the kinds of tumour are told apart, on the images with a tumour alone.

    Returns:
        n and macro_f1 over the kinds of tumour, with its interval; a tumour that is called healthy counts as missed.
        Nothing if a kind has fewer than `min_class_images` images. Arguments as for `tumour_scores`, labels exact.
    """
    labels = np.asarray(labels)
    rows = labels != healthy
    if not rows.any():
        return {}
    actual, predicted, _ = as_arrays(labels[rows], np.asarray(probabilities)[rows], classes)
    counts = np.delete(np.bincount(actual, minlength=len(classes)), list(classes).index(healthy))
    if counts.min() < max(min_class_images, 1):
        return {}
    matrix = confusion_matrix(actual, predicted, labels=range(len(classes)))
    figures = {"n": int(rows.sum()), "macro_f1": rounded(confusion_scores(matrix)["macro_f1"])}
    if groups is not None:
        drawn = resampled_confusions(actual, predicted, np.asarray(groups)[rows], len(classes))
        low, high = np.percentile(confusion_scores(drawn)["macro_f1"], [2.5, 97.5])
        figures |= {"macro_f1_ci_low": rounded(low), "macro_f1_ci_high": rounded(high)}
    return figures


def patient_scores(
    actual: np.ndarray, probabilities: np.ndarray, patients: Sequence[str], classes: Sequence[str]
) -> dict:
    """Scores of known patients, each classified by the majority of its images.

    A patient's class is the label of most of its images, its predicted class the one that most of them are predicted
    as. A tie of predictions is broken by the mean probability, a tie of labels by the order of the classes.

    Returns:
        n (known patients), accuracy with its 95 % interval over patients, <class>.{n,recall}; empty if no patient is
        known.
    """
    frame = pd.DataFrame({"patient": np.asarray(patients), "actual": actual})
    known = frame["patient"] != ""
    if not known.any():
        return {}
    truths, calls = [], []
    for _, rows in frame[known].groupby("patient"):
        values = probabilities[rows.index]
        votes = np.bincount(values.argmax(axis=1), minlength=len(classes))
        truths.append(np.bincount(rows["actual"]).argmax())
        calls.append((votes + values.mean(axis=0) / 2).argmax())  # the mean is below 1: it decides ties only
    truth, right = np.array(truths), np.array(truths) == np.array(calls)
    low, high = mean_interval(right, np.arange(len(right)))
    figures = {"n": len(right), "accuracy": rounded(right.mean())}
    figures |= {"accuracy_ci_low": rounded(low), "accuracy_ci_high": rounded(high)}
    return figures | {
        name: {"n": int((truth == i).sum()), "recall": rounded(right[truth == i].mean())}
        for i, name in enumerate(classes)
        if (truth == i).any()
    }
