"""No stage but `download` uses a network, nor does a prediction.

The small pipeline of the tests runs with Python's sockets blocked (conftest.py), every attempt recorded. The kernel's
view, which includes libraries in C++ and programs such as git, is strace's: of predictions here, of the whole pipeline
with `LONG=1 pytest --timeout 1500 tests/test_network.py`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NO_NETWORK, ROOT, SMALL, require, run
from kaggle_stand_in import KaggleStandIn
from ruamel.yaml import YAML
from scratch import change_params, environment

DVC = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
# What would reach another machine. Binding to a port does not; urllib3 does so when it is imported.
CALLS = "connect,sendto,sendmsg,sendmmsg"
# Sockets that are files, as the C library asks one for the names of users; and what strace says of processes.
LOCAL = re.compile(r"AF_UNIX|\+\+\+ (exited|killed)|--- SIG")


def test_no_stage_tries_to_reach_a_network(small_run):
    lines = small_run.with_name("network.log").read_text(encoding="utf-8").splitlines()
    started = {word for line in lines if line.startswith("start ") for word in line.split() if word.endswith(".py")}
    assert started >= {stage.get("do", stage)["cmd"].split()[1] for stage in DVC.values()}
    assert [line for line in lines if not line.startswith("start ")] == []


@pytest.mark.parametrize(
    "program",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('example.org', 443)",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
        "import urllib.request; urllib.request.urlopen('https://example.org')",
    ],
)
def test_an_attempt_would_be_seen(tmp_path, program):
    blocked = {"PYTHONPATH": str(NO_NETWORK), "NO_NETWORK": str(tmp_path / "log")}
    done = run(sys.executable, "-c", program, cwd=tmp_path, fails=True, **blocked)
    assert "the test has no network" in done.stderr
    assert (tmp_path / "log").read_text().splitlines()[1].startswith("attempt socket.")


def test_dvc_reports_nothing_and_asks_for_no_newer_version(small_run):
    """Its defaults would do both, from a process that it leaves behind."""
    told = (small_run / ".dvc/config").read_text(encoding="utf-8")
    assert re.search(r"analytics = false", told) and re.search(r"check_update = false", told)
    lines = small_run.with_name("network.log").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "daemon" in line]


def attempts(command: list[str], folder: Path, **variables: str) -> tuple[subprocess.CompletedProcess, list[str]]:
    """Run a program and all that it starts under strace, where the system allows it without any network interface.

    Returns:
        How it ended, and the system calls that would have reached beyond this machine.
    """
    require("strace")
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    log = folder / "strace.log"
    watched = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", str(log)]
    if subprocess.run([*watched, "true"], capture_output=True).returncode:
        pytest.skip("this system allows no tracing")
    if not subprocess.run([*alone, *watched, "true"], capture_output=True).returncode:
        watched = [*alone, *watched]
    done = subprocess.run(
        [*watched, *command], cwd=folder, env=environment() | variables, capture_output=True, text=True, timeout=1200
    )
    return done, [line for line in log.read_text(errors="replace").splitlines() if not LOCAL.search(line)]


def test_the_kernel_would_see_an_attempt(tmp_path):
    program = "import socket; socket.create_connection(('127.0.0.1', 9))"
    done, tried = attempts([sys.executable, "-c", program], tmp_path)
    assert done.returncode == 1 and len(tried) == 1 and "127.0.0.1" in tried[0]


def test_a_prediction_uses_no_network(small_run, tmp_path):
    scans = sorted(map(str, (small_run / "data/raw/phantoms").glob("*/*/*.jpg")))[:4]
    command = [sys.executable, "-m", "brain_tumor", "predict", "--explain", "maps", *scans]
    done, tried = attempts(command, tmp_path, PYTHONPATH=str(ROOT / "src"))
    assert (done.returncode, tried) == (0, []), done.stderr
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 4


@pytest.mark.skipif(not os.environ.get("LONG"), reason="LONG=1 runs it: 3 minutes")
def test_after_the_download_nothing_uses_a_network(project, tmp_path):
    """The data come from the stand-in for Kaggle; the weights of the backbone from their package."""
    (project / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    run(sys.executable, "stages/download.py", "--source", "phantoms", cwd=project)
    scans = project / "data/raw/phantoms"
    archive = Path(shutil.make_archive(str(tmp_path / "scans"), "zip", scans)).read_bytes()
    shutil.rmtree(scans)
    sources = {name: dict(source) for name, source in SMALL["data"]["sources"].items()}
    sources["phantoms"]["dataset"] = "someone/scans"
    change_params(project / "params.yaml", {"data": {"sources": sources}})
    with KaggleStandIn(archive) as kaggle:
        run("dvc", "repro", "download@phantoms", cwd=project, HOME=str(tmp_path), **kaggle.environment)
        assert kaggle.requests
    done, tried = attempts(["dvc", "repro"], project)
    assert (done.returncode, tried) == (0, []), done.stderr
    assert "Stage 'download@phantoms' didn't change, skipping" in done.stdout
    assert (project / "report/index.html").is_file()
    change_params(project / "params.yaml", {"model": {"backbone": "efficientnet_lite0", "weights": "imagenet"}})
    done, tried = attempts(["dvc", "repro", "--single-item", "backbone"], project)
    assert (done.returncode, tried) == (0, []) and "weights with SHA-256" in done.stdout, done.stderr
