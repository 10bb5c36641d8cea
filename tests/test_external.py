"""Sources that are only tested on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL, run, with_params
from test_pipeline import stages_run

PHANTOMS, SECOND = (SMALL["data"]["sources"][name] for name in ("phantoms", "second"))


def table(project: Path, path: str) -> pd.DataFrame:
    return pd.read_csv(project / path, keep_default_na=False, dtype={"fold": str})


def with_sources(project: Path, **sources: dict) -> Path:
    return with_params(project, data={"sources": {"phantoms": PHANTOMS} | sources})


def test_an_external_source_is_a_cohort_of_its_own(small_clone, tmp_path):
    """The published test folder, brought a second time as a stranger, scores as it did."""
    other = tmp_path / "hospital"
    shutil.copytree(small_clone / "data/raw/phantoms/Testing", other)
    hospital = {"dataset": f"folder:{other}", "role": "external"}
    with_sources(small_clone, second=SECOND, hospital=hospital)
    learned = ["data/audit/groups.csv", "data/split/folds.csv", "models/fold-0/model.keras", "metrics/audit.json"]
    learned += [f"data/served/{name}" for name in ("model.keras", "official_test.csv", "thresholds.json")]
    before = [(small_clone / path).read_bytes() for path in learned]
    ran = stages_run(run("dvc", "repro", "evaluate", cwd=small_clone).stdout)
    # What is learned does not depend on it, and neither does what is answered.
    assert set(ran) == {"download@hospital", "preprocess", "audit", "served", "evaluate"}
    assert [(small_clone / path).read_bytes() for path in learned] == before

    metrics = json.loads((small_clone / "metrics/test.json").read_text(encoding="utf-8"))
    parts = {"": "test", "_shared": "leaked", "_clean": "clean"}
    found = {name.removeprefix("external_hospital") for name in metrics if name.startswith("external_")}
    assert found == {part for part, known in parts.items() if f"official_{known}" in metrics} and len(found) > 1
    for part in found:
        brought, known = metrics[f"external_hospital{part}"], metrics[f"official_{parts[part]}"]
        # Whose patients these are, nobody said: that they belong together follows from their pictures.
        for score in known.keys() - {"patients"}:
            assert brought[score] == known[score], (part, score)
    predicted = table(small_clone, "data/served/hospital.csv")
    own = table(small_clone, "data/served/official_test.csv")
    assert set(predicted["source"]) == {"hospital"} and set(predicted["role"]) == {"external"}
    assert set(own["source"]) == {"phantoms"} and set(own["role"]) == {"official_test"}
    same = ["path", "label", *predicted.filter(regex="^(p|raw)_").columns]
    own = own.assign(path=own["path"].str.replace("phantoms/Testing/", "hospital/"))
    pd.testing.assert_frame_equal(predicted[same], own[same])
    # Served is the network of the only fold that is run, with the calibration of all that it was not fitted on.
    first = table(small_clone, "data/predictions/test/fold-0.csv").query("role == 'official_test'")
    assert first["path"].str.replace("phantoms/Testing/", "hospital/").tolist() == own["path"].tolist()
    raw = own.filter(regex="^raw_")
    pd.testing.assert_frame_equal(first[raw.columns].reset_index(drop=True), raw, atol=1e-5)
    for folder in ("data/served", "data/external"):
        assert table(small_clone, f"{folder}/sources.csv")["source"].tolist() == ["hospital"]

    index = table(small_clone, "data/external/hospital/index.csv")
    (other / "no_tumor").rename(other / "healthy")
    run("dvc", "repro", "--force", "--single-item", "download@hospital", cwd=small_clone)
    failed = run("dvc", "repro", "preprocess", cwd=small_clone, fails=True)
    assert "error: expected the classes" in failed.stderr and "Traceback" not in failed.stderr
    assert "the folder 'healthy'" in failed.stderr and "data.sources.hospital.labels" in failed.stderr
    with_sources(small_clone, second=SECOND, hospital=hospital | {"labels": {"healthy": "no_tumor"}})
    run("dvc", "repro", "preprocess", cwd=small_clone)
    again = table(small_clone, "data/external/hospital/index.csv")
    assert dict(zip(again["sha256"], again["label"], strict=True)) == dict(
        zip(index["sha256"], index["label"], strict=True)
    )
    assert set(again["path"].str.split("/").str[1]) == {"glioma", "healthy", "meningioma", "pituitary"}

    # A source that is no longer named leaves no score behind.
    with_sources(small_clone, second=SECOND)
    run("dvc", "repro", "evaluate", cwd=small_clone)
    metrics = json.loads((small_clone / "metrics/test.json").read_text(encoding="utf-8"))
    assert not [name for name in metrics if name.startswith("external_")]
    files = {path.name for path in (small_clone / "data/served").iterdir()}
    assert files == {"model.keras", "official_test.csv", "official_test.npy", "sources.csv", "thresholds.json"}


def test_partial_labels_of_an_external_source(small_clone):
    """The second set, which was learned from, as an external one."""
    folds = table(small_clone, "data/split/folds.csv")
    with_sources(small_clone, second=SECOND | {"role": "external"})
    ran = stages_run(run("dvc", "repro", "evaluate", cwd=small_clone).stdout)
    assert not {"download@phantoms", "download@second"} & set(ran)
    # The folds of the main source are its own.
    again, main = table(small_clone, "data/split/folds.csv"), folds[folds["source"] == "phantoms"]
    pd.testing.assert_frame_equal(again, main.reset_index(drop=True))
    assert set(table(small_clone, "data/prepared/index.csv")["source"]) == {"phantoms"}
    assert set(table(small_clone, "data/external/second/index.csv")["source"]) == {"second"}

    truth = table(small_clone, "data/raw/second/truth.csv")
    predicted = table(small_clone, "data/served/second.csv")
    assert predicted["path"].tolist() == [f"second/{path}" for path in truth["path"]]
    p, names = predicted.filter(regex="^p_").to_numpy(), [c[2:] for c in predicted.filter(regex="^p_")]
    thresholds = json.loads((small_clone / "data/served/thresholds.json").read_text(encoding="utf-8"))
    least = np.array([np.inf if value is None else value for value in thresholds["confidence"]])
    answered = p.max(axis=1) >= least[p.argmax(axis=1)]
    missed = answered & (p.argmax(axis=1) == names.index("no_tumor"))
    metrics = json.loads((small_clone / "metrics/test.json").read_text(encoding="utf-8"))
    # Copies of the training pool; the patients of the test folder are in that folder alone.
    shared = truth["copy_of"].str.startswith("Training/")
    assert shared.any()
    for name, rows in {"": shared | True, "_shared": shared, "_clean": ~shared}.items():
        cohort, part, labels = (
            metrics[f"external_second{name}"],
            predicted[rows.to_numpy()],
            truth[rows]["folder_label"],
        )
        assert cohort["n"] == len(part)
        counts = {"n_glioma|meningioma|pituitary": (labels == "yes").sum(), "n_no_tumor": (labels == "no").sum()}
        assert {key: value for key, value in cohort.items() if key.startswith("n_")} == {
            key: count for key, count in counts.items() if count
        }
        assert not {"accuracy", "macro_f1", "per_class", "confusion", "conformal"} & cohort.keys()
        assert cohort["selective"]["coverage"] == pytest.approx(answered[rows.to_numpy()].mean(), abs=1e-6)
        ill = (rows & (truth["folder_label"] == "yes")).to_numpy()
        if ill.any():
            assert cohort["selective"]["missed"] == pytest.approx(missed[ill].mean(), abs=1e-6)
        if set(labels) == {"yes", "no"}:
            called = part.filter(regex="^p_").idxmax(axis=1) != "p_no_tumor"
            tumour = (labels == "yes").to_numpy()
            assert cohort["tumour"]["sensitivity"] == pytest.approx(called[tumour].mean(), abs=1e-6)
            assert cohort["tumour"]["specificity"] == pytest.approx(1 - called[~tumour].mean(), abs=1e-6)
            assert (cohort["tumour"]["n"], cohort["tumour"]["n_healthy"]) == (tumour.sum(), (~tumour).sum())
        else:
            assert "tumour" not in cohort
