"""What a pull request changes, as the Markdown of one comment: params, scores, plots, and the demo.

    make --silent compare A=main B=HEAD > compare.md
    python tools/pull_request.py main HEAD --compared compare.md --images https://github.com/OWNER/REPO/raw > comment.md

`make compare` needs the predictions of both commits in the DVC cache or a remote. Where it failed and left an empty
file, the comment says so and has what git knows: params, metrics and plots.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from compare import diff
from scratch import ROOT

# GitHub refuses comments of more than 65,536 characters.
LIMIT = 60_000
_METRICS = "<details><summary>All metrics that differ</summary>"


def git(*arguments: str) -> str:
    """What git prints."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def results(former: str, latter: str, compared: str) -> str:
    """The committed results of two commits: what `make compare` printed, or params and metrics alone."""
    if compared.strip():
        return compared.strip()
    return f"""### {former} → {latter}

{diff("params", former, latter)}

No paired bootstrap: the predictions of both commits are not in a DVC remote that this job can read.

{_METRICS}

{diff("metrics", former, latter)}
</details>"""


def plots(former: str, latter: str, images: str) -> str:
    """The plots that differ, before and after.

    Args:
        former, latter: hashes.
        images: the address below which the files of a commit lie, as <hash>/<path>.
    """
    changed = git("diff", "--no-renames", "--name-status", former, latter, "--", "plots/*.svg").splitlines()
    if not changed:
        return "No plots differ."
    rows = ""
    for state, path in (line.split("\t") for line in changed):
        before = f"![before]({images}/{former}/{path})" if state != "A" else ""
        after = f"![after]({images}/{latter}/{path})" if state != "D" else ""
        rows += f"| `{path}` | {before} | {after} |\n"
    return f"""<details><summary>Plots that differ: {len(changed)}</summary>

| plot | before | after |
| --- | --- | --- |
{rows}
</details>"""


def demo(folder: Path, artifact: str) -> str:
    """The scores of a run of `make demo`."""
    scores = json.loads((folder / "metrics" / "test.json").read_text(encoding="utf-8"))["patient_test"]
    rows = "".join(
        f"| {name.replace('_', ' ')} | {scores[name]:.3f} ({scores[f'{name}_ci_low']:.3f} to "
        f"{scores[f'{name}_ci_high']:.3f}) |\n"
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "mcc")
        if f"{name}_ci_low" in scores
    )
    return f"""### The whole pipeline on simulated scans, `make demo`

On {scores["n"]} simulated test images. It shows that everything runs; it says nothing about real scans.

| score | 95 % interval |
| --- | --- |
{rows}
[Report, metrics and plots]({artifact})"""


def fitting(text: str, limit: int = LIMIT) -> str:
    """The text with narrow tables, and without those of its metrics that are too many; the test scores come first."""
    lines = [
        re.sub(r" {2,}", " ", re.sub(r"-{4,}", "---", line)) if line.startswith("|") else line
        for line in text.splitlines()
    ]
    start = lines.index(_METRICS) if _METRICS in lines else len(lines)
    end = lines.index("</details>", start) if start < len(lines) else start
    rows = [k for k in range(start, end) if lines[k].startswith("| ") and not lines[k].startswith("| Path ")]
    room = limit - 100 - sum(len(line) + 1 for k, line in enumerate(lines) if k not in set(rows))
    kept = set()
    for k in sorted(rows, key=lambda k: not lines[k].startswith("| metrics/test.json ")):
        room -= len(lines[k]) + 1
        if room < 0:
            break
        kept.add(k)
    if left_out := len(rows) - len(kept):
        lines[end] = f"\n{left_out} more in `dvc metrics diff`.\n{lines[end]}"
    return "\n".join(line for k, line in enumerate(lines) if k not in set(rows) - kept) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("former", help="commit that the pull request starts from")
    parser.add_argument("latter", help="last commit of the pull request")
    parser.add_argument("--images", required=True, help="address below which the files lie as <hash>/<path>")
    parser.add_argument("--compared", type=Path, help="file with what make compare printed; empty: it failed")
    parser.add_argument("--demo", type=Path, help="folder in which make demo has run")
    parser.add_argument("--artifact", default="", help="address of the demo's report")
    arguments = parser.parse_args()
    try:
        hashes = [git("rev-parse", "--verify", f"{name}^{{commit}}") for name in (arguments.former, arguments.latter)]
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: expected two commits: {error.stderr.strip()}")
    compared = arguments.compared.read_text(encoding="utf-8") if arguments.compared else ""
    parts = [results(*(git("rev-parse", "--short", name) for name in hashes), compared)]
    parts.append(plots(*hashes, arguments.images))
    if arguments.demo:
        parts.append(demo(arguments.demo, arguments.artifact))
    print(fitting("\n\n".join(parts)), end="")


if __name__ == "__main__":
    main()
