"""Who is trained on, who is judged, and what leaks from one to the other."""

import numpy as np
import pandas as pd

from brain_tumor.errors import PipelineError


def roles(table: pd.DataFrame, fold: int, strategy: str, on_leak: str) -> np.ndarray:
    """What each image is to the model of fold `fold`.

    With fold k as test, the next one is validation and the rest training. Under the strategy
    "official" the test is the published folder, fold k is validation and the rest training.

    Args:
        table: what `folds.split_table` returns.
        fold: number of the fold.
        strategy: as for `folds.split_table`.
        on_leak: "drop" leaves out training images whose group is also judged, and validation images whose
            group is also tested; "report" and "fail" leave them where they are.

    Returns:
        (n,) str: "train", "validation", "test", "official_test" or "left_out".
    """
    folds = sorted({int(f) for f in table["fold"] if f != ""})
    if fold not in folds:
        raise PipelineError(f"expected folds among {folds}, received train.folds with {fold}: change it or split.folds")
    validation = fold if strategy == "official" else (fold + 1) % len(folds)
    names = {"": "official_test"} | {str(k): "train" for k in folds}
    if strategy != "official":
        names[str(fold)] = "test"
    names[str(validation)] = "validation"
    role = table["fold"].map(names).to_numpy(dtype=str)
    if on_leak == "drop":
        order = _order(strategy)
        for place, name in enumerate(order):
            judged_before = table["group"].isin(table["group"][np.isin(role, order[:place])])
            role[(role == name) & judged_before.to_numpy()] = "left_out"
        for name in order:
            if not (role == name).any():
                raise PipelineError(
                    f"split.on_leak 'drop' leaves no {name} image in fold {fold}: bring a split that leaks less"
                )
    return role


def leaks(table: pd.DataFrame, role: np.ndarray, strategy: str) -> pd.DataFrame:
    """Images that are judged although an image of their group is learned from.

    Args:
        table: what `folds.split_table` returns.
        role: what `roles` returns.
        strategy: as for `folds.split_table`; under all but "official" the published folder is an exhibit and no leak.

    Returns:
        Columns path, role, other, other_role, by: `by` is "copy" where both show one picture, else "patient". One
        row per image, beside the first of its group that is learned from (or, for a test image, validated
        with), a copy if there is one.
    """
    order = _order(strategy)
    rows = []
    place = pd.Series([order.index(name) if name in order else -1 for name in role], index=table.index)
    parts = table.assign(place=place, role=role)[place >= 0]
    mixed = parts.groupby("group")["place"].transform("nunique") > 1
    for _, members in parts[mixed].sort_values("path").groupby("group"):
        for image in members[members["place"] < len(order) - 1].itertuples():
            later = members[members["place"] > image.place]
            if later.empty:
                continue
            copies = later[(later["copies"] == image.copies) & (image.copies != "")]
            other = (copies if len(copies) else later).iloc[0]
            rows.append((image.path, image.role, other["path"], other["role"], "copy" if len(copies) else "patient"))
    return pd.DataFrame(rows, columns=["path", "role", "other", "other_role", "by"])


def _order(strategy: str) -> list[str]:
    """Roles from what is judged last to what is learned from."""
    return ["official_test" if strategy == "official" else "test", "validation", "train"]
