"""What the locks requirements*.txt name, on any system and any Python, for the tools that check it."""

from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ROOT / "tools" / "dependencies.toml"


def locked(root: Path = ROOT) -> dict[tuple[str, str], list[str]]:
    """(package, version) -> the locks that name it, sorted by package. A package may have a version per system."""
    found: dict[tuple[str, str], list[str]] = {}
    for lock in sorted(root.glob("requirements*.txt")):
        for line in lock.read_text(encoding="utf-8").splitlines():
            if line and line[0].isalnum():
                wanted = Requirement(line.removesuffix("\\"))
                (version,) = [pin.version for pin in wanted.specifier]
                found.setdefault((canonicalize_name(wanted.name), version), []).append(lock.name)
    return dict(sorted(found.items()))
