"""The CSV files between stages: one way to read and to write them."""

from pathlib import Path

import pandas as pd

from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_file

# Names and identifiers are never converted: a class may be called "NA" and a patient "007".
_STRINGS = (
    *("path", "sha256", "label", "folder", "patient", "copies", "group", "fold", "role", "source", "source_slice"),
    *("other", "other_label", "kind", "orientation", "action", "reason", "suggested", "target", "joined"),
    "source_label",
)


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a CSV file of a stage; an empty cell of a name or identifier is the empty string.

    Raises:
        PipelineError: the file is missing or is not a table.
    """
    try:
        return pd.read_csv(path, dtype=dict.fromkeys(_STRINGS, str), keep_default_na=False)
    except FileNotFoundError:
        raise PipelineError(
            f"expected {path}, found no such file: run the stages before this one (dvc repro)"
        ) from None
    except ValueError as error:  # empty, not text, or rows of different lengths
        raise PipelineError(f"expected a CSV table in {path}: {' '.join(str(error).split())}") from error


def write_table(path: Path | str, frame: pd.DataFrame) -> None:
    """Write a CSV file atomically, with LF line ends; nine digits hold any float32."""
    with replacing_file(path) as partial:
        frame.to_csv(partial, index=False, lineterminator="\n", float_format="%.9g")
