"""Corrections of a data set by its user: data/fixes.csv, columns path,action,reason."""

from pathlib import Path

from brain_tumor.errors import PipelineError
from brain_tumor.source.layout import ImageFile
from brain_tumor.tables.csv_tables import read_table

_RELABEL = "relabel:"


def read_fixes(path: Path | str) -> dict[str, str]:
    """The action ("drop" or "relabel:<class>") for each path in a table of fixes.

    Raises:
        PipelineError: there is no such file, a row is not a fix, or a path is named twice.
    """
    table = read_table(path, ["path", "action", "reason"])
    for row in table.itertuples():
        if row.action != "drop" and not row.action.startswith(_RELABEL):
            raise PipelineError(
                f"expected drop or relabel:<class> as the action in {path}, received {row.action!r} for {row.path!r}"
            )
    if (again := table["path"].duplicated()).any():
        raise PipelineError(f"expected one fix per image in {path}, found several for {table['path'][again].iloc[0]!r}")
    return dict(zip(table["path"], table["action"], strict=True))


def apply_fixes(files: list[ImageFile], fixes: dict[str, str]) -> list[ImageFile]:
    """The images of a data set without the dropped ones, under their corrected labels.

    Args:
        files: all images.
        fixes: what `read_fixes` returns.

    Raises:
        PipelineError: a fix names an image or a class that does not exist.
    """
    labels = {file.label for file in files}
    if unknown := sorted(set(fixes) - {file.path for file in files}):
        raise PipelineError(
            f"data/fixes.csv names {unknown[0]!r}, the data set has no such image: write paths as in "
            "data/prepared/index.csv"
        )
    for path, action in fixes.items():
        if action != "drop" and action.removeprefix(_RELABEL) not in labels:
            raise PipelineError(
                f"data/fixes.csv: {action!r} for {path!r} names no class; expected one of {sorted(labels)}"
            )
    kept = []
    for file in files:
        action = fixes.get(file.path, _RELABEL + file.label)
        if action != "drop":
            kept.append(ImageFile(file.path, file.folder, action.removeprefix(_RELABEL)))
    return kept
