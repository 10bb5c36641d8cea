"""Known vulnerabilities and licences of the locked packages, by the tools as a developer runs them.

The database of vulnerabilities comes from a small server on this machine, in the format and by the protocol of OSV.
"""

import email.utils
import io
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import ROOT, run
from locks import locked
from packaging.requirements import Requirement

HASH = "--hash=sha256:" + "0" * 64
DAY = 86400


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The locks and the tools, to change at will."""
    target = tmp_path / "project"
    shutil.copytree(ROOT / "tools", target / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (target / "docs").mkdir()
    for path in (*ROOT.glob("requirements*.txt"), ROOT / "docs/licences.md"):
        shutil.copy(path, target / path.relative_to(ROOT))
    return target


def lock(project: Path, line: str, name: str = "requirements-serving.txt") -> None:
    with (project / name).open("a", encoding="utf-8") as file:
        file.write(f"{line} \\\n    {HASH}\n")


# --- vulnerabilities


def record(id_: str, package: str, *events: dict, versions=(), aliases=(), ecosystem="PyPI", kind="ECOSYSTEM", **more):
    """A record in the OSV schema 1.7."""
    ranges = [{"type": kind, "events": list(events)}] if events else []
    affected = {"package": {"name": package, "ecosystem": ecosystem}, "ranges": ranges, "versions": list(versions)}
    start = {"schema_version": "1.7.0", "id": id_, "modified": "2026-11-01T00:00:00Z", "aliases": list(aliases)}
    return start | {"summary": "planted", "affected": [affected]} | more


def introduced(version: str = "0") -> dict:
    return {"introduced": version}


# Of a package that is locked in version 2.4.
FOUND = [
    record("PYSEC-2099-1", "Planted_One", introduced(), {"fixed": "2.4.1"}, aliases=["CVE-2099-1"]),
    record("GHSA-aaaa", "planted.one", introduced("2"), {"fixed": "2.5"}, aliases=["CVE-2099-1"]),
    record("PYSEC-2099-2", "planted-one", introduced("1"), {"fixed": "2.0"}, introduced("2.3rc1")),
    record("PYSEC-2099-3", "planted-one", introduced(), {"last_affected": "2.4"}),
    record("MAL-2099-4", "planted-one", versions=["1.0", "2.4.0"]),
]
NOT_FOUND = [
    record("PYSEC-2099-5", "planted-one", introduced(), {"fixed": "2.4"}),
    record("PYSEC-2099-6", "planted-one", introduced("2.4.post1")),
    record("PYSEC-2099-7", "planted-one", introduced(), {"last_affected": "2.3.9"}),
    record("PYSEC-2099-8", "planted-one", introduced(), withdrawn="2026-11-01T00:00:00Z"),
    record("PYSEC-2099-9", "planted-one", introduced(), kind="GIT"),
    record("GHSA-bbbb", "planted-one", introduced(), ecosystem="npm"),
    record("PYSEC-2099-10", "planted-two", introduced()),
    record("PYSEC-2099-11", "planted-one", versions=["2.4.1", "no version"]),
]


class OSV:
    """Serves one archive of records, and the query API about `FOUND`; a context manager.

    Attributes:
        archive: what is served.
        made: its time, in seconds since 1970.
        sent: how often the archive was sent.
    """

    def __init__(self, records: list[dict], made: float) -> None:
        self.sent, self.cut = 0, False
        self.serve(records, made)

    def serve(self, records: list[dict], made: float) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in records:
                archive.writestr(f"{each['id']}.json", json.dumps(each))
        self.archive, self.made = content.getvalue(), made

    def __enter__(self) -> "OSV":
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                since = self.headers.get("If-Modified-Since")
                if since and email.utils.parsedate_to_datetime(since).timestamp() >= int(owner.made):
                    self.send_response(304)
                    self.end_headers()
                    return
                owner.sent += 1
                self.send_response(200)
                self.send_header("Last-Modified", email.utils.formatdate(owner.made, usegmt=True))
                self.send_header("Content-Length", str(len(owner.archive)))
                self.end_headers()
                self.wfile.write(owner.archive[: len(owner.archive) // 2] if owner.cut else owner.archive)

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                wanted = (asked["package"]["name"], asked["version"]) == ("planted-one", "2.4")
                body = json.dumps({"vulns": FOUND} if wanted else {}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def audit(project: Path, url: str, code: int) -> tuple[list[str], str]:
    """Lines on standard output, and standard error."""
    command = [sys.executable, "tools/audit_deps.py", "--url", f"{url}/PyPI/all.zip"]
    variables = {"XDG_CACHE_HOME": str(project.parent / "cache"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.splitlines(), done.stderr


def test_vulnerable_versions_are_found_and_no_others(project):
    lock(project, "planted-one==2.4")
    lock(project, "planted-one==2.4", "requirements.txt")
    with OSV(FOUND + NOT_FOUND, time.time()) as osv:
        lines, _ = audit(project, osv.address, 1)
    where = "(requirements-serving.txt, requirements.txt)"
    assert lines[:-1] == [
        f"planted-one 2.4: CVE-2099-1, GHSA-aaaa, PYSEC-2099-1: fixed in 2.4.1, 2.5 {where}",
        f"planted-one 2.4: MAL-2099-4: not fixed {where}",
        f"planted-one 2.4: PYSEC-2099-2: not fixed {where}",
        f"planted-one 2.4: PYSEC-2099-3: not fixed {where}",
    ]
    packages, records = len(locked(project)), len(FOUND + NOT_FOUND)
    assert re.fullmatch(rf"{packages} packages, 4 findings; {records} records of [\d-]+, 0 days old", lines[-1])


def test_pip_audit_looks_at_the_same_packages_and_says_the_same(project):
    lock(project, "planted-one==2.4")
    names = [part for path in sorted(project.glob("requirements*.txt")) for part in ("-r", path.name)]
    options = ["--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json", "--cache-dir", "cache"]
    with OSV(FOUND + NOT_FOUND, time.time()) as osv:
        service = ["--vulnerability-service=osv", "--osv-url", f"{osv.address}/v1/query"]
        told = json.loads(run("pip-audit", *service, *options, *names, cwd=project, fails=True).stdout)["dependencies"]
        lines, _ = audit(project, osv.address, 1)
    theirs, ours = {(each["name"], each["version"]) for each in told}, set(locked(project))
    # It leaves out what is meant for other systems.
    text = "".join(path.read_text(encoding="utf-8") for path in project.glob("requirements*.txt"))
    wanted = [Requirement(line) for line in re.findall(r"^(\w.*?) \\$", text, re.MULTILINE)]
    here = {(each.name, str(each.specifier)[2:]) for each in wanted if each.marker is None or each.marker.evaluate()}
    assert theirs == here and ours == {(each.name, str(each.specifier)[2:]) for each in wanted} > here
    (found,) = [each["vulns"] for each in told if each["vulns"]]
    # Of records about the same one it names one.
    assert len(found) == 4 and sum(any(each["id"] in line for each in found) for line in lines) == 4


def test_without_a_network_the_stored_database_is_used_and_says_its_age(project):
    lock(project, "planted-one==2.4")
    nowhere = "http://127.0.0.1:9"
    lines, errors = audit(project, nowhere, 2)
    assert lines == [] and errors.count("\n") == 1
    assert errors.startswith("error: expected a database") and "run this once with a network" in errors
    with OSV(FOUND[:1], time.time() - 12 * DAY) as osv:
        lines, errors = audit(project, osv.address, 1)
        assert "12 days old" in lines[-1] and errors == ""
        audit(project, osv.address, 1)
        assert osv.sent == 1  # the stored one is the newest
        lines, errors = audit(project, nowhere, 1)
        assert "12 days old" in lines[-1] and errors.startswith("note: ") and errors.count("\n") == 1
        # A newer one that does not come whole leaves the stored one as it is.
        osv.serve(NOT_FOUND, time.time() - 2 * DAY)
        osv.cut = True
        lines, errors = audit(project, osv.address, 1)
        assert "12 days old" in lines[-1] and "no whole zip archive" in errors
        osv.cut = False
        lines, errors = audit(project, osv.address, 0)
        assert "0 findings" in lines[-1] and "2 days old" in lines[-1] and errors == ""
    stored = project.parent / "cache/brain-tumor"
    assert [path.name for path in stored.iterdir()] == ["osv-pypi.zip"]


@pytest.mark.parametrize("content", [b"PK no archive", b""], ids=["damaged", "empty"])
def test_a_database_that_cannot_be_read_is_never_no_findings(project, content):
    stored = project.parent / "cache/brain-tumor/osv-pypi.zip"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(content)
    lines, errors = audit(project, "http://127.0.0.1:9", 2)
    assert lines == [] and "remove it and try again" in errors.splitlines()[-1]
    with zipfile.ZipFile(stored, "w"):
        pass
    assert "found none" in audit(project, "http://127.0.0.1:9", 2)[1]


def test_a_finding_is_ignored_by_any_of_its_ids_with_a_reason(project):
    lock(project, "planted-one==2.4")
    path = project / "tools/dependencies.toml"
    reasons = '[ignored]\nCVE-2099-1 = "only on Windows"\nCVE-1999-1 = "of long ago"\n'
    path.write_text(path.read_text(encoding="utf-8").replace("[ignored]\n", reasons), encoding="utf-8")
    with OSV(FOUND[:2], time.time()) as osv:
        lines, _ = audit(project, osv.address, 0)
    assert lines[:2] == [
        "ignored: CVE-2099-1: only on Windows",
        "ignored: CVE-1999-1: concerns no locked package any more: remove it",
    ]


# --- licences


def licences(project: Path, *options: str, path: Path | None = None, fails: bool = False) -> list[str]:
    variables = {"PYTHONPATH": str(path)} if path else {}
    return run(sys.executable, "tools/licences.py", *options, cwd=project, fails=fails, **variables).stdout.splitlines()


def install(folder: Path, name: str, *told: str) -> None:
    """A distribution of metadata alone."""
    place = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *told, ""]))


def test_every_licence_is_allowed_and_the_page_is_up_to_date():
    (last,) = licences(ROOT, "--check")
    names = {name for name, _ in locked()}
    assert last == f"{len(names)} packages, 0 faults"
    page = (ROOT / "docs/licences.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (serving|pipeline|tools) \| ([^|]+) \| [^|]*\|$", page, re.MULTILINE)
    assert {name for name, _, _ in rows} == names and len(rows) == len(names)
    # What is passed on in the container has no copyleft licence but by file.
    assert {
        name for name, part, text in rows if part == "serving" and re.search(r"[AL]?GPL|EPL|Artistic", text)
    } == set()


CLASSIFIER = "Classifier: License :: OSI Approved :: "
GPL = f"{CLASSIFIER}GNU General Public License v3 (GPLv3)"


# What a package tells, and how the line about it begins; None: it is allowed.
TOLD = {
    "planted-a": (["License-Expression: GPL-3.0-only"], "GPL-3.0-only: not allowed for tools (requirements-dev.txt)"),
    "planted-b": ([GPL], "GNU General Public License v3 (GPLv3): not allowed"),
    "planted-c": ([f"{CLASSIFIER}MIT License", GPL], "GNU General Public License v3 (GPLv3); MIT License: not allowed"),
    "planted-d": (["License-Expression: MIT AND GPL-3.0-only"], "MIT AND GPL-3.0-only: not allowed"),
    "planted-e": (
        ["License-Expression: (MIT OR ISC) AND AGPL-3.0-only"],
        "(MIT OR ISC) AND AGPL-3.0-only: not allowed",
    ),
    "planted-f": (["License: as you like"], "as you like: not allowed"),
    "planted-g": ([], "tells no licence: state it"),
    "planted-h": (["License: Permission is hereby granted" + " to everyone" * 20], "tells no licence: state it"),
    "planted-i": (["License-Expression: MIT OR GPL-3.0-only"], None),
    "planted-j": (["License-Expression: BSD-3-Clause AND (Apache-2.0 OR GPL-3.0-only)"], None),
    "planted-k": ([f"{CLASSIFIER}BSD License"], None),
    "planted-l": (["License-Expression: EPL-2.0"], None),
}


def test_a_licence_that_is_not_allowed_fails(project, tmp_path):
    for name, (told, _) in TOLD.items():
        install(tmp_path / "site", name, *told)
        lock(project, f"{name}==1.0", "requirements-dev.txt")
    *lines, last = licences(project, path=tmp_path / "site", fails=True)
    found = dict(line.split(": ", 1) for line in lines)
    wanted = {name: start for name, (_, start) in TOLD.items() if start}
    assert found.keys() == wanted.keys() and last.endswith(f"{len(wanted)} faults")
    assert [name for name, start in wanted.items() if not found[name].startswith(start)] == []


def test_what_is_passed_on_is_held_to_a_shorter_list(project, tmp_path):
    install(tmp_path / "site", "planted-one", "License-Expression: EPL-2.0")
    lock(project, "planted-one==1.0", "requirements.txt")
    licences(project, path=tmp_path / "site")
    assert "| planted-one | pipeline | EPL-2.0 |  |" in (project / "docs/licences.md").read_text(encoding="utf-8")
    # Not installed here, as a package of another system: it keeps its row.
    licences(project, "--check")
    lock(project, "planted-one==1.0", "requirements-readers.txt")
    (line, *_) = licences(project, path=tmp_path / "site", fails=True)
    assert line.startswith("planted-one: EPL-2.0: not allowed for serving (requirements-readers.txt")


def test_a_page_or_a_statement_of_former_times_fails(project):
    text = (project / "requirements-docs.txt").read_text(encoding="utf-8")
    (project / "requirements-docs.txt").write_text(re.sub(r"^appnope==.*\\$", r"planted-two==1.0 \\", text, flags=re.M))
    lines = licences(project, "--check", fails=True)
    assert "appnope: stated in tools/dependencies.toml, but in no lock: remove it" in lines
    assert "docs/licences.md is out of date: run make licences" in lines
