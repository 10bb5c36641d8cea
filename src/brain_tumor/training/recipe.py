"""The recipe from images to a calibrated classifier: from scratch, fine-tuned, or on features of a frozen backbone."""

from collections.abc import Callable

import keras
import numpy as np

from brain_tumor.networks import classifier
from brain_tumor.networks.calibration import fit_calibration
from brain_tumor.networks.training_view import training_view
from brain_tumor.training.augment import Augmentation
from brain_tumor.training.checkpoint import Checkpoint
from brain_tumor.training.examples import feature_examples, image_examples
from brain_tumor.training.fitting import Schedule, fit
from brain_tumor.training.optimizing import layer_rates


def train_network(
    images: np.ndarray,
    allowed: np.ndarray,
    role: np.ndarray,
    scored: np.ndarray,
    times: np.ndarray,
    *,
    network: dict,
    weights: list[np.ndarray] | None,
    features: np.ndarray,
    schedule: Schedule,
    augmentation: Augmentation,
    precision: str,
    backbone_rate: float,
    seed: int,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[dict], None] = lambda row: None,
) -> tuple[keras.Model, list[dict], tuple[float, np.ndarray]]:
    """Train a classifier, and calibrate it on the validation images, if there are any.

    Args:
        images: (n, size, size) uint8, may be memory-mapped.
        allowed: (n, classes) bool, the classes among which the true one of each image is.
        role: (n,) str: images of the role "train" are trained on, those of "validation" calibrate, and others are not
            used.
        scored: (n,) bool, validation images that choose the epoch; each has a single class.
        times: (n,) int, how often an epoch shows each training image.
        network: `backbone`, `width`, `stride`, `hidden`, `dropout` and `frozen` of `networks.classifier.build`.
        weights: pre-trained weights of the backbone; None: from scratch.
        features: (n, views, c) of the backbone; used if it is frozen as a whole.
        schedule: hyper-parameters of the optimisation.
        augmentation: limits of the augmentation.
        precision: "float32", or "mixed_bfloat16" or "mixed_float16" to compute in half precision.
        backbone_rate: see `optimizing.layer_rates`.
        seed, checkpoint, on_epoch: see `fitting.fit`.

    Returns:
        The classifier, which computes in float32; the history of the network before calibration; and the scale and
        the (classes,) biases of the calibration that is built into it; 1 and zeros without validation images.
    """

    def build(policy: str) -> keras.Model:
        keras.config.set_dtype_policy(policy)
        return classifier.build(size=images.shape[1], classes=allowed.shape[1], weights=weights, **network)

    seen = role == "validation"
    train_rows = np.repeat(np.flatnonzero(role == "train"), times[role == "train"])
    model, about = build(precision), (allowed, train_rows, np.flatnonzero(seen & scored))
    if network["frozen"] < 1:
        learner = training_view(model) if precision == "float32" else model
        examples = image_examples(images, *about, augmentation=augmentation)
        rates = None if weights is None else layer_rates(model, backbone_rate)
    else:
        learner, examples, rates = classifier.head(model), feature_examples(features, *about), None
    print(f"{learner.name}: {learner.count_params():,} weights, {len(examples.train_rows)} training images an epoch")
    history = fit(
        learner, examples, schedule=schedule, seed=seed, rates=rates, checkpoint=checkpoint, on_epoch=on_epoch
    )
    calibration = 1.0, np.zeros(allowed.shape[1])
    if seen.any():
        calibration = fit_calibration(learner.predict(examples.originals[seen], verbose=0), allowed[seen])
    whole = build("float32")
    whole.set_weights(model.get_weights())
    classifier.recalibrate(whole, *calibration)
    return whole, history, calibration
