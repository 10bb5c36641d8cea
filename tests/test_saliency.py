"""Maps of where a network looks, against their definition and planted lesions."""

import keras
import numpy as np
import pytest
from scipy.special import softmax
from settings import preprocessing

from brain_tumor.imaging.decoding import decode
from brain_tumor.imaging.preprocessing import head_box, prepare
from brain_tumor.networks import classifier
from brain_tumor.prediction.maps import explained, outputs, randomised
from brain_tumor.probes.saliency import (
    compare,
    hits,
    lesion_boxes,
    map_similarity,
    peaks,
    prepared_box,
    saliency_scores,
)
from brain_tumor.source.phantoms.planting import draw_data_set
from brain_tumor.tables.csv_tables import read_table


def network(hidden: int) -> keras.Model:
    keras.utils.set_random_seed(1)
    return classifier.build("compact", 64, 3, width=8, stride=32, hidden=hidden, dropout=0.3)


def maps_of(model: keras.Model, images: np.ndarray, batch_size: int = 8) -> np.ndarray:
    return outputs(explained(model), images, batch_size)["maps"]


def logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.log(model.predict_on_batch(images[..., None]))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)


def test_without_a_hidden_layer_the_mean_of_a_map_is_the_logit(images):
    model = network(0)
    maps = maps_of(model, images, batch_size=2)
    assert maps.shape == (5, 4, 4, 3)
    means, expected = maps.mean(axis=(1, 2)), logits(model, images)
    # Softmax leaves a constant per image open; the bias of an untrained network is 0.
    centred = [values - values.mean(axis=1, keepdims=True) for values in (means, expected)]
    np.testing.assert_allclose(*centred, atol=1e-4)


def test_with_a_hidden_layer_a_map_weighs_features_by_the_slope_of_the_logit(images):
    model = network(16)
    maps = maps_of(model, images)
    pooling = model.get_layer("features")
    trunk = keras.Model(model.input, [pooling.input, pooling.output])
    features, pooled = (np.asarray(values, np.float64) for values in trunk.predict_on_batch(images[..., None]))
    head = classifier.head(model)
    step, slopes = 1e-3, np.zeros((5, pooled.shape[1], 3))
    for i in range(pooled.shape[1]):
        ends = [np.log(head.predict_on_batch(pooled + sign * step * np.eye(pooled.shape[1])[i])) for sign in (1, -1)]
        slopes[:, i] = (ends[0] - ends[1]) / (2 * step)
    expected = np.einsum("nhwd,ndc->nhwc", features, slopes)
    centred = [values - values.mean(axis=3, keepdims=True) for values in (maps, expected)]
    np.testing.assert_allclose(*centred, atol=0.02)


@pytest.mark.parametrize("hidden", [0, 16])
def test_two_views_are_averaged_in_logits_and_maps_as_they_lie(images, hidden):
    model = network(hidden)
    seen, mirrored = (outputs(explained(model), views, 4) for views in (images, images[:, :, ::-1]))
    both = outputs(explained(model, flips=True), images, 2)
    assert both.keys() == seen.keys()
    logs = (np.log(seen["probabilities"]) + np.log(mirrored["probabilities"])) / 2
    np.testing.assert_allclose(both["probabilities"], softmax(logs, axis=1), atol=1e-6)
    np.testing.assert_allclose(both["maps"], (seen["maps"] + mirrored["maps"][:, :, ::-1]) / 2, atol=1e-5)
    np.testing.assert_allclose(both["features"], (seen["features"] + mirrored["features"]) / 2, atol=1e-5)
    assert np.abs(seen["features"] - mirrored["features"]).max() > 1e-3


def test_with_two_views_the_mirror_image_gives_the_mirrored_maps(images):
    both = explained(network(0), flips=True)
    seen, mirrored = (outputs(both, views, 8) for views in (images, images[:, :, ::-1]))
    for name in ("probabilities", "features"):
        np.testing.assert_allclose(seen[name], mirrored[name], atol=1e-5)
    np.testing.assert_allclose(seen["maps"], mirrored["maps"][:, :, ::-1], atol=1e-5)
    # The mean of a map is still the logit.
    centred = [
        values - values.mean(axis=1, keepdims=True)
        for values in (seen["maps"].mean(axis=(1, 2)), np.log(seen["probabilities"]))
    ]
    np.testing.assert_allclose(*centred, atol=1e-4)


def test_features_are_what_the_head_averages(images):
    """Where the trunk names no other map."""
    model = network(0)
    pooled = keras.Model(model.input, model.get_layer("features").output).predict_on_batch(images[..., None])
    np.testing.assert_allclose(outputs(explained(model), images, 8)["features"], pooled, atol=1e-5)


def test_weights_drawn_anew_give_other_maps_and_leave_the_model_alone(images):
    model = network(0)
    before = maps_of(model, images)
    anew = maps_of(randomised(model, 2), images)
    assert np.abs(map_similarity(before[..., 0], anew[..., 0])).mean() < 0.8
    np.testing.assert_array_equal(maps_of(model, images), before)


def test_similarity_is_a_rank_correlation():
    maps = np.arange(16.0).reshape(1, 4, 4)
    assert map_similarity(maps, np.exp(maps))[0] == pytest.approx(1)
    assert map_similarity(maps, -(maps**3))[0] == pytest.approx(-1)
    assert map_similarity(maps, np.ones((1, 4, 4)))[0] == 0


def test_lesion_boxes_follow_the_preprocessing(tmp_path):
    """The lesion of a simulated scan, painted white, is found in the prepared image where its box says."""
    root = tmp_path / "scans"
    root.mkdir()
    draw_data_set(root, patients=2, slices=2, image_size=128, test_share=0.3, copies=0.0, wrong_labels=0.0, seed=3)
    truth = read_table(root / "truth.csv")
    options = preprocessing(size=96)
    boxes = lesion_boxes(tmp_path, "scans", options)
    assert set(boxes) == {f"scans/{path}" for path in truth["path"][truth["lesion_x"] != ""]}
    checked = 0
    for row in truth[truth["lesion_x"] != ""].itertuples():
        content = (root / row.path).read_bytes()
        box = tuple(int(getattr(row, f"lesion_{side}")) for side in "xywh")
        left, top, right, bottom = prepared_box(decode(content), box, options)
        assert boxes[f"scans/{row.path}"].tolist() == [left, top, right, bottom]
        assert (right - left) / (bottom - top) == pytest.approx(box[2] / box[3], rel=1e-6)
        # The same box, cut out of the scan and out of the prepared image, shows the same: compare the mean greys.
        grey, pixels = decode(content), prepare(content, preprocessing(size=96, clip=0)).pixels
        x, y, w, h = box
        cut = pixels[round(top) : round(bottom), round(left) : round(right)]
        assert cut.mean() == pytest.approx(grey[y : y + h, x : x + w].mean(), abs=14)
        assert head_box(grey)[0] <= x
        checked += 1
    assert checked >= 4
    # A source without a table of the truth, as all real ones are, has no boxes, whatever the others have.
    (tmp_path / "hospital").mkdir()
    assert lesion_boxes(tmp_path, "hospital", options) == lesion_boxes(tmp_path, "no such source", options) == {}


def test_peaks_and_hits():
    maps = np.zeros((2, 4, 4))
    maps[0, 1, 2] = maps[1, 3, 0] = 1
    points = peaks(maps, 64)
    assert points.tolist() == [[24, 40], [56, 8]]
    boxes = np.array([[38, 20, 44, 30], [20, 40, 30, 60]], dtype=float)
    assert hits(points, boxes, 0).tolist() == [True, False]
    assert hits(points, boxes, 12).tolist() == [True, True]


def test_figures_of_maps_count_lesions_only_where_they_are_known():
    maps = np.zeros((3, 4, 4))
    maps[:, 1, 1] = 1
    brains = np.zeros((3, 64, 64), bool)
    brains[:, 16:48, 16:48] = True
    lesions = np.array([[16, 16, 32, 32], [40, 40, 48, 48], [np.nan] * 4])
    figures = saliency_scores(compare(maps, -maps, brains, lesions))
    assert figures["n"] == 3 and figures["n_lesion"] == 2
    assert figures["peak_in_lesion"] == 0.5
    assert figures["peak_in_brain"] == 1 and figures["peak_in_brain_by_chance"] == 0.25
    assert figures["randomised_similarity"] == -1
    assert figures["peak_in_lesion_by_chance"] == pytest.approx((32**2 + 24**2) / 2 / 64**2, abs=1e-6)
    assert "peak_in_lesion" not in saliency_scores(compare(maps, -maps, brains, np.full((3, 4), np.nan)))
