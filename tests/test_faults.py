"""A full disk, a read-only one and missing permissions: one line, no half output, and the next run goes on.

The disk is real (`limited_disk`). Some stages here; LONG=1 tries every stage, and more sizes.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from conftest import ROOT, run
from limited_disk import LimitedDisk
from scratch import environment
from test_pipeline import change

LONG = os.environ.get("LONG") == "1"
SIZES = [0, 30_000, 60_000, 120_000, 250_000, 500_000] if LONG else [30_000]
STAGES = ["download.py --source phantoms", "preprocess.py", "audit.py", "evaluate.py", "report.py"]
OTHERS = [
    *("split.py", "backbone.py", "features.py", "train.py --fold 0", "train.py --fold all", "validate.py", "export.py"),
    *("predict.py --part validation", "predict.py --part test", "served.py", "explain.py", "novelty.py"),
    *("robustness.py", "audit_model.py"),
]
# A training keeps its state and its curves as it goes on.
GROWING = ("checkpoints/", "plots/training/")
SCAN = (ROOT / "tests/golden/scan.png").read_bytes()
SOURCE = str(ROOT / "src")
COMMAND = [sys.executable, "-m", "brain_tumor"]


def content(project: Path) -> dict[str, str]:
    """SHA-256 of every file but for caches, logs and what a training keeps."""
    left_out = {".dvc", ".git", "__pycache__", "logs"}
    names = {path.relative_to(project).as_posix(): path for path in project.rglob("*") if path.is_file()}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not left_out & set(Path(name).parts) and not name.startswith(GROWING)
    }


def line_of(done: subprocess.CompletedProcess, *expected: str) -> None:
    """Standard error is one line that says what is expected."""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: "), line
    assert not [part for part in expected if part not in line], line
    assert ".partial" not in line


@pytest.fixture(scope="module")
def disk(tmp_path_factory, small_run):
    """A disk that holds a project that was run, whose files no test changes for good."""
    with LimitedDisk(tmp_path_factory.mktemp("limited") / "disk") as made:
        ignored = shutil.ignore_patterns("cache", "tmp", "__pycache__")
        shutil.copytree(small_run, made.seen / "project", ignore=ignored)
        yield made


@pytest.fixture(scope="module")
def results(disk) -> dict[str, str]:
    """What the undisturbed run made."""
    return content(disk.seen / "project")


@pytest.mark.timeout(900)
def test_memory_that_is_not_there():
    """Of a machine that refuses it, as under ulimit -v; test_kills has one that kills the stage instead."""
    program = "from brain_tumor.errors import ending_in_one_line\nwith ending_in_one_line(): bytearray(1 << 60)"
    environment = os.environ | {"PYTHONPATH": SOURCE}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    line_of(done, "out of memory", "ulimit -v")


@pytest.mark.parametrize("stage", STAGES + (OTHERS if LONG else []))
def test_a_stage_on_a_full_disk(disk, results, stage):
    """The former results stay, or are replaced as a whole; with room, the same stage makes the same bytes."""
    script, failed = ["python", "-B", *f"stages/{stage}".split()], 0
    for free in SIZES:
        with disk.leaving(free):
            command = disk.command(*script, cwd="project")
            done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=280)
        assert content(disk.seen / "project") == results, free
        if done.returncode:
            line_of(done, "cannot write ", "No space left on device: make room there and run again")
            failed += 1
    assert failed
    disk.run(*script, cwd="project")
    assert content(disk.seen / "project") == results


def test_a_training_that_finds_no_room_goes_on_with_it(disk, results):
    """Its curves, which grow as it goes on, end in the same bytes as well."""
    project, train = disk.seen / "project", ["python", "-B", "stages/train.py", "--fold", "0"]
    curves = {path: path.read_bytes() for path in (project / "plots/training").rglob("*.*")}
    with disk.leaving(60_000):
        done = disk.run(*train, cwd="project", fails=True)
    line_of(done, "cannot write checkpoints/", "state.npz: No space left on device")
    assert content(project) == results
    disk.run(*train, cwd="project")
    assert {path: path.read_bytes() for path in (project / "plots/training").rglob("*.*")} == curves
    assert content(project) == results
    assert not list(project.glob("checkpoints/*"))


def test_what_a_stage_prints_finds_no_room(disk, results):
    done = disk.run("sh", "-c", "python -B stages/split.py > /dev/full", cwd="project", fails=True)
    line_of(done, "cannot write to standard output", "No space left on device")
    assert content(disk.seen / "project") == results


@pytest.mark.parametrize(("free", "fails"), [(0, True), (4096, False)])
def test_dvc_without_room_for_its_cache(small_clone, tmp_path, free, fails):
    """Where DVC can create files but not fill them, it says so, goes on and ends with exit code 0.

    The results are whole either way, and its next run repeats the stage whose results it did not keep.
    """
    change(small_clone, "split.seed", 7)
    table, lock = small_clone / "data/split/folds.csv", small_clone / "dvc.lock"
    former = lock.read_bytes()
    with LimitedDisk(tmp_path / "disk") as cache:
        run("dvc", "cache", "dir", "--local", str(cache.place), cwd=small_clone)
        repro = partial(cache.run, "dvc", "repro", "--single-item", "split", cwd=str(small_clone))
        with cache.leaving(free):
            said = repro(fails=fails).stderr
        assert ("ERROR: failed to reproduce" if fails else "ERROR: failed to transfer") in said
        assert "No space left on device" in said
        assert (lock.read_bytes() == former) == fails
        made = table.read_bytes(), lock.read_bytes()
        again = repro()
        assert "Running stage 'split'" in again.stdout and "ERROR" not in again.stderr
        assert table.read_bytes() == made[0]
        assert fails or lock.read_bytes() == made[1]
        assert "didn't change, skipping" in repro().stdout


# --- what may not be read or written


@pytest.mark.parametrize(
    ("closed", "stage"),
    [
        ("params.yaml", "split"),
        ("data/fixes.csv", "preprocess"),
        ("data/raw/phantoms/Training/glioma", "preprocess"),
        ("data/patients.csv", "audit"),
        ("data/folds.csv", "split"),
        ("data/prepared/index.csv", "split"),
        ("logs/split.log", "split"),
    ],
)
def test_what_a_stage_may_not_read(disk, results, closed, stage):
    check_closed(disk, results, stage, closed, 0o000, closed)


@pytest.mark.parametrize(
    ("closed", "stage", "named"),
    [
        ("data", "split", "data/split"),
        (".", "report", "report"),
        ("metrics", "validate", "metrics/validation.json"),
    ],
)
def test_where_a_stage_may_not_write(disk, results, closed, stage, named):
    check_closed(disk, results, stage, closed, 0o555, named)


def check_closed(disk: LimitedDisk, results: dict[str, str], stage: str, closed: str, mode: int, named: str) -> None:
    path = disk.seen / "project" / closed
    former = path.stat().st_mode
    path.chmod(mode)
    try:
        script = ["python", "-B", f"stages/{stage}.py"]
        done = disk.run(*script, cwd="project", obeying=True, fails=True)
    finally:
        path.chmod(former)
    line_of(done, named, "Permission denied")
    assert content(disk.seen / "project") == results


def test_a_single_image_that_may_not_be_read_is_not_rejected(disk, results):
    """To leave it out, as a damaged one, would change what is learned by an accident of this machine."""
    project = disk.seen / "project"
    image = next((project / "data/raw/phantoms/Training/glioma").iterdir())
    params = (project / "params.yaml").read_bytes()
    change(project, "preprocess.max_rejected", 0.9)
    image.chmod(0o000)
    try:
        done = disk.run("python", "-B", "stages/preprocess.py", cwd="project", obeying=True, fails=True)
    finally:
        image.chmod(0o644)
        (project / "params.yaml").write_bytes(params)
    line_of(done, f"cannot open {image.relative_to(project)}: Permission denied")
    assert content(project) == results


def test_stages_on_a_read_only_disk(disk, results):
    with disk.read_only():
        done = disk.run("python", "-B", "stages/split.py", cwd="project", fails=True)
    line_of(done, "cannot write ", "/logs/split.log: Read-only file system: mount it writable")
    assert content(disk.seen / "project") == results


# --- the command


@pytest.fixture
def scans(tmp_path):
    """A small disk with some scans."""
    with LimitedDisk(tmp_path / "disk", megabytes=4) as made:
        for number in range(20):
            (made.seen / f"{number}.png").write_bytes(SCAN)
        yield made


def files(disk: LimitedDisk) -> dict[str, bytes]:
    return {str(path.relative_to(disk.seen)): path.read_bytes() for path in disk.seen.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("option", "written"), [("--output", "answers.csv"), ("--explain", "maps")])
def test_predict_on_a_full_disk(scans, option, written):
    predict = [*COMMAND, "predict", "-q", "--csv", ".", option, written]
    scans.run(*predict, PYTHONPATH=SOURCE)
    whole = files(scans)
    for name in [name for name in whole if name.startswith(written)]:
        (scans.seen / name).unlink()
    (scans.seen / "answers.csv").write_text("former")
    with scans.leaving(4096):
        done = scans.run(*predict, fails=True, PYTHONPATH=SOURCE)
    assert done.returncode == 2
    line_of(done, f"cannot write to {written}", f"({option}): No space left on device")
    left = files(scans)
    assert left.pop("answers.csv") == b"former"
    assert left.items() <= whole.items(), "half a picture, or a temporary file"
    scans.run(*predict, PYTHONPATH=SOURCE)
    assert files(scans) == {"answers.csv": b"former"} | whole


def test_predict_on_a_read_only_disk(scans):
    for option, written in (("--output", "answers.csv"), ("--explain", "maps")):
        with scans.read_only():
            done = scans.run(*COMMAND, "predict", "0.png", option, written, fails=True, PYTHONPATH=SOURCE)
        line_of(done, f"cannot write to {written} ({option}): Read-only file system")


def test_scans_that_may_not_be_read_are_named_and_the_others_answered(scans):
    """None is left out in silence: no folder, and no file that only its content tells to be a scan."""
    for name in ("closed/1.png", "closed/2.png", "open/IM0001"):
        (scans.seen / name).parent.mkdir(exist_ok=True)
        (scans.seen / name).write_bytes(SCAN)
    for name in ("closed", "open/IM0001", "7.png"):
        (scans.seen / name).chmod(0o000)
    predict = [*COMMAND, "predict", "-q", "--csv", "."]
    done = scans.run(*predict, obeying=True, fails=True, PYTHONPATH=SOURCE)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"{name}: Permission denied" for name in ("7.png", "closed", "open/IM0001")]
    assert len(done.stdout.splitlines()) == 1 + 20 + 2
    (scans.seen / "closed").chmod(0o755)


def test_a_server_without_room(scans):
    command = scans.command(*COMMAND, "serve", "--port", "0")
    variables = environment() | {"PYTHONPATH": SOURCE, "TMPDIR": str(scans.place)}
    with (
        scans.leaving(0),
        subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as server,
    ):
        try:
            told = next(line for line in server.stderr if "running on" in line)
            address = told.split("running on ")[1].split()[0]
            head = b"--b\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n"
            kind = {"Content-Type": "multipart/form-data; boundary=b"}
            sent = Request(f"{address}/v1/predict", head + SCAN + b"\r\n--b--\r\n", kind)
            with urlopen(sent, timeout=60) as answer:
                assert b"probabilities" in answer.read()
        finally:
            server.send_signal(signal.SIGINT)
