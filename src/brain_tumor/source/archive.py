"""Unpacking a data set from a zip archive or a folder that is not trusted.

`zipfile.extractall` alone would rename dangerous members silently, let a second member of the same name replace the
first, turn links into files, and unpack a bomb; and a data set in a folder needs the same care.
"""

import os
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from brain_tumor import progress
from brain_tumor.errors import PipelineError

MAX_FILES = 1_000_000
MAX_BYTES = 50 * 1024**3
MAX_RATIO = 200  # unpacked over packed, of the whole archive: images give 1 to 20, a bomb 1000 and more

_DESKTOP_FILES = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, UnicodeDecodeError)


@dataclass(frozen=True)
class _Entry:
    """A file, or a folder where `open` is None, at a checked path."""

    path: PurePosixPath
    size: int = 0
    open: Callable[[], IO[bytes]] | None = None


def unpack(
    source: Path | str,
    target: Path | str,
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
    max_ratio: float = MAX_RATIO,
) -> None:
    """Write the content of a zip archive or a folder into `target`, the same bytes from either.

    Hidden files and files of desktop systems are left out, empty folders are kept, and a folder that contains
    everything else is stripped. Files get the user's default mode and the current time.

    Args:
        source: a zip archive or a folder.
        target: an existing folder. A failed call leaves in it what it wrote until then.
        max_files: largest number of members of an archive.
        max_bytes: largest number of bytes that an archive may unpack to.
        max_ratio: largest number of unpacked bytes for each byte of an archive.

    Raises:
        PipelineError: `source` is missing, damaged or no zip archive; contains an absolute path, `..`, a
            backslash, a link, or a name twice; exceeds a limit; or cannot be written to disk.
    """
    source = Path(source)
    try:
        if source.is_dir():
            _write(_arrange(_list_folder(source)), Path(target))
        else:
            with zipfile.ZipFile(source) as opened:
                limits = (max_files, max_bytes, max_ratio * source.stat().st_size)
                _write(_arrange(_list_zip(opened, *limits)), Path(target))
    except PipelineError as error:
        raise PipelineError(f"{source}: {error}") from None
    except _DAMAGE as error:
        raise PipelineError(
            f"expected a whole zip archive, {source} cannot be read ({error or type(error).__name__}): get it "
            "again, or unpack it and give the folder"
        ) from error
    except OSError as error:
        raise PipelineError(f"cannot unpack {source} ({error}): check the archive and the disk") from error


def _list_zip(opened: zipfile.ZipFile, max_files: int, max_bytes: int, max_growth: float) -> Iterator[_Entry]:
    members = opened.infolist()
    # A reader never gets more than the declared size from a member, so limiting the declared sizes is enough.
    total = sum(member.file_size for member in members)
    for count, limit, unit in [
        (len(members), max_files, "files"),
        (total, max_bytes, "bytes"),
        (total, max_growth, "bytes for an archive of its size"),
    ]:
        if count > limit:
            raise PipelineError(
                f"expected at most {limit:.0f} {unit}, found {count}: too much for a data set of images"
            )
    for member in members:
        path = _checked(member.orig_filename)  # `filename` ends at a null byte, which hides the rest
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise PipelineError(f"expected files and folders, {str(path)!r} is a link or a device: pack it without")
        if member.is_dir():
            yield _Entry(path)
        elif member.flag_bits & 0x1:
            raise PipelineError(f"expected an open archive, {str(path)!r} is encrypted: unpack it and give the folder")
        else:
            yield _Entry(path, member.file_size, lambda member=member: opened.open(member))


def _list_folder(folder: Path) -> Iterator[_Entry]:
    # Links are refused as in an archive: through a link any file of this disk could get into the data set, and a
    # linked folder can contain itself.
    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        for name in folders + files:
            place = Path(parent, name)
            path = _checked(place.relative_to(folder).as_posix())
            mode = place.lstat().st_mode
            if stat.S_ISDIR(mode):
                yield _Entry(path)
            elif stat.S_ISREG(mode):
                yield _Entry(path, place.stat().st_size, lambda place=place: place.open("rb"))
            else:
                raise PipelineError(
                    f"expected files and folders, {str(path)!r} is a link or a device: `cp -rL` copies without links"
                )


def _checked(name: str) -> PurePosixPath:
    """The path of a member; refuses names that could leave the folder or break a line of the manifest."""
    path = PurePosixPath(name)
    if path.is_absolute() or re.match("[A-Za-z]:", name) or ".." in path.parts or "\\" in name or not path.parts:
        raise PipelineError(f"expected paths below one folder, found {name!r}: do not trust this archive")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise PipelineError(f"expected printable names, found {name!r}: rename it")
    return path


def _arrange(entries: Iterable[_Entry]) -> dict[PurePosixPath, _Entry]:
    """Files and folders by their path in the target, a folder before its content."""
    files: dict[PurePosixPath, _Entry] = {}
    folders: set[PurePosixPath] = set()
    for entry in entries:
        folders.update(parent for parent in entry.path.parents if parent.parts)
        if entry.open is None:
            folders.add(entry.path)
        elif entry.path in files:
            raise PipelineError(f"expected every name once, found {str(entry.path)!r} twice: do not trust this archive")
        else:
            files[entry.path] = entry
    if clashes := folders & files.keys():
        raise PipelineError(f"expected a file or a folder, {str(min(clashes))!r} is both: do not trust this archive")

    tree = {path: _Entry(path) for path in folders} | files
    tree = {
        path: entry
        for path, entry in tree.items()
        if not any(part.startswith(".") or part in _DESKTOP_FILES for part in path.parts)
    }
    wrapping = _wrapping_folder(tree)
    return {path.relative_to(wrapping): tree[path] for path in sorted(tree) if wrapping in path.parents}


def _wrapping_folder(tree: dict[PurePosixPath, _Entry]) -> PurePosixPath:
    """The deepest folder that contains everything and is not a class folder, that is, contains folders itself."""
    children: dict[PurePosixPath, list[_Entry]] = {}
    for path, entry in tree.items():
        children.setdefault(path.parent, []).append(entry)
    wrapping = PurePosixPath()
    while True:
        inside = children.get(wrapping, [])
        if len(inside) != 1 or all(entry.open for entry in children.get(inside[0].path, [])):
            return wrapping
        wrapping = inside[0].path


def _write(tree: dict[PurePosixPath, _Entry], target: Path) -> None:
    total = sum(entry.size for entry in tree.values())
    with progress.bar(desc="unpack", unit="B", total=total, unit_scale=True, delay=1) as bar:
        for path, entry in tree.items():
            if entry.open is None:
                (target / path).mkdir()
            else:
                with entry.open() as reader, (target / path).open("xb") as writer:
                    shutil.copyfileobj(reader, writer)
                bar.update(entry.size)
