"""A classifier: a trunk, from pixels to a map of features, and a head, from the map to class probabilities."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from brain_tumor.networks.efficientnet_lite import DESCRIPTOR
from brain_tumor.networks.trunks import prepare_transfer, trunk


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
        backbone, size, width, stride: see `trunks.trunk`.
        classes, hidden, dropout: see `classifier`.
        weights: pre-trained weights of the whole backbone; random ones without.
        frozen: share of a pre-trained trunk that is not trained, see `trunks.prepare_transfer`.

    Returns:
        A model from (n, size, size, 1) pixels of 0-255 to (n, classes) float32 probabilities.

    Example:
        >>> model = build("compact", 32, 3, width=4, stride=32, hidden=0, dropout=0.3)
        >>> model.predict_on_batch(np.zeros((2, 32, 32, 1), np.uint8)).shape
        (2, 3)
    """
    body = trunk(backbone, size, width=width, stride=stride, weights=weights)
    if weights is not None:
        prepare_transfer(body, frozen)
    return classifier(body, classes, hidden=hidden, dropout=dropout)


def classifier(trunk: keras.Model, classes: int, *, hidden: int, dropout: float) -> keras.Model:
    """A trunk with its head: global average pooling, dropout, one or two dense layers.

    Args:
        trunk: from pixels to a map of features.
        classes: number of classes.
        hidden: units of a hidden layer behind a batch normalisation of the features; 0: no such layer.
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


def descriptor(model: keras.Model) -> keras.KerasTensor:
    """The (n, h, w, c) map of a classifier whose averages describe an image, as the novelty score needs it.

    It is the map that the head sees, unless the trunk names another one. Behind a last layer with many ReLUs some
    channels are 0 for all images of training, and distances mean nothing there; the linear bottleneck before it has
    no such channels.
    """
    names = {layer.name for layer in model.layers}
    return model.get_layer(DESCRIPTOR).output if DESCRIPTOR in names else model.get_layer("features").input


def recalibrate(model: keras.Model, scale: float, biases: np.ndarray) -> None:
    """Build a calibration, see `networks.calibration`, into the last layer of a classifier, in place.

    One that is there already comes before it.
    """
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
