"""Which data, params and code a report is about. A commit or dvc.lock would be circular: they depend on the report."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

_CODE = (".py", ".html", ".css", ".csv")


def code_fingerprint(folders: Iterable[Path | str]) -> str:
    """SHA-256 over the paths and contents of the code in these folders, which are relative to the project."""
    digest = hashlib.sha256()
    for folder in sorted(map(Path, folders)):
        for path in sorted(folder.rglob("*")):
            if path.suffix in _CODE and path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.as_posix()} {content}\n".encode())
    return digest.hexdigest()
