"""What a pull request changes, as the Markdown of one comment: params, scores, plots, and the demo.

    python tools/pull_request.py main HEAD --images https://github.com/OWNER/REPO/raw > comment.md

The scores are compared as by `make compare`, with the commit that the pull request starts from. That needs the
predictions of both commits in the DVC cache or a remote; where they are not, the comment says so and has what git
knows: params, metrics and plots.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from compare import comparison, diff
from scratch import ROOT

from brain_tumor.errors import PipelineError

# GitHub refuses comments of more than 65,536 characters.
LIMIT = 60_000


def git(*arguments: str) -> str:
    """What git prints."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def results(former: str, latter: str) -> str:
    """The committed results of two commits: what `make compare` prints, or params and metrics alone."""
    try:
        return comparison(former, latter)
    except (PipelineError, ValueError) as error:
        return f"""### {former} → {latter}

{diff("params", former, latter)}

No paired bootstrap: {str(error).splitlines()[0]}

<details><summary>All metrics that differ</summary>

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
    """The text with narrow tables, and without the rows of metrics that are too many; the test scores go last."""
    lines = [
        re.sub(r" {2,}", " ", re.sub(r"-{4,}", "---", line)) if line.startswith("|") else line
        for line in text.splitlines()
    ]
    rows = [k for k, line in enumerate(lines) if line.startswith("| metrics/")]
    over = sum(len(line) + 1 for line in lines) + 100 - limit
    left_out = set()
    for k in sorted(rows, key=lambda k: (lines[k].startswith("| metrics/test.json "), -k)):
        if over <= 0:
            break
        over -= len(lines[k]) + 1
        left_out.add(k)
    lines = [line for k, line in enumerate(lines) if k not in left_out]
    if left_out:
        lines.append(f"\n{len(left_out)} more metrics differ: `dvc metrics diff`.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="commit or branch into which it is to be merged")
    parser.add_argument("head", help="last commit of the pull request")
    parser.add_argument("--images", required=True, help="address below which the files lie as <hash>/<path>")
    parser.add_argument("--demo", type=Path, help="folder in which make demo has run")
    parser.add_argument("--artifact", default="", help="address of the demo's report")
    arguments = parser.parse_args()
    try:
        hashes = git("merge-base", arguments.base, arguments.head), git("rev-parse", f"{arguments.head}^{{commit}}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: expected two commits with a common ancestor: {error.stderr.strip() or 'there is none'}")
    parts = [results(*(git("rev-parse", "--short", name) for name in hashes)), plots(*hashes, arguments.images)]
    if arguments.demo:
        parts.append(demo(arguments.demo, arguments.artifact))
    print(fitting("\n\n".join(parts)), end="")


if __name__ == "__main__":
    main()
