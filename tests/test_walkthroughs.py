"""The commands in docs print what the pages show."""

import sys

import pytest
from conftest import ROOT, run

PAGES = sorted(path.name for path in ROOT.glob("docs/*.md") if "\n```console\n" in path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """What one page has run, another restores."""
    return tmp_path_factory.mktemp("walkthroughs") / "cache"


@pytest.mark.docs
@pytest.mark.xdist_group("pages")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_shows(page, cache):
    run(sys.executable, "tools/walkthrough.py", f"docs/{page}", "--cache", str(cache), cwd=ROOT, timeout=840)
