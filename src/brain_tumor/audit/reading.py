"""Reading every file of a data set once for the audit: its view and its traits."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from brain_tumor.audit.traits import traits
from brain_tumor.audit.views import SIZE, view
from brain_tumor.imaging.decoding import decode
from brain_tumor.progress import bar


def read_views(root: Path | str, index: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Read the files on all cores; byte-identical ones once.

    Args:
        root: folder of all sources.
        index: index of the store: columns path and sha256.

    Returns:
        The views of the distinct contents, (m, SIZE, SIZE) uint8, in the order in which `index` first names
        them, and a row of traits per row of `index`, with its path.
    """
    distinct = index.drop_duplicates("sha256")

    def read(path: str):
        data = (Path(root) / path).read_bytes()
        grey = decode(data)
        return view(grey), traits(data, grey)

    views, rows = np.empty((len(distinct), SIZE, SIZE), np.uint8), []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(read, distinct["path"])
        for i, (picture, row) in enumerate(bar(done, desc="read", unit="image", total=len(distinct))):
            views[i] = picture
            rows.append(row)
    by_content = pd.DataFrame(rows, index=distinct["sha256"])
    table = by_content.loc[index["sha256"]].reset_index(drop=True)
    table.insert(0, "path", index["path"].to_numpy())
    return views, table


def distinct_views(index: pd.DataFrame, views: np.ndarray, part: pd.DataFrame) -> np.ndarray:
    """The views of the distinct contents of `part`, in its order.

    Args:
        index, views: what `read_views` took and returned.
        part: rows of `index`, in any order: column sha256.
    """
    row = {content: i for i, content in enumerate(index["sha256"].drop_duplicates())}
    return views[[row[content] for content in part["sha256"].drop_duplicates()]]
