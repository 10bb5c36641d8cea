"""The commands in docs print what the pages show."""

import shutil
import sys

import pytest
from conftest import ROOT, run

PAGES = sorted(path.name for path in ROOT.glob("docs/*.md") if "\n```console\n" in path.read_text(encoding="utf-8"))


@pytest.mark.docs
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_shows(page, whole_run, tmp_path):
    shutil.copytree(whole_run / ".dvc/cache", tmp_path / "cache")  # `dvc repro` restores what is the same
    command = [sys.executable, "tools/walkthrough.py", f"docs/{page}", "--cache", str(tmp_path / "cache")]
    run(*command, cwd=ROOT, timeout=840)
