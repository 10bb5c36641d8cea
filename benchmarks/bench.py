"""`make bench`: all comparisons in one run on one machine, into benchmarks/results.md and benchmarks/results.json.

    python benchmarks/bench.py [NAME ...] [--folder .demo/bench]

First the pipeline is run from the archives in a copy of the project; the other benchmarks work on what it leaves. With
names, only those are measured, on the copy that is there, and the rows of the others stay as they are.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rows import Row, in_words, processor

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"

# name -> arguments of the script of that name, or of the one named first
BENCHMARKS: dict[str, list[str]] = {
    "pipeline": ["pipeline.py"],
    "startup": ["startup.py"],
    "preprocess": ["preprocess.py"],
    "hash_search": ["hash_search.py"],
    "training_steps": ["training_steps.py"],
    "training_race": ["training_race.py"],
    "prediction": ["prediction.py", "--what", "cold", "throughput", "memory", "parity"],
    "server_load": ["server_load.py"],
    "page": ["page.py"],
    "evaluation": ["evaluation.py"],
    "growth": ["growth.py"],
}
_HERE = {"pipeline", "growth"}  # make copies of the project themselves


def measured(name: str, folder: Path) -> dict:
    """Run a benchmark; its rows, and the processor."""
    script, *options = BENCHMARKS[name]
    root = ROOT if name in _HERE else folder
    if name == "pipeline":
        options += ["--folder", str(folder)]
    if name == "training_race":
        options += ["--torch", str(ROOT / ".venv-bench" / "bin" / "python")]
    print(f"== {name}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "rows.json")
        command = [sys.executable, f"benchmarks/{script}", *options, "--json", str(target)]
        code = subprocess.run(command, cwd=root).returncode
        if not target.exists():
            sys.exit(f"error: expected `{' '.join(command[1:-2])}` to write its rows, it ended with {code}")
        return json.loads(target.read_text(encoding="utf-8"))


def page(results: dict) -> str:
    """All rows as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`, which measures a section, and what stands beside its figures, in",
    ]
    lines += [
        "one run on the processor that is named there. The ratio is ours to the other. Where a target is missed,",
        "docs/performance.md says why.",
    ]
    if missing := [name for name in BENCHMARKS if name not in results]:
        lines += ["", f"Not measured yet: {', '.join(missing)}."]
    for name in BENCHMARKS:
        if name not in results:
            continue
        lines += ["", f"## {name}", "", f"`python benchmarks/{' '.join(BENCHMARKS[name])}`"]
        lines += [f"on {results[name]['processor']}", ""]
        lines += ["| | ours | beside | | ratio | target | |", "| --- | --- | --- | --- | --- | --- | --- |"]
        for row in results[name]["rows"]:
            lines.append(f"| {' | '.join(in_words(Row(**row)))} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--folder", type=Path, default=ROOT / ".demo" / "bench", help="copy of the project")
    arguments = parser.parse_args()
    names = arguments.names or list(BENCHMARKS)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() and arguments.names else {}
    for name in names:
        results[name] = measured(name, arguments.folder.resolve())
        ordered = {each: results[each] for each in BENCHMARKS if each in results}
        RESULTS.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        RESULTS.with_suffix(".md").write_text(page(ordered), encoding="utf-8")
    print(f"{processor()}: {RESULTS.with_suffix('.md').relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
