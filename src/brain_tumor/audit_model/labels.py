"""Labels that are contradicted by models that never saw the image (confident learning).

C. Northcutt, L. Jiang and I. Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70, 2021.
"""

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

from brain_tumor.prediction.tables import class_names, probabilities

LABEL_COLUMNS = ["rank", "path", "label", "suggested", "quality", "issue", "models"]


def out_of_sample(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per image with the mean probabilities of the models that were not trained on it.

    Args:
        frame: predictions of several folds, as `prediction.tables.load_predictions` returns them.

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
        Columns `LABEL_COLUMNS`, a row per image, the most suspicious first. `quality` is the probability of the given
        label; `issue` is 1 if confident learning considers the label wrong; `suggested` is the most probable class
        among those that occur as labels.
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
