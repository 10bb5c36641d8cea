"""The manifest of a data set: one SHA-256 per file, in the format of `sha256sum`."""

import hashlib
import re
from pathlib import Path

from brain_tumor import progress
from brain_tumor.errors import PipelineError
from brain_tumor.files import write_text
from brain_tumor.source.layout import list_files

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def compute(root: Path | str) -> dict[str, str]:
    """SHA-256, in hexadecimal, of every file below `root` by its POSIX path, sorted by path."""
    root = Path(root)
    paths = list_files(root)
    total = sum((root / path).stat().st_size for path in paths)
    digests = {}
    with progress.bar(desc="verify", unit="B", total=total, unit_scale=True, delay=1) as bar:
        for path in paths:
            with (root / path).open("rb") as file:
                digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
                bar.update(file.tell())
    return digests


def read(path: Path | str) -> dict[str, str]:
    """The digests in the manifest at `path`, by the POSIX path of the file.

    Raises:
        PipelineError: a line is not `<SHA-256>  <path>`, or the file is not text.
    """
    digests = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise PipelineError(
            f"expected UTF-8 text in {path}, byte {error.start + 1} is something else: restore it with git"
        ) from None
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise PipelineError(
                f"expected `<SHA-256>  <path>` in line {number} of {path}, received {line!r}: restore it with git"
            )
        digests[match[2]] = match[1]
    return digests


def write(path: Path | str, digests: dict[str, str]) -> None:
    """Write a manifest that `sha256sum -c` understands, sorted by path, atomically."""
    write_text(path, "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)))


def verify(digests: dict[str, str], path: Path | str) -> None:
    """Compare the `digests` of a data set, as from `compute`, with the manifest at `path`.

    Raises:
        PipelineError: a file is missing, extra or changed; the line counts them and names the first.
    """
    expected = read(path)
    differences = {
        "missing": expected.keys() - digests.keys(),
        "extra": digests.keys() - expected.keys(),
        "changed": {name for name in expected.keys() & digests.keys() if expected[name] != digests[name]},
    }
    if not any(differences.values()):
        return
    first, kind = min((name, kind) for kind, names in differences.items() for name in names)
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in differences.items())
    raise PipelineError(
        f"expected the {len(expected)} files of {path}, found {counts} (first: {first!r} {kind}): "
        "get the version it describes, or accept this one with `make accept-data SOURCE=<name>` and commit the manifest"
    )
