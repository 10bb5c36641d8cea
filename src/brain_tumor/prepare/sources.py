"""The images of one or several sources under the classes of the main one."""

import reprlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brain_tumor.errors import PipelineError
from brain_tumor.own_tables.spelling import plain, spelled_as
from brain_tumor.prepare.class_folders import check_classes, check_folders
from brain_tumor.source.layout import list_images, once
from brain_tumor.tables.labels import SEPARATOR, classes_in, join_classes

DROP = "drop"
"""In `labels`: the images of this class folder are not used."""


@dataclass(frozen=True, order=True)
class SourceImage:
    """One image of a source.

    Attributes:
        path: POSIX path below the folder of all sources, so it begins with the name of the source.
        source: name of the source.
        folder: path above the class folder, within the source; "" if there is none.
        label: class, or several classes among which the true one is, see `tables.labels`; "" for a file that lies in
            no class folder.
    """

    path: str
    source: str
    folder: str
    label: str


def source_images(
    root: Path | str, source: str, labels: Mapping[str, str | Sequence[str]], classes: Sequence[str] | None
) -> list[SourceImage]:
    """The images of a source, sorted by path; a set that stands twice in its own folder is taken once.

    Args:
        root: folder of all sources.
        source: name of the source and of its folder.
        labels: class folder -> class, classes among which the true one is, or `DROP`. A folder that is not named keeps
            its own name as its class; what lies below one that is named belongs to it, however deep.
        classes: those of the main source; None: this is the main source.

    Raises:
        PipelineError: the layout is unusable, folders that are not named do not look like classes, `labels` names a
            folder that is not there, a class is written in two ways, a folder stands for no class of the main source,
            or one of the main source for several.
    """
    folder = Path(root) / source
    # Only the main source must tell classes apart: one of healthy scans alone is welcome.
    found = list_images(folder, least=2 if classes is None else 1, named=labels)
    placed = [image for image in found if image.label]
    images = once(folder, placed)
    if len(images) < len(placed):
        print(f"{source}: {len(placed) - len(images)} files stand a second time in a folder and are used once")
    names = sorted({image.label for image in images})
    key = f"data.sources.{source}.labels"
    labels = dict(zip(spelled_as(labels, names), labels.values(), strict=True))
    if unknown := sorted(set(labels) - set(names)):
        raise PipelineError(
            f"expected the class folders {reprlib.repr(names)} in {key}, received {unknown[0]!r}: correct it (if "
            f"that folder holds all images, run `dvc repro -f download@{source}`)"
        )
    check_folders(source, [image for image in images if image.label not in labels])
    label = {name: _label(labels.get(name, name)) for name in names}
    if classes is None:
        if several := [name for name, value in label.items() if SEPARATOR in value]:
            raise PipelineError(f"expected one class a folder in the main source, {key} gives {several[0]!r} several")
        check_classes(source, set(label.values()) - {DROP})
    for name, value in label.items():
        wrong = [] if classes is None or value == DROP else sorted(set(classes_in([value])) - set(classes))
        if wrong:
            meant = [other for other in classes if plain(other) == plain(wrong[0])]
            raise PipelineError(
                f"expected the classes {classes or names} in {source}, the folder {name!r} stands for {value!r}"
                f"{f' and not for {meant[0]!a}' if meant else ''}: "
                f"say in {key} which class, list of classes or {DROP!r} it is, or rename the folder"
            )
    used = {image for image in images if label[image.label] != DROP}
    if dropped := len(images) - len(used):
        print(f"{source}: {dropped} images dropped by {key}", file=sys.stderr)
    return [
        SourceImage(f"{source}/{image.path}", source, image.folder, label.get(image.label, ""))
        for image in found
        if image in used or not image.label
    ]


def _label(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else join_classes(value)
