"""The trunks that a classifier can be built on, by the name of the backbone: from pixels to a map of features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from brain_tumor.errors import PipelineError
from brain_tumor.networks.applications import application_trunk, application_weights
from brain_tumor.networks.compact import compact_trunk
from brain_tumor.networks.efficientnet_lite import lite_trunk, lite_weights
from brain_tumor.progress import bar


@dataclass(frozen=True)
class Backbone:
    """One of the project's own backbones; see `BACKBONES`.

    Attributes:
        trunk: (size, width, stride) -> a model from (n, size, size, 1) pixels of 0-255 to a (n, h, w, c) map of
            features, with random weights.
        weights: `model.weights` of params.yaml -> what `pretrained_weights` returns; None for a backbone without any.
    """

    trunk: Callable[[int, int, int], keras.Model]
    weights: Callable[[str], tuple[list[np.ndarray], dict]] | None = None


BACKBONES = {
    "compact": Backbone(lambda size, width, stride: compact_trunk(size, width=width)),
    "efficientnet_lite0": Backbone(lambda size, width, stride: lite_trunk(size, stride), lite_weights),
}
"""Name -> backbone. Every other name is looked up in keras.applications."""


def trunk(
    backbone: str, size: int, *, width: int, stride: int, weights: Sequence[np.ndarray] | None = None
) -> keras.Model:
    """The trunk of a backbone, with pre-trained weights or random ones.

    Args:
        backbone: name in `BACKBONES` or in keras.applications.
        size: edge of the input in pixels.
        width: channels of the first level of compact.
        stride: see `applications.application_trunk`.
        weights: what `pretrained_weights` returns; a trunk that ends early takes the first of them.
    """
    known = BACKBONES.get(backbone)
    model = known.trunk(size, width, stride) if known else application_trunk(backbone, size, stride)
    if weights is not None:
        model.set_weights(weights[: len(model.weights)])
    return model


def pretrained_weights(backbone: str, weights: str) -> tuple[list[np.ndarray], dict]:
    """Pre-trained weights of a backbone, in the order of the trunk's `get_weights`, and where they come from.

    Args:
        backbone: as for `trunk`.
        weights: "imagenet", or the path of a weights file.

    Returns:
        The arrays, and JSON values: package and version that they came with, file_sha256, as far as they are known.

    Raises:
        PipelineError: this backbone has none, or they cannot be had or belong to another network.
    """
    known = BACKBONES.get(backbone)
    if known is None:
        return application_weights(backbone, weights)
    if known.weights is None:
        raise PipelineError(
            f"model.weights received {weights!r}, {backbone} has no pre-trained weights: set it to none"
        )
    return known.weights(weights)


def pooled_features(trunk: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Features of images and of their mirror images, averaged over the map.

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


def prepare_transfer(trunk: keras.Model, frozen: float) -> None:
    """Freeze a share of a pre-trained trunk, and the batch normalisation in all of it.

    With few images, statistics of small batches are worse than those of ImageNet (Kornblith et al.,
    Do Better ImageNet Models Transfer Better?, CVPR 2019).

    Args:
        trunk: changed in place.
        frozen: share of the layers, from the input on, whose weights are not trained.
    """
    found = [part for layer in trunk.layers for part in (layer.layers if isinstance(layer, keras.Model) else [layer])]
    for place, layer in enumerate(found):
        layer.trainable = place >= frozen * len(found) and not isinstance(layer, layers.BatchNormalization)
