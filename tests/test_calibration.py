"""Calibration against planted distortions and scikit-learn."""

import keras
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import approx_fprime, minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from brain_tumor.evaluation.cross_validation import cross_fitted
from brain_tumor.networks import classifier
from brain_tumor.networks.calibration import calibrated, fit_calibration
from brain_tumor.networks.saving import save_model
from brain_tumor.prediction.predicting import Predictor


def drawn(count: int, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels that were drawn from them."""
    rng = np.random.default_rng(seed)
    honest = softmax(rng.normal(scale=2, size=(count, classes)), axis=1)
    return honest, (honest.cumsum(axis=1) < rng.random(count)[:, None]).sum(axis=1).clip(max=classes - 1)


def exactly(labels: np.ndarray, classes: int = 4) -> np.ndarray:
    """(n, classes) bool: the one class of each image."""
    return np.eye(classes, dtype=bool)[labels]


def test_a_planted_distortion_is_taken_back():
    honest, labels = drawn(40_000)
    distorted = softmax(np.log(honest) / 0.5 + [1.5, 0, -1, 0], axis=1)
    scale, biases = fit_calibration(distorted, exactly(labels))
    assert scale == pytest.approx(0.5, rel=0.03)
    assert biases - biases[1] == pytest.approx([-0.75, 0, 0.5, 0], abs=0.08)
    assert np.abs(calibrated(distorted, scale, biases) - honest).mean() < 0.01


def test_two_classes_are_a_logistic_regression_on_the_log_odds():
    honest, labels = drawn(20_000, classes=2)
    distorted = softmax(np.log(honest) * 3 + [0, 1], axis=1)
    odds = np.log(distorted[:, 1] / distorted[:, 0])[:, None]
    reference = LogisticRegression(C=1e6).fit(odds, labels)
    scale, biases = fit_calibration(distorted, exactly(labels, 2))
    assert scale == pytest.approx(reference.coef_[0, 0], rel=0.01)
    assert biases[1] - biases[0] == pytest.approx(reference.intercept_[0], abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_never_gets_worse(seed):
    honest, labels = drawn(200, seed=seed)
    distorted = softmax(np.log(honest) * 2 + np.random.default_rng(seed).normal(size=4), axis=1)
    fitted = calibrated(distorted, *fit_calibration(distorted, exactly(labels)))
    assert log_loss(labels, fitted) <= log_loss(labels, distorted)


@pytest.mark.parametrize("labels", [np.zeros(30, int), np.arange(30) % 2, np.empty(0, int)])
def test_few_classes_and_certain_networks_stay_finite(labels):
    certain = np.eye(4)[labels]
    scale, biases = fit_calibration(certain, exactly(labels))
    assert 0 < scale < 100 and np.abs(biases).max() < 100
    assert np.isfinite(calibrated(certain, scale, biases)).all()
    if not len(labels):
        assert scale == 1 and not biases.any()


# --- partial labels


def partial(labels: np.ndarray, seed: int = 0, classes: int = 4) -> np.ndarray:
    """A third of the labels exact; of the others some say only whether the class is 0, some which half it is of."""
    allowed, kind = exactly(labels, classes), np.random.default_rng(seed).integers(0, 3, len(labels))
    index = np.arange(classes)
    ill, half = (labels[:, None] > 0) == (index > 0), (labels[:, None] < classes / 2) == (index < classes / 2)
    return np.where((kind == 1)[:, None], ill, np.where((kind == 2)[:, None], half, allowed))


def posterior(values: np.ndarray, probabilities: np.ndarray, allowed: np.ndarray) -> float:
    """Minus the logarithm of what is to be maximised, as it is defined; of the log scale and the biases."""
    logits = np.exp(values[0]) * np.log(np.maximum(probabilities, 1e-12)) + values[1:]
    likely = (softmax(logits, axis=1) * allowed).sum(axis=1)
    return -np.log(likely).sum() + np.square(values).sum() / 2


@pytest.mark.parametrize("seed", range(4))
def test_partial_labels_are_fitted_by_the_probability_of_what_they_allow(seed):
    honest, labels = drawn(400, seed=seed)
    distorted = softmax(np.log(honest) * 2 + np.random.default_rng(seed).normal(size=4), axis=1)
    allowed = partial(labels, seed)
    scale, biases = fit_calibration(distorted, allowed)
    found = np.array([np.log(scale), *biases])
    # By slopes from differences alone.
    start, slope = np.zeros(5), approx_fprime(found, posterior, 1e-6, distorted, allowed)
    assert np.abs(slope).max() < 1e-3 * np.abs(approx_fprime(start, posterior, 1e-6, distorted, allowed)).max()
    reference = minimize(posterior, start, args=(distorted, allowed), method="BFGS", jac="3-point")
    assert found == pytest.approx(reference.x, abs=5e-4)
    assert posterior(found, distorted, allowed) <= reference.fun + 1e-4


def test_a_planted_distortion_is_taken_back_by_partial_labels():
    honest, labels = drawn(40_000)
    distorted = softmax(np.log(honest) / 0.5 + [1.5, 0, -1, 0], axis=1)
    scale, biases = fit_calibration(distorted, partial(labels))
    assert scale == pytest.approx(0.5, rel=0.03)
    assert biases - biases[1] == pytest.approx([-0.75, 0, 0.5, 0], abs=0.08)
    assert np.abs(calibrated(distorted, scale, biases) - honest).mean() < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_a_label_that_allows_every_class_says_nothing(seed):
    honest, labels = drawn(300, seed=seed)
    distorted, allowed = softmax(np.log(honest) * 2 + [1, 0, 0, -1], axis=1), partial(labels, seed)
    told = np.arange(300) < 200
    scale, biases = fit_calibration(distorted, allowed | ~told[:, None])
    alone = fit_calibration(distorted[told], allowed[told])
    assert [scale, *biases] == pytest.approx([alone[0], *alone[1]], abs=2e-4)


def fitted_to_classes(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The fit where every image has a single class, by cross-entropy: no partial label is thought of."""
    logs, classes = np.log(np.maximum(probabilities.astype(np.float64), 1e-12)), probabilities.shape[1]
    truth = np.eye(classes)[labels]

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        scale = np.exp(values[0])
        fitted = log_softmax(scale * logs + values[1:], axis=1)
        excess = np.exp(fitted) - truth
        slope = np.concatenate([[scale * (excess * logs).sum()], excess.sum(axis=0)])
        return -(fitted * truth).sum() + values @ values / 2, slope + values

    found = minimize(loss, np.zeros(classes + 1), jac=True, method="BFGS", options={"gtol": 1e-8}).x
    return round(float(np.exp(found[0])), 4), found[1:].round(4)


@pytest.mark.parametrize("spread", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("seed", range(5))
def test_single_classes_are_fitted_as_if_there_were_no_partial_labels(seed, spread):
    """To the last bit, so that the scores of a set without partial labels do not change."""
    rng = np.random.default_rng(seed)
    classes, count = int(rng.integers(2, 6)), int(rng.integers(1, 400))
    values = softmax(rng.normal(scale=spread, size=(count, classes)), axis=1).astype(np.float32)
    labels = np.where(rng.random(count) < 0.6, values.argmax(axis=1), rng.integers(0, classes, count))
    scale, biases = fit_calibration(values, exactly(labels, classes))
    expected = fitted_to_classes(values, labels)
    assert scale == expected[0]
    np.testing.assert_array_equal(biases, expected[1])


@pytest.mark.parametrize("seed", range(6))
def test_a_network_that_hardly_tells_the_classes_apart_is_calibrated_too(seed):
    """The search then tries large scales, at which probabilities underflow."""
    rng = np.random.default_rng(seed)
    values = softmax(rng.normal(scale=0.1, size=(300, 4)), axis=1)
    labels = np.where(rng.random(300) < 0.9, values.argmax(axis=1), rng.integers(0, 4, 300))
    expected = fitted_to_classes(values, labels)
    scale, biases = fit_calibration(values, exactly(labels))
    assert scale == expected[0]
    np.testing.assert_array_equal(biases, expected[1])
    scale, biases = fit_calibration(values, partial(labels, seed))
    found = np.array([np.log(scale), *biases])
    assert posterior(found, values, partial(labels, seed)) < posterior(np.zeros(5), values, partial(labels, seed))


# --- in use


def test_cross_fitting_judges_by_other_patients():
    """Labels of one class within each patient and a network that knows nothing: no calibration helps on new ones."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    labels = rng.integers(0, 4, 40)[groups]
    ignorant = softmax(rng.normal(size=(400, 4)), axis=1)
    fitted = cross_fitted(ignorant, labels, groups)
    assert fitted.shape == (10, 400, 4)
    assert fitted.sum(axis=2) == pytest.approx(1)
    own = log_loss(labels, calibrated(ignorant, *fit_calibration(ignorant, exactly(labels))))
    assert np.mean([log_loss(labels, values) for values in fitted]) > own
    # what a calibration on all images did beforehand leaves no trace
    after = cross_fitted(calibrated(ignorant, 3.0, np.array([2.0, 0, -2, 0])), labels, groups)
    assert (after.argmax(axis=2) == fitted.argmax(axis=2)).mean() > 0.97


@pytest.mark.parametrize("hidden", [0, 8])
def test_the_network_itself_is_recalibrated(hidden):
    keras.utils.set_random_seed(0)
    model = classifier.build("compact", 32, 4, width=4, stride=16, hidden=hidden, dropout=0.1)
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 1), np.uint8)
    before = model.predict_on_batch(images)
    biases = np.array([1.0, 0, -2, 0.5])
    classifier.recalibrate(model, 1.7, biases)
    assert model.predict_on_batch(images) == pytest.approx(calibrated(before, 1.7, biases), abs=1e-5)


@pytest.mark.parametrize("flips", [False, True])
def test_predictions_tell_what_they_were_before_calibration(tmp_path, flips):
    keras.utils.set_random_seed(4)
    model = classifier.build("compact", 32, 3, width=4, stride=32, hidden=0, dropout=0.0)
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32), dtype=np.uint8)
    about = pd.DataFrame({"path": list("abcdef")}, index=[9, 3, 4, 1, 0, 7])

    def predictor(scale: float, biases: list[float]) -> Predictor:
        metadata = {"classes": ["ant", "bee", "cat"], "calibration": {"scale": scale, "biases": biases}}
        save_model(tmp_path / "network.keras", model, metadata)
        return Predictor(tmp_path / "network.keras", batch_size=4, flips=flips)

    before, same = predictor(1.0, [0.0, 0.0, 0.0]).predict(images)
    np.testing.assert_allclose(before, same, atol=1e-6)
    biases = [0.3, -0.7, 0.1]
    classifier.recalibrate(model, 1.7, np.array(biases))
    after, raw = predictor(1.7, biases).predict(images)
    np.testing.assert_allclose(raw, before, atol=1e-5)
    assert np.abs(after - before).max() > 0.05
    # Also where two views are averaged, the calibration is one of the result.
    np.testing.assert_allclose(after, calibrated(before, 1.7, np.array(biases)), atol=1e-5)

    table, features = predictor(1.7, biases).table(images, about)
    assert table["path"].tolist() == about["path"].tolist() and table.index.equals(about.index)
    assert list(table) == ["path", "p_ant", "p_bee", "p_cat", "raw_ant", "raw_bee", "raw_cat"]
    for kind, values in (("p", after), ("raw", raw)):
        np.testing.assert_array_equal(table[[f"{kind}_{name}" for name in ("ant", "bee", "cat")]].to_numpy(), values)
    np.testing.assert_array_equal(predictor(1.7, biases).features(images), features)
    assert features.shape[0] == 6 and list(about) == ["path"]
