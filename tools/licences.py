"""The licences of all packages in the locks: a table in docs/licences.md, and whether each is allowed.

    python tools/licences.py            # writes the table; ends with 1 and a line for each licence that is not allowed
    python tools/licences.py --check    # writes nothing, and also ends with 1 where the table is out of date

Licences are read from the installed packages by pip-licenses. tools/dependencies.toml says which are allowed and states
those that a package does not tell. A package of another system keeps its row.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib

from license_expression import ExpressionError, LicenseSymbol, get_spdx_licensing
from locks import ROOT, SETTINGS, locked
from packaging.utils import canonicalize_name

PAGE = ROOT / "docs" / "licences.md"
# What is in the container; what a run of the pipeline needs; what only developers install.
PARTS = {
    "serving": {"requirements-serving.txt", "requirements-readers.txt"},
    "pipeline": {"requirements.txt"},
    "tools": {"requirements-dev.txt", "requirements-docs.txt"},
}
_START = "<!-- made by `make licences` -->"
_LONGEST = 100  # characters; some packages give the whole text of their licence instead of its name
_SPDX = get_spdx_licensing()


def installed() -> dict[str, str]:
    """Canonical name -> licence as the package itself tells it: an SPDX expression, or classifiers; "" if neither."""
    # "system" packages are pip-licenses and what it needs; "mixed": classifiers where there is no expression.
    command = [sys.executable, "-m", "piplicenses", "--with-system", "--from=mixed", "--format=json"]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    told = {canonicalize_name(row["Name"]): " ".join(row["License"].split()) for row in rows}
    return {name: text if text != "UNKNOWN" and len(text) <= _LONGEST else "" for name, text in told.items()}


def part_of(locks: list[str]) -> str:
    """The first of the parts that a package of these locks belongs to."""
    return next(part for part, names in PARTS.items() if names & set(locks))


def is_allowed(licence: str, allowed: set[str]) -> bool:
    """Whether a licence is allowed: by its name, as an SPDX expression, or as classifiers, each of which must be."""
    if licence in allowed:
        return True
    if "; " in licence:
        return all(is_allowed(each, allowed) for each in licence.split("; "))
    try:
        return _holds(_SPDX.parse(licence, validate=True), allowed)
    except ExpressionError:
        return False


def _holds(expression, allowed: set[str]) -> bool:
    if expression is None:
        return False
    if isinstance(expression, LicenseSymbol) or not expression.args:
        return str(expression) in allowed
    return (any if isinstance(expression, _SPDX.OR) else all)(_holds(part, allowed) for part in expression.args)


def rows_of(page: str) -> dict[str, str]:
    """Package -> licence of the table on a page."""
    return dict(re.findall(r"^\| ([a-z0-9-]+) \| \w+ \| ([^|]+?) \|", page, re.MULTILINE))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the table is out of date")
    arguments = parser.parse_args()
    settings = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))["licences"]
    page = PAGE.read_text(encoding="utf-8")
    told, stated, former = installed(), settings["stated"], rows_of(page)
    faults, lines = (
        [],
        ["| package | part | licence | source, if not the package's metadata |", "| --- | --- | --- | --- |"],
    )
    parts: dict[str, list[str]] = {}
    for (name, _), locks in locked().items():
        parts.setdefault(name, []).extend(locks)
    for name, locks in parts.items():
        part = part_of(locks)
        licence = stated[name]["licence"] if name in stated else told.get(name) or former.get(name, "")
        # What is allowed nearer to the user is allowed further away.
        allowed = {each for key in list(PARTS)[: list(PARTS).index(part) + 1] for each in settings["allowed"][key]}
        if not licence:
            faults.append(f"{name}: tells no licence: state it with its source in {SETTINGS.relative_to(ROOT)}")
        elif not is_allowed(licence, allowed):
            faults.append(f"{name}: {licence}: not allowed for {part} ({', '.join(sorted(set(locks)))})")
        source = stated.get(name, {}).get("source", "")
        lines.append(f"| {name} | {part} | {licence or 'unknown'} | {source} |")
    for name in sorted(stated.keys() - parts.keys()):
        faults.append(f"{name}: stated in {SETTINGS.relative_to(ROOT)}, but in no lock: remove it")
    head, _, _ = page.partition(_START)
    made = head + "\n".join([_START, "", *lines, ""])
    if arguments.check and made != page:
        faults.append(f"{PAGE.relative_to(ROOT)} is out of date: run make licences")
    elif not arguments.check:
        PAGE.write_text(made, encoding="utf-8", newline="\n")
    print(*faults, f"{len(parts)} packages, {len(faults)} faults", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
