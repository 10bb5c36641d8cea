"""An image-folder data set on disk: `[<folder>/]<class>/<file>`.

Classes and folders are the names found; no name of a particular data set is built in.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from brain_tumor.errors import PipelineError
from brain_tumor.imaging.decoding import IMAGE_SUFFIXES


@dataclass(frozen=True, order=True)
class ImageFile:
    """One image of a data set.

    Attributes:
        path: POSIX path relative to the root of the data set.
        folder: path above the class folder ("Training", "Testing"); "" if there is none.
        label: name of the class folder.
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
    """POSIX paths of all files below `root`, sorted; hidden files and `__MACOSX` are skipped."""
    root = Path(root)
    return sorted(path.as_posix() for path in _visible(root) if (root / path).is_file())


def list_images(root: Path | str, least: int = 2) -> list[ImageFile]:
    """All images of the data set at `root`, sorted by path.

    Args:
        root: of the data set.
        least: number of class folders that it must have.

    Raises:
        PipelineError: there are fewer than `least` class folders, a class folder without an image, images beside class
            folders, or a name that is not printable UTF-8.
    """
    root = Path(root)
    images = []
    for path in map(PurePosixPath, list_files(root)):
        if path.suffix.lower() in IMAGE_SUFFIXES and len(path.parts) >= 2:
            images.append(ImageFile(str(path), "/".join(path.parts[:-2]), path.parts[-2]))
    labels = sorted({image.label for image in images})
    if len(labels) < least:
        wanted = "two class folders" if least == 2 else "one class folder"
        raise PipelineError(
            f"expected at least {wanted} with images ([<folder>/]<class>/<file>), found "
            f"{f'only {labels[0]!r}' if labels else 'none'} in {root}: add one folder per class"
        )
    filled = {str(PurePosixPath(image.path).parent) for image in images}
    if both := sorted(filled & {image.folder for image in images}):
        raise PipelineError(f"{both[0]!r} holds images and class folders: move its images into a class folder")
    for image in images:
        if not image.path.isprintable():
            raise PipelineError(f"expected names in printable UTF-8, found {image.path!a}: rename the file")
    for folder in sorted(path for path in _visible(root) if (root / path).is_dir()):
        name = folder.as_posix()
        if name not in filled and not any(other.startswith(name + "/") for other in filled):
            raise PipelineError(f"expected images in every class folder, found none in {name!r}: fill it or remove it")
    return images


def _visible(root: Path) -> list[Path]:
    """Everything below `root`, relative to it, except hidden files and folders and `__MACOSX`."""
    relative = (path.relative_to(root) for path in root.rglob("*"))
    return [path for path in relative if not any(part[0] == "." or part == "__MACOSX" for part in path.parts)]
