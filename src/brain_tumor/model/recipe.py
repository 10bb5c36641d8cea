"""A network from images to a calibrated classifier: from scratch, fine-tuned, or over the features of a backbone."""

from collections.abc import Callable

import keras
import numpy as np

from brain_tumor.evaluation.calibration import fit_calibration
from brain_tumor.model import networks, transfer
from brain_tumor.model.augment import Augmentation
from brain_tumor.model.checkpoint import Checkpoint
from brain_tumor.model.examples import feature_examples, image_examples
from brain_tumor.model.training import Schedule, fit


def train_network(
    images: np.ndarray,
    labels: np.ndarray,
    role: np.ndarray,
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
    """Train a classifier, keep the epoch with the best validation macro-F1 and calibrate it on the same images.

    Args:
        images: (n, size, size) uint8, may be memory-mapped.
        labels: (n,) int, the class of each.
        role: (n,) str: "train" is learned from, "validation" chooses the epoch and calibrates,
            nothing else is looked at.
        network: `backbone`, `width`, `stride`, `hidden`, `dropout` and `frozen` of `networks.build`.
        weights: pre-trained, of the backbone; None for a training from scratch.
        features: (n, views, c) of the backbone; used where it is frozen as a whole.
        schedule: how long and how fast.
        augmentation: limits of the random changes of images.
        precision: "float32", or "mixed_bfloat16" or "mixed_float16" to compute in half precision.
        backbone_rate: see `transfer.layer_rates`.
        seed, checkpoint, on_epoch: see `training.fit`.

    Returns:
        The classifier, which computes in float32; its history, of the network before calibration; and the
        scale and the (classes,) biases that the calibration gave its logits.
    """

    def build(policy: str) -> keras.Model:
        keras.config.set_dtype_policy(policy)
        return networks.build(size=images.shape[1], classes=int(labels.max()) + 1, weights=weights, **network)

    model, about = build(precision), (labels, np.flatnonzero(role == "train"), np.flatnonzero(role == "validation"))
    if network["frozen"] < 1:
        learner, examples = model, image_examples(images, *about, augmentation=augmentation)
        rates = None if weights is None else transfer.layer_rates(model, backbone_rate)
    else:
        learner, examples, rates = networks.head(model), feature_examples(features, *about), None
    print(f"{learner.name}: {learner.count_params():,} weights, {len(examples.train_rows)} images to learn from")
    history = fit(
        learner, examples, schedule=schedule, seed=seed, rates=rates, checkpoint=checkpoint, on_epoch=on_epoch
    )
    seen = examples.validation_rows
    calibration = fit_calibration(learner.predict(examples.originals[seen], verbose=0), labels[seen])
    whole = build("float32")
    whole.set_weights(model.get_weights())
    networks.recalibrate(whole, *calibration)
    return whole, history, calibration
