"""Networks of keras.applications with pre-trained weights, for one grey channel."""

import hashlib
import inspect
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import layers

from brain_tumor.errors import PipelineError
from brain_tumor.files import write_json
from brain_tumor.progress import bar


def application_trunk(name: str, size: int, stride: int = 32) -> keras.Model:
    """A network of `keras.applications` without its head, with random weights.

    The grey channel is shown three times, scaled as the network was trained.

    Args:
        name: as Keras spells it or in lower case with underscores: MobileNetV2, mobilenet_v2, efficientnet_b0.
        size: edge of the input in pixels.
        stride: pixels of the input per pixel of the map: the network ends with its last layer of that resolution.
            The last layers know ImageNet's classes, not scans (Raghu et al., Transfusion, NeurIPS 2019).

    Returns:
        A model from (n, size, size, 1) uint8 or float pixels of 0-255 to a (n, size / stride, size / stride, c) map
        of features.
    """
    build, scale, offset = _application(name)
    inputs = keras.Input((size, size, 1), name="pixels")
    x = layers.Concatenate(name="grey_to_rgb")([inputs] * 3)
    x = layers.Rescaling(scale, offset, name="scale")(x)
    body = build(include_top=False, weights=None, input_shape=(size, size, 3))
    edges = size // stride, -(-size // stride)  # networks round down or up
    ends = [layer for layer in body.layers if layer.output.shape[1] in edges]
    if not ends:
        raise PipelineError(f"expected a layer of {name} with a stride of {stride}, there is none: use 32, 16 or 8")
    body = keras.Model(body.input, ends[-1].output, name=body.name)
    return keras.Model(inputs, body(x), name=body.name)


def application_weights(name: str, weights: str) -> list[np.ndarray]:
    """Pre-trained weights of a network of `keras.applications`, in the order of its `get_weights`.

    A trunk that ends earlier takes the first of them: layers stand in the order of computation.

    Args:
        name: as for `application_trunk`.
        weights: "imagenet", which Keras downloads once to its folder, or the path of a weights file of this
            network without its head.

    Raises:
        PipelineError: there are none, or they are of another network; says where the file belongs.
    """
    build, _, _ = _application(name)
    try:
        with warnings.catch_warnings():
            # Without a fixed size Keras takes the weights of its usual input, which serve every size, and says so.
            warnings.simplefilter("ignore", UserWarning)
            return build(include_top=False, weights=weights, input_shape=(None, None, 3)).get_weights()
    except Exception as error:  # a failed download, a missing file, other shapes: Keras has no error of its own
        cause = " ".join(str(error).split())
        raise PipelineError(
            f"expected weights {weights!r} for {name}, received: {cause}: put the file without the head "
            "(..._no_top.h5) into ~/.keras/models (or $KERAS_HOME/models), or name its path in model.weights"
        ) from error


def write_backbone(folder: Path, weights: Sequence[np.ndarray] | None) -> dict:
    """Write pre-trained weights, or that there are none, and return what is told of them: sha256, arrays."""
    about = {"arrays": len(weights or []), "sha256": ""}
    if weights is not None:
        about["sha256"] = hashlib.sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in weights)).hexdigest()
        np.savez(folder / "weights.npz", *weights)
    write_json(folder / "about.json", about)
    return about


def read_backbone(folder: Path | str) -> tuple[list[np.ndarray] | None, str]:
    """The weights that `write_backbone` wrote, None without any, and the SHA-256 of their values."""
    about = json.loads((Path(folder) / "about.json").read_text(encoding="utf-8"))
    if not about["arrays"]:
        return None, ""
    with np.load(Path(folder) / "weights.npz") as stored:
        return [stored[f"arr_{i}"] for i in range(about["arrays"])], about["sha256"]


def prepare_transfer(trunk: keras.Model, frozen: float) -> None:
    """Keep a share of a pre-trained trunk as it is, and the statistics of batch normalisation in all of it.

    With few images the statistics of small batches are worse than those of ImageNet (Kornblith et al.,
    Do Better ImageNet Models Transfer Better?, CVPR 2019).

    Args:
        trunk: changed in place.
        frozen: share of the layers, from the input on, whose weights stay.
    """
    found = [part for layer in trunk.layers for part in (layer.layers if isinstance(layer, keras.Model) else [layer])]
    for place, layer in enumerate(found):
        layer.trainable = place >= frozen * len(found) and not isinstance(layer, layers.BatchNormalization)


def layer_rates(model: keras.Model, first: float) -> list[float]:
    """Relative learning rate of each trainable variable of a classifier: in its trunk it rises from `first` to 1.

    Layer-wise rates keep the early, general features and adapt the late ones (Howard and Ruder, ULMFiT, ACL 2018).
    """
    names = [layer.name for layer in model.layers]
    after = model.layers[names.index("features") :]
    in_head = sum(len(layer.trainable_variables) for layer in after)
    adapted = len(model.trainable_variables) - in_head
    return [*np.geomspace(first, 1, adapted).tolist(), *[1.0] * in_head]


def pooled_features(trunk: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    """What a trunk makes of images and of their mirror images, averaged over the map.

    Args:
        trunk: from pixels to a (n, h, w, c) map.
        images: (n, size, size) uint8, may be memory-mapped.
        batch_size: images computed at once.

    Returns:
        (n, 2, c) float32.
    """
    pooled = keras.Model(trunk.input, layers.GlobalAveragePooling2D()(trunk.output))
    parts = []
    for start in bar(range(0, len(images), batch_size), desc="features", unit="batch"):
        batch = images[start : start + batch_size, ..., None]
        parts.append(np.stack([pooled.predict_on_batch(view) for view in (batch, batch[:, :, ::-1])], axis=1))
    return np.concatenate(parts)


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
    # Every preprocessing there is linear per channel, so that two grey levels tell it.
    black, white = (module.preprocess_input(np.full((1, 1, 1, 3), level, np.float32))[0, 0, 0] for level in (0, 255))
    return getattr(keras.applications, key), ((white - black) / 255).tolist(), black.tolist()
