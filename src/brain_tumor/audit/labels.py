"""Labels that models which never saw the image contradict (confident learning).

C. Northcutt, L. Jiang and I. Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70, 2021.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

from brain_tumor.audit.gallery import MOST, gallery_png
from brain_tumor.evaluation.cohorts import class_names, probabilities

LABEL_COLUMNS = ["rank", "path", "label", "suggested", "quality", "issue", "models"]


def out_of_sample(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per image with the mean probabilities of the models that were not trained on it.

    Args:
        frame: predictions of several folds, as `cohorts.load_predictions` returns them.

    Returns:
        Columns path, label, models (their number) and p_<class>..., sorted by path.
    """
    columns = [f"p_{name}" for name in class_names(frame)]
    judged = frame[["path", "label"]].assign(models=1)
    judged[columns] = probabilities(frame)
    means = judged.groupby(["path", "label"], as_index=False).agg({"models": "sum"} | dict.fromkeys(columns, "mean"))
    return means.sort_values("path", ignore_index=True)


def suspicious_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Rank images by how little the models believe their label.

    Args:
        frame: what `out_of_sample` returns.

    Returns:
        Columns `LABEL_COLUMNS`, a row per image of a class the frame has, the most suspicious first. `quality` is
        the probability of the given label; `issue` is 1 where confident learning takes the label for wrong;
        `suggested` is the most probable class.
    """
    present = sorted(set(frame["label"]))
    values = frame[[f"p_{name}" for name in present]].to_numpy(np.float64)
    values = (values + 1e-9) / (values + 1e-9).sum(axis=1, keepdims=True)
    given = frame["label"].map({name: k for k, name in enumerate(present)}).to_numpy()
    issue = find_label_issues(given, values, n_jobs=1)
    table = frame[["path", "label", "models"]].assign(
        suggested=np.array(present)[values.argmax(axis=1)],
        quality=get_label_quality_scores(given, values, method="self_confidence").round(6),
        issue=issue.astype(int),
    )
    table = table.sort_values(["issue", "quality", "path"], ascending=[False, True, True], ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1))[LABEL_COLUMNS]


def label_gallery(path: Path | str, root: Path | str, suspects: pd.DataFrame) -> None:
    """Draw the images whose labels are the most suspicious, at most 52.

    Args:
        path: PNG file to write.
        root: of the data set.
        suspects: rows of what `suspicious_labels` returns, the most suspicious first.
    """
    rows = []
    for row in suspects.head(MOST).itertuples():
        folder, _, name = row.path.rpartition("/")
        said = f"label {row.label} ({row.quality:.3f})\nmodels say {row.suggested}"
        rows.append(((row.path,), f"{row.rank}. {folder}\n{name}\n{said}"))
    gallery_png(path, root, rows, f"Suspicious labels ({len(rows)} of {len(suspects)})", images=1)
