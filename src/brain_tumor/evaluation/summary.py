"""The main scores of all cohorts as text for a terminal."""

from collections.abc import Iterable, Sequence

from brain_tumor.evaluation.cohorts import description

_SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced acc.",
    "macro_precision": "macro P",
    "macro_recall": "macro R",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
}
_CLASS_SCORES = {"precision": "precision", "recall": "recall", "f1": "F1"}
_TUMOUR_SCORES = {"sensitivity": "sensitivity", "specificity": "specificity", "roc_auc": "ROC-AUC"}


def metrics_table(metrics: dict[str, dict]) -> str:
    """Lay out the scores of all cohorts, those of each class and of tumour vs. no tumour, and what each is.

    Args:
        metrics: cohort -> what `metrics.scores.cohort_metrics` returns; further keys are ignored.

    Returns:
        Lines of at most 100 columns if names of classes and cohorts are not too long, with a line end after the last
        one. A dash stands for a score that a cohort does not have.
    """
    overall = [[name, str(m["n"]), *_cells(m, _SCORES)] for name, m in metrics.items()]
    lines = _aligned([["cohort", "n", *_SCORES.values()], *overall])

    exact = {name: m for name, m in metrics.items() if "per_class" in m}
    classes = sorted({name for m in exact.values() for name in m["per_class"]})
    rows = [["class and cohort", "n", *_CLASS_SCORES.values()]]
    for name in classes:
        rows.append([name])
        for cohort, m in exact.items():
            scores = _cells(m["per_class"].get(name, {}), _CLASS_SCORES)
            rows.append([f"  {cohort}", str(m.get(f"n_{name}", 0)), *scores])
    lines += ["", *_aligned(rows)]

    rows = [["tumour vs. no tumour", "tumours", "healthy", *_TUMOUR_SCORES.values()]]
    for cohort, m in metrics.items():
        if found := m.get("tumour"):
            rows.append([cohort, str(found["n"]), str(found["n_healthy"]), *_cells(found, _TUMOUR_SCORES)])
    if len(rows) > 1:
        lines += ["", *_aligned(rows)]

    width = max(map(len, metrics))
    lines += ["", *(f"{name:<{width}}  {description(name)}" for name in metrics)]
    return "\n".join(lines) + "\n"


def _cells(source: dict, keys: Iterable[str]) -> list[str]:
    return [f"{source[key]:.3f}" if key in source else "-" for key in keys]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """First cell to the left, the others to the right; a row of one cell is a heading and takes the line."""
    full = [row for row in rows if len(row) > 1]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=False)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    return lines
