"""The Makefile as someone meets it who has just cloned the project."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import ROOT, require, run

TEXT = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture
def cloned(tmp_path: Path) -> Path:
    """The Makefile and what it installs from, without any environment."""
    require("make")
    for path in (ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("requirements*.txt")):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_help_lists_every_target_in_groups_and_comes_without_a_target(cloned):
    shown = run("make", cwd=cloned).stdout
    assert shown == run("make", "help", cwd=cloned).stdout
    listed = re.findall(r"^  make ([a-z-]+) +(.+)$", shown, re.MULTILINE)
    targets = set(re.findall(r"^\.PHONY: ([a-z-]+)$", TEXT, re.MULTILINE)) - {"git"}  # only checks for the others
    assert [name for name, _ in listed] == sorted(targets, key=[name for name, _ in listed].index)
    groups = re.findall(r"^([A-Z].*)$", shown, re.MULTILINE)
    assert groups == re.findall(r"^##@ (.+)$", TEXT, re.MULTILINE) and len(groups) >= 4
    slow = {"setup", "demo", "test", "repro", "quick", "effect", "leave-out", "scratch", "sweep", "docs-test"}
    assert {name for name, text in listed if re.search(r"\bmin|hours", text)} >= slow


@pytest.mark.parametrize("target", ["setup", "demo", "serve"])
def test_a_missing_or_old_interpreter_is_one_line(cloned, target):
    missing = run("make", target, "PYTHON=nopython", cwd=cloned, fails=True)
    old = cloned / "python-old"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9, 1); $2"\n')
    old.chmod(0o755)
    former = run("make", target, f"PYTHON={old}", cwd=cloned, fails=True)
    for done, said in ((missing, "found no nopython"), (former, "expected Python 3.11 to 3.13, found 3.9")):
        (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make")]
        assert line.startswith("error: ") and said in line and "PYTHON=/path/to/python" in line


def test_the_demo_ends_by_naming_the_report_and_serve_takes_it_along(cloned):
    (cloned / ".venv").mkdir()
    (cloned / ".venv-serving").mkdir()
    for name in (".venv", ".venv-serving"):
        (cloned / name / ".locked").touch()
    assert ".demo/report/index.html" in run("make", "-n", "demo", cwd=cloned).stdout.splitlines()[-1]
    assert "--report" not in run("make", "-n", "serve", cwd=cloned).stdout
    (cloned / "report").mkdir()
    (cloned / "report/index.html").touch()
    assert "--port 9000 --report report/index.html" in run("make", "-n", "serve", "PORT=9000", cwd=cloned).stdout
