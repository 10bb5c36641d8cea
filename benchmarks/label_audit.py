"""How many planted wrong labels the label audit ranks first: simulated scans, 1, 3 and 10 % wrong, five folds each.

    python benchmarks/label_audit.py [FOLDER]

Runs the whole pipeline in the scratch folder FOLDER (default: .demo/labels) with the parameters of `make demo`, and
compares data/audit_model/labels.csv with the ground truth of the phantoms.
"""

import subprocess
import sys
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from scratch import environment, scratch_copy  # noqa: E402

RATES = (0.01, 0.03, 0.10)


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".demo" / "labels")
    overrides = YAML(typ="safe").load(ROOT / "demo.yaml")
    overrides["run"] |= {"folds": [0, 1, 2, 3, 4]}
    print("wrong labels  images  wrong  found in top k: k = wrong  k = 2 x wrong   flagged  of them wrong")
    for rate in RATES:
        overrides["phantoms"] = {"wrong_labels": rate}
        scratch_copy(target, overrides)
        (target / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
        subprocess.run(
            ["dvc", "repro", "--quiet"], cwd=target, env=environment(), check=True, stdout=subprocess.DEVNULL
        )
        labels = pd.read_csv(target / "data/audit_model/labels.csv")
        truth = pd.read_csv(target / "data/raw/truth.csv").set_index("path")["wrong_label"]
        wrong = labels["path"].map(truth) == 1
        k, flagged = int(wrong.sum()), labels["issue"] == 1
        top, twice = (wrong[:size].sum() / k for size in (k, 2 * k))
        print(
            f"{rate:12.0%}  {len(labels):6}  {k:5}  {top:25.2f}  {twice:13.2f}  {flagged.sum():8}"
            f"  {wrong[flagged].mean():13.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
