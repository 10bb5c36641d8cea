"""Calibration against planted distortions and scikit-learn."""

import keras
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from brain_tumor.evaluation.cross_validation import cross_fitted
from brain_tumor.networks import classifier
from brain_tumor.networks.calibration import calibrated, fit_calibration
from brain_tumor.prediction.predicting import predict


def drawn(count: int, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels that were drawn from them."""
    rng = np.random.default_rng(seed)
    honest = softmax(rng.normal(scale=2, size=(count, classes)), axis=1)
    return honest, (honest.cumsum(axis=1) < rng.random(count)[:, None]).sum(axis=1).clip(max=classes - 1)


def test_a_planted_distortion_is_taken_back():
    honest, labels = drawn(40_000)
    distorted = softmax(np.log(honest) / 0.5 + [1.5, 0, -1, 0], axis=1)
    scale, biases = fit_calibration(distorted, labels)
    assert scale == pytest.approx(0.5, rel=0.03)
    assert biases - biases[1] == pytest.approx([-0.75, 0, 0.5, 0], abs=0.08)
    assert np.abs(calibrated(distorted, scale, biases) - honest).mean() < 0.01


def test_two_classes_are_a_logistic_regression_on_the_log_odds():
    honest, labels = drawn(20_000, classes=2)
    distorted = softmax(np.log(honest) * 3 + [0, 1], axis=1)
    odds = np.log(distorted[:, 1] / distorted[:, 0])[:, None]
    reference = LogisticRegression(C=1e6).fit(odds, labels)
    scale, biases = fit_calibration(distorted, labels)
    assert scale == pytest.approx(reference.coef_[0, 0], rel=0.01)
    assert biases[1] - biases[0] == pytest.approx(reference.intercept_[0], abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_never_gets_worse(seed):
    honest, labels = drawn(200, seed=seed)
    distorted = softmax(np.log(honest) * 2 + np.random.default_rng(seed).normal(size=4), axis=1)
    assert log_loss(labels, calibrated(distorted, *fit_calibration(distorted, labels))) <= log_loss(labels, distorted)


@pytest.mark.parametrize("labels", [np.zeros(30, int), np.arange(30) % 2, np.empty(0, int)])
def test_few_classes_and_certain_networks_stay_finite(labels):
    certain = np.eye(4)[labels]
    scale, biases = fit_calibration(certain, labels)
    assert 0 < scale < 100 and np.abs(biases).max() < 100
    assert np.isfinite(calibrated(certain, scale, biases)).all()
    if not len(labels):
        assert scale == 1 and not biases.any()


def test_cross_fitting_judges_by_other_patients():
    """Labels of one class within each patient and a network that knows nothing: no calibration helps on new ones."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    labels = rng.integers(0, 4, 40)[groups]
    ignorant = softmax(rng.normal(size=(400, 4)), axis=1)
    fitted = cross_fitted(ignorant, labels, groups)
    assert fitted.shape == (10, 400, 4)
    assert fitted.sum(axis=2) == pytest.approx(1)
    own = log_loss(labels, calibrated(ignorant, *fit_calibration(ignorant, labels)))
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


def test_predictions_tell_what_they_were_before_calibration():
    keras.utils.set_random_seed(4)
    model = classifier.build("compact", 32, 3, width=4, stride=32, hidden=0, dropout=0.0)
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32), dtype=np.uint8)
    rows, options = np.array([4, 0, 5]), {"batch_size": 2, "flips": True}
    identity = {"scale": 1.0, "biases": [0.0, 0.0, 0.0]}
    before, same = predict(model, images, rows, calibration=identity, **options)
    np.testing.assert_allclose(before, same, atol=1e-6)
    biases = np.array([0.3, -0.7, 0.1])
    classifier.recalibrate(model, 1.7, biases)
    after, raw = predict(model, images, rows, calibration={"scale": 1.7, "biases": biases}, **options)
    np.testing.assert_allclose(raw, before, atol=1e-5)
    assert np.abs(after - before).max() > 0.05
