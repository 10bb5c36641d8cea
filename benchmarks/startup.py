"""How long a stage takes to begin, and how long `dvc repro` takes to see that nothing is to be done.

    python benchmarks/startup.py [--rounds 3] [--json FILE]

Needs a finished run (`dvc repro`). The start of a stage is `python stages/<stage>.py --help`: interpreter, imports and
the reading of its arguments. The rival of `dvc repro` is `dvc status` in a project of as many stages that have nothing
but a command and have been run. All in turn, medians.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import Row, run
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
_LIMIT = 1.0  # seconds, for stages that do without TensorFlow
_QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
_USES_TENSORFLOW = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
sys.path.insert(0, "stages")
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    sys.exit("tensorflow" in sys.modules)
"""


def seconds(command: list[str], folder: Path) -> float:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, **_QUIET)
    return time.perf_counter() - start


def medians(commands: dict[str, tuple[list[str], Path]], rounds: int) -> dict[str, float]:
    """Run all commands in turn, once for nothing, and return the median of each."""
    times = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, (command, folder) in commands.items():
            times[name].append(seconds(command, folder))
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def measure(arguments: argparse.Namespace) -> list[Row]:
    scripts = sorted(path for path in (ROOT / "stages").glob("*.py") if not path.name.startswith("_"))
    starts = medians({path.stem: ([sys.executable, str(path), "--help"], ROOT) for path in scripts}, arguments.rounds)
    rows = []
    for path in scripts:
        command = [sys.executable, "-c", _USES_TENSORFLOW, str(path)]
        heavy = subprocess.run(command, cwd=ROOT, **_QUIET).returncode
        limit = ("", None, None) if heavy else ("limit", _LIMIT, 1)
        rows.append(Row(f"start of stage {path.stem}", starts[path.stem], "s", *limit[:2], most=limit[2]))
    listed = subprocess.run(
        [Path(sys.executable).with_name("dvc"), "stage", "list", "--name-only"],
        cwd=ROOT,
        check=True,
        text=True,
        capture_output=True,
    )
    stages = len(listed.stdout.splitlines())
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder)
        YAML().dump({"stages": {f"s{i}": {"cmd": ":"} for i in range(stages)}}, empty / "dvc.yaml")
        for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"], ["dvc", "repro", "--quiet"]):
            seconds(command, empty)
        seconds(["dvc", "status", "--quiet"], ROOT)  # ends with 1 where something is to be done
        found = medians({"repro": (["dvc", "repro"], ROOT), "status": (["dvc", "status"], empty)}, arguments.rounds)
    what = f"`dvc repro` with nothing to do, {stages} stages"
    return [*rows, Row(what, found["repro"], "s", "`dvc status`, as many empty stages", found["status"], most=1.5)]


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, rounds={"type": int, "default": 3}))
