"""Evaluation against scikit-learn: intervals of the scores from a bootstrap over patient groups.

    python benchmarks/evaluation.py [--json FILE]

Needs data/split (`dvc repro split`). The rival computes macro-F1 of each resample by scikit-learn's
`f1_score`, as one would by hand; both draw the same groups, and their intervals have to agree.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np  # noqa: E402
from rows import Row, run  # noqa: E402
from sklearn.metrics import f1_score  # noqa: E402

from brain_tumor.metrics.bootstrap import RESAMPLES, group_draws, interval  # noqa: E402
from brain_tumor.params import load_params  # noqa: E402
from brain_tumor.tables.csv_tables import read_table  # noqa: E402
from brain_tumor.tables.labels import classes_in  # noqa: E402


def measure(_: argparse.Namespace) -> list[Row]:
    table = read_table(ROOT / "data/split/folds.csv")
    table = table[table["source"] == load_params(ROOT / "params.yaml").data.main]
    classes = classes_in(table["label"])
    actual = table["label"].map(classes.index).to_numpy()
    random = np.random.default_rng(0)  # what was called does not matter to the time
    predicted = np.where(random.random(len(actual)) < 0.9, actual, random.integers(0, len(classes), len(actual)))
    groups = table["group"].to_numpy()

    start = time.perf_counter()
    ours = interval(actual, predicted, groups, len(classes))["macro_f1"]
    own = time.perf_counter() - start

    start = time.perf_counter()
    codes, parts = group_draws(groups)
    draws = np.concatenate(list(parts))
    rows = [np.flatnonzero(codes == code) for code in range(draws.shape[1])]
    scores = []
    for drawn in draws:
        chosen = np.concatenate([np.tile(part, count) for part, count in zip(rows, drawn, strict=True) if count])
        drawn_classes = np.unique(actual[chosen])  # a class that no drawn image has does not count
        scores.append(f1_score(actual[chosen], predicted[chosen], labels=drawn_classes, average="macro"))
    theirs = np.percentile(scores, [2.5, 97.5])
    other = time.perf_counter() - start
    if not np.allclose(ours, theirs, atol=1e-9):
        raise SystemExit(f"error: expected the interval {theirs.tolist()} of scikit-learn, got {ours}")
    what = f"intervals of four scores of {len(actual):,} images, {RESAMPLES:,} resamples"
    return [Row(what, own, "s", "scikit-learn's f1_score for each resample, one score", other, most=1)]


if __name__ == "__main__":
    sys.exit(run(__doc__, measure))
