"""Read tables that people write, with editors and spreadsheet programs."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from brain_tumor.errors import PipelineError


def read_own_table(path: Path | str, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file that a person writes.

    Args:
        path: of the file: UTF-8, with commas.
        columns: those that it must have; it may have more.

    Returns:
        A row per row that is not blank; every cell is a str without white space around it.

    Raises:
        PipelineError: the file is missing, is not text, lacks a column or has one twice, or a row has more or fewer
            cells than the first one.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise PipelineError(
            f"expected {path}, found no such file: make one with the line {','.join(columns)}"
        ) from None
    except UnicodeDecodeError as error:
        raise PipelineError(
            f"expected UTF-8 text in {path}, byte {error.start + 1} is something else: save it as CSV UTF-8"
        ) from None
    try:
        # Spreadsheet programs count the line of the names as row 1.
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [
            (k, [cell.strip() for cell in row]) for k, row in enumerate(reader, start=1) if any(map(str.strip, row))
        ]
    except csv.Error as error:
        raise PipelineError(
            f"expected a CSV table in {path}, line {reader.line_num} is none ({error}): put double quotes around whole "
            "cells only, and write one within a cell twice"
        ) from None
    names = rows[0][1] if rows else []
    if not set(columns) <= set(names):
        raise PipelineError(
            f"expected the columns {','.join(columns)} in {path}, found {','.join(names) or 'none'}: "
            "begin the file with a line of these names, and separate them by commas"
        )
    if again := [name for name, times in Counter(names).items() if times > 1]:
        raise PipelineError(f"expected each column once in {path}, found {again[0]!r} several times")
    for number, row in rows[1:]:
        if len(row) != len(names):
            raise PipelineError(
                f"expected {len(names)} cells in each row of {path}, row {number} has {len(row)}: put a cell that "
                "contains a comma in double quotes, and end no row with a comma"
            )
    return pd.DataFrame([row for _, row in rows[1:]], columns=names, dtype=str)
