"""Saliency: class activation maps from the map of features that the head averages.

Grad-CAM (Selvaraju et al., ICCV 2017) at the last convolution. As every network here ends with a global average,
its weights are the slopes of a class's logit by the averaged features, the same for all places; without a hidden
layer these are the weights of the last layer, and the map is the class activation map of Zhou et al. (CVPR 2016).
The slopes are written out instead of differentiated, so that one forward pass gives everything and can be exported.
Negative values are kept: they are evidence against the class.
"""

import keras
import numpy as np
from keras import ops

from brain_tumor.networks.classifier import descriptor
from brain_tumor.progress import bar

_SMALLEST = 1e-12


def explained(model: keras.Model, flips: bool = False) -> keras.Model:
    """A classifier that also returns its class activation maps and the features that describe an image.

    Args:
        model: what `networks.classifier.build` returns, trained.
        flips: average over each image and its mirror image. Logits are averaged, so that a calibration of the average
            is the average of the calibrated views.

    Returns:
        A model from the same pixels to float32 arrays: probabilities (n, classes); maps (n, height, width, classes)
        in logits, whose mean over all positions is the class's logit up to a term that does not depend on the image
        (with a hidden layer, to first order); features (n, channels), the averages of `classifier.descriptor`.
    """
    single = _single(model)
    if not flips:
        return single
    pixels = single.input
    both = single(ops.concatenate([pixels, ops.flip(pixels, axis=2)], axis=0))

    def views(name: str):
        values = both[name]
        return ops.reshape(values, (2, -1, *values.shape[1:]))

    logs = ops.mean(ops.log(ops.maximum(views("probabilities"), _SMALLEST)), axis=0)
    maps = views("maps")
    averaged = {
        "probabilities": ops.softmax(logs, axis=-1),
        "maps": (maps[0] + ops.flip(maps[1], axis=2)) / 2,
        "features": ops.mean(views("features"), axis=0),
    }
    return keras.Model(pixels, averaged)


def _single(model: keras.Model) -> keras.Model:
    pooling, last = model.get_layer("features"), model.get_layer("probabilities")
    trunk_map = ops.cast(pooling.input, "float32")
    height, width, channels = trunk_map.shape[1:]
    kernel = last.get_weights()[0]
    places = ops.reshape(trunk_map, (-1, height * width, channels))
    maps = ops.reshape(ops.matmul(places, _slopes(model, kernel)), (-1, height, width, kernel.shape[1]))
    features = ops.mean(ops.cast(descriptor(model), "float32"), axis=(1, 2))
    return keras.Model(model.inputs[0], {"probabilities": model.outputs[0], "maps": maps, "features": features})


def outputs(model: keras.Model, images: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
    """The outputs of an `explained` model for (n, size, size) uint8 images, by name."""
    starts = bar(range(0, len(images), batch_size), desc="images", unit="batch", leave=False)
    parts = [model.predict_on_batch(images[start : start + batch_size][..., None]) for start in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def randomised(model: keras.Model, seed: int) -> keras.Model:
    """The same network with new random weights, for the sanity check of Adebayo et al. (NeurIPS 2018)."""
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(model)


def _slopes(model: keras.Model, kernel: np.ndarray):
    """Slope of each class's logit by each pooled feature: (channels, classes), or (n, channels, classes)."""
    if "hidden" not in {layer.name for layer in model.layers}:
        return kernel
    norm, hidden = model.get_layer("features_norm"), model.get_layer("hidden")
    gamma, _, _, variance = norm.get_weights()
    weights = (gamma / np.sqrt(variance + norm.epsilon))[:, None] * hidden.get_weights()[0]
    active = ops.cast(hidden.output > 0, "float32")
    return ops.matmul(weights, active[:, :, None] * kernel)
