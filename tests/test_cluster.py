"""Stages and predictions on a Dask cluster of real processes: the same bytes as on this machine, whatever dies."""

import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SMALL, run
from distributed import Client
from scan_files import encoded
from scratch import environment, scratch_copy

import brain_tumor
from brain_tumor.cluster import versions
from brain_tumor.errors import PipelineError
from brain_tumor.imaging.decoding import decode
from brain_tumor.workers import VARIABLE, cores, in_order

pytestmark = pytest.mark.slow
OPENCV = "opencv-python-headless"
GOLDEN = Path(__file__).parent / "golden"
# Enough chunks of images and of pairs for several workers.
MORE = {
    "phantoms": SMALL["phantoms"] | {"patients": 9, "slices": 3},
    "audit": SMALL["audit"] | {"crops": False, "hash_distance": 80, "candidates": 10},
}
# Dask's own time to connect, and to connect again, is half a minute.
IMPATIENT = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s"}
STAGES = {"preprocess": ("data/prepared", "data/external"), "audit": ("data/audit", "metrics")}


# --- clusters


def until(condition: Callable[[], object], said: str) -> object:
    """Wait until a condition holds, and return what it returned."""
    for _ in range(3000):
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within half a minute: {said}")


@contextmanager
def program(folder: Path, *command: str, **variables: str) -> Iterator[subprocess.Popen]:
    """A `dask` of this environment, with the library of this tree."""
    command = [sys.executable, "-m", "dask", *command, "--no-dashboard"]
    variables = environment() | {"PYTHONPATH": str(ROOT / "src")} | variables
    with open(folder / "dask.log", "ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def scheduler(folder: Path) -> Iterator[str]:
    """The address of a scheduler on a free port of this machine."""
    told = folder / "scheduler.json"
    command = ("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(told))
    # The scheduler has no need of this package.
    with program(folder, *command, PYTHONPATH=""):
        yield json.loads(until(lambda: told.exists() and told.read_text(), "a scheduler"))["address"]


@contextmanager
def worker(folder: Path, client: Client, name: str, **variables: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """The address and the process of a further worker, which has joined."""
    options = ("--name", name, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder / name))
    with program(folder, "worker", client.scheduler.address, *options, **variables) as process:

        def address() -> str | None:
            known = client.scheduler_info()["workers"]
            return next((each for each, about in known.items() if about["name"] == name), None)

        yield until(address, f"worker {name}"), process
    until(lambda: address() is None, f"worker {name} has left")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[tuple[Client, Path]]:
    """A client of a scheduler with one worker, and the folder of their files."""
    folder = tmp_path_factory.mktemp("cluster")
    with (
        scheduler(folder) as address,
        Client(address, set_as_default=False) as client,
        worker(folder, client, "steady"),
    ):
        yield client, folder


@contextmanager
def shared(client: Client, folder: Path) -> Iterator[None]:
    """A second worker; what is done here must be done by both in part."""

    def executed() -> dict[str, int]:
        return client.run(lambda dask_worker: dask_worker.state.executed_count)

    with worker(folder, client, "second"):
        before = executed()
        yield
        after = executed()
        assert len(after) == 2 and all(after[address] > before[address] for address in after)


# --- what they are to do


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Prepared and audited without a cluster."""
    target = tmp_path_factory.mktemp("without") / "project"
    scratch_copy(target, SMALL | MORE)
    run("dvc", "config", "--local", "core.no_scm", "true", cwd=target)
    run("dvc", "repro", "-q", "audit", cwd=target)
    return target


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """A folder of a hundred scans, one of which is broken."""
    folder, scan = tmp_path_factory.mktemp("scans"), decode((GOLDEN / "scan.png").read_bytes())
    for number in range(100):
        (folder / f"{number:02}.png").write_bytes(encoded(np.roll(scan, number, axis=1), ".png"))
    (folder / "50.png").write_bytes(b"none")
    return folder


def stage(name: str, project: Path) -> list[str]:
    return [sys.executable, str(project / "stages" / f"{name}.py")]


def prediction(scans: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "brain_tumor", "predict", "--model", str(GOLDEN / "classifier-2.tflite")]
    return [*command, "--json", *options, str(scans), "gone.png"]


def started(command: list[str], folder: Path, address: str, **variables: str) -> subprocess.Popen:
    variables = environment() | {"PYTHONPATH": str(ROOT / "src"), VARIABLE: address} | variables
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=variables, **pipes)


def finished(process: subprocess.Popen, code: int) -> tuple[str, str]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    return output, errors


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- the same bytes


def test_stages_give_the_same_bytes(project, cluster, tmp_path):
    client, _ = cluster
    copy = Path(shutil.copytree(project, tmp_path / "project"))
    lock = (copy / "dvc.lock").read_bytes()
    with shared(*cluster):
        run("dvc", "repro", "-q", "--force", "preprocess", "audit", cwd=copy, **{VARIABLE: client.scheduler.address})
    assert (copy / "dvc.lock").read_bytes() == lock  # the digests of all that the stages wrote


def test_predictions_give_the_same_bytes(cluster, scans, tmp_path):
    client, _ = cluster
    alone = finished(started(prediction(scans, "--explain", "alone"), tmp_path, ""), 1)
    with shared(*cluster):
        there = finished(started(prediction(scans, "--explain", "there"), tmp_path, client.scheduler.address), 1)
    assert there == alone and alone[0].count("\n") == 101
    assert "gone.png: No such file or directory" in alone[1] and "50.png: not an image" in alone[1]
    assert contents(tmp_path / "there") == contents(tmp_path / "alone") != {}


def chunks(client: Client, address: str) -> list[str]:
    """Keys of the chunks that a worker computes or has in its queue, by what the scheduler knows."""
    return [key for key in client.processing(workers=[address])[address] if key.startswith("call-")]


def kill_while_it_holds_work(victim: subprocess.Popen, held: Callable[[], list], user: subprocess.Popen) -> None:
    """SIGKILL to a worker. It is stopped first, so that it cannot finish what the scheduler says that it holds."""
    while True:
        while not held():
            assert user.poll() is None, f"it has ended without this worker: {user.communicate()}"
        victim.send_signal(signal.SIGSTOP)
        time.sleep(0.1)  # what it sent before has arrived
        if held():
            assert user.poll() is None
            victim.kill()
            return
        victim.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("what", ["preprocess", "audit", "predict"])
def test_a_worker_is_killed_while_it_works(project, cluster, scans, tmp_path, what):
    client, folder = cluster
    if what == "predict":
        copy, command, code = tmp_path, prediction(scans), 1
        expected = finished(started(command, copy, ""), 1)[0]
    else:
        copy = Path(shutil.copytree(project, tmp_path / "project"))
        command, code = stage(what, copy), 0
        expected = {name: contents(copy / name) for name in STAGES[what]}
        for name in STAGES[what]:
            shutil.rmtree(copy / name)
    with worker(folder, client, f"victim of {what}") as (address, victim):
        process = started(command, copy, client.scheduler.address)
        kill_while_it_holds_work(victim, partial(chunks, client, address), process)
        output, errors = finished(process, code)
    if what == "predict":
        assert output == expected
    else:
        assert {name: contents(copy / name) for name in STAGES[what]} == expected and errors == ""


# --- what ends in one line


def refused(process: subprocess.Popen, *said: str) -> None:
    output, errors = finished(process, 2)
    assert output == "" and errors.startswith("error: expected ") and errors.count("\n") == 1
    assert [part for part in said if part not in errors] == []


def of_another_code(folder: Path) -> None:
    folder.mkdir()
    shutil.copytree(ROOT / "src/brain_tumor", folder / "brain_tumor", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "brain_tumor/files.py").open("a") as file:
        file.write("\n# Edited.\n")


def of_another_opencv(folder: Path) -> None:
    folder.mkdir()
    (folder / "brain_tumor").symlink_to(ROOT / "src/brain_tumor")
    about = folder / "opencv_python_headless-1.0.0.dist-info/METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: opencv-python-headless\nVersion: 1.0.0\n")


def older(folder: Path) -> None:
    (folder / "brain_tumor").mkdir(parents=True)
    (folder / "brain_tumor/__init__.py").write_text('__version__ = "0.0.1"\n')


@pytest.mark.parametrize(
    "other, said",
    [
        (of_another_code, ["expected its code", "as on this machine", "found its code"]),
        (of_another_opencv, [f"expected {OPENCV} {versions()[OPENCV]} on", f"found {OPENCV} 1.0.0"]),
        (older, [f"brain-tumor {brain_tumor.__version__}", "No module named 'brain_tumor.cluster'"]),
    ],
)
def test_a_worker_of_another_version(cluster, scans, tmp_path, other, said):
    client, folder = cluster
    other(tmp_path / "other")
    with worker(folder, client, other.__name__, PYTHONPATH=str(tmp_path / "other")) as (address, _):
        process = started(prediction(scans), tmp_path, client.scheduler.address)
        refused(process, *said, f"on the worker {address}", "install")


def test_a_scheduler_without_workers_is_waited_for_and_late_ones_are_checked(scans, tmp_path):
    of_another_code(tmp_path / "other")
    with scheduler(tmp_path) as address, Client(address, set_as_default=False) as client:
        process = started(prediction(scans), tmp_path, address)
        warning = process.stderr.readline()
        assert warning.startswith(f"warning: the Dask scheduler at {address} has no workers")
        with worker(tmp_path, client, "late", PYTHONPATH=str(tmp_path / "other")):
            refused(process, "its code", "as on this machine")


def test_a_scheduler_that_is_lost(scans, tmp_path):
    with scheduler(tmp_path) as address, Client(address, set_as_default=False) as client:
        process = started(prediction(scans), tmp_path, address, **IMPATIENT)
        until(lambda: client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)), "tasks")
    refused(process, address, VARIABLE, "connection was lost", "dask scheduler")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "tls://127.0.0.1:9", "udp://127.0.0.1:9"])
def test_a_scheduler_that_is_not_there(scans, tmp_path, address):
    refused(started(prediction(scans), tmp_path, address, **IMPATIENT), address, VARIABLE, "dask scheduler")


def test_without_the_package_it_says_what_to_install(scans, tmp_path):
    (tmp_path / "distributed.py").write_text("raise ImportError")
    path = f"{tmp_path}:{ROOT / 'src'}"
    refused(started(prediction(scans), tmp_path, "tcp://127.0.0.1:9", PYTHONPATH=path), "'brain-tumor[cluster]'")


# --- the function itself


@pytest.fixture(params=["here", "cluster"])
def place(request, monkeypatch) -> int:
    """Both places; the number of their cores."""
    if request.param == "here":
        monkeypatch.delenv(VARIABLE, raising=False)
        return cores()
    client, _ = request.getfixturevalue("cluster")
    monkeypatch.setenv(VARIABLE, client.scheduler.address)
    return 1


def test_results_are_in_order_of_any_number_of_items(place):
    for count in (0, 1, 2, 3, 50):
        assert list(in_order(partial(map, abs), range(0, -count, -1), load=int, chunk=3)) == list(range(count))


def test_few_items_wait_at_a_time(place):
    loaded, chunk = itertools.count(), 3
    done = in_order(partial(map, abs), itertools.count(), load=lambda item: next(loaded) and item, chunk=chunk)
    for number in range(100):
        assert next(done) == number
        assert next(loaded) <= 2 * number + chunk * (2 * place + 2)  # each look counts as well
    done.close()


def test_an_error_of_the_function_is_raised_as_on_this_machine(place):
    done = in_order(partial(map, int), ["1", "2", "x", "4"], load=str, chunk=2)
    assert [next(done), next(done)] == [1, 2]
    with pytest.raises(ValueError, match=re.escape("invalid literal for int() with base 10: 'x'")):
        list(done)


@pytest.mark.parametrize("closed", [False, True])
def test_a_scheduler_that_is_lost_between_two_chunks(tmp_path, monkeypatch, closed):
    monkeypatch.setattr("brain_tumor.cluster.Client", partial(Client, timeout=1))  # after which it gives up, and closes
    with scheduler(tmp_path) as address, Client(address, set_as_default=False) as client:
        monkeypatch.setenv(VARIABLE, address)
        loads = itertools.count()
        with worker(tmp_path, client, "alone"):
            done = in_order(partial(map, abs), itertools.count(), load=lambda item: next(loads) and item, chunk=1)
            next(done)
    if closed:
        time.sleep(3)
    with pytest.raises(PipelineError, match=f"expected a Dask scheduler at {address} .*: the connection was lost"):
        list(itertools.islice(done, 100))


def test_dask_is_not_imported_without_the_variable(scans, tmp_path):
    code = "import sys; from brain_tumor.serving.command.cli import main; main(); print('dask' in sys.modules)"
    command = [sys.executable, "-c", code, *prediction(scans)[3:]]
    assert finished(started(command, tmp_path, ""), 0)[0].splitlines()[-1] == "False"
