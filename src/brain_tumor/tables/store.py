"""The store of prepared images on disk: one memory-mapped array and the tables beside it.

images.npy           (n, size, size) uint8, one row per image
index.csv            row,path,sha256,source,label,folder,width,height    (path below data/raw; width, height in pixels)
preprocessing.json   how the images were prepared: the fields of `imaging.preprocessing.Preprocessing`
rejected.csv         path,reason                                  files that cannot be read
fixed.csv            path,action                                  what data/fixes.csv changed
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from brain_tumor.tables.csv_tables import read_table


class Store:
    """Read access to prepared images.

    Attributes:
        images: (n, size, size) uint8, memory-mapped.
        index: n rows, the columns of index.csv.
        preprocessing: content of preprocessing.json.
    """

    def __init__(self, folder: Path | str) -> None:
        folder = Path(folder)
        self.index = read_table(folder / "index.csv")
        self.images = np.load(folder / "images.npy", mmap_mode="r")
        self.preprocessing = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))

    def rows(self, paths: pd.Series) -> np.ndarray:
        """(m,) int, the rows of the images with these paths."""
        return pd.Series(np.arange(len(self.index)), index=self.index["path"])[paths].to_numpy()


def fingerprint(index: pd.DataFrame) -> str:
    """SHA-256 over the paths and contents of a data set, whatever the order of its rows.

    Example:
        >>> index = pd.DataFrame({"path": ["a.png", "b.png"], "sha256": ["11", "22"]})
        >>> fingerprint(index) == fingerprint(index[::-1])
        True
    """
    lines = sorted(f"{row.sha256}  {row.path}\n" for row in index.itertuples())
    return hashlib.sha256("".join(lines).encode()).hexdigest()
