"""The networks, as Keras models from uint8 pixels to class probabilities."""

import keras
from keras import layers


def compact(size: int, classes: int, *, width: int = 32, dropout: float = 0.3) -> keras.Model:
    """A small convolutional network: convolution, batch normalisation and pooling in five levels.

    Args:
        size: edge of the input in pixels.
        classes: number of classes.
        width: channels of the first level; the later ones have 2, 4 and 6 times as many.
        dropout: share of the pooled features that is dropped in training.

    Returns:
        A model from (n, size, size, 1) uint8 or float pixels of 0-255 to (n, classes) float32
        probabilities. The layer "features" gives the pooled features.
    """
    inputs = keras.Input((size, size, 1), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(inputs)
    x = _convolution(x, width, "stem", kernel=5, strides=2)
    for level, (factor, repeats) in enumerate([(1, 1), (2, 2), (4, 2), (6, 2)], start=1):
        for i in range(1, repeats + 1):
            x = _convolution(x, factor * width, f"level{level}_{i}")
        if level < 4:
            x = layers.MaxPooling2D(name=f"level{level}_pool")(x)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    # Probabilities in float32, also where the layers before compute in half precision.
    outputs = layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="compact")


def _convolution(x, filters: int, name: str, *, kernel: int = 3, strides: int = 1):
    x = layers.Conv2D(
        filters, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
