"""What a benchmark hands to `make bench`: rows, each a figure of ours beside a limit or a rival."""

import argparse
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: what was measured, and on what.
        ours: the figure; None if it was never reached.
        unit: of both figures.
        rival: what the figure stands beside: a rival, or "limit".
        other: its figure; None if the rival never got there.
        least: the target is a ratio of ours to the other of at least this; None if there is no such target.
        most: the same, at most.
    """

    what: str
    ours: float | None
    unit: str
    rival: str
    other: float | None
    least: float | None = None
    most: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if None in (self.ours, self.other) else self.ours / self.other

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if self.least is None and self.most is None:
            return None
        if self.ratio is None:
            return self.ours is not None
        return (self.least is None or self.ratio >= self.least) and (self.most is None or self.ratio <= self.most)


def processor() -> str:
    """Name and number of the cores that this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {count} cores"


def shown(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return "never"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def in_words(row: Row) -> list[str]:
    """The cells of a row of results."""
    target = f"≥ {row.least:g}" if row.least is not None else f"≤ {row.most:g}" if row.most is not None else ""
    verdict = {True: "met", False: "**missed**", None: ""}[row.met]
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    other = shown(row.other) if row.rival else ""
    return [row.what, f"{shown(row.ours)} {row.unit}".strip(), row.rival, other, ratio, target, verdict]


def report(rows: list[Row], path: Path | None) -> int:
    """Print rows, write them as JSON if a path is given, and return the exit code: 1 if a target is missed."""
    for row in rows:
        what, ours, rival, other, ratio, target, verdict = in_words(row)
        beside = f"; {rival}: {other}; ratio {ratio} {target} {verdict}".rstrip() if rival else ""
        print(f"{what}: {ours}{beside}", flush=True)
    if path:
        found = {"processor": processor(), "rows": [asdict(row) for row in rows]}
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(any(row.met is False for row in rows))


def run(about: str, measure: Callable[[argparse.Namespace], list[Row]], **options: dict) -> int:
    """The command line of a benchmark: its options by name, and --json FILE for its rows."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    for name, option in options.items():
        parser.add_argument(f"--{name}", **option)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where its rows are written to")
    arguments = parser.parse_args()
    return report(measure(arguments), arguments.json)
