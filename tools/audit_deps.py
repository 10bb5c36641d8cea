"""Known vulnerabilities of the packages in the locks, by a database that is stored on this machine.

    python tools/audit_deps.py

The database is that of https://osv.dev (PyPA advisories, GitHub advisories, malicious packages), one zip archive of all
records about packages of PyPI, in the cache folder of the user. It is fetched if there is a newer one, and used as it
is where the network cannot be reached. `pip-audit` asks a service about each package and works from no stored database.

Exit codes: 0, nothing is known; 1, a finding that tools/dependencies.toml does not ignore; 2, nothing could be checked.
"""

import argparse
import email.utils
import http.client
import json
import os
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from locks import SETTINGS, locked
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

URL = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
_SECONDS = 30  # without a byte, until the network counts as out of reach


class NothingChecked(Exception):
    """There is no database; the message is one line."""


def stored_at() -> Path:
    """Where the database is stored, by the XDG base directory specification."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "brain-tumor" / "osv-pypi.zip"


def refresh(url: str, stored: Path) -> str:
    """Fetch the database where there is a newer one; its time is that of the file.

    Returns:
        Why it could not be fetched; "" if what is stored is the newest.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "brain-tumor audit-deps"})
    if stored.exists():
        request.add_header("If-Modified-Since", email.utils.formatdate(stored.stat().st_mtime, usegmt=True))
    stored.parent.mkdir(parents=True, exist_ok=True)
    partial = None
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            made = answer.headers["Last-Modified"]
            with tempfile.NamedTemporaryFile(dir=stored.parent, prefix=".partial-", delete=False) as file:
                partial = Path(file.name)
                while block := answer.read(1 << 20):
                    file.write(block)
        if not _is_whole(partial):
            return "what came is no whole zip archive"
        moment = email.utils.parsedate_to_datetime(made).timestamp() if made else time.time()
        os.utime(partial, (moment, moment))
        os.replace(partial, stored)
        return ""
    except urllib.error.HTTPError as error:
        return "" if error.code == 304 else f"HTTP status {error.code}"
    # URLError, a timeout; a connection that ends early; a date or an address that is none.
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(getattr(error, "reason", None) or error)
    finally:
        if partial:
            partial.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError):
        return False


def records(stored: Path) -> Iterator[dict]:
    """The records of the database, in the OSV schema (https://ossf.github.io/osv-schema)."""
    try:
        with zipfile.ZipFile(stored) as archive:
            for name in archive.namelist():
                yield json.loads(archive.read(name))
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise NothingChecked(
            f"expected a zip archive of OSV records in {stored}, it cannot be read ({error}): remove it and try again"
        ) from error


def affects(affected: dict, version: str) -> bool:
    """Whether an entry of `affected` covers a version, as the schema evaluates it: listed, or in a range."""
    if version in affected.get("versions", ()) or Version(version) in map(_version, affected.get("versions", ())):
        return True
    return any(_inside(part["events"], Version(version)) for part in affected.get("ranges", ()) if _of_versions(part))


def _inside(events: Iterable[dict], version: Version) -> bool:
    """Whether the last event at or below the version lets it be vulnerable."""
    moments = [(_version(text), kind) for event in events for kind, text in event.items() if kind != "limit"]
    vulnerable = False
    # A version that is introduced and fixed at once is fixed.
    for moment, kind in sorted((m for m in moments if m[0]), key=lambda m: (m[0], m[1] == "fixed")):
        if kind == "introduced" and version >= moment:
            vulnerable = True
        elif (kind == "fixed" and version >= moment) or (kind == "last_affected" and version > moment):
            vulnerable = False
    return vulnerable


def _of_versions(part: dict) -> bool:
    return part["type"] in ("ECOSYSTEM", "SEMVER")  # and not commits of git


def _version(text: str) -> Version | None:
    """A version of PyPI, or None; "0" stands for the one before all others."""
    try:
        return Version("0.dev0" if text == "0" else text)
    except InvalidVersion:
        return None


def findings(packages: Iterable[tuple[str, str]], database: Iterable[dict]) -> list[dict]:
    """Vulnerabilities of packages, one for all records about the same one.

    Args:
        packages: (canonical name, version) of each.
        database: OSV records.

    Returns:
        For each: package, version, ids (sorted, with aliases) and fixed (versions above this one, ascending).
    """
    wanted: dict[str, list[str]] = {}
    for name, version in packages:
        wanted.setdefault(name, []).append(version)
    found: list[dict] = []
    for record in database:
        if record.get("withdrawn"):
            continue
        for affected in record.get("affected", ()):
            package = affected.get("package", {})
            if package.get("ecosystem") != "PyPI" or (name := canonicalize_name(package["name"])) not in wanted:
                continue
            for version in wanted[name]:
                if affects(affected, version):
                    ids = {record["id"], *record.get("aliases", ())}
                    _joined(
                        found, {"package": name, "version": version, "ids": ids, "fixed": _fixed(affected, version)}
                    )
    shown = [{**each, "ids": sorted(each["ids"]), "fixed": list(map(str, sorted(each["fixed"])))} for each in found]
    return sorted(shown, key=lambda each: (each["package"], Version(each["version"]), each["ids"]))


def _joined(found: list[dict], new: dict) -> None:
    """Add a finding, or join it with those that are the same by an alias."""
    same = [
        o for o in found if (o["package"], o["version"]) == (new["package"], new["version"]) and o["ids"] & new["ids"]
    ]
    for other in same:
        found.remove(other)
        new["ids"] |= other["ids"]
        new["fixed"] |= other["fixed"]
    found.append(new)


def _fixed(affected: dict, version: str) -> set[Version]:
    told = [
        _version(event["fixed"])
        for part in affected.get("ranges", ())
        if _of_versions(part)
        for event in part["events"]
        if "fixed" in event
    ]
    return {each for each in told if each and each > Version(version)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=URL, help="of the zip archive of OSV records")
    arguments = parser.parse_args()
    stored, packages = stored_at(), locked()
    why = refresh(arguments.url, stored)
    try:
        if not stored.exists():
            raise NothingChecked(
                f"expected a database of vulnerabilities, none is stored in {stored} and {arguments.url} cannot be "
                f"reached ({why}): run this once with a network, or copy that file to there"
            )
        if why:
            print(f"note: {arguments.url} cannot be reached ({why}): the stored database is used", file=sys.stderr)
        database = list(records(stored))
        if not database:
            raise NothingChecked(f"expected OSV records in {stored}, found none: remove it and try again")
        found = findings(packages, database)
    except NothingChecked as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    ignored = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))["ignored"]
    open_ = [each for each in found if not ignored.keys() & set(each["ids"])]
    for each in open_:
        places = ", ".join(packages[each["package"], each["version"]])
        fixed = f"fixed in {', '.join(each['fixed'])}" if each["fixed"] else "not fixed"
        print(f"{each['package']} {each['version']}: {', '.join(each['ids'])}: {fixed} ({places})")
    known = {id_ for each in found for id_ in each["ids"]}
    for id_, reason in ignored.items():
        print(f"ignored: {id_}: {reason if id_ in known else 'concerns no locked package any more: remove it'}")
    days = max(time.time() - stored.stat().st_mtime, 0) / 86400
    made = time.strftime("%Y-%m-%d", time.gmtime(stored.stat().st_mtime))
    print(f"{len(packages)} packages, {len(open_)} findings; {len(database)} records of {made}, {days:.0f} days old")
    return 1 if open_ else 0


if __name__ == "__main__":
    sys.exit(main())
