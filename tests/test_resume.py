"""`brain-tumor predict --resume`: however a run ends, the next one goes on, and the table is that of one run."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from rewritten import rewritten
from scan_files import H16, tiff, tiff_page
from test_command import BASE, MODEL, PREDICT, SCAN, predict, refusal, until

TABLE = ["-q", "--csv", "-o", "answers.csv", "--resume"]


@pytest.fixture
def archive(tmp_path) -> Path:
    """Folders of scans: among them damaged ones, names that a table has in quotes, and files of several slices."""
    folder = tmp_path / "here"
    pages = tiff(*[tiff_page((H16 // k).astype(np.uint16)) for k in range(1, 5)])
    for number in range(40):
        (folder / f"scans/{number % 4}").mkdir(parents=True, exist_ok=True)
        content = SCAN if number % 5 else b"none"
        (folder / f"scans/{number % 4}/{number:02}.png").write_bytes(content)
    for name, content in {'a, "b".png': SCAN, "b\nc.png": SCAN, "b\rd.png": SCAN, "é.tif": pages}.items():
        (folder / "scans/2" / name).write_bytes(content)
    (folder / os.fsdecode(b"scans/3/\xff.png")).write_bytes(SCAN)
    return folder


@pytest.fixture
def whole(archive) -> bytes:
    """The table of a run in peace."""
    predict(archive, "scans", *TABLE, "--slice", "all", code=1)
    content = (archive / "answers.csv").read_bytes()
    (archive / "answers.csv").unlink()
    assert len(list(csv.reader(content.decode().splitlines(keepends=True)))) == 1 + 40 + 3 + 4 + 1
    return content


def test_a_run_that_resumes_nothing_writes_the_usual_table(archive, whole):
    predict(archive, "scans", "--csv", "-o", "usual.csv", "--slice", "all", code=1)
    assert (archive / "usual.csv").read_bytes() == whole


def test_killed_again_and_again_the_table_is_that_of_one_run(archive, whole):
    """Each run waits at a named pipe in place of a scan, which no kill can miss."""
    table = archive / "answers.csv"
    names = sorted(path.relative_to(archive) for path in archive.rglob("scans/*/*"))
    for place in ("scans/0/36.png", "scans/2/18.png", "scans/2/é.tif", "scans/3/39.png"):
        (archive / place).rename(archive / "kept")
        os.mkfifo(archive / place)
        before = table.stat().st_size if table.exists() else 0
        process = subprocess.Popen(
            [*PREDICT, *names, *TABLE, "--slice", "all"], cwd=archive, env=BASE, stderr=subprocess.DEVNULL
        )
        try:
            # The files of the same job, up to eight, are answered with the one that waits, and so are not yet here.
            until(lambda size=before: table.exists() and table.stat().st_size > size)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == -signal.SIGKILL
        (archive / place).unlink()
        (archive / "kept").rename(archive / place)
        assert whole.startswith(table.read_bytes()) and table.read_bytes() != whole
    predict(archive, "scans", *TABLE, "--slice", "all", code=1)
    assert table.read_bytes() == whole


def test_wherever_a_row_is_cut_off_it_is_written_again(archive, whole):
    """In the header, in a name with a line break, in a letter of two bytes, between the pages of a file."""
    name, pages, last = (whole.index(part) for part in (b'"scans/2/b\n', "scans/2/é.tif,1".encode(), b"scans/3/39.png"))
    letter = whole.index("é".encode())
    for end in (0, 10, whole.index(b"\n"), whole.index(b"\n") + 1, name + 13, letter + 1, pages, pages + 30, last + 9):
        (archive / "answers.csv").write_bytes(whole[:end])
        predict(archive, "scans", *TABLE, "--slice", "all", code=1)
        assert (archive / "answers.csv").read_bytes() == whole, end


def test_a_table_that_is_complete_stays_and_ends_with_the_same_code_and_summary(archive, whole):
    options = ["--csv", "-o", "answers.csv", "--slice", "all"]
    _, errors = predict(archive, "scans", *options, code=1)
    (archive / "answers.csv").write_bytes(whole)
    _, again = predict(archive, "scans", *options, "--resume", code=1)
    assert "could not be read" in errors and errors.splitlines()[-1] == again.splitlines()[-1]
    assert [line for line in errors.splitlines() if "slices: " in line] == [
        line for line in again.splitlines() if "slices: " in line
    ]
    assert (archive / "answers.csv").read_bytes() == whole
    predict(archive, "scans/1/01.png", "scans/1/13.png", *TABLE[:3], "read.csv", "--resume")
    predict(archive, "scans/1/01.png", "scans/1/13.png", *TABLE[:3], "read.csv", "--resume")
    predict(archive, "scans/0/00.png", *TABLE[:3], "none.csv", "--resume", code=2)
    predict(archive, "scans/0/00.png", *TABLE[:3], "none.csv", "--resume", code=2)


def test_files_that_are_new_changed_or_gone(archive):
    """Of what is in the table only the last file is answered again, and kept as it was if it is not there any more."""
    predict(archive, "scans/1", *TABLE, code=1)
    table = (archive / "answers.csv").read_bytes()
    assert b"scans/1/01.png,,unsure" in table
    (archive / "scans/1/01.png").write_bytes(b"changed")
    (archive / "scans/1/00.png").write_bytes(SCAN)
    (archive / "scans/1/37.png").rename(archive / "gone.png")
    predict(archive, "scans/1", "scans/1/00.png", "./scans/1/00.png", *TABLE, code=1)
    first, second = csv.reader([(archive / "answers.csv").read_text().splitlines()[1], table.decode().splitlines()[1]])
    assert (archive / "answers.csv").read_bytes().startswith(table) and first == second
    rest = (archive / "answers.csv").read_bytes().removeprefix(table).decode().splitlines()
    assert [line.split(",")[0] for line in rest] == ["scans/1/00.png"]


# --- what is refused


def test_it_needs_a_table_in_a_file(archive):
    for arguments in (["-o", "x"], ["--csv"], ["--csv", "-o", "-"], ["--json", "-o", "x"]):
        line = refusal(archive, "scans", "--resume", *arguments)
        assert line.startswith("error: argument --resume: expected --csv and -o FILE beside it")
    (archive / "x").mkdir()
    for place in ("x", "/dev/null"):
        assert f"expected a file in {place}" in refusal(archive, "scans", "--resume", "--csv", "-o", place)
    assert "cannot write to answers.csv/x (--output)" in refusal(
        archive, "scans", "-q", "--csv", "--resume", "-o", touched(archive / "answers.csv") / "x"
    )


def touched(path: Path) -> Path:
    path.touch()
    return path.relative_to(path.parent)


@pytest.mark.parametrize("change", ["columns", "no table", "short", "another", "row", "end", "classes"])
def test_a_file_that_is_no_such_table_is_refused_and_stays(archive, whole, change, tmp_path):
    others = whole.replace(b"set_90", b"set_80", 1)
    rows = whole.splitlines(keepends=True)
    changed, expected = {
        "columns": (others, "got other columns"),
        "no table": (b"\x89PNG\r\n\x1a\n" * 999, "got other columns"),
        "short": (b"todo", "got other columns"),
        "another": (whole, "expected answers of the classifier"),
        "row": (b"".join([*rows[:3], b"a,b\n", *rows[3:]]), "cells in row 4 of answers.csv, got 2"),
        "end": (whole + bytes(99_999), "got none in its last 99999 bytes"),
        "classes": (whole, "got other columns"),
    }[change]
    (archive / "answers.csv").write_bytes(changed)
    options = []
    if change in ("another", "classes"):
        values = {"confidence": [0.5] * 3} if change == "another" else {"classes": ["x", "y", "z"]}
        rewritten(MODEL, tmp_path / "other.tflite", **values)
        options = ["--model", tmp_path / "other.tflite"]
    assert expected in refusal(archive, "scans", *TABLE, *options)
    assert (archive / "answers.csv").read_bytes() == changed


def test_one_process_at_a_time_writes_to_a_table(archive):
    os.mkfifo(archive / "waits.png")
    command = [*PREDICT, "scans/1", "waits.png", *TABLE]
    process = subprocess.Popen(command, cwd=archive, env=BASE, stderr=subprocess.DEVNULL)
    try:
        until(lambda: (archive / "answers.csv").exists() and (archive / "answers.csv").stat().st_size > 0)
        assert "another process writes to answers.csv" in refusal(archive, "scans", *TABLE)
    finally:
        process.kill()
        process.wait()
    predict(archive, "scans", *TABLE, code=1)


# --- memory


def test_a_large_archive_takes_little_memory(tmp_path):
    """A path of 100 bytes and what is needed to sort and skip it: 250 bytes a file, with 150 more to spare."""
    count = 20_000
    (tmp_path / "seed").write_bytes(b"none")
    for number in range(count):
        folder = tmp_path / f"scans/{number // 1000:03}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        os.link(tmp_path / "seed", folder / f"{number:036}.png")
    variables = BASE | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tools'}"}
    command = [sys.executable, "-c", MEASURED, "predict", "--model", str(MODEL), *TABLE]
    few, many, again = (
        int(subprocess.run([*command, place], cwd=tmp_path, env=variables, stdout=subprocess.PIPE, timeout=120).stdout)
        for place in ("scans/000", "scans", "scans")
    )
    assert len((tmp_path / "answers.csv").read_bytes().splitlines()) == 1 + count
    assert max(many, again) - few < 400 * count, (few, many, again)


MEASURED = """
import os, sys
from memory import peak_memory
from brain_tumor.serving.command.cli import main
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
main(sys.argv[1:])
print(peak_memory())
"""
