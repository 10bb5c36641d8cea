"""Prepared images on disk: one memory-mapped array and an index beside it.

images.npy     (n, size, size) uint8, a row an image
index.csv      row,path,sha256,label,folder,width,height    (width and height of the file, in pixels)
rejected.csv   path,reason
fixed.csv      path,action                                   what data/fixes.csv changed
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from brain_tumor.tables import read_table


class Store:
    """Read access to prepared images.

    Attributes:
        images: (n, size, size) uint8, memory-mapped.
        index: n rows, the columns of index.csv.
    """

    def __init__(self, folder: Path | str) -> None:
        self.index = read_table(Path(folder) / "index.csv")
        self.images = np.load(Path(folder) / "images.npy", mmap_mode="r")


def fingerprint(index: pd.DataFrame) -> str:
    """SHA-256 over the paths and contents of a data set, whatever the order of its rows."""
    lines = sorted(f"{row.sha256}  {row.path}\n" for row in index.itertuples())
    return hashlib.sha256("".join(lines).encode()).hexdigest()
