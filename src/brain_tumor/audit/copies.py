"""Images that show the same picture: identical files, or re-compressed, resized, brightened, cropped or turned ones."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice

import numpy as np
import pandas as pd

from brain_tumor.audit.hashing import WINDOWS, candidates
from brain_tumor.audit.matching import register, similarity
from brain_tumor.audit.views import ORIENTATIONS, Views
from brain_tumor.progress import bar
from brain_tumor.workers import in_order

IDENTICAL, COPY, LOOK_ALIKE = "identical", "copy", "look_alike"
COPY_COLUMNS = ["kind", "path", "other", "score", "orientation"]

# No copy has a correlation of the whole pictures below this; the detail of such pairs is not compared.
_LEAST_CORRELATION = 0.6
_CHUNK = 128  # pairs: about 0.1 s of work and 1.5 MB of views
_AT_ONCE = 16  # pairs, whose arrays fit into the cache of a core


def find_copies(
    index: pd.DataFrame,
    views: np.ndarray | Views,
    *,
    hash_distance: int,
    candidates_per_image: int,
    crops: bool,
    least: float,
    known: int = 0,
) -> pd.DataFrame:
    """Pairs of images of the same picture, and the nearest ones that are not.

    Args:
        index: index of the store: columns path and sha256.
        views: (m, SIZE, SIZE) uint8, one per distinct content, as `reading.read_views` gives them.
        hash_distance: number of bits of the 256-bit hashes that candidates may differ in.
        candidates_per_image: number of look-alikes per image whose pixels are compared.
        crops: compare crops as well; takes 81 times as many comparisons of hashes.
        least: smallest similarity (see `matching.similarity`) of a copy.
        known: number of leading rows of `index` that were compared with one another before; pairs of two of them are
            left out. So what is found among them does not depend on what comes later.

    Returns:
        Columns `COPY_COLUMNS`, sorted by kind and falling score. kind is "identical" (path is the first of several
        byte-identical files, other each further one), "copy", or "look_alike" for candidates that were compared and
        not accepted. In pairs of the latter two kinds, the first of several byte-identical files represents them all.
        `orientation` is what has to be done to the image at `path` to match `other`.
    """
    paths = index.drop_duplicates("sha256")["path"].to_numpy(object)  # one string for all pairs of an image
    first = index.groupby("sha256")["path"].transform("first")
    again = (index["path"] != first) & (np.arange(len(index)) >= known)
    identical = pd.DataFrame({"path": first[again], "other": index["path"][again], "score": 1.0})
    identical = identical.assign(kind=IDENTICAL, orientation=ORIENTATIONS[0])

    seen = index["sha256"].iloc[:known].nunique()
    found = candidates(views, hash_distance, candidates_per_image, WINDOWS if crops else WINDOWS[:1], seen)
    # The same object each time: in a chunk that is sent elsewhere, each view is once.
    view = lru_cache(8 * _CHUNK)(views.__getitem__)

    def load(m: int) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
        return view(found.a[m]), found.orientation[m], WINDOWS[found.window[m]], view(found.b[m])

    compared = in_order(_scores, range(len(found.a)), load=load, chunk=_CHUNK)
    scores = np.fromiter(bar(compared, desc="match", unit="pair", total=len(found.a)), float)
    alike = pd.DataFrame(
        {
            "kind": np.array([LOOK_ALIKE, COPY], object)[(scores >= least).astype(int)],
            "path": paths[found.a],
            "other": paths[found.b],
            "score": scores,
            "orientation": np.array(ORIENTATIONS, object)[found.orientation],
        }
    )
    pairs = pd.concat([identical, alike])[COPY_COLUMNS]
    return pairs.sort_values(["kind", "score", "path", "other"], ascending=[True, False, True, True], ignore_index=True)


def _scores(pairs: Iterable[tuple[np.ndarray, int, np.ndarray, np.ndarray]]) -> Iterator[float]:
    """The similarity of each pair: view, its orientation and window, the other view."""
    remaining = iter(pairs)
    while some := list(islice(remaining, _AT_ONCE)):
        a, orientations, windows, b = zip(*some, strict=True)
        parts, correlation = register(a, orientations, windows, b)
        scores, compared = np.full(len(some), -1.0), correlation >= _LEAST_CORRELATION
        if compared.any():
            scores[compared] = similarity(parts[compared], np.stack(b)[compared])
        yield from scores
