"""Corruptions do what their names say, grow with the strength and repeat; the score under them is counted right."""

from dataclasses import asdict

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from settings import preprocessing
from sklearn.metrics import balanced_accuracy_score

from brain_tumor.imaging.decoding import decode
from brain_tumor.imaging.preprocessing import Preprocessing, prepare_grey
from brain_tumor.networks import classifier
from brain_tumor.networks.saving import save_model
from brain_tumor.perturbations.corruptions import CORRUPTIONS, STRENGTHS, corrupted
from brain_tumor.prediction.predicting import Predictor
from brain_tumor.probes.robustness import (
    corrupted_predictions,
    robustness_rows,
    robustness_scores,
    stratified_sample,
)
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


def test_every_image_is_predicted_by_its_own_network_under_every_corruption(tmp_path):
    """Against each image by itself: corrupted as it was decoded, then prepared as that network expects it."""
    options, predictors, rows = {"width": 4, "stride": 32, "hidden": 0, "dropout": 0.0}, {}, []
    for fold, size in ((0, 32), (3, 48)):
        keras.utils.set_random_seed(fold)
        model = classifier.build("compact", size, 2, **options)
        metadata = {"classes": ["glioma", "no_tumor"], "calibration": {"scale": 1.0 + fold, "biases": [0.5, 0.0]}}
        metadata["preprocessing"] = asdict(preprocessing(size=size))
        save_model(tmp_path / f"{fold}.keras", model, metadata)
        predictors[fold] = Predictor(tmp_path / f"{fold}.keras", batch_size=2, flips=False)
    (tmp_path / "scans").mkdir()
    for k in range(3):
        label = ("glioma", "no_tumor")[k % 2]
        grey, _ = draw_scan(label, plane="axial", patient=k + 1, index=0, size=90, seed=1)
        cv2.imwrite(str(tmp_path / f"scans/{k}.png"), grey)
        rows.append({"path": f"scans/{k}.png", "label": label, "group": f"g{k}", "model_fold": (3, 0, 3)[k]})
    sample = pd.DataFrame(rows, index=[7, 2, 5])
    found = corrupted_predictions(sample, tmp_path, predictors)
    variants = [("none", 0), *((name, strength) for name in CORRUPTIONS for strength in STRENGTHS)]
    assert len(found) == 3 * len(variants)
    for name, strength in variants:
        part = found[(found["corruption"] == name) & (found["strength"] == strength)]
        assert sorted(part.index) == [2, 5, 7]
        for seed, row in sample.iterrows():
            grey = decode((tmp_path / row["path"]).read_bytes())
            predictor = predictors[row["model_fold"]]
            options = Preprocessing(**predictor.metadata["preprocessing"])
            pixels = prepare_grey(corrupted(grey, name, strength, seed) if strength else grey, options)
            got = part.loc[seed]
            assert (got["label"], got["group"]) == (row["label"], row["group"])
            for values, kind in zip(predictor.predict(pixels[None]), ("p", "raw"), strict=True):
                expected = pytest.approx(values[0].tolist(), abs=1e-5)
                assert [got[f"{kind}_glioma"], got[f"{kind}_no_tumor"]] == expected
    # In the order of the variants, as the table of scores has it.
    assert list(robustness_rows(found)[["corruption", "strength"]].itertuples(index=False, name=None)) == variants


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
