"""An image-folder data set on disk: `[<folder>/]<class>/<file>`, or deeper below a class folder that is named.

Classes and folders are the names found; no name of a particular data set is built in.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from brain_tumor.errors import PipelineError
from brain_tumor.files import all_below
from brain_tumor.source.kinds import is_beside, is_litter, is_picture, is_scan, prediction_only


@dataclass(frozen=True, order=True)
class ImageFile:
    """One image of a data set.

    Attributes:
        path: POSIX path relative to the root of the data set.
        folder: path above the class folder ("Training", "Testing"); "" if there is none.
        label: name of the class folder; "" for a file that lies in none.
    """

    path: str
    folder: str
    label: str


def once(root: Path | str, images: list[ImageFile]) -> list[ImageFile]:
    """Leave out what stands twice: a folder that holds all other images again, under the same names and sizes.

    Args:
        root: of the data set.
        images: what `list_images` returns.
    """
    root, every = Path(root), {image.path for image in images}
    for top in sorted({path.split("/")[0] for path in every}):
        inside = {path for path in every if path.startswith(top + "/")}
        if {path.removeprefix(top + "/") for path in inside} == every - inside and all(
            (root / path).stat().st_size == (root / path.removeprefix(top + "/")).stat().st_size for path in inside
        ):
            return [image for image in images if image.path not in inside]
    return images


def list_files(root: Path | str) -> list[str]:
    """POSIX paths of all files below `root`, sorted, without hidden ones and those that systems leave behind."""
    root = Path(root)
    return sorted(path.as_posix() for path in _visible(root) if (root / path).is_file())


def list_images(root: Path | str, least: int = 2, named: Iterable[str] = ()) -> list[ImageFile]:
    """All files of the data set at `root` that are images or should be, sorted by path.

    A folder that directly holds files with the suffix of an image is a class folder, unless one above it is in
    `named`, which then is the class folder of all that lies below it. In it every file counts, whatever its suffix,
    except what lies beside images on purpose (`kinds.is_beside`). Elsewhere only what is an image by its suffix
    counts; it lies in no class folder.

    Args:
        root: of the data set.
        least: number of class folders that it must have.
        named: names of class folders, however their accents are written.

    Raises:
        PipelineError: there are fewer than `least` class folders, a folder without an image, images beside class
            folders, or a name that is not printable UTF-8.
    """
    root = Path(root)
    files = [PurePosixPath(path) for path in list_files(root)]
    every, known = set(files), {_composed(name) for name in named}
    filled = {file.parent for file in files if is_picture(file.name)} - {PurePosixPath(".")}
    images = []
    for file in files:
        if file.parent in filled and not is_beside(file, every):
            images.append(_placed(file, known))
        elif file.parent not in filled and is_scan(file.name):
            images.append(ImageFile(str(file), "", ""))
    labels = sorted({image.label for image in images} - {""})
    if len(labels) < least:
        elsewhere = [file for file in files if file.parent not in filled and is_scan(file.name)]
        wanted = "two class folders" if least == 2 else "one class folder"
        raise PipelineError(
            f"expected at least {wanted} with images ([<folder>/]<class>/<file>), found "
            f"{f'only {labels[0]!r}' if labels else 'none'} in {root}{_instead(elsewhere if labels else files)}: "
            "add one folder per class"
        )
    if both := sorted({str(folder) for folder in filled} & {image.folder for image in images if image.label}):
        raise PipelineError(f"{both[0]!r} holds images and class folders: move its images into a class folder")
    for image in images:
        if not image.path.isprintable():
            raise PipelineError(f"expected names in printable UTF-8, found {image.path!a}: rename the file")
    holding = {above for folder in filled for above in (folder, *folder.parents)}
    for folder in sorted(PurePosixPath(path) for path in _visible(root) if (root / path).is_dir()):
        if folder not in holding:
            inside = [file for file in files if file.is_relative_to(folder)]
            raise PipelineError(
                f"expected images in every class folder, found none in {str(folder)!r}{_instead(inside)}: "
                "fill it or remove it"
            )
    return images


def _placed(file: PurePosixPath, named: set[str]) -> ImageFile:
    """A file in its class folder: the nearest one that is named, or else the one that holds it."""
    above = file.parts[:-1]
    place = max((i for i, name in enumerate(above) if _composed(name) in named), default=len(above) - 1)
    return ImageFile(str(file), "/".join(above[:place]), above[place])


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _instead(files: list[PurePosixPath]) -> str:
    """What lies where images were expected, as the continuation of a sentence; "" if nothing does."""
    files = [file for file in files if not is_beside(file, ())] or files
    if not files:
        return ""
    packed = files[0].name.lower().endswith((".zip", ".rar", ".7z", ".tar", ".gz", ".tgz"))
    why = prediction_only(files[0].name) or ("an archive: unpack it" if packed else "")
    count = f"{len(files)} other files such as" if len(files) > 1 else "the file"
    return f", but {count} {str(files[0])!r}{f' ({why})' if why else ''}"


def _visible(root: Path) -> list[Path]:
    """Everything below `root`, relative to it, except hidden files and folders and what systems leave behind."""
    relative = (path.relative_to(root) for path in all_below(root))
    return [path for path in relative if not any(map(is_litter, path.parts))]
