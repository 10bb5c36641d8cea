"""A page of the images with the most suspicious labels."""

from pathlib import Path

import pandas as pd

from brain_tumor.drawing.gallery import MOST, file_gallery_html
from brain_tumor.words import words


def label_gallery(path: Path | str, root: Path | str, suspects: pd.DataFrame) -> None:
    """Write a page of the images with the most suspicious labels, at most 52.

    Args:
        path: HTML file to write.
        root: of the data set.
        suspects: rows of what `labels.suspicious_labels` returns, the most suspicious first.
    """
    rows = []
    for row in suspects.head(MOST).itertuples():
        folder, _, name = row.path.rpartition("/")
        said = f"label {words(row.label)} ({row.quality:.3f})\nmodels say {words(row.suggested)}"
        rows.append(((row.path,), f"{row.rank}. {folder}\n{name}\n{said}"))
    title = f"Labels that the models contradict, most suspicious first ({len(rows)} of {len(suspects)})"
    file_gallery_html(path, root, rows, title)
