"""A further data set that is only tested on."""

import json
import shutil

import pandas as pd
from conftest import run, with_params


def test_a_further_data_set_is_a_cohort_of_its_own(small_clone, tmp_path):
    """The published test folder, brought a second time as a stranger, scores as it did."""
    other = tmp_path / "hospital"
    shutil.copytree(small_clone / "data/raw/Testing", other)
    with_params(small_clone, evaluate={"external": [str(other)]})
    run("dvc", "repro", "evaluate", cwd=small_clone)
    metrics = json.loads((small_clone / "metrics/test.json").read_text(encoding="utf-8"))
    known, brought = metrics["official_test"], metrics["external_hospital"]
    for score in ("n", "accuracy", "macro_f1", "log_loss", "ece", "confusion"):
        assert brought[score] == known[score], score
    assert brought["conformal"]["coverage_90"]["coverage"] == known["conformal"]["coverage_90"]["coverage"]
    assert not [key for key in brought if "_ci_" in key]  # whose patients these are, nobody said
    sets = pd.read_csv(small_clone / "data/predictions/external/sets.csv")
    assert sets["path"].tolist() == [str(other)]

    (other / "no_tumor").rename(other / "healthy")
    failed = run("dvc", "repro", "--force", "--single-item", "external", cwd=small_clone, fails=True)
    assert "found ['healthy']: rename the folders" in failed.stderr and "Traceback" not in failed.stderr
