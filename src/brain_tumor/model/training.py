"""Deterministic training of one network on one fold."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import keras
import numpy as np
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.utils.class_weight import compute_class_weight

from brain_tumor.model.augment import Augmentation, augment
from brain_tumor.progress import bar


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    Attributes:
        epochs: upper limit.
        patience: epochs without a better validation macro-F1 before training stops.
        batch_size: images.
        learning_rate: peak of a cosine schedule that ends at 0.
        warmup_epochs: linear rise to the peak, cut to half of `epochs`.
        weight_decay: decoupled, of AdamW (Loshchilov and Hutter, ICLR 2019).
        label_smoothing: share of the target spread evenly over the classes.
        class_weights: "balanced" weighs images by the inverse frequency of their class, "none" does not.
        average: momentum of the exponential moving average of the weights that is validated and kept
            (Polyak and Juditsky, SIAM J. Control Optim. 1992); 0 keeps the weights as they are.
    """

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    warmup_epochs: int
    weight_decay: float
    label_smoothing: float
    class_weights: str
    average: float


def fit(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    train_rows: np.ndarray,
    validation_rows: np.ndarray,
    *,
    schedule: Schedule,
    augmentation: Augmentation,
    seed: int,
    on_epoch: Callable[[dict], None] = lambda row: None,
) -> list[dict]:
    """Train, and leave the weights of the epoch with the best validation macro-F1 in `model`.

    Args:
        model: from (n, size, size, 1) pixels of 0-255 to class probabilities.
        images: (n, size, size) uint8, may be memory-mapped.
        labels: (n,) int, the class of each image.
        train_rows, validation_rows: (m,) int, rows of `images`.
        schedule: how long and how fast.
        augmentation: limits of the random changes.
        seed: of the order and the augmentation, which are drawn per (seed, epoch, image).
        on_epoch: receives the history row of each finished epoch.

    Returns:
        A row per epoch: epoch (from 1), learning_rate, train/loss, train/accuracy, validation/loss
        (natural log, without smoothing), validation/accuracy, validation/macro_f1.
    """
    classes = model.output_shape[-1]
    targets = np.eye(classes, dtype=np.float32)[labels]
    weights = np.ones(len(labels), np.float32)
    if schedule.class_weights == "balanced":
        train_labels = labels[train_rows]
        weights = compute_class_weight("balanced", classes=np.arange(classes), y=train_labels).astype(np.float32)[
            labels
        ]
    steps = max(1, len(train_rows) // schedule.batch_size)
    rate = _cosine(schedule, steps)
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=schedule.weight_decay),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=schedule.label_smoothing),
        weighted_metrics=["accuracy"],
    )
    average = _Average(schedule.average)
    history, best, best_weights = [], None, None
    with bar(desc="train", unit="image", total=schedule.epochs * steps * schedule.batch_size) as progress:
        for epoch in range(1, schedule.epochs + 1):
            learning_rate = float(model.optimizer.learning_rate)
            losses, accuracies = [], []
            for rows, batch in _batches(images, train_rows, steps, schedule.batch_size, augmentation, seed, epoch):
                loss, accuracy = model.train_on_batch(batch, targets[rows], weights[rows])
                losses.append(loss)
                accuracies.append(accuracy)
                average.update(model)
                progress.update(len(rows))
            learned = model.get_weights()
            model.set_weights(average.weights)
            row = {
                "epoch": epoch,
                "learning_rate": learning_rate,
                "train/loss": float(np.mean(losses)),
                "train/accuracy": float(np.mean(accuracies)),
                **_validate(model, images, labels, validation_rows, classes),
            }
            history.append(row)
            on_epoch(row)
            summary = f"epoch {epoch}, validation macro-F1 {row['validation/macro_f1']:.3f}"
            progress.set_postfix_str(summary)
            if progress.disable:  # no terminal: a line per epoch instead of the bar
                print(f"{summary}, training loss {row['train/loss']:.3f}", flush=True)
            if best is None or row["validation/macro_f1"] > best["validation/macro_f1"]:
                best, best_weights = row, average.weights
            model.set_weights(learned)
            if epoch - best["epoch"] >= schedule.patience:
                break
    model.set_weights(best_weights)
    return history


class _Average:
    """Exponential moving average of all weights, the statistics of batch normalisation included.

    Attributes:
        weights: list of arrays, as `model.get_weights()` gives them.
    """

    def __init__(self, momentum: float) -> None:
        self.weights: list[np.ndarray] | None = None
        self._momentum, self._updates = momentum, 0

    def update(self, model: keras.Model) -> None:
        current = model.get_weights()
        # Rises from 0.1, so that the random initial weights are soon forgotten.
        momentum = min(self._momentum, (1 + self._updates) / (10 + self._updates))
        if self.weights is None:
            self.weights = current
        else:
            self.weights = [momentum * a + (1 - momentum) * w for a, w in zip(self.weights, current, strict=True)]
        self._updates += 1


def _cosine(schedule: Schedule, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    warmup = round(min(schedule.warmup_epochs, schedule.epochs / 2) * steps)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=schedule.learning_rate / steps if warmup else schedule.learning_rate,
        decay_steps=max(1, schedule.epochs * steps - warmup),
        warmup_target=schedule.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def _batches(
    images: np.ndarray,
    rows: np.ndarray,
    steps: int,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    epoch: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows, (b, size, size, 1) uint8) in the order of this epoch, one batch prepared ahead."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)

    def load(step: int):
        chosen = order[step * batch_size : (step + 1) * batch_size]
        batch = [augment(images[i], augmentation, np.random.default_rng([seed, epoch, i])) for i in chosen]
        return chosen, np.stack(batch)[..., None]

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(load, 0)
        for step in range(steps):
            ready = ahead.result()
            if step + 1 < steps:
                ahead = pool.submit(load, step + 1)
            yield ready


def _validate(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, rows: np.ndarray, classes: int
) -> dict[str, float]:
    probabilities = np.concatenate(
        [model.predict_on_batch(images[part][..., None]) for part in np.array_split(rows, math.ceil(len(rows) / 64))]
    )
    truth, chosen = labels[rows], probabilities.argmax(axis=1)
    return {
        "validation/loss": float(log_loss(truth, probabilities, labels=np.arange(classes))),
        "validation/accuracy": float(accuracy_score(truth, chosen)),
        "validation/macro_f1": float(f1_score(truth, chosen, average="macro", zero_division=0)),
    }
