"""Deterministic training of one network, which resumes from its checkpoint after a kill."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.utils.class_weight import compute_class_weight

from brain_tumor.progress import bar
from brain_tumor.training.checkpoint import Checkpoint
from brain_tumor.training.examples import Examples
from brain_tumor.training.losses import PartialCrossentropy, partial_accuracy
from brain_tumor.training.optimizing import Average, LayerwiseAdamW, cosine


@dataclass(frozen=True)
class Schedule:
    """Hyper-parameters of the optimisation.

    Attributes:
        epochs: largest number of epochs.
        patience: epochs without a better validation macro-F1 after which training stops, and the weights of the best
            epoch are kept; 0: it never stops early, and the weights of the last epoch are kept.
        batch_size: images.
        learning_rate: peak of a cosine schedule that ends at 0.
        warmup_epochs: linear rise to the peak, cut to half of `epochs`.
        weight_decay: decoupled, of AdamW (Loshchilov and Hutter, ICLR 2019).
        label_smoothing: share of the target that is spread evenly over the classes.
        mix: each image is blended with another one of its batch, by a share from a Beta(mix, mix) distribution
            (mixup: Zhang et al., ICLR 2018); 0 switches it off.
        balance: "weights" weighs images by the inverse frequency of their label, "sampling" shows each label
            equally often, "none" does neither. Each set of classes counts as a label of its own.
        average: momentum of the exponential moving average of the weights, which is what is validated and kept;
            0: no averaging.
    """

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    warmup_epochs: int
    weight_decay: float
    label_smoothing: float
    mix: float
    balance: str
    average: float


def fit(
    model: keras.Model,
    examples: Examples,
    *,
    schedule: Schedule,
    seed: int,
    rates: Sequence[float] | None = None,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[dict], None] = lambda row: None,
) -> list[dict]:
    """Train, and leave the weights of the best epoch, or of the last one (see `Schedule.patience`), in `model`.

    Args:
        model: from inputs to class probabilities.
        examples: what to train and validate on.
        schedule: hyper-parameters.
        seed: of the order, the augmentation and the mixing, which are drawn per (seed, epoch, ...).
        rates: relative learning rate of each trainable variable; None: 1 for all.
        checkpoint: receives the state after each epoch; training resumes from the state it holds.
        on_epoch: receives the history row of each finished epoch, those before an interruption included.

    Returns:
        A row per epoch: epoch (from 1), learning_rate, train/loss, train/accuracy; and, if there are validation
        images, validation/loss (natural logarithm, without label smoothing), validation/accuracy, validation/macro_f1.
        Without them `schedule.patience` must be 0.
    """
    steps = max(1, len(examples.train_rows) // schedule.batch_size)
    rate = cosine(schedule.learning_rate, steps=steps, epochs=schedule.epochs, warmup_epochs=schedule.warmup_epochs)
    model.compile(
        optimizer=LayerwiseAdamW(rate, weight_decay=schedule.weight_decay, rates=rates),
        loss=PartialCrossentropy(schedule.label_smoothing),
        weighted_metrics=[keras.metrics.MeanMetricWrapper(partial_accuracy, name="accuracy")],
    )
    model.optimizer.build(model.trainable_variables)
    progress = _Progress(model, Average(model.weights, schedule.average), schedule)
    if checkpoint and (stored := checkpoint.load()):
        progress.restore(*stored)
        print(f"resuming after epoch {len(progress.history)} from {checkpoint.folder}", flush=True)
    for row in progress.history:
        on_epoch(row)
    total = schedule.epochs * steps * schedule.batch_size
    with bar(
        desc="train", unit="image", total=total, initial=len(progress.history) * total // schedule.epochs
    ) as shown:
        while not progress.finished():
            epoch = len(progress.history) + 1
            learning_rate = float(model.optimizer.learning_rate)
            losses, accuracies = [], []
            for batch, targets, weights in _batches(examples, steps, schedule, seed, epoch):
                loss, accuracy = model.train_on_batch(batch, targets, weights)
                losses.append(loss)
                accuracies.append(accuracy)
                progress.average.update()
                shown.update(len(batch))
            learned = model.get_weights()
            model.set_weights(progress.average.values)
            row = {
                "epoch": epoch,
                "learning_rate": learning_rate,
                "train/loss": float(np.mean(losses)),
                "train/accuracy": float(np.mean(accuracies)),
                **_validate(model, examples),
            }
            model.set_weights(learned)
            progress.record(row)
            if checkpoint:
                checkpoint.save(*progress.state())
            on_epoch(row)
            summary = f"epoch {epoch}, training loss {row['train/loss']:.3f}"
            if "validation/macro_f1" in row:
                summary += f", validation macro-F1 {row['validation/macro_f1']:.3f}"
            shown.set_postfix_str(summary)
            if shown.disable:  # not a terminal: one line per epoch instead of the bar
                print(summary, flush=True)
    model.set_weights(progress.kept_weights)
    return progress.history


class _Progress:
    """The state of a training: everything that its next epoch depends on."""

    def __init__(self, model: keras.Model, average: Average, schedule: Schedule) -> None:
        self.average = average
        self.history: list[dict] = []
        self.kept_weights: list[np.ndarray] | None = None
        self._model = model
        self._schedule = schedule

    def finished(self) -> bool:
        done, patience = len(self.history), self._schedule.patience
        waited = done - kept_epoch(self.history, patience)["epoch"] if done else 0
        return done == self._schedule.epochs or 0 < patience <= waited

    def record(self, row: dict) -> None:
        self.history.append(row)
        if kept_epoch(self.history, self._schedule.patience) is row:
            self.kept_weights = self.average.values

    def state(self) -> tuple[dict[str, list[np.ndarray]], dict]:
        arrays = {name: [v.value.numpy() for v in part] for name, part in self._variables().items()}
        arrays |= {"average": self.average.values, "kept": self.kept_weights}
        return arrays, {"history": self.history, "updates": self.average.updates}

    def restore(self, arrays: dict[str, list[np.ndarray]], facts: dict) -> None:
        for name, part in self._variables().items():
            for variable, value in zip(part, arrays[name], strict=True):
                variable.assign(value)
        self.average.restore(arrays["average"], facts["updates"])
        self.kept_weights, self.history = arrays["kept"], facts["history"]

    def _variables(self) -> dict[str, list]:
        # The state of Dropout's generator is among `variables` and not among `weights`, nor in Keras's own files.
        metrics = {id(variable) for metric in self._model.metrics for variable in metric.variables}
        return {
            "model": [variable for variable in self._model.variables if id(variable) not in metrics],
            "optimizer": list(self._model.optimizer.variables),
        }


def kept_epoch(history: Sequence[dict], patience: int) -> dict:
    """The row of the epoch whose weights are kept: the first of the best ones, or the last; see `Schedule.patience`."""
    return max(history, key=lambda row: row["validation/macro_f1"]) if patience else history[-1]


def _batches(
    examples: Examples, steps: int, schedule: Schedule, seed: int, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (inputs, targets, weights (b,) float32) of an epoch, preparing one batch ahead; targets as for the loss."""
    rows, size, allowed = examples.train_rows, schedule.batch_size, examples.allowed.astype(np.float32)[:, None]
    # Labels are numbered in the order of the classes.
    labels = np.unique(~examples.allowed, axis=0, return_inverse=True)[1]
    importance = np.ones(labels.max() + 1, np.float32)
    if schedule.balance == "weights":
        present = np.unique(labels[rows])
        importance[present] = compute_class_weight("balanced", classes=present, y=labels[rows])
    order = _order(rows, labels[rows], schedule.balance, np.random.default_rng([seed, epoch]))
    # An input that an epoch shows again is another variant of it.
    shown = pd.Series(order).groupby(order).cumcount().to_numpy()

    def load(step: int):
        part = slice(step * size, (step + 1) * size)
        chosen = order[part]
        seeds = ([seed, epoch, i, *([n] if n else [])] for i, n in zip(chosen, shown[part], strict=True))
        batch = np.stack(
            [examples.variant(i, np.random.default_rng(own)) for i, own in zip(chosen, seeds, strict=True)]
        )
        targets, weights = allowed[chosen], importance[labels[chosen]]
        if schedule.mix > 0:
            rng = np.random.default_rng([seed, epoch, step, len(labels)])
            other = rng.permutation(len(chosen))
            share = rng.beta(schedule.mix, schedule.mix, len(chosen)).astype(np.float32)
            batch, weights = (
                part * (by := share.reshape(-1, *[1] * (part.ndim - 1))) + part[other] * (1 - by)
                for part in (batch, weights)
            )
            by = share[:, None, None]
            targets = np.concatenate([targets * by, targets[other] * (1 - by)], axis=1)
        return batch, targets, weights

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(load, 0)
        for step in range(steps):
            ready = ahead.result()
            if step + 1 < steps:
                ahead = pool.submit(load, step + 1)
            yield ready


def _order(rows: np.ndarray, labels: np.ndarray, balance: str, rng: np.random.Generator) -> np.ndarray:
    """The rows of an epoch, shuffled; with "sampling" equally many of each class, repeating rare ones."""
    if balance != "sampling":
        return rng.permutation(rows)
    parts, present = [], np.unique(labels)
    wanted = math.ceil(len(rows) / len(present))
    for label in present:
        members = rows[labels == label]
        rounds = [rng.permutation(members) for _ in range(math.ceil(wanted / len(members)))]
        parts.append(np.concatenate(rounds)[:wanted])
    return rng.permutation(np.concatenate(parts))


def _validate(model: keras.Model, examples: Examples) -> dict[str, float]:
    rows = examples.validation_rows
    if not len(rows):
        return {}
    parts = np.array_split(rows, math.ceil(len(rows) / 64))
    probabilities = np.concatenate([model.predict_on_batch(examples.originals[part]) for part in parts])
    truth, chosen = examples.allowed[rows].argmax(axis=1), probabilities.argmax(axis=1)
    return {
        "validation/loss": float(log_loss(truth, probabilities, labels=np.arange(probabilities.shape[1]))),
        "validation/accuracy": float(accuracy_score(truth, chosen)),
        "validation/macro_f1": float(f1_score(truth, chosen, average="macro", zero_division=0)),
    }
