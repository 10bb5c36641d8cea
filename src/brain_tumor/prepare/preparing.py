"""From image files to a store: every image through the one preprocessing, on all cores or on a cluster."""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_folder, write_json
from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.imaging.preprocessing import Prepared, Preprocessing, prepare
from brain_tumor.prepare.fixes import apply_fixes
from brain_tumor.prepare.sources import SourceImage
from brain_tumor.progress import bar
from brain_tumor.source.kinds import prediction_only
from brain_tumor.tables.csv_tables import write_table
from brain_tumor.workers import in_order

_INDEX = ["row", "path", "sha256", "source", "label", "folder", "width", "height"]
_CHUNK = 32  # images: about 50 ms of work, 1 MB of files and 1 MB of pixels


def prepare_images(
    root: Path | str,
    found: list[SourceImage],
    target: Path | str,
    preprocessing: Preprocessing,
    max_rejected: float,
    fixes: dict[str, str] | None = None,
) -> int:
    """Prepare images and write the store `target`; only the tables are held in memory.

    Args:
        root: folder of all sources.
        found: the images, in the order of the store.
        target: folder of the store, see `tables.store`; replaced as a whole if everything succeeds.
        preprocessing: options of `imaging.preprocessing.prepare`.
        max_rejected: largest share (0 to 1) of files that may be rejected: unreadable, or in no class folder.
        fixes: images to drop or to relabel, see `prepare.fixes`.

    Returns:
        Number of images in the store.

    Raises:
        PipelineError: a fix names an unknown image, too many files are rejected, or a label has no readable image.
        OSError: a file cannot be read, which says nothing about its content: it is not rejected for that.
    """
    root, fixes = Path(root), fixes or {}
    files = apply_fixes(found, fixes)
    index, rejected = [], []
    with replacing_folder(target) as folder:
        with open(folder / "images.npy", "wb") as images:
            _write_header(images, len(files), preprocessing.size)
            work = partial(_prepared, preprocessing=preprocessing)  # most of it without Python's lock
            done = in_order(work, files, load=partial(_content, root=root), chunk=_CHUNK)
            for file, digest, result in bar(done, desc="preprocess", unit="image", total=len(files)):
                if isinstance(result, UnreadableImage):
                    rejected.append((file.path, str(result)))
                    continue
                images.write(result.pixels.tobytes())
                size = result.width, result.height
                index.append((len(index), file.path, digest, file.source, file.label, file.folder, *size))
            _write_header(images, len(index), preprocessing.size)
        write_json(folder / "preprocessing.json", asdict(preprocessing))
        table = pd.DataFrame(index, columns=_INDEX)
        write_table(folder / "index.csv", table)
        write_table(folder / "rejected.csv", pd.DataFrame(rejected, columns=["path", "reason"]))
        write_table(folder / "fixed.csv", pd.DataFrame(sorted(fixes.items()), columns=["path", "action"]))
        if rejected:
            said = f"{len(rejected)} of {len(files)} files cannot be used"
            if len(rejected) > max_rejected * len(files):
                raise PipelineError(
                    f"{said}, more than preprocess.max_rejected = {max_rejected:g} allows: {_in_words(rejected)}. "
                    "Mend, convert or remove them, or drop them in data/fixes.csv"
                )
            print(f"warning: {said} and are left out: {_in_words(rejected)}", file=sys.stderr)
        if lost := sorted({file.label for file in found} - {""} - set(table["label"])):
            raise PipelineError(f"expected a readable image of every label, found none of {lost[0]!r}")
    return len(index)


def _content(file: SourceImage, root: Path) -> tuple[SourceImage, bytes]:
    """An image and the content of its file, which nobody needs if it has no label."""
    return file, (root / file.path).read_bytes() if file.label else b""


def _prepared(
    files: Iterable[tuple[SourceImage, bytes]], preprocessing: Preprocessing
) -> Iterator[tuple[SourceImage, str, Prepared | UnreadableImage]]:
    """Each image, the SHA-256 of its file, and what was made of it or why nothing was."""
    for file, data in files:
        digest, result = "", UnreadableImage("in no class folder")
        if file.label:
            try:
                digest, result = hashlib.sha256(data).hexdigest(), prepare(data, preprocessing)
            except UnreadableImage as error:
                result = UnreadableImage(prediction_only(file.path, data) or str(error))
        yield file, digest, result


def _in_words(rejected: list[tuple[str, str]]) -> str:
    """The first of the (path, reason), each reason once."""
    by_reason = {}
    for path, reason in rejected[:5]:
        by_reason.setdefault(reason, []).append(repr(path))
    first = "; ".join(f"{', '.join(paths)}: {reason}" for reason, paths in by_reason.items())
    return first + (f"; and {len(rejected) - 5} more" if len(rejected) > 5 else "")


def _write_header(stream: BinaryIO, rows: int, size: int) -> None:
    """Write the .npy header for `rows` images at the start of the file.

    NumPy pads this header so that the first axis can change without moving the data: the count,
    known only when the last file was read, is written over the estimate.
    """
    stream.seek(0)
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size)})
