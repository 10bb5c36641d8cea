"""Corruptions do what their names say, grow with the strength and repeat; the score under them is counted right."""

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from brain_tumor.perturbations.corruptions import CORRUPTIONS, STRENGTHS, corrupted
from brain_tumor.probes.robustness import robustness_rows, robustness_scores, stratified_sample
from brain_tumor.source.phantoms.scanner import draw_scan


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    return draw_scan("glioma", plane="axial", patient=3, index=0, size=256, seed=1)[0]


def change(scan: np.ndarray, name: str, strength: int, seed: int = 0) -> float:
    """How far the corrupted scan is from the scan, brought to its size."""
    result = corrupted(scan, name, strength, seed)
    return float(np.abs(cv2.resize(result, scan.shape[::-1]).astype(float) - scan).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_it_repeats_and_grows_with_the_strength(scan, name):
    before = scan.copy()
    changes = [change(scan, name, strength) for strength in STRENGTHS]
    assert changes == sorted(changes) and 0 < changes[0] < changes[-1]
    np.testing.assert_array_equal(corrupted(scan, name, 3, 7), corrupted(scan, name, 3, 7))
    np.testing.assert_array_equal(scan, before)


@pytest.mark.parametrize("name", ["noise", "motion", "bias_field", "rotation", "crop", "ghosting"])
def test_another_seed_gives_another_picture(scan, name):
    first, *others = [corrupted(scan, name, 4, seed) for seed in range(8)]
    assert any(other.shape != first.shape or (other != first).any() for other in others)


def test_some_corruptions_against_their_definition(scan):
    assert max(corrupted(scan, "downsampling", 5, 0).shape) == 56
    assert corrupted(scan, "crop", 5, 0).size < 0.75 * scan.size
    assert corrupted(scan, "contrast", 5, 0).std() == pytest.approx(0.2 * scan.std(), abs=0.5)
    black = np.zeros((200, 200), np.uint8)
    # Without signal the magnitude of complex noise is Rayleigh: its mean is sigma sqrt(pi / 2).
    assert corrupted(black, "noise", 3, 0).mean() / 255 == pytest.approx(0.07 * np.sqrt(np.pi / 2), rel=0.02)


def test_the_sample_has_the_shares_of_the_whole_and_repeats():
    frame = pd.DataFrame({"label": ["a"] * 500 + ["b"] * 300 + ["c"] * 203, "i": range(1003)})
    sample = stratified_sample(frame, 100, seed=1)
    assert sample["label"].value_counts().to_dict() == {"a": 50, "b": 30, "c": 20}
    assert sample["i"].is_monotonic_increasing and sample["i"].is_unique
    assert sample.equals(stratified_sample(frame, 100, seed=1))
    assert not sample.equals(stratified_sample(frame, 100, seed=2))
    assert stratified_sample(frame, 5000, seed=1) is frame


def test_scores_by_corruption_and_strength():
    rng = np.random.default_rng(0)
    tables = []
    for corruption, strength in [("none", 0), *(("fog", s) for s in STRENGTHS), *(("rain", s) for s in STRENGTHS)]:
        table = pd.DataFrame(rng.dirichlet([1, 1, 1], 90), columns=["p_a", "p_b", "p_c"])
        labels = rng.choice(["a", "b", "c"], 90)
        tables.append(table.assign(label=labels, group=np.arange(90) // 3, corruption=corruption, strength=strength))
    rows = robustness_rows(pd.concat(tables))
    assert list(rows["corruption"]) == ["none"] + ["fog"] * 5 + ["rain"] * 5
    for row, table in zip(rows.itertuples(), tables, strict=True):
        called = np.array(["a", "b", "c"])[table[["p_a", "p_b", "p_c"]].to_numpy().argmax(axis=1)]
        assert row.balanced_accuracy == pytest.approx(balanced_accuracy_score(table["label"], called), abs=1e-6)
        assert row.balanced_accuracy_ci_low < row.balanced_accuracy < row.balanced_accuracy_ci_high
    figures = robustness_scores(rows)
    assert figures["n"] == 90 and figures["clean"] == rows["balanced_accuracy"][0]
    assert figures["mean"] == pytest.approx(rows["balanced_accuracy"][1:].mean(), abs=1e-6)
    assert figures["rain"]["strength_2"] == rows["balanced_accuracy"][7]
    assert figures["strength_5"] == pytest.approx(rows["balanced_accuracy"][[5, 10]].mean(), abs=1e-6)
