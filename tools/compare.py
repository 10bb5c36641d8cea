"""What changed between two commits or experiments, as Markdown: params, scores, and whether by chance.

    python tools/compare.py HEAD~1 HEAD
    python tools/compare.py main sweep-7

The predictions of both must be in the DVC cache (`dvc fetch --all-commits` brings those of a remote).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import RevError, resolve_rev
from dvc_data.index import DataIndexDirError
from ruamel.yaml import YAML
from scratch import ROOT, environment

sys.path.insert(0, str(ROOT / "src"))

from brain_tumor.errors import PipelineError
from brain_tumor.evaluation.cohorts import cohorts
from brain_tumor.evaluation.comparison import paired_differences
from brain_tumor.params import load_params
from brain_tumor.prediction.tables import load_predictions
from brain_tumor.tables.csv_tables import read_table, write_table


def headline(name: str, scratch: Path):
    """The name of the headline cohort of a commit or experiment, and its predictions."""
    try:
        files = DVCFileSystem(str(ROOT), rev=resolve_rev(Repo(str(ROOT)).scm, name))
        scratch.mkdir()
        for path in ("params.yaml", "data/split/folds.csv", "data/predictions/test"):
            files.get(path, str(scratch / Path(path).name), recursive=True)
    except RevError:
        raise PipelineError(f"expected a commit or an experiment, received {name!r}: see dvc exp list") from None
    except (OSError, ValueError, DataIndexDirError, DvcException) as error:
        raise PipelineError(f"expected the results of {name} in the DVC cache: {error}") from error
    params = YAML(typ="safe", pure=True).load(scratch / "params.yaml")
    if not (main := params["data"].get("main")):
        main = load_params(ROOT / "params.yaml").data.main
        _name_source(scratch, main)
    folds = sorted(int(path.stem.removeprefix("fold-")) for path in (scratch / "test").glob("fold-*.csv"))
    frame = load_predictions(scratch / "test", scratch / "folds.csv", folds, main)
    return next(iter(cohorts(frame, params["split"]["strategy"]).items()))


def _name_source(scratch: Path, main: str) -> None:
    """Write the tables of a commit that knew one source only as later ones have them."""
    for path in (scratch / "folds.csv", *(scratch / "test").glob("*.csv")):
        table = read_table(path)
        write_table(path, table.assign(path=f"{main}/" + table["path"], source=main, target=table["label"]))


def diff(kind: str, former: str, latter: str) -> str:
    """What `dvc params diff` or `dvc metrics diff` shows of two revisions, as Markdown."""
    command = ["dvc", kind, "diff", "--md", former, latter]
    table = subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, text=True).stdout
    return table.strip() if len(table.split("\n|")) > 2 else f"No {kind} differ."  # below the two lines of its head


def comparison(former: str, latter: str) -> str:
    """The Markdown text."""
    with tempfile.TemporaryDirectory() as scratch:
        sides = (headline(name, Path(scratch, str(i))) for i, name in enumerate((former, latter)))
        (_, before), (cohort, after) = sides
    count, differences = paired_differences(before, after)
    rows = "".join(
        f"| {score.replace('_', ' ')} | {d['former']:.3f} | {d['latter']:.3f} "
        f"| {d['difference']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f}) |\n"
        for score, d in differences.items()
    )
    change = differences["macro_f1"]
    significant = change["low"] > 0 or change["high"] < 0
    verdict = "larger than chance explains" if significant else "within what the choice of patients explains"
    return f"""### {former} → {latter}

{diff("params", former, latter)}

On the {count} images that both were tested on (cohort {cohort}), 95 % intervals by a paired bootstrap over patients:

| score | {former} | {latter} | difference |
| --- | --- | --- | --- |
{rows}
The change of macro-F1 is **{verdict}**.

<details><summary>All metrics that differ</summary>

{diff("metrics", former, latter)}
</details>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("former", help="commit, branch or experiment")
    parser.add_argument("latter", help="commit, branch or experiment")
    arguments = parser.parse_args()
    try:
        print(comparison(arguments.former, arguments.latter))
    except (PipelineError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
