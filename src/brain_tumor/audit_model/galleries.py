"""A page of the images with the most suspicious labels."""

from pathlib import Path

import pandas as pd

from brain_tumor.drawing.gallery import MOST, file_gallery_png


def label_gallery(path: Path | str, root: Path | str, suspects: pd.DataFrame) -> None:
    """Draw the images with the most suspicious labels, at most 52.

    Args:
        path: PNG file to write.
        root: of the data set.
        suspects: rows of what `labels.suspicious_labels` returns, the most suspicious first.
    """
    rows = []
    for row in suspects.head(MOST).itertuples():
        folder, _, name = row.path.rpartition("/")
        said = f"label {row.label} ({row.quality:.3f})\nmodels say {row.suggested}"
        rows.append(((row.path,), f"{row.rank}. {folder}\n{name}\n{said}"))
    file_gallery_png(path, root, rows, f"Suspicious labels ({len(rows)} of {len(suspects)})", images=1)
