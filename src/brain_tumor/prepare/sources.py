"""The images of one or several sources under the classes of the main one."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brain_tumor.errors import PipelineError
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
        label: class, or several classes among which the true one is, see `tables.labels`.
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
        labels: class folder -> class, classes among which the true one is, or `DROP`; a folder that is not named keeps
            its own name as its class.
        classes: those of the main source; None: this is the main source.

    Raises:
        PipelineError: the layout is unusable, `labels` names a folder that is not there, a folder stands for no class
            of the main source, or one of the main source for several.
    """
    folder = Path(root) / source
    # Only the main source must tell classes apart: one of healthy scans alone is welcome.
    found = list_images(folder, least=2 if classes is None else 1)
    images = once(folder, found)
    if len(images) < len(found):
        print(f"{source}: {len(found) - len(images)} files stand a second time in a folder and are used once")
    names = sorted({image.label for image in images})
    key = f"data.sources.{source}.labels"
    if unknown := sorted(set(labels) - set(names)):
        raise PipelineError(f"expected the class folders {names} in {key}, received {unknown[0]!r}: correct it")
    label = {name: _label(labels.get(name, name)) for name in names}
    if classes is None and (several := [name for name, value in label.items() if SEPARATOR in value]):
        raise PipelineError(f"expected one class a folder in the main source, {key} gives {several[0]!r} several")
    for name, value in label.items():
        wrong = [] if classes is None or value == DROP else sorted(set(classes_in([value])) - set(classes))
        if wrong:
            raise PipelineError(
                f"expected the classes {classes or names} in {source}, the folder {name!r} stands for {value!r}: "
                f"say in {key} which class, list of classes or {DROP!r} it is, or rename the folder"
            )
    kept = [image for image in images if label[image.label] != DROP]
    if dropped := len(images) - len(kept):
        print(f"{source}: {dropped} images dropped by {key}", file=sys.stderr)
    return [SourceImage(f"{source}/{i.path}", source, i.folder, label[i.label]) for i in kept]


def _label(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else join_classes(value)
