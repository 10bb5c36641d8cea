"""What a file of a data set is, by its name."""

from collections.abc import Container
from pathlib import PurePosixPath

from brain_tumor.imaging.decoding import IMAGE_SUFFIXES

# Of Windows, macOS and network drives, in small letters; the last holds small copies of all pictures.
_LITTER = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "@eadir"})
_BESIDE_NAMES = frozenset({"authors", "changelog", "citation", "copying", "licence", "license", "notice", "readme"})
_BESIDE_SUFFIXES = (
    *(".cff", ".csv", ".doc", ".docx", ".htm", ".html", ".ipynb", ".json", ".log", ".mat", ".md", ".md5", ".ods"),
    *(".pdf", ".py", ".rst", ".rtf", ".sha256", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml"),
)
_PREDICTION_ONLY = {
    "DICOM": (".dcm", ".dicom", ".ima"),
    "NIfTI": (".nii", ".nii.gz"),
}
_OTHER_PICTURES = (".avif", ".gif", ".heic", ".heif", ".mha", ".nrrd", ".svg", *sum(_PREDICTION_ONLY.values(), ()))


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left behind by the system."""
    return name.startswith(".") or name.lower() in _LITTER


def is_picture(name: str) -> bool:
    """Whether a file of this name is an image that can be read, if it is what its suffix says."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_scan(name: str) -> bool:
    """Whether a file of this name shows something, whether it can be read or not."""
    return is_picture(name) or name.lower().endswith(_OTHER_PICTURES)


def is_beside(path: PurePosixPath, paths: Container[PurePosixPath]) -> bool:
    """Whether a file lies beside images on purpose: a licence, a description, a table.

    Args:
        path: of the file.
        paths: of all files. `x.png.json` describes `x.png` if that is there; otherwise it may be the image itself,
            under a name whose end its owner did not see.
    """
    if path.name.lower() in _BESIDE_NAMES:
        return True
    described = path.with_name(path.stem)
    return path.suffix.lower() in _BESIDE_SUFFIXES and (not is_picture(described.name) or described in paths)


def prediction_only(name: str, data: bytes = b"") -> str:
    """Why a file that is no picture is not learned from, if prediction would read it: its format, and what to do.

    Args:
        name: of the file.
        data: its content; DICOM is known by it whatever the name.

    Returns:
        One line; "" if the file is nothing of the kind.
    """
    formats = [kind for kind, suffixes in _PREDICTION_ONLY.items() if name.lower().endswith(suffixes)]
    formats = ["DICOM"] if data[128:132] == b"DICM" else formats
    return f"{formats[0]} is read for prediction only: convert it to PNG" if formats else ""
