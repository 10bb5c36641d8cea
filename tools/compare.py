"""What changed between two commits or experiments, as text for a pull request: params, scores, and whether by chance.

    python tools/compare.py HEAD~1 HEAD
    python tools/compare.py main sweep-7

The predictions of both must be in the DVC cache (`dvc fetch --all-commits` brings those of a remote).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from dvc.api import DVCFileSystem
from ruamel.yaml import YAML
from scratch import ROOT

sys.path.insert(0, str(ROOT / "src"))

from brain_tumor.errors import PipelineError
from brain_tumor.evaluation.cohorts import cohorts
from brain_tumor.evaluation.comparison import paired_differences
from brain_tumor.prediction.tables import load_predictions

_FILES = ("params.yaml", "metrics/test.json", "data/split/folds.csv")
_PREDICTIONS = "data/predictions/test"


def commit(name: str) -> str:
    """The SHA of a revision, or of the experiment of that name."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    if found := git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"):
        return found
    references = git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines()
    named = [line.split()[0] for line in references if line.endswith(f"/{name}")]
    if not named:
        raise PipelineError(
            f"expected a commit or an experiment, found neither under the name {name!r}: see dvc exp list"
        )
    return named[-1]


class Revision:
    """Params, scores and headline predictions of a commit."""

    def __init__(self, name: str, scratch: Path) -> None:
        self.name = name
        files = DVCFileSystem(str(ROOT), rev=commit(name))
        try:
            for file in _FILES:
                (scratch / file).parent.mkdir(parents=True, exist_ok=True)
                files.get_file(file, str(scratch / file))
            files.get(_PREDICTIONS, str(scratch / _PREDICTIONS), recursive=True)
        except (OSError, ValueError) as error:
            raise PipelineError(f"expected the results of {name} in the DVC cache: {error}") from error
        self.params = YAML(typ="safe", pure=True).load(scratch / "params.yaml")
        self.metrics = json.loads((scratch / "metrics/test.json").read_text(encoding="utf-8"))
        folds = self.params["train"]["folds"]
        frame = load_predictions(scratch / _PREDICTIONS, scratch / "data/split/folds.csv", folds)
        self.cohort, self.headline = next(iter(cohorts(frame, self.params["split"]["strategy"]).items()))


def flat(value: object, prefix: str = "") -> dict[str, object]:
    """Nested values by their dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    inner = [flat(part, f"{prefix}.{key}".lstrip(".")) for key, part in value.items()]
    return {key: part for parts in inner for key, part in parts.items()}


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def comparison(former: Revision, latter: Revision) -> str:
    """The Markdown text."""
    lines = [f"### {former.name} → {latter.name}", ""]
    params = [flat(revision.params) for revision in (former, latter)]
    keys = [key for key in dict.fromkeys([*params[0], *params[1]]) if params[0].get(key) != params[1].get(key)]
    rows = [[f"`{key}`", *(str(side.get(key, "–")) for side in params)] for key in keys]
    lines += table(["param", former.name, latter.name], rows) if rows else ["No param differs."]

    count, differences = paired_differences(former.headline, latter.headline)
    rows = [
        [score.replace("_", " ")]
        + [f"{d['former']:.3f}", f"{d['latter']:.3f}", f"{d['difference']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f})"]
        for score, d in differences.items()
    ]
    heading = f"On the {count} images that both were tested on (cohort {latter.cohort}), 95 % intervals by a paired"
    lines += ["", f"{heading} bootstrap over patient groups:", ""]
    lines += table(["score", former.name, latter.name, "difference"], rows)
    low, high = differences["macro_f1"]["low"], differences["macro_f1"]["high"]
    beyond = low > 0 or high < 0
    verdict = "larger than chance explains" if beyond else "within what the choice of patients explains"
    lines += ["", f"The change of macro-F1 is **{verdict}**.", ""]

    scores = [flat(revision.metrics) for revision in (former, latter)]
    keys = [key for key in scores[1] if "confusion" not in key and "_ci_" not in key and key in scores[0]]
    rows = [
        [f"`{key}`", f"{scores[0][key]:.4g}", f"{scores[1][key]:.4g}", f"{scores[1][key] - scores[0][key]:+.4g}"]
        for key in keys
        if scores[0][key] != scores[1][key]
    ]
    if rows:
        head = ["metric", former.name, latter.name, "change"]
        lines += ["<details><summary>All metrics that differ</summary>", "", *table(head, rows), "", "</details>"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("former", help="commit, branch or experiment")
    parser.add_argument("latter", help="commit, branch or experiment")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            sides = [
                Revision(name, Path(scratch) / str(i)) for i, name in enumerate((arguments.former, arguments.latter))
            ]
            print(comparison(*sides))
    except (PipelineError, ValueError) as error:
        sys.exit(f"error: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
