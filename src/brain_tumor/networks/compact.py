"""The project's own small convolutional network, trained from scratch."""

import keras
from keras import layers


def compact_trunk(size: int, *, width: int) -> keras.Model:
    """A small convolutional network: a stem and four levels of convolution, batch normalisation and pooling.

    Args:
        size: edge of the input in pixels, a multiple of 16.
        width: channels of the stem and of the first level; the other three have 2, 4 and 6 times as many.

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


def _convolution(x, filters: int, name: str, *, kernel: int = 3, strides: int = 1):
    x = layers.Conv2D(
        filters, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
