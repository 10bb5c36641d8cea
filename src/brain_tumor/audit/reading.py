"""Reading every file of a data set once for the audit: its view and its traits."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from brain_tumor.audit.traits import traits
from brain_tumor.audit.views import Views, view
from brain_tumor.imaging.decoding import decode
from brain_tumor.progress import bar
from brain_tumor.workers import in_order

_CHUNK = 16  # images: about 50 ms of work


def read_views(root: Path | str, index: pd.DataFrame, scratch: Path | str) -> tuple[Views, pd.DataFrame]:
    """Read the files on all cores or on a cluster; byte-identical ones once.

    Args:
        root: folder of all sources.
        index: index of the store: columns path and sha256.
        scratch: folder with 16 kB of room for each file, while the views are used.

    Returns:
        The views of the distinct contents, in the order in which `index` first names them, and a row of traits per row
        of `index`, with its path.
    """
    distinct, rows = index.drop_duplicates("sha256"), []
    done = in_order(_read, distinct["path"], load=lambda path: (Path(root) / path).read_bytes(), chunk=_CHUNK)

    def views() -> Iterator[np.ndarray]:
        for picture, row in bar(done, desc="read", unit="image", total=len(distinct)):
            rows.append(row)
            yield picture

    stored = Views(views(), scratch)
    by_content = pd.DataFrame(rows, index=distinct["sha256"])
    table = by_content.loc[index["sha256"]].reset_index(drop=True)
    table.insert(0, "path", index["path"].to_numpy())
    return stored, table


def _read(contents: Iterable[bytes]) -> Iterator[tuple[np.ndarray, dict[str, float]]]:
    for data in contents:
        grey = decode(data)
        yield view(grey), traits(data, grey)


def distinct_views(index: pd.DataFrame, views: Views, part: pd.DataFrame) -> Views:
    """The views of the distinct contents of `part`, in its order.

    Args:
        index, views: what `read_views` took and returned.
        part: rows of `index`, in any order: column sha256.
    """
    row = {content: i for i, content in enumerate(index["sha256"].drop_duplicates())}
    return views.part([row[content] for content in part["sha256"].drop_duplicates()])
