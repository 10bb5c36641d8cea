"""Outputs that are either whole or absent: everything is written aside, then renamed."""

import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_folder(target: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `target` that takes its place when the block succeeds.

    A failed block leaves nothing behind; a killed one leaves `<target>.<pid>.partial`, which the next
    call removes. `target` itself is never seen half written. Of two writers at a time the one that
    began first fails: a killed `dvc repro` leaves its stage running while the next run starts it again.
    """
    target = Path(target)
    for stale in target.parent.glob(f"{glob.escape(target.name)}.*.partial"):
        shutil.rmtree(stale, ignore_errors=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    former = target.with_name(f"{target.name}.{os.getpid()}.former.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.stat()  # raises where a later writer took over; only then may the old result go
        if target.exists():
            os.replace(target, former)
        os.replace(partial, target)
    finally:
        for folder in (partial, former):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replacing_file(target: Path | str) -> Iterator[Path]:
    """Yield a path beside `target`; what the block writes there takes the place of `target`.

    The path keeps the suffix of `target`, since writers choose the format by it.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".partial-{os.getpid()}-{target.name}")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def write_text(target: Path | str, text: str) -> None:
    """Write UTF-8 text with LF line ends, on every system, atomically."""
    with replacing_file(target) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(target: Path | str, value: object) -> None:
    """Write indented JSON; keys keep their order, NaN and infinity are refused (ValueError)."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
