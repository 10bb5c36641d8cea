"""What is no scan: planted outliers and networks, distances against SciPy, and the figures against scikit-learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.spatial.distance import mahalanobis
from scipy.stats import chi2
from settings import preprocessing
from sklearn.metrics import roc_auc_score

from brain_tumor.perturbations.non_scans import DEVELOPMENT, HELD_OUT, KINDS, non_scan
from brain_tumor.probes.novelty import NoveltyTrial, fit_novelty, novelty_scores
from brain_tumor.source.phantoms.scanner import draw_scan


def features(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes of correlated Gaussian features with unlike scales."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    mixing = np.array([[1, 0.9, 0], [0, 0.3, 0], [0, 0, 100]])
    return (rng.normal(size=(n, 3)) @ mixing + labels[:, None] * [6, 0, 0]).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_of_mahalanobis(seed):
    train, labels = features(20_000, seed)
    novelty = fit_novelty(train, labels)
    assert novelty.threshold == 1
    test, _ = features(400, seed + 10)
    means = [train[labels == i].mean(axis=0) for i in (0, 1)]
    inverse = np.linalg.inv(np.cov((train - np.array(means)[labels]).T))
    expected = [min(mahalanobis(row, mean, inverse) for mean in means) for row in test]
    np.testing.assert_allclose(novelty.score(test), expected, rtol=0.02)
    # Squared, those of scans follow a chi-squared distribution, but for the few that lie nearer to the other class.
    usual = np.square(novelty.score(features(20_000, seed + 20)[0]))
    assert np.quantile(usual, [0.5, 0.9, 0.99]) == pytest.approx(chi2.ppf([0.5, 0.9, 0.99], df=3), rel=0.05)


def test_a_threshold_divides_the_distances():
    train, labels = features(2000, 0)
    novelty = fit_novelty(train, labels)
    test, _ = features(50, 1)
    np.testing.assert_allclose(replace(novelty, threshold=2.5).score(test) * 2.5, novelty.score(test), rtol=1e-12)


def test_it_sees_what_no_feature_shows_alone():
    train, labels = features(5000, 3)
    novelty = fit_novelty(train, labels)
    usual = replace(novelty, threshold=float(np.quantile(novelty.score(features(2000, 4)[0]), 0.99)))
    # Between the classes, and against the correlation: each value alone is usual.
    assert (usual.score(np.array([[1.0, -1.5, 0.0], [5.0, 2.5, 100.0]], np.float32)) > 1).all()
    assert (usual.score(np.array([[0.0, 0.0, 0.0], [6.0, 0.0, 100.0]], np.float32)) < 1).all()


def of_network(n: int, seed: int, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features of four classes, one of whose labels is partial."""
    rng = np.random.default_rng(width)
    mixing, centres = np.eye(width) + rng.normal(size=(width, width)) / width**0.5, 2 * rng.normal(size=(4, width))
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 4, n)
    labels = np.array(["glioma", "glioma|meningioma", "healthy", "pituitary"])[classes]
    return rng.normal(size=(n, width)) @ mixing + centres[classes], labels


def test_what_was_fitted_is_rounded_to_multiples_of_a_power_of_two():
    novelty = fit_novelty(*of_network(800, 0))
    for values in (novelty.mean, novelty.scale, novelty.class_means, novelty.whitening):
        values = values.astype(np.float64)
        _, exponent = np.frexp(np.abs(values).max())
        units = np.ldexp(values, 18 - exponent)  # of 1/131072 to 1/262144 of the largest value
        np.testing.assert_array_equal(units, np.round(units))
        assert len(np.unique(units)) > len(units) / 2
    assert novelty.whitening.dtype == np.float32


@pytest.mark.parametrize("seed", range(3))
def test_the_last_digits_of_features_change_nothing(seed):
    """Libraries of linear algebra sum in an order that depends on the processor."""
    values, labels = of_network(800, seed)
    noise = np.random.default_rng(seed).uniform(-1, 1, values.shape)
    first, again = fit_novelty(values, labels), fit_novelty(values * (1 + 1e-13 * noise), labels)
    other = fit_novelty(values * (1 + 1e-3 * noise), labels)
    for name in ("mean", "scale", "class_means", "whitening"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes() != getattr(other, name).tobytes()


def test_a_channel_that_is_constant_in_training_does_not_decide():
    values, labels = of_network(2000, 1, width=200)
    values[:, 7] = 0.7
    novelty = fit_novelty(values, labels)
    fresh, _ = of_network(2000, 2, width=200)
    fresh[:, 7] = 0.7
    before = novelty.score(fresh)
    for share, most in ((0.01, 1.01), (0.1, 1.2)):  # of how much a channel usually varies
        moved = fresh.copy()
        moved[:, 7] += share * np.median(values.std(axis=0))
        assert (novelty.score(moved) / before).mean() < most
    moved[:, 7] += 10 * np.median(values.std(axis=0))
    assert np.isfinite(novelty.score(moved)).all() and (novelty.score(moved) > 3 * before).all()


@pytest.mark.parametrize("constant", [0.0, 0.3])
@pytest.mark.parametrize("dead", [1, 35, 59])
def test_most_channels_may_be_constant(dead, constant):
    """As behind a ReLU; one that varies very little is no better."""
    values, labels = of_network(800, 3)
    values[:, :dead] = constant
    novelty = fit_novelty(values, labels)
    assert (novelty.scale > 0).all() and np.isfinite(novelty.whitening).all()
    fresh, _ = of_network(800, 4)
    fresh[:, :dead] = constant
    alone = fit_novelty(values[:, dead:], labels)
    scores = [fitted.score(part) for fitted, part in ((novelty, fresh), (alone, fresh[:, dead:]))]
    assert np.corrcoef(*scores)[0, 1] > 0.98
    values[:, :dead] += 1e-6 * np.random.default_rng(5).normal(size=(800, dead))
    assert np.isfinite(fit_novelty(values, labels).score(values)).all()


# --- thresholds by ratio

SIZE, WIDTH, MARK = 32, 8, 77
PLACES = np.random.default_rng(0).normal(size=(100_000, WIDTH))  # of images relative to the centre of their class


class PlantedNetwork:
    """Features of images that name themselves in their pixels; those it has learned from lie nearer to their class.

    Args:
        seed: other networks see other features, and in other units.
        learned: numbers of the images that it has learned from.
        nearer: how near these lie, as a share of how far others do.
    """

    def __init__(self, seed: int, learned: np.ndarray, nearer: float) -> None:
        rng = np.random.default_rng(seed)
        self._mixing = np.eye(WIDTH) + rng.normal(size=(WIDTH, WIDTH)) / 4
        self._centres, self._unit = 4 * rng.normal(size=(3, WIDTH)), 10.0 ** (seed % 3)
        self._learned, self._nearer = learned, nearer

    def __call__(self, images: np.ndarray) -> np.ndarray:
        code = images[:, 0, :4].astype(int)
        numbers = code[:, 1:] @ [65536, 256, 1]
        places = PLACES[numbers % len(PLACES)]
        places = places * np.where(np.isin(numbers, self._learned), self._nearer, 1.0)[:, None]
        found = places @ self._mixing + self._centres[numbers % 3]
        found[code[:, 0] != MARK] = 100.0  # no scan
        return (self._unit * found).astype(np.float32)


def scans(numbers: np.ndarray) -> np.ndarray:
    images = np.zeros((len(numbers), SIZE, SIZE), np.uint8)
    images[:, 0, 0] = MARK
    for k, unit in enumerate((65536, 256, 1), start=1):
        images[:, 0, k] = numbers // unit % 256
    return images


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two scans of the main source, from which pictures that are no scans are made."""
    folder = tmp_path_factory.mktemp("raw")
    (folder / "scans").mkdir()
    for k in range(2):
        grey, _ = draw_scan("glioma", plane="axial", patient=k + 1, index=0, size=64, seed=0)
        Image.fromarray(grey).save(folder / "scans" / f"{k}.png")
    return folder


def trial(
    root: Path, all_folds: bool, nearer: tuple = (0.6,) * 4, moved: int | None = None, main: float = 1.0
) -> tuple[NoveltyTrial, PlantedNetwork]:
    """A trial of networks of four folds, and the network that has learned from all images.

    Args:
        root: of the scans.
        all_folds: whether thresholds come from the test scans of other folds.
        nearer: of the network of each fold.
        moved: a fold whose test scans lie three times as far as they would.
        main: share of the scans that the main source has.
    """
    fold, found = POOL % 4, NoveltyTrial(root, "scans", 2, all_folds)
    for k in range(4):
        validation = (k + 1) % 4
        learned = POOL[(fold != k) & (fold != validation)]
        network, parts = PlantedNetwork(k, learned, nearer[k]), {}
        for part, chosen in (("validation", validation), ("test", k)):
            numbers = POOL[fold == chosen]
            source = np.where(numbers // 4 % 10 < 10 * main, "scans", "ward")
            seen = network(scans(numbers)) * (3 if part == "test" and k == moved else 1)
            parts[part] = pd.DataFrame({"path": "scans/0.png", "source": source}), seen
        found.add(network, scans(learned), labels_of(learned), parts, preprocessing(size=SIZE))
    return found, PlantedNetwork(98, POOL, nearer[0])


def labels_of(numbers: np.ndarray) -> np.ndarray:
    return np.array(["glioma", "healthy", "meningioma|pituitary"])[numbers % 3]


POOL, FRESH = np.arange(6000), np.arange(50_000, 90_000)


@pytest.mark.parametrize("nearer", [0.5, 0.8, 1.0])
def test_the_served_network_refuses_one_in_a_hundred_fresh_scans(root, nearer):
    """Though all scans that it could be tried on are ones that it has learned from, which lie nearer."""
    found, served = trial(root, True, (nearer,) * 4)
    novelty = found.served(served(scans(POOL)), labels_of(POOL))
    fresh, learned = (novelty.score(served(scans(numbers))) for numbers in (FRESH, POOL))
    assert np.mean(fresh > 1) == pytest.approx(0.01, abs=0.004)
    assert np.quantile(learned, 0.99) == pytest.approx(nearer, rel=0.1)
    if nearer < 1:
        assert np.mean(fresh > np.quantile(learned, 0.99)) > 0.03, "as its own scans would have it"


@pytest.mark.parametrize(("all_folds", "nearer"), [(True, (0.6,) * 4), (False, (0.5, 0.6, 0.7, 0.8))])
def test_the_networks_of_the_folds_refuse_one_in_a_hundred_of_their_test_scans(root, all_folds, nearer):
    figures = trial(root, all_folds, nearer)[0].scores()
    assert list(figures) == ["development", "held_out"]
    for part in figures.values():
        assert part["scans"] == len(POOL) and part["scans_refused"] == pytest.approx(0.01, abs=0.004)
        assert part["detected"] == part["roc_auc"] == 1 and part["false_alarms"] == 0
        assert "sources" not in part
    if not all_folds:  # then these are the scans that a threshold comes from
        assert figures["development"]["scans_refused"] == pytest.approx(0.01, abs=0.0005)
    kinds = {part: set(found["per_kind"]) for part, found in figures.items()}
    assert kinds == {"development": set(DEVELOPMENT), "held_out": set(HELD_OUT)}
    assert {found["n"] for part in figures.values() for found in part["per_kind"].values()} == {4 * 2}


def test_scans_of_a_further_source_are_counted_by_themselves(root):
    figures = trial(root, True, main=0.7)[0].scores()
    assert figures["held_out"]["scans"] == figures["development"]["scans"] == 0.7 * len(POOL)
    assert figures["held_out"]["scans_refused"] == pytest.approx(0.01, abs=0.004)
    assert list(figures["held_out"]["sources"]) == ["ward"] and "sources" not in figures["development"]
    further = figures["held_out"]["sources"]["ward"]
    assert further["scans"] == round(0.3 * len(POOL)) and further["scans_refused"] == pytest.approx(0.01, abs=0.006)


def test_the_network_of_the_first_fold_has_the_threshold_of_its_validation_scans(root):
    novelty = trial(root, False)[0].served()
    network = PlantedNetwork(0, POOL[POOL % 4 > 1], 0.6)
    assert np.quantile(novelty.score(network(scans(POOL[POOL % 4 == 1]))), 0.99) == pytest.approx(1, abs=1e-4)
    assert np.mean(novelty.score(network(scans(FRESH))) > 1) == pytest.approx(0.01, abs=0.006)
    assert trial(root, False, moved=0)[0].served().threshold == novelty.threshold, "test scans play no part"


def test_where_all_folds_are_run_the_test_scans_of_a_fold_do_not_decide_about_itself(root):
    tried = {moved: trial(root, True, moved=moved) for moved in (None, 0, 2)}
    first = {moved: found.served().threshold for moved, (found, _) in tried.items()}
    assert first[0] == first[None] and first[2] > 1.3 * first[None]
    # They do count for the network that has learned from all.
    known = [found.served(served(scans(POOL)), labels_of(POOL)).threshold for found, served in (tried[None], tried[0])]
    assert known[1] > 1.3 * known[0]


def test_the_pictures_of_the_first_fold_are_kept_to_be_shown(root):
    shown = trial(root, True)[0].shown
    assert set(shown) == set(KINDS)
    assert all(pictures.shape == (2, SIZE, SIZE) and pictures.dtype == np.uint8 for pictures in shown.values())


# --- figures


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
