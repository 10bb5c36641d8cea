"""No bytes make a parser crash, hang, take all memory, or fail with an error that nobody wrote.

`tests/fuzz` has the targets; FUZZ_SECONDS is how long each is fuzzed here.
"""

import os
import re
import sys

import pytest
from conftest import ROOT, run

FUZZ = ROOT / "tests" / "fuzz"
CORPUS = ROOT / "tests" / "golden" / "fuzz"
TARGETS = ("archive", "text", "exported", "dicom", "nifti", "picture", "upload", "weights")
SECONDS = int(os.environ.get("FUZZ_SECONDS", "20"))


def test_the_corpus_is_small_and_every_target_has_one():
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 300_000


@pytest.mark.parametrize("target", TARGETS)
def test_what_fuzzing_came_upon_is_read_or_refused(target):
    """Needs no atheris. Files that begin with `found` once were read wrongly."""
    count = len(list((CORPUS / target).iterdir()))
    done = run(sys.executable, str(FUZZ), target, "--replay", cwd=ROOT)
    assert f"{target}: {count} inputs of the corpus, no finding" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_fuzzing_finds_nothing(target, tmp_path):
    pytest.importorskip("atheris", reason="atheris is for Linux on x86-64")
    options = ["--seconds", str(SECONDS), "--findings", str(tmp_path)]
    done = run(sys.executable, str(FUZZ), target, *options, cwd=tmp_path, timeout=SECONDS + 250)
    told = re.fullmatch(rf"{target}: \d+ s, ([\d,]+) inputs, nothing found\n", done.stdout)
    assert told and int(told[1].replace(",", "")) > 100


def test_the_fuzzer_finds_a_parser_that_fails(tmp_path):
    """A fuzzer that finds nothing anywhere would pass every test above."""
    pytest.importorskip("atheris", reason="atheris is for Linux on x86-64")
    source = ROOT / "src" / "brain_tumor"
    library = tmp_path / "src" / "brain_tumor"
    library.parent.mkdir()
    (tmp_path / "tests").mkdir()
    for path, place in ((source, library), (ROOT / "tests" / "fuzz", tmp_path / "tests" / "fuzz")):
        run("cp", "-r", str(path), str(place), cwd=tmp_path)
    (tmp_path / "tests" / "golden" / "fuzz" / "text").mkdir(parents=True)
    for name in ("params.yaml", "tests/scan_files.py", "tools/memory.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    reader = library / "source" / "manifest.py"
    reader.write_text(reader.read_text().replace("except UnicodeDecodeError", "except FileNotFoundError"))
    done = run(sys.executable, "tests/fuzz", "text", "--seconds", "30", cwd=tmp_path, fails=True)
    assert "FOUND" in done.stdout and "UnicodeDecodeError" in done.stdout
    assert any((tmp_path / "build" / "fuzz" / "text").iterdir())
