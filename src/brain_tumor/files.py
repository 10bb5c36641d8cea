"""Atomic output: everything is written under a temporary name and then renamed."""

import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_folder(target: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `target` that replaces it when the block succeeds.

    A block that raises leaves nothing behind; a killed process leaves `<target>.<pid>.partial`, which the next call
    removes. `target` is never half written. Of two concurrent writers the one that started first fails: the stage of
    a killed `dvc repro` may still run when the next run starts it again.
    """
    target = Path(target)
    for stale in target.parent.glob(f"{glob.escape(target.name)}.*.partial"):
        shutil.rmtree(stale, ignore_errors=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    former = target.with_name(f"{target.name}.{os.getpid()}.former.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.stat()  # raises if a later writer has removed it: the old result must stay then
        if target.exists():
            os.replace(target, former)
        os.replace(partial, target)
    finally:
        for folder in (partial, former):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replacing_file(target: Path | str) -> Iterator[Path]:
    """Yield a path beside `target`; the file that the block writes there replaces `target`.

    The path has the suffix of `target`, because some writers choose the format by it.
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
    """Write UTF-8 text atomically, with LF line ends on every system."""
    with replacing_file(target) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(target: Path | str, value: object) -> None:
    """Write indented JSON atomically; keys keep their order, NaN and infinity raise a ValueError."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
