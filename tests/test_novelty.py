"""What is no scan: planted outliers, and the figures against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from brain_tumor.perturbations.non_scans import DEVELOPMENT, HELD_OUT, KINDS, non_scan
from brain_tumor.probes.novelty import fit_novelty, novelty_scores
from brain_tumor.source.phantoms.scanner import draw_scan


def features(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes of correlated Gaussian features with unlike scales."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    mixing = np.array([[1, 0.9, 0], [0, 0.3, 0], [0, 0, 100]])
    return (rng.normal(size=(n, 3)) @ mixing + labels[:, None] * [6, 0, 0]).astype(np.float32), labels


def test_distances_are_those_of_mahalanobis_and_the_threshold_lets_scans_pass():
    train, labels = features(20_000, 0)
    novelty = fit_novelty(train, labels, features(5000, 1)[0])
    test, _ = features(5000, 2)
    assert np.mean(novelty.score(test) > 1) == pytest.approx(0.01, abs=0.006)
    covariance = np.cov(np.concatenate([train[labels == i] - train[labels == i].mean(axis=0) for i in (0, 1)]).T)
    inverse = np.linalg.inv(covariance)
    means = [train[labels == i].mean(axis=0) for i in (0, 1)]
    expected = np.sqrt(np.min([np.einsum("nd,de,ne->n", test - m, inverse, test - m) for m in means], axis=0))
    np.testing.assert_allclose(novelty.score(test) * novelty.threshold, expected, rtol=0.02)


def test_it_sees_what_no_feature_shows_alone():
    train, labels = features(5000, 3)
    novelty = fit_novelty(train, labels, features(2000, 4)[0])
    # Between the classes, and against the correlation: each value alone is usual.
    assert (novelty.score(np.array([[1.0, -1.5, 0.0], [5.0, 2.5, 100.0]], np.float32)) > 1).all()
    assert (novelty.score(np.array([[0.0, 0.0, 0.0], [6.0, 0.0, 100.0]], np.float32)) < 1).all()


def test_figures_against_scikit_learn():
    rng = np.random.default_rng(5)
    scans = rng.normal(0.5, 0.3, 400)
    odd = pd.DataFrame({"kind": np.repeat(["chart", "text"], 100), "score": rng.normal(1.5, 0.6, 200)})
    figures = novelty_scores(scans, odd)
    truth = np.repeat([0, 1], [400, 200])
    assert figures["roc_auc"] == pytest.approx(roc_auc_score(truth, [*scans, *odd["score"]]), abs=1e-6)
    assert figures["detected"] == np.mean(odd["score"] > 1)
    assert (figures["scans"], figures["scans_refused"]) == (400, np.mean(scans > 1))
    thresholds = [t for t in np.sort(odd["score"]) if np.mean(odd["score"] >= t) >= 0.95]
    assert figures["false_alarms"] == np.mean(scans >= thresholds[-1])
    assert list(figures["per_kind"]) == ["chart", "text"] and figures["per_kind"]["text"]["n"] == 100


@pytest.mark.parametrize("kind", KINDS)
def test_odd_pictures_repeat_differ_and_leave_the_scan_alone(kind):
    scans = [draw_scan("glioma", plane="axial", patient=p, index=0, size=200, seed=0)[0] for p in (1, 2)]
    before = scans[0].copy()
    first = non_scan(kind, 1, scans[0])
    assert first.dtype == np.uint8 and first.ndim == 2 and first.std() > 3
    np.testing.assert_array_equal(first, non_scan(kind, 1, scans[0]))
    other = non_scan(kind, 2, scans[1])
    assert other.shape != first.shape or (other != first).mean() > 0.01
    np.testing.assert_array_equal(scans[0], before)


def test_no_kind_serves_both_for_development_and_for_judgement():
    assert not set(DEVELOPMENT) & set(HELD_OUT)
    assert set(DEVELOPMENT) | set(HELD_OUT) == set(KINDS)
