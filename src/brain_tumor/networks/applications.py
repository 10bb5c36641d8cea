"""Networks of keras.applications for one grey channel, with their pre-trained weights."""

import hashlib
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import layers

from brain_tumor.errors import PipelineError


def application_trunk(name: str, size: int, stride: int = 32) -> keras.Model:
    """A network of `keras.applications` without its head, with random weights.

    The grey channel is repeated three times and scaled as in the training of the network.

    Args:
        name: as in Keras or in lower case with underscores: MobileNetV2, mobilenet_v2, efficientnet_b0.
        size: edge of the input in pixels.
        stride: pixels of the input per pixel of the map: the network ends with its last layer of that resolution.
            The last layers are specific to the classes of ImageNet (Raghu et al., Transfusion, NeurIPS 2019).

    Returns:
        A model from (n, size, size, 1) uint8 or float pixels of 0-255 to a (n, size / stride, size / stride, c) map
        of features.
    """
    build, scale, offset = _application(name)
    inputs = keras.Input((size, size, 1), name="pixels")
    x = layers.Concatenate(name="grey_to_rgb")([inputs] * 3)
    x = layers.Rescaling(scale, offset, name="scale")(x)
    body = build(include_top=False, weights=None, input_shape=(size, size, 3))
    edges = size // stride, -(-size // stride)  # networks round up or down
    ends = [layer for layer in body.layers if layer.output.shape[1] in edges]
    if not ends:
        raise PipelineError(f"expected a layer of {name} with a stride of {stride}, there is none: use 32, 16 or 8")
    body = keras.Model(body.input, ends[-1].output, name=body.name)
    return keras.Model(inputs, body(x), name=body.name)


def application_weights(name: str, weights: str) -> tuple[list[np.ndarray], dict]:
    """Pre-trained weights of a network of `keras.applications`, in the order of its `get_weights`, and their origin.

    A trunk that ends early takes the first of them, as the layers are in the order of computation.

    Args:
        name: as for `application_trunk`.
        weights: "imagenet", which Keras downloads once to its folder, or the path of a weights file of this
            network without its head.

    Returns:
        The arrays; and package and version of Keras, or file_sha256.

    Raises:
        PipelineError: the weights cannot be had or belong to another network; the message says where the file belongs.
    """
    build, _, _ = _application(name)
    try:
        with warnings.catch_warnings():
            # Without a fixed size Keras takes the weights for its default size, which fit every size, and warns.
            warnings.simplefilter("ignore", UserWarning)
            arrays = build(include_top=False, weights=weights, input_shape=(None, None, 3)).get_weights()
    except Exception as error:  # a failed download, a missing file, other shapes: Keras has no error of its own
        cause = " ".join(str(error).split())
        raise PipelineError(
            f"expected weights {weights!r} for {name}, received: {cause}: put the file without the head "
            "(..._no_top.h5) into ~/.keras/models (or $KERAS_HOME/models), or name its path in model.weights"
        ) from error
    if weights == "imagenet":
        return arrays, {"package": "keras", "version": keras.__version__}
    return arrays, {"file_sha256": hashlib.sha256(Path(weights).read_bytes()).hexdigest()}


def _application(name: str) -> tuple[Callable, list[float], list[float]]:
    """Constructor, and the scale and offset per channel of the preprocessing it was trained with."""
    wanted, known = name.replace("_", "").lower(), {}
    for module in vars(keras.applications).values():
        if inspect.ismodule(module) and hasattr(module, "preprocess_input"):
            known |= {key.lower(): (key, module) for key, value in vars(module).items() if key[0].isupper()}
    for key in ("MobileNetV3Small", "MobileNetV3Large"):
        known[key.lower()] = (key, keras.applications.mobilenet_v3)
    if wanted not in known:
        spelled = ", ".join(sorted(key for key, _ in known.values()))
        raise PipelineError(
            f"model.backbone received {name!r}; expected compact or one of keras.applications: {spelled}"
        )
    key, module = known[wanted]
    # Each of these preprocessings is linear per channel, so two grey levels determine it.
    black, white = (module.preprocess_input(np.full((1, 1, 1, 3), level, np.float32))[0, 0, 0] for level in (0, 255))
    return getattr(keras.applications, key), ((white - black) / 255).tolist(), black.tolist()
