"""Several folds: spread, the part where nothing was chosen, and validation under simulated other scanners."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from brain_tumor.evaluation.cross_validation import cross_fitted, fold_scores, macro_f1, validation_scores
from brain_tumor.perturbations.shifts import SHIFTS, shifted

CLASSES = ["a", "b", "c"]


def predictions(folds=(0, 1, 2), each=90, seed=0, **extra) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    values = rng.dirichlet([1, 1, 1], each * len(folds))
    frame = pd.DataFrame({"label": rng.choice(CLASSES, len(values)), "model_fold": np.repeat(folds, each)})
    return frame.assign(**{f"p_{name}": values[:, k] for k, name in enumerate(CLASSES)}, **extra)


def independent(frame: pd.DataFrame) -> float:
    predicted = frame[[f"p_{name}" for name in CLASSES]].idxmax(axis=1).str.removeprefix("p_")
    return f1_score(frame["label"], predicted, average="macro")


def test_figures_of_folds_are_those_of_their_parts():
    frame = predictions()
    got = fold_scores(frame, searched=[2], min_class_images=20)
    each = [independent(part) for _, part in frame.groupby("model_fold")]
    assert got["folds"] == 3
    assert got["macro_f1_fold_mean"] == pytest.approx(np.mean(each), abs=1e-6)
    assert got["macro_f1_fold_std"] == pytest.approx(np.std(each, ddof=1), abs=1e-6)
    assert got["macro_f1_fold_min"] == pytest.approx(min(each), abs=1e-6)
    assert got["macro_f1_unsearched"] == pytest.approx(independent(frame[frame["model_fold"] < 2]), abs=1e-6)


def test_what_cannot_be_stated_is_absent():
    one = fold_scores(predictions(folds=(4,)), searched=[4], min_class_images=20)
    assert set(one) == {"folds", "macro_f1_fold_mean", "macro_f1_fold_min"}
    assert fold_scores(predictions(each=30), searched=[], min_class_images=20).keys() == {
        "folds",
        "macro_f1_unsearched",
    }
    assert macro_f1(predictions(each=30), 1) is not None
    rare = predictions()
    assert macro_f1(rare[rare["label"] != "b"], 1) is None


def test_a_recipe_is_chosen_by_means_over_folds_and_shifts():
    frame = predictions(folds=(2, 3))
    frame["group"] = np.arange(len(frame)) // 3
    controls = pd.concat(
        [predictions(folds=(2, 3), seed=k, control=name) for k, name in enumerate(("x", "y"), start=1)]
    )
    got = validation_scores(frame, controls, 20)
    assert got["macro_f1"] == pytest.approx(np.mean([independent(p) for _, p in frame.groupby("model_fold")]), abs=1e-6)
    for name, part in controls.groupby("control"):
        expected = np.mean([independent(rows) for _, rows in part.groupby("model_fold")])
        assert got["shifted"][name] == pytest.approx(expected, abs=1e-6)
    assert got["macro_f1_shifted"] == pytest.approx(np.mean(list(got["shifted"].values())), abs=1e-6)
    without = validation_scores(frame, controls.head(0), 20)
    assert set(without) == {"macro_f1", "macro_f1_cross_fitted"}
    scores = []
    for _, part in frame.groupby("model_fold"):
        truth = part["label"].map(CLASSES.index).to_numpy()
        halves = cross_fitted(part[[f"p_{name}" for name in CLASSES]].to_numpy(), truth, part["group"])
        scores += [f1_score(truth, values.argmax(axis=1), average="macro") for values in halves]
    assert without["macro_f1_cross_fitted"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_a_recipe_is_also_judged_by_the_tumours_of_further_sources(small_run):
    scores = json.loads((small_run / "metrics/validation.json").read_text(encoding="utf-8"))
    predicted = pd.read_csv(small_run / "data/predictions/validation/fold-0.csv", keep_default_na=False)
    folds = pd.read_csv(small_run / "data/split/folds.csv", keep_default_na=False, dtype=str)
    held_out = folds[(folds["source"] == "second") & (folds["fold"] == "1") & (folds["target"] != "")]
    rows = predicted[predicted["path"].isin(held_out["path"])]
    assert set(rows["role"]) == {"validation"} and len(rows) == len(held_out)
    truth = rows["label"] != "no_tumor"
    called = rows.filter(regex="^p_").idxmax(axis=1) != "p_no_tumor"
    found = scores["source_second"]
    assert (found["n"], found["n_healthy"]) == (truth.sum(), (~truth).sum())
    assert found["sensitivity"] == pytest.approx(recall_score(truth, called), abs=1e-6)
    assert found["specificity"] == pytest.approx(recall_score(~truth, ~called), abs=1e-6)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(truth, 1 - rows["p_no_tumor"]), abs=1e-6)
    assert found["sensitivity_ci_low"] <= found["sensitivity"] <= found["sensitivity_ci_high"]
    # The main source is judged by its classes, from its images alone.
    main = predicted[(predicted["source"] == "phantoms") & (predicted["role"] == "validation")]
    names = [name[2:] for name in main.filter(regex="^p_")]
    own = main.filter(regex="^p_").idxmax(axis=1).str.removeprefix("p_")
    expected = f1_score(main["label"], own, labels=names, average="macro", zero_division=0)
    assert scores["macro_f1"] == scores["fold_0"]["macro_f1"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_changes_a_scan_and_keeps_its_geometry(name):
    rng = np.random.default_rng(0)
    scan = np.zeros((96, 96), np.uint8)
    scan[16:80, 20:76] = 120
    scan[30:50, 30:60] = rng.integers(60, 230, (20, 30))
    kept = scan.copy()
    changed = shifted(scan, name, seed=1)
    assert changed.shape == scan.shape and changed.dtype == np.uint8
    assert np.array_equal(scan, kept) and not np.array_equal(changed, scan)
    assert np.array_equal(changed, shifted(scan, name, seed=1))
    assert (shifted(scan, name, seed=2) != changed).any() == (name == "noisy")
    inside, outside = changed[16:80, 20:76].mean(), np.delete(changed, range(16, 80), axis=0).mean()
    assert inside > outside + 30


def test_noise_of_a_shift_is_rician():
    """In air the magnitude of two normal deviates is Rayleigh: mean sigma sqrt(pi / 2)."""
    air = shifted(np.zeros((256, 256), np.uint8), "noisy", seed=0) / 255
    assert air.mean() == pytest.approx(0.08 * np.sqrt(np.pi / 2), rel=0.02)
