"""Groups that a split puts on two sides."""

import numpy as np
import pandas as pd

from brain_tumor.tables.roles import by_precedence


def leaks(table: pd.DataFrame, role: np.ndarray, strategy: str) -> pd.DataFrame:
    """Held-out images whose group also has an image in the training set.

    Args:
        table: what `folds.split_table` returns.
        role: what `tables.roles.roles` returns.
        strategy: as for `folds.split_table`. Under all but "official" the published test folder is reported as it is
            and does not count as a leak.

    Returns:
        Columns path, role, other, other_role, by: `by` is "copy" where both show the same picture, else "patient".
        One row per held-out image, beside the first image of its group in the training set (for a test image also in
        the validation set), a copy if there is one.
    """
    order = by_precedence(strategy)
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
