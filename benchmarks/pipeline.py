"""A whole run, from archives to the report: seconds and largest memory of each stage, and what DVC itself takes.

    python benchmarks/pipeline.py [--folder .demo/bench] [--params FILE] [--json FILE]

The project is copied to the folder, without a cache, and `dvc repro` is run there. DATASET_ARCHIVE names the archives,
as for `make repro`. FILE contains the parameters that differ from params.yaml. The process of each stage is looked at
five times a second: seconds are those between its start and its end, memory is the largest resident set.
"""

import argparse
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from rows import Row, run
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from memory import peak_memory  # noqa: E402
from scratch import environment, scratch_copy  # noqa: E402

DVC = "DVC itself"
_EVERY = 0.2  # seconds


@dataclass
class Stage:
    """What one process of a stage took."""

    seconds: float = 0.0
    peak: float = 0.0  # MB, resident


class Watch(threading.Thread):
    """Looks at the stages below a process until it ends: `stages` holds them by name, in order."""

    def __init__(self, process: subprocess.Popen) -> None:
        super().__init__()
        self.stages: dict[str, Stage] = {}
        self._process = psutil.Process(process.pid)

    def run(self) -> None:
        while self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE:
            for child in self._process.children(recursive=True):
                self._look(child)
            time.sleep(_EVERY)

    def _look(self, child: psutil.Process) -> None:
        try:
            command = child.cmdline()
            # Both by the clock since the start of the machine, whose own time is known to the second only.
            began = child.create_time() - psutil.boot_time()
            if len(command) < 2 or not command[1].startswith("stages/"):
                return
            name = " ".join([Path(command[1]).stem, *(part for part in command[2:] if not part.startswith("--"))])
            peak = peak_memory(child.pid) / 1e6
        except (psutil.Error, OSError):  # it has ended
            return
        stage = self.stages.setdefault(name, Stage())
        stage.seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - began
        stage.peak = max(stage.peak, peak)


def timed(command: list[str], folder: Path) -> tuple[float, dict[str, Stage]]:
    """Run a command that runs stages; seconds, and its stages by name, the last of which is what they leave of it.

    Raises:
        SystemExit: it failed.
    """
    start = time.monotonic()
    log = folder / "timed.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=output, stderr=subprocess.STDOUT)
        watch = Watch(process)
        watch.start()
        code = process.wait()
        watch.join()
    if code:
        sys.exit(f"error: expected {' '.join(command)} to succeed, it ended with {code}: see {log}")
    total = time.monotonic() - start
    rest = total - sum(stage.seconds for stage in watch.stages.values())
    return total, watch.stages | {DVC: Stage(rest, float("nan"))}


def fresh(folder: Path, overrides: dict) -> None:
    """A copy of the project without a cache, and not part of the checkout that may contain it."""
    shutil.rmtree(folder, ignore_errors=True)
    scratch_copy(folder, overrides)
    (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")


def table(stages: dict[str, Stage]) -> str:
    """Markdown."""
    lines = ["| stage | seconds | largest memory |", "| --- | --- | --- |"]
    lines += [f"| {name} | {stage.seconds:.1f} | {stage.peak:,.0f} MB |" for name, stage in stages.items()]
    return "\n".join(lines)


def measure(arguments: argparse.Namespace) -> list[Row]:
    folder = arguments.folder.resolve()
    fresh(folder, YAML(typ="safe").load(arguments.params) if arguments.params else {})
    total, stages = timed(["dvc", "repro"], folder)
    print(table(stages))
    rows = [Row(name, stage.seconds, "s", "", None) for name, stage in stages.items()]
    return [*rows, Row("a whole run, archives to report", total, "s", "", None)]


if __name__ == "__main__":
    sys.exit(
        run(
            __doc__,
            measure,
            folder={"type": Path, "default": ROOT / ".demo" / "bench"},
            params={"type": Path},
        )
    )
