"""Corrections of a data set by its user: data/fixes.csv, columns path,action,reason."""

from dataclasses import replace
from pathlib import Path

from brain_tumor.errors import PipelineError
from brain_tumor.own_tables.reading import read_own_table
from brain_tumor.own_tables.spelling import spelled_as
from brain_tumor.prepare.sources import SourceImage
from brain_tumor.tables.labels import classes_in

_RELABEL = "relabel:"


def read_fixes(path: Path | str) -> dict[str, str]:
    """The action ("drop" or "relabel:<class>") for each path in a table of fixes.

    Raises:
        PipelineError: there is no such file, a row is not a fix, or a path is named twice.
    """
    table = read_own_table(path, ["path", "action", "reason"])
    for row in table.itertuples():
        if row.action != "drop" and not row.action.startswith(_RELABEL):
            raise PipelineError(
                f"expected drop or relabel:<class> as the action in {path}, received {row.action!r} for {row.path!r}"
            )
    if (again := table["path"].duplicated()).any():
        raise PipelineError(f"expected one fix per image in {path}, found several for {table['path'][again].iloc[0]!r}")
    return dict(zip(table["path"], table["action"], strict=True))


def apply_fixes(images: list[SourceImage], fixes: dict[str, str]) -> list[SourceImage]:
    """The images without the dropped ones, under their corrected labels.

    Args:
        images: of all sources.
        fixes: what `read_fixes` returns.

    Raises:
        PipelineError: a fix names an image or a class that does not exist.
    """
    classes = classes_in(image.label for image in images)
    written = len(fixes)
    fixes = dict(zip(spelled_as(fixes, [image.path for image in images]), fixes.values(), strict=True))
    if len(fixes) < written:
        raise PipelineError(
            "expected one fix per image in data/fixes.csv, found an accent written in two ways: keep one"
        )
    if unknown := sorted(set(fixes) - {image.path for image in images}):
        raise PipelineError(
            f"data/fixes.csv names {unknown[0]!r}, there is no such image: write paths as in data/prepared/index.csv, "
            "<source>/[<folder>/]<class>/<file>"
        )
    for path, action in fixes.items():
        if action != "drop" and action.removeprefix(_RELABEL) not in classes:
            raise PipelineError(f"data/fixes.csv: {action!r} for {path!r} names no class; expected one of {classes}")
    kept = []
    for image in images:
        action = fixes.get(image.path, _RELABEL + image.label)
        if action != "drop":
            kept.append(replace(image, label=action.removeprefix(_RELABEL)))
    return kept
