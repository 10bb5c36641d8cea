"""A label may leave several classes possible; for a single class nothing is different from cross-entropy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from settings import augmentation
from test_training import SCHEDULE, TINY, squares

from brain_tumor.networks import classifier
from brain_tumor.networks.calibration import calibrated, fit_calibration
from brain_tumor.tables.labels import allowed_classes, classes_in, common_label, is_exact, join_classes
from brain_tumor.training import fitting
from brain_tumor.training.examples import image_examples
from brain_tumor.training.losses import PartialCrossentropy, partial_accuracy

pytestmark = pytest.mark.slow


def logits_and_targets(seed: int, parts: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Logits of 40 images, (40, 4) float32, and targets with up to four allowed classes, (40, parts, 4) float32."""
    rng = np.random.default_rng(seed)
    allowed = rng.random((40, parts, 4)) < 0.4
    allowed[np.arange(40)[:, None], np.arange(parts), rng.integers(0, 4, (40, parts))] = True
    share = rng.dirichlet(np.ones(parts), 40)[..., None]
    return rng.normal(0, 3, (40, 4)).astype(np.float32), (allowed * share).astype(np.float32)


def plain_loss(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> np.ndarray:
    """The definition, in float64: each part -log(sum of the allowed p), smoothing mean of -log p."""
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    shares, allowed = targets.max(axis=2).astype(np.float64), targets > 0
    partial = -np.log((p[:, None] * allowed).sum(axis=2))
    return (1 - smoothing) * (shares * partial).sum(axis=1) + smoothing * -np.log(p).mean(axis=1)


def loss_and_gradient(loss, logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with tf.GradientTape() as tape:
        x = tf.Variable(logits)
        value = loss(targets, keras.ops.softmax(x))
    return value.numpy(), tape.gradient(value, x).numpy()


@pytest.mark.parametrize("smoothing", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_a_single_class_is_cross_entropy_to_the_bit(seed, smoothing):
    """Value and gradients of a whole step of training, against Keras's own loss."""
    rng = np.random.default_rng(seed)
    one_hot = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 32)]
    images = rng.integers(0, 256, (32, 32, 32, 1), np.uint8)

    @tf.function
    def step(loss, targets):
        with tf.GradientTape() as tape:
            value = loss(targets, model(images))
        return value, tape.gradient(value, model.trainable_variables)

    keras.utils.set_random_seed(seed)
    model = classifier.build("compact", 32, 4, **TINY)
    value, gradients = step(PartialCrossentropy(smoothing), tf.constant(one_hot[:, None]))
    expected, expected_gradients = step(
        keras.losses.CategoricalCrossentropy(label_smoothing=smoothing), tf.constant(one_hot)
    )
    assert value.numpy() == expected.numpy()
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        assert np.array_equal(gradient.numpy(), other.numpy())


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_its_definition_and_its_gradients_are_numerical_ones(smoothing, parts):
    logits, targets = logits_and_targets(parts, parts)
    value, gradient = loss_and_gradient(PartialCrossentropy(smoothing), logits, targets)
    assert value == pytest.approx(plain_loss(logits, targets, smoothing).mean(), abs=1e-5)
    step = 1e-5
    for i, k in np.ndindex(8, 4):
        shift = np.zeros(logits.shape)
        shift[i, k] = step
        up, down = (plain_loss(logits + sign * shift, targets, smoothing).mean() for sign in (1, -1))
        assert gradient[i, k] == pytest.approx((up - down) / (2 * step), abs=2e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("place", [0, 1])
def test_a_part_without_a_share_changes_nothing(smoothing, place):
    """Mixup may blend an image with nothing of another one, by rounding."""
    logits, targets = logits_and_targets(3)
    both = np.insert(targets, place, 0.0, axis=1)
    value, gradient = loss_and_gradient(PartialCrossentropy(smoothing), logits, both)
    expected, expected_gradient = loss_and_gradient(PartialCrossentropy(smoothing), logits, targets)
    assert value == pytest.approx(expected, rel=1e-6) and np.isfinite(value)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-8)


def test_all_classes_allowed_teach_nothing():
    logits, _ = logits_and_targets(0)
    value, gradient = loss_and_gradient(PartialCrossentropy(0.0), logits, np.ones((40, 1, 4), np.float32))
    assert value == pytest.approx(0, abs=1e-5) and np.abs(gradient).max() < 1e-6


def test_a_certain_network_that_is_wrong_stays_finite():
    logits = np.array([[200.0, 0, 0, 0]], np.float32)  # the probabilities of the allowed classes underflow
    value, gradient = loss_and_gradient(PartialCrossentropy(0.0), logits, np.array([[[0, 1, 1, 0]]], np.float32))
    assert np.isfinite(value) and np.isfinite(gradient).all() and gradient[0, 0] > 0


def test_the_accuracy_counts_any_allowed_class():
    p = np.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6]], np.float32)
    targets = np.array([[[1, 1, 0]], [[0, 1, 1]], [[0, 0, 1]]], np.float32)
    assert partial_accuracy(targets, p).numpy().tolist() == [1, 0, 1]


def test_partial_labels_are_learned_from():
    """Squares of three brightnesses: two of the classes are only ever told as "one of these", and by one example each.

    What is learned from the partial labels is what both have in common: they are not the third class.
    """
    images, labels = squares(96)
    rng = np.random.default_rng(1)
    third = rng.integers(90, 160, (48, 32, 32), np.uint8)  # noise alone
    pixels = np.concatenate([images, third])
    truth = np.concatenate([labels, np.full(48, 2)])
    allowed = np.eye(3, dtype=bool)[truth]
    allowed[:80] |= [True, True, False]  # dark or light
    order = rng.permutation(len(pixels))
    rows = {part: order[(order % 3 == 0) == (part == "validation")] for part in ("train", "validation")}
    exact = rows["validation"][allowed[rows["validation"]].sum(axis=1) == 1]
    examples = image_examples(pixels, allowed, rows["train"], exact, augmentation=augmentation())
    keras.utils.set_random_seed(0)
    model = classifier.build("compact", 32, 3, **TINY)
    fitting.fit(model, examples, schedule=SCHEDULE, seed=0)
    p = model.predict(pixels[rows["validation"]][..., None], verbose=0)
    assert np.mean((p[:, 2] > 0.5) == (truth[rows["validation"]] == 2)) > 0.9


def test_calibration_uses_the_same_likelihood():
    """The biases that partial labels give minimise the plain definition: no small change makes it better."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 300)
    allowed = rng.random((300, 3)) < 0.3
    allowed[np.arange(300), [rng.choice(3, p=row) for row in p]] = True
    scale, biases = fit_calibration(p, allowed)

    def objective(scale, biases):
        q = calibrated(p, scale, biases)
        prior = (np.log(scale) ** 2 + biases @ biases) / 2
        return -np.log((q * allowed).sum(axis=1)).sum() + prior

    best = objective(scale, biases)
    for k in range(3):
        for change in (0.02, -0.02):
            assert objective(scale, biases + change * np.eye(3)[k]) > best
    assert min(objective(scale * 1.02, biases), objective(scale / 1.02, biases)) > best


def test_labels_join_and_agree():
    assert join_classes(["b", "a", "b"]) == "a|b" and classes_in(["a|c", "b", ""]) == ["a", "b", "c"]
    assert [is_exact(label) for label in ("a", "a|b", "")] == [True, False, False]
    assert common_label(["a|b|c", "b|c", "c"]) == "c" and common_label(["a|b", "c"]) == ""
    allowed = allowed_classes(["a|c", "", "b"], ["a", "b", "c"])
    assert allowed.tolist() == [[True, False, True], [False] * 3, [False, True, False]]
