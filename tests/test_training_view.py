"""What training computes faster is what Keras computes: outputs, gradients, moving statistics and steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import run

from brain_tumor.errors import PipelineError
from brain_tumor.networks import classifier
from brain_tumor.networks.training_view import depthwise, training_view
from brain_tumor.networks.trunks import prepare_transfer, trunk
from brain_tumor.training.curves import learning_curves
from brain_tumor.training.optimizing import LayerwiseAdamW

pytestmark = pytest.mark.slow

SIZE = 48
CLASSES = 3


def parts(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model and of the models in it."""
    return [part for layer in model.layers for part in (layer.layers if isinstance(layer, keras.Model) else [layer])]


def network(backbone: str, frozen: float | None) -> keras.Model:
    """A classifier whose statistics are not those that its layers begin with; None: nothing of it is frozen."""
    keras.utils.set_random_seed(0)
    body = trunk(backbone, SIZE, width=8, stride=32)
    if frozen is not None:
        prepare_transfer(body, frozen)
    rng = np.random.default_rng(0)
    for layer in parts(body):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    return classifier.classifier(body, CLASSES, hidden=0, dropout=0.0)


def in_double(backbone: str, frozen: float | None) -> keras.Model:
    """The same network in double precision."""
    keras.config.set_dtype_policy("float64")
    try:
        return network(backbone, frozen)
    finally:
        keras.config.set_dtype_policy("float32")


def step(model: keras.Model, pixels: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Loss and gradients of a training step, which also moves the statistics."""
    with tf.GradientTape() as tape:
        probabilities = tf.cast(model(pixels, training=True), tf.float64)
        loss = -tf.reduce_mean(tf.math.log(probabilities[:, 0] + 1e-3))
    return float(loss), [g.numpy() for g in tape.gradient(loss, [v.value for v in model.trainable_variables])]


@pytest.mark.parametrize(
    ("backbone", "frozen"),
    [("efficientnet_lite0", None), ("efficientnet_lite0", 0.3), ("compact", None), ("mobilenet_v2", 0.3)],
)
def test_a_view_is_the_same_function_of_the_same_variables(backbone, frozen):
    """Its rounding errors are of the size of those of Keras, against Keras in double precision."""
    model, exact = network(backbone, frozen), in_double(backbone, frozen)
    view = training_view(model)
    assert [id(v) for v in view.trainable_variables] == [id(v) for v in model.trainable_variables]
    assert {id(v) for v in view.variables} == {id(v) for v in model.variables}
    assert len(parts(view)) < len(parts(model)), "a convolution, its normalisation and its rectifier are one layer"
    pixels = np.random.default_rng(1).integers(0, 256, (6, SIZE, SIZE, 1)).astype(np.float32)
    initial = model.get_weights()
    exact.set_weights(initial)
    found = []
    for each in (exact, model, view):
        outputs = each(pixels).numpy()
        loss, gradients = step(each, pixels)
        moved = [v.numpy() for v in (exact if each is exact else model).non_trainable_variables]
        found.append([outputs, np.array(loss), *gradients, *moved])
        if each is not exact:
            model.set_weights(initial)
    # A gradient jumps where rounding moves a value across the kink of a rectifier: hence the 2 %.
    for true, of_keras, of_view in zip(*found, strict=True):
        error, usual = (np.linalg.norm(values - true) for values in (of_view, of_keras))
        assert error <= 3 * usual + 0.02 * np.linalg.norm(true) + 1e-5


@pytest.mark.parametrize("kernel", [3, 4, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_the_gradients_of_a_depthwise_convolution_are_those_of_tensorflow(kernel, stride, padding):
    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.normal(size=(2, 11, 14, 3)).astype(np.float32))
    weights = tf.constant(rng.normal(size=(kernel, kernel, 3, 1)).astype(np.float32))
    plain = lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, stride, stride, 1], padding)  # noqa: E731
    found = []
    for convolve in (plain, lambda x, w: depthwise(x, w, stride, padding)):
        with tf.GradientTape() as tape:
            tape.watch([inputs, weights])
            outputs = convolve(inputs, weights)
            loss = tf.reduce_sum(tf.sin(outputs))
        found.append([outputs, *tape.gradient(loss, [inputs, weights])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)


def test_layers_that_follow_no_plain_convolution_stay_as_they_are():
    inputs = keras.Input((8, 8, 4))
    shared = keras.layers.Conv2D(4, 3, padding="same", bias_initializer="normal", name="seen_twice")(inputs)
    x = keras.layers.BatchNormalization(name="of_one", trainable=False)(shared)
    x = keras.layers.Add()([x, shared])  # the convolution alone is asked for as well
    x = keras.layers.Conv2D(4, 3, dilation_rate=2, name="dilated")(x)
    x = keras.layers.BatchNormalization(name="behind_dilated", trainable=False)(x)
    x = keras.layers.ReLU(max_value=3)(x)
    x = keras.layers.Conv2D(4, 1, strides=2, activation="tanh", name="active")(x)
    x = keras.layers.BatchNormalization(scale=False)(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    pixels = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype(np.float32)
    view = training_view(model)
    assert {"dilated", "behind_dilated", "active"} <= {layer.name for layer in view.layers}
    for training in (False, True):
        np.testing.assert_allclose(view(pixels, training=training), model(pixels, training=training), atol=1e-5)


@pytest.mark.parametrize("rates", [None, [1.0, 0.25]])
def test_the_optimizer_takes_the_steps_of_adamw(rates):
    """In NumPy and double precision: Loshchilov and Hutter, Algorithm 2, with Keras's order of the two updates."""
    rng = np.random.default_rng(0)
    variables = [keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in ((3, 2), (4,))]
    expected = [v.numpy().astype(float) for v in variables]
    means, squares = [np.zeros_like(w) for w in expected], [np.zeros_like(w) for w in expected]
    optimizer = LayerwiseAdamW(lambda: 0.01, weight_decay=0.1, rates=rates)
    optimizer.build(variables)
    for step in range(1, 31):
        gradients = [rng.normal(size=w.shape) for w in expected]
        optimizer.apply([tf.constant(g, tf.float32) for g in gradients], variables)
        for i, gradient in enumerate(gradients):
            rate = 0.01 * (1 if rates is None else rates[i])
            means[i] = 0.9 * means[i] + 0.1 * gradient
            squares[i] = 0.999 * squares[i] + 0.001 * gradient**2
            corrected = means[i] / (1 - 0.9**step), squares[i] / (1 - 0.999**step)
            expected[i] *= 1 - 0.01 * 0.1  # the decay goes by the common rate
            expected[i] -= rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-7)
    for variable, weights in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), weights, rtol=1e-4, atol=1e-5)


def test_a_git_repository_without_a_commit_is_one_line(tmp_path, monkeypatch):
    run("git", "init", "--quiet", cwd=tmp_path)
    run("dvc", "init", "--quiet", cwd=tmp_path)
    monkeypatch.chdir(tmp_path)
    message = r"expected a commit in this git repository.*: run git commit$"
    with pytest.raises(PipelineError, match=message), learning_curves("plots/fold-0") as on_epoch:
        on_epoch({"epoch": 1, "train/loss": 0.5})
