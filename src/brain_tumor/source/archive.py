"""Unpacking a data set from a zip archive or a folder that is not trusted.

`zipfile.extractall` alone would rename dangerous members silently, let a second member of the same name replace the
first, turn links into files, and unpack a bomb; and a data set in a folder needs the same care.
"""

import errno
import lzma
import os
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from brain_tumor.errors import WRITING, PipelineError
from brain_tumor.files import all_below
from brain_tumor.progress import bar
from brain_tumor.source.kinds import is_litter

MAX_FILES = 1_000_000
MAX_BYTES = 50 * 1024**3
MAX_RATIO = 200  # unpacked over packed, of the whole archive: images give 1 to 20, a bomb 1000 and more

_LONGEST_NAME, _LONGEST_PATH = 255, 1000  # bytes; systems take 255 and, with the folders above, 1024 to 4096
_LOCAL_HEADER = 30  # bytes before the name and the content of a member

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, OverflowError, ValueError),
)

_SIGNATURES = {
    "a web page, such as one to sign in": rb"\s*(<!--.*?-->\s*)?<(!doctype|!DOCTYPE|html|HTML|\?xml)",
    "a RAR archive": rb"Rar!",
    "a 7z archive": rb"7z\xbc\xaf",
    "a gzip file, perhaps .tar.gz": rb"\x1f\x8b",
    "a tar archive": rb".{257}ustar",
}


def unpack(
    source: Path | str,
    target: Path | str,
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
    max_ratio: float = MAX_RATIO,
    named: Iterable[str] = (),
) -> None:
    """Write the content of a zip archive or a folder into `target`, the same bytes from either.

    Hidden files and files of desktop systems are left out, empty folders are kept, and a folder that contains
    everything else is stripped unless it is a class folder. Files get the user's default mode and the current time.

    Args:
        source: a zip archive or a folder.
        target: an existing folder. A failed call leaves in it what it wrote until then.
        max_files: largest number of members of an archive.
        max_bytes: largest number of bytes that an archive may unpack to.
        max_ratio: largest number of unpacked bytes for each byte of an archive.
        named: names of class folders that have folders below them.

    Raises:
        PipelineError: `source` is missing, damaged or no zip archive; contains an absolute path, `..`, a
            backslash, a link, a name twice or two that some systems take for one, or members that share bytes;
            exceeds a limit; or cannot be read.
        OSError: it cannot be written, with an errno in `errors.WRITING`.
    """
    source, target = Path(source), Path(target)
    try:
        if source.is_dir():
            _check_folder(source)
            _transfer(source, target, shutil.copyfile, named)
            return
        with zipfile.ZipFile(source) as opened, TemporaryDirectory(prefix=".unpack-", dir=target) as scratch:
            _check_zip(opened, max_files, max_bytes, max_ratio * source.stat().st_size)
            for member in bar(opened.infolist(), desc="unpack", unit="file", delay=1):
                opened.extract(member, scratch)
            _transfer(Path(scratch), target, os.replace, named)
    except PipelineError as error:
        raise PipelineError(f"{source}: {error}") from None
    except (*_DAMAGE, OSError) as error:
        # bz2 has no error of its own, and a place before the start or far behind the end is an invalid argument.
        if not isinstance(error, OSError) or error.errno in (None, errno.EINVAL):
            raise PipelineError(
                f"expected a whole zip archive, {source} cannot be read ({_damage(source, error)}): get it again, or "
                "unpack it and give the folder"
            ) from error
        if error.errno in WRITING:
            raise
        raise PipelineError(
            f"cannot unpack {source} ({error.strerror or error}): check that it is there and can be read"
        ) from error


def ends_as_zip(path: Path) -> bool:
    """Whether a file has the end of a zip archive; one that is cut has none."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # its end says that it goes on elsewhere
        return True


def _damage(source: Path, error: Exception) -> str:
    """What is at hand instead of a whole zip archive, or what is wrong within one."""
    if isinstance(error, NotImplementedError):
        return "packed by a method that Python does not read, as Windows does with large archives"
    with source.open("rb") as file:
        start = file.read(1024)
    if not start:
        return "it is empty"
    for kind, signature in _SIGNATURES.items():
        if re.match(signature, start, re.DOTALL):
            return f"it is {kind}"
    if start.startswith(b"PK") and not ends_as_zip(source):
        return "its end is missing"
    return str(error)[:200] or type(error).__name__  # it may quote a name of any length


def _check_zip(opened: zipfile.ZipFile, max_files: int, max_bytes: int, max_growth: float) -> None:
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
    _check_apart(members)
    files, folders = set(), set()
    for member in members:
        path = _checked(member.orig_filename)  # `filename` ends at a null byte, which hides the rest
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise PipelineError(f"expected files and folders, {str(path)!r} is a link or a device: pack it without")
        if member.flag_bits & 0x1:
            raise PipelineError(f"expected an open archive, {str(path)!r} is encrypted: unpack it and give the folder")
        folders.update(path.parents)
        if member.is_dir():
            folders.add(path)
        elif path in files:
            raise PipelineError(f"expected every name once, found {str(path)!r} twice: do not trust this archive")
        else:
            files.add(path)
    if clashes := files & folders:
        raise PipelineError(f"expected a file or a folder, {str(min(clashes))!r} is both: do not trust this archive")
    _check_distinct(str(file) for file in files)


def _check_apart(members: list[zipfile.ZipInfo]) -> None:
    """Refuse members that share bytes, of which a small archive can hold a large amount (Fifield, WOOT 2019)."""
    placed = sorted(members, key=lambda member: member.header_offset)
    for one, following in pairwise(placed):
        if one.header_offset + _LOCAL_HEADER + one.compress_size > following.header_offset:
            raise PipelineError(
                f"expected members one after another, {one.orig_filename!r} overlaps another: do not trust this archive"
            )


def _check_distinct(names: Iterable[str]) -> None:
    """Refuse files that are one and the same on systems that ignore case or the way in which an accent is written."""
    known: dict[str, str] = {}
    for name in sorted(names):
        other = known.setdefault(unicodedata.normalize("NFC", name.lower()), name)
        if other != name:
            raise PipelineError(
                f"expected names that differ by more than capital letters and accents, found {other!a} and {name!a}: "
                "rename one, as some systems keep only one of them"
            )


def _check_folder(folder: Path) -> None:
    # Links are refused as in an archive: through a link any file of this disk could get into the data set, and a
    # linked folder can contain itself.
    files = []
    for path in all_below(folder):
        name = path.relative_to(folder).as_posix()
        _checked(name)
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR):
            raise PipelineError(f"expected files and folders, {name!r} is a link or a device: `cp -rL` copies without")
        files += [name] if kind == stat.S_IFREG else []
    _check_distinct(files)


def _checked(name: str) -> PurePosixPath:
    """The path of a member; refuses names that could leave the folder or break a line of the manifest."""
    path = PurePosixPath(name)
    if "\\" in name and ".." not in re.split(r"[/\\]", name) and not re.match(r"[/\\]|[A-Za-z]:", name):
        raise PipelineError(
            f"expected / between folders, found {name!r}, as some programs for Windows write it: unpack it there, or "
            "rename the file, and give the folder"
        )
    if path.is_absolute() or re.match("[A-Za-z]:", name) or ".." in path.parts or "\\" in name or not path.parts:
        raise PipelineError(f"expected paths below one folder, found {name!r}: do not trust this archive")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise PipelineError(f"expected printable names, found {name!r}: rename it")
    if len(os.fsencode(name)) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise PipelineError(
            f"expected names of at most {_LONGEST_NAME} bytes, {_LONGEST_PATH} with their folders, found "
            f"{name[:40] + '...'!r} of {len(os.fsencode(name))}: shorten it"
        )
    return path


def _transfer(folder: Path, target: Path, transfer: Callable[[Path, Path], object], named: Iterable[str]) -> None:
    """Copy or move what is visible in `folder` to `target`, without the folders that contain everything else."""
    # A folder of files alone is a class and is kept.
    known = {unicodedata.normalize("NFC", name) for name in named}
    while len(inside := _visible(folder)) == 1 and any(child.is_dir() for child in _visible(inside[0])):
        if unicodedata.normalize("NFC", inside[0].name) in known:
            break
        folder = inside[0]
    for path in bar(list(_tree(folder)), desc="copy", unit="file", delay=1):
        place = target / path.relative_to(folder)
        place.mkdir() if path.is_dir() else transfer(path, place)


def _tree(folder: Path) -> Iterator[Path]:
    for path in _visible(folder):
        yield path
        yield from _tree(path)


def _visible(folder: Path) -> list[Path]:
    """The content of a folder, sorted, without hidden files and those of desktop systems; none of a file."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if not is_litter(path.name)]
