"""From a folder of images to a store: every image through the one preprocessing, on all cores."""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_folder, write_json
from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.imaging.preprocessing import Prepared, Preprocessing, prepare
from brain_tumor.prepare.fixes import apply_fixes
from brain_tumor.progress import bar
from brain_tumor.source.layout import ImageFile, list_images
from brain_tumor.tables.csv_tables import write_table

_INDEX = ["row", "path", "sha256", "label", "folder", "width", "height"]
# Results that may wait for their turn to be written: bounds the memory, whatever the size of the data set.
_WINDOW = 256


def prepare_data_set(
    root: Path | str,
    target: Path | str,
    preprocessing: Preprocessing,
    max_rejected: float,
    fixes: dict[str, str] | None = None,
) -> int:
    """Prepare every image below `root` and write the store `target`; only the tables are held in memory.

    Args:
        root: image-folder data set, see `source.layout`.
        target: folder of the store, see `tables.store`; replaced as a whole if everything succeeds.
        preprocessing: options of `imaging.preprocessing.prepare`.
        max_rejected: largest share (0 to 1) of files that may be unreadable.
        fixes: images to drop or to relabel, see `prepare.fixes`.

    Returns:
        Number of images in the store.

    Raises:
        PipelineError: the layout is unusable, a fix names an unknown image, too many files are unreadable, or a class
            has no readable image.
    """
    root, found = Path(root), list_images(root)
    fixes = fixes or {}
    files = apply_fixes(found, fixes)
    index, rejected = [], []
    with replacing_folder(target) as folder:
        with open(folder / "images.npy", "wb") as images:
            _write_header(images, len(files), preprocessing.size)
            for file, digest, result in bar(
                _prepared(root, files, preprocessing), desc="preprocess", unit="image", total=len(files)
            ):
                if isinstance(result, UnreadableImage):
                    rejected.append((file.path, str(result)))
                    continue
                images.write(result.pixels.tobytes())
                index.append((len(index), file.path, digest, file.label, file.folder, result.width, result.height))
            _write_header(images, len(index), preprocessing.size)
        write_json(folder / "preprocessing.json", asdict(preprocessing))
        table = pd.DataFrame(index, columns=_INDEX)
        write_table(folder / "index.csv", table)
        write_table(folder / "rejected.csv", pd.DataFrame(rejected, columns=["path", "reason"]))
        write_table(folder / "fixed.csv", pd.DataFrame(sorted(fixes.items()), columns=["path", "action"]))
        if len(rejected) > max_rejected * len(files):
            first = "; ".join(f"{path!r}: {reason}" for path, reason in rejected[:5])
            raise PipelineError(
                f"{len(rejected)} of {len(files)} files cannot be read, more than preprocess.max_rejected = "
                f"{max_rejected:g} allows: {first}{' ...' if len(rejected) > 5 else ''}. Mend or remove them"
            )
        if lost := sorted({file.label for file in found} - set(table["label"])):
            raise PipelineError(f"expected a readable image in every class, found none in {lost[0]!r}")
    return len(index)


def _prepared(
    root: Path, files: Iterable[ImageFile], preprocessing: Preprocessing
) -> Iterator[tuple[ImageFile, str, Prepared | UnreadableImage]]:
    """Prepare on all cores and yield in the order of `files`; OpenCV releases Python's lock."""

    def work(file: ImageFile):
        try:
            data = (root / file.path).read_bytes()
            return file, hashlib.sha256(data).hexdigest(), prepare(data, preprocessing)
        except UnreadableImage as error:
            return file, "", error
        except OSError as error:
            return file, "", UnreadableImage(error.strerror)

    with ThreadPoolExecutor(os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()) as pool:
        waiting = deque()
        for file in files:
            waiting.append(pool.submit(work, file))
            if len(waiting) >= _WINDOW:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _write_header(stream: BinaryIO, rows: int, size: int) -> None:
    """Write the .npy header for `rows` images at the start of the file.

    NumPy pads this header so that the first axis can change without moving the data: the count,
    known only when the last file was read, is written over the estimate.
    """
    stream.seek(0)
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size)})
