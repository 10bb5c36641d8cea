"""A data set from Kaggle, from an archive that is already here, or from a folder: whole and checked, or not at all."""

import sys
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_folder
from brain_tumor.source import manifest
from brain_tumor.source.archive import unpack
from brain_tumor.source.kaggle import download
from brain_tumor.source.layout import list_images


def copy_folder(source: Path, target: Path, classes: int = 2, named: Collection[str] = ()) -> None:
    """Copy a folder of images to `target` as `[<folder>/]<class>/<file>`.

    Args:
        source: the folder.
        target: folder to make or to replace.
        classes: number of class folders that it must have.
        named: names of class folders, see `layout.list_images`.

    Raises:
        PipelineError: there is no such folder, it overlaps `target`, or its layout is not one of class folders.
    """
    if not source.is_dir():
        raise PipelineError(
            f"expected a folder of images at {source}, found {'a file' if source.is_file() else 'none'}: "
            f"{'unpack it and give the folder' if source.is_file() else 'correct data.sources'}"
        )
    _check_apart(source, target)
    with replacing_folder(target) as partial:
        _unpack(source, partial, str(source), classes, named)


def fetch_kaggle(
    dataset: str,
    target: Path,
    archive: Path | None,
    manifests: Path,
    *,
    accept: bool,
    classes: int = 2,
    named: Collection[str] = (),
    **options: float,
) -> None:
    """Bring a Kaggle data set to `target` as `[<folder>/]<class>/<file>`.

    It is verified against `<manifests>/<owner>--<name>.sha256`; one without a manifest passes with a message on
    standard error.

    Args:
        dataset: Kaggle slug `owner/name`.
        target: folder to make or to replace.
        archive: zip archive or unpacked folder of the data set, used in place of the network; None: download.
        manifests: folder of the manifests.
        accept: write the manifest of the files that came instead of verifying them.
        classes: number of class folders that it must have.
        named: names of class folders, see `layout.list_images`.
        options: retries and stall_seconds, see `kaggle.download`.

    Raises:
        PipelineError: the archive is missing or damaged, its layout is not one of class folders, its content differs
            from the manifest, or the download failed.
    """
    if archive is not None:
        _check_apart(archive, target)
    record = manifests / f"{dataset.replace('/', '--')}.sha256"
    with replacing_folder(target) as partial:
        with TemporaryDirectory(prefix=".download-", dir=partial) as scratch:
            found = archive or download(dataset, Path(scratch), **options)
            _unpack(found, partial, str(archive or dataset), classes, named)
        if accept:
            digests = manifest.compute(partial)
        elif record.exists():
            manifest.verify(manifest.compute(partial), record)
    if accept:
        manifest.write(record, digests)
    elif not record.exists():
        print(
            f"{dataset} has no manifest and was not verified: `make accept-data SOURCE=<name>` records this version in "
            f"{record}",
            file=sys.stderr,
        )


def own_archive(given: str | None, dataset: str, main: bool) -> Path | None:
    """The archive of a Kaggle set among what the user has, as DATASET_ARCHIVE says.

    Args:
        given: value of DATASET_ARCHIVE: a zip archive or an unpacked folder of the main source, or a folder with an
            archive or a folder per source, named after the last part of its slug (`<name>.zip` or `<name>`).
        dataset: Kaggle slug `owner/name`.
        main: whether this is the main source.

    Returns:
        The archive or folder; None if there is none: download.

    Raises:
        PipelineError: there is nothing at `given`.
    """
    if not given:
        return None
    place, name = Path(given).expanduser(), dataset.split("/")[1]
    if not place.exists():
        raise PipelineError(f"expected a zip archive or a folder at {place}, found none: correct DATASET_ARCHIVE")
    named = [path for path in (place / f"{name}.zip", place / name) if path.exists()]
    several = place.is_dir() and any(path.suffix == ".zip" for path in place.iterdir())
    return named[0] if named else place if main and not several else None


def _unpack(source: Path, target: Path, name: str, classes: int, named: Collection[str]) -> None:
    """Unpack and check the layout; errors call the source `name`, because the folders here are gone when it is read."""
    try:
        unpack(source, target, named=named)
        list_images(target, classes, named)
    except PipelineError as error:
        raise PipelineError(str(error).replace(str(source), name).replace(str(target), name)) from error


def _check_apart(source: Path, target: Path) -> None:
    """Refuse a source that the replacing of `target` would delete, or that would contain its own copy."""
    a, b = source.resolve(), target.resolve()
    if a.is_relative_to(b) or b.is_relative_to(a):
        raise PipelineError(f"expected a source apart from {target}, received {source}: move it elsewhere")
