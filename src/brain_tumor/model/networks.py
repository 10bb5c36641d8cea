"""The networks, as Keras models from uint8 pixels to class probabilities.

A network is a trunk, from pixels to a map of features, and a head, from the map to class probabilities.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from brain_tumor.model.transfer import application_trunk, prepare_transfer


def trunk(
    backbone: str, size: int, *, width: int, stride: int, weights: Sequence[np.ndarray] | None = None
) -> keras.Model:
    """The trunk of that name: `compact_trunk`, or `application_trunk` with pre-trained weights or random ones."""
    if backbone == "compact":
        return compact_trunk(size, width=width)
    model = application_trunk(backbone, size, stride)
    if weights is not None:
        model.set_weights(weights[: len(model.weights)])
    return model


def build(
    backbone: str,
    size: int,
    classes: int,
    *,
    width: int,
    stride: int,
    hidden: int,
    dropout: float,
    weights: Sequence[np.ndarray] | None = None,
    frozen: float = 0.0,
) -> keras.Model:
    """A classifier over a trunk.

    Args:
        backbone, size, width, stride: see `trunk`.
        classes, hidden, dropout: see `classifier`.
        weights: pre-trained, of the whole backbone; random without.
        frozen: share of a pre-trained trunk that is not trained, see `prepare_transfer`.

    Returns:
        A model from (n, size, size, 1) pixels of 0-255 to (n, classes) float32 probabilities.
    """
    body = trunk(backbone, size, width=width, stride=stride, weights=weights)
    if weights is not None:
        prepare_transfer(body, frozen)
    return classifier(body, classes, hidden=hidden, dropout=dropout)


def compact_trunk(size: int, *, width: int = 32) -> keras.Model:
    """A small convolutional network: convolution, batch normalisation and pooling in five levels.

    Args:
        size: edge of the input in pixels, a multiple of 16.
        width: channels of the first level; the later ones have 2, 4 and 6 times as many.

    Returns:
        A model from (n, size, size, 1) uint8 or float pixels of 0-255 to a (n, size / 16, size / 16, 6 width)
        map of features.
    """
    inputs = keras.Input((size, size, 1), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(inputs)
    x = _convolution(x, width, "stem", kernel=5, strides=2)
    for level, (factor, repeats) in enumerate([(1, 1), (2, 2), (4, 2), (6, 2)], start=1):
        for i in range(1, repeats + 1):
            x = _convolution(x, factor * width, f"level{level}_{i}")
        if level < 4:
            x = layers.MaxPooling2D(name=f"level{level}_pool")(x)
    return keras.Model(inputs, x, name="compact")


def classifier(trunk: keras.Model, classes: int, *, hidden: int = 0, dropout: float = 0.3) -> keras.Model:
    """A trunk with its head: global average, dropout, one dense layer or two.

    Args:
        trunk: from pixels to a map of features.
        classes: number of classes.
        hidden: units of a hidden layer, which the features reach normalised; 0: no such layer.
        dropout: share of the pooled features, and of the hidden ones, that is dropped in training.

    Returns:
        A model from what the trunk takes to (n, classes) float32 probabilities. The layer "features" gives
        the pooled features.
    """
    x = layers.GlobalAveragePooling2D(name="features")(trunk.output)
    return keras.Model(trunk.input, _dense(x, classes, hidden, dropout), name=trunk.name)


def head(model: keras.Model) -> keras.Model:
    """The head of a classifier alone, from pooled features to probabilities; the layers are those of `model`."""
    names = [layer.name for layer in model.layers]
    features = model.get_layer("features").output
    x = inputs = keras.Input(features.shape[1:], name="pooled")
    for layer in model.layers[names.index("features") + 1 :]:
        x = layer(x)
    return keras.Model(inputs, x, name="head")


def recalibrate(model: keras.Model, scale: float, biases: np.ndarray) -> None:
    """Scale and bias the logits of a classifier, see `brain_tumor.evaluation.calibration`; the network stays one."""
    layer = model.get_layer("probabilities")
    kernel, offset = layer.get_weights()
    layer.set_weights([kernel * scale, offset * scale + biases])


def _dense(x, classes: int, hidden: int, dropout: float):
    if hidden:
        x = layers.BatchNormalization(name="features_norm")(x)
        x = layers.Dropout(dropout, name="features_dropout")(x)
        x = layers.Dense(hidden, activation="relu", name="hidden")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    # Probabilities in float32, also where the layers before compute in half precision.
    return layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")(x)


def _convolution(x, filters: int, name: str, *, kernel: int = 3, strides: int = 1):
    x = layers.Conv2D(
        filters, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
