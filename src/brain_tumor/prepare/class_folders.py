"""Whether the folders taken for classes are classes.

A patient, a plane or the part of a split that is taken for a class, or a class that is written in two ways, would go
through the whole pipeline and end in a score.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from brain_tumor.errors import PipelineError
from brain_tumor.own_tables.spelling import alike, plain
from brain_tumor.source.layout import ImageFile

# More class folders than this whose names differ by numbers only, or at all, are no classes of tumours.
_MAX_NUMBERED, _MAX_CLASSES = 10, 50
_PERSON = re.compile(
    r"(?<![^\W_])(patient|subject|subj|sub|case|participant|person|volunteer|pid|mrn|study|session|ses|exam)"
    r"[\W_]*\d",
    re.IGNORECASE,
)
_PERHAPS_PERSON = re.compile(r"(p|pt|pat|s|id|scan)[\W_]*\d+", re.IGNORECASE)
_TAKEN = ", and audit.patients: '([^/]+)/[^/]+$' takes the patient from the folder of the file"
_SPLIT_PARTS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev", "holdout")
_NO_CLASS = (
    *_SPLIT_PARTS,
    *("image", "images", "img", "imgs", "picture", "pictures", "scan", "scans", "slice", "slices", "data", "dataset"),
    *("mask", "masks", "label", "labels", "annotation", "annotations", "jpg", "jpeg", "png", "dicom"),
    *("axial", "coronal", "sagittal", "t1", "t1c", "t1ce", "t1gd", "t1w", "t2", "t2w", "flair", "dwi"),
)


def check_folders(source: str, images: Sequence[ImageFile]) -> None:
    """Refuse class folders that nobody named as such and that look like something else.

    Args:
        source: name of the source.
        images: its images in class folders that `labels` does not name.

    Raises:
        PipelineError: folders look like patients: they are numbered like people, more than 10 are numbered alike, or
            they are numbered below other folders that divide them; there are more than 50; or a folder is called like
            the part of a split, a plane, a sequence or a file format.
    """
    above = defaultdict(set)
    for image in images:
        above[image.label].add(image.folder)
    others = sorted(name for name in above if name.lower() in _NO_CLASS)
    patients = _like_patients(above)
    if not (found := patients or others):
        return
    key = f"data.sources.{source}.labels"
    tops = sorted({folder.split("/")[-1] for name in found for folder in above[name]} - {""})
    tops = [top for top in tops if top.lower() not in _NO_CLASS]
    example = ", ".join(f"{top!r}: {top!r}" for top in tops[:2] or ["glioma", "healthy"])
    raise PipelineError(
        f"expected class folders in {source}, found {len(found)} that look like "
        f"{'patients' if patients else 'parts of a split, planes, sequences or formats'}: {_few(found)}. "
        f"{'Name' if tops else 'Put them into one folder per class and name'} the class folders in {key} ({example}): "
        "whatever lies below belongs to the class"
        f"{_TAKEN if patients else ''}. If these are the classes themselves, name them there"
    )


def check_classes(source: str, classes: Iterable[str]) -> None:
    """Refuse classes that are probably one, written in two ways.

    Args:
        source: name of the source.
        classes: all names.

    Raises:
        PipelineError: two differ by capital letters, white space, hyphens, underscores or the characters that make
            up an accent only; the line lists them.
    """
    if found := alike(classes, plain):
        one, other = found[0][:2]
        raise PipelineError(
            f"expected every class of {source} to be written in one way, found "
            f"{'; '.join(', '.join(names) for names in found)}: rename the folders, or say in "
            f"data.sources.{source}.labels what they are ({one}: {other})"
        )


def _like_patients(above: Mapping[str, set[str]]) -> list[str]:
    """Those of the folders that look like patients, sorted; `above` says below which folders each lies."""
    if len(above) > _MAX_CLASSES:
        return sorted(above)
    numbered = defaultdict(list)
    for name in sorted(above):
        shape = re.sub(r"[^\W_]*\d[^\W_]*", "#", name)
        if shape != name:
            numbered[shape].append(name)
    found = []
    for names in numbered.values():
        tops = {folder for name in names for folder in above[name]}
        tops = {folder for folder in tops if folder.split("/")[-1].lower() not in _SPLIT_PARTS}
        # The same numbers below each class, or none of them below two; hospitals/<grade> has neither.
        divided = len(tops) > 1 and (all(map(str.isdigit, names)) or all(len(above[name]) == 1 for name in names))
        several = len(names) > 1 and (divided or all(map(_PERHAPS_PERSON.fullmatch, names)))
        if several or len(names) > _MAX_NUMBERED or any(map(_PERSON.search, names)):
            found += names
    return sorted(found)


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
