"""Learning curves as DVCLive writes them."""

from pathlib import Path

import pandas as pd

from brain_tumor.errors import PipelineError


def read_history(folder: Path | str) -> pd.DataFrame:
    """Read a folder of DVCLive.

    Returns:
        A row per epoch: `epoch` (from 1) and a column per metric, named as it was logged with "_" for
        "/" (validation_macro_f1).

    Raises:
        PipelineError: there are no curves.
    """
    root = Path(folder) / "plots" / "metrics"
    files = sorted(root.rglob("*.tsv"))
    if not files:
        raise PipelineError(f"expected learning curves in {root}, found none: run the train stage")
    curves = {}
    for path in files:
        steps, values = pd.read_csv(path, sep="\t").to_numpy().T
        curves["_".join(path.relative_to(root).with_suffix("").parts)] = pd.Series(values, index=steps.astype(int) + 1)
    return pd.DataFrame(curves).rename_axis("epoch").reset_index()
