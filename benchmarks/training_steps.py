"""How fast is a training step, against Keras's own layers and optimizer, and against what the processor can multiply?

    python benchmarks/training_steps.py [--steps 30] [--backbone efficientnet_lite0 compact] [--json FILE]

Both networks are those of params.yaml, take the same random batches in turn, and begin with the same weights. Reported
are the milliseconds of processor time, all cores together, that a training step and a prediction take for an image (the
least of all rounds: other work on the same cores disturbs it little), the largest difference of the losses of the first
steps, and the time that the products of all convolutions would take at the rate of a core's matrix product: no way of
computing the same products in the same precision can be faster than that.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from rows import Row, run  # noqa: E402

from brain_tumor.networks import classifier  # noqa: E402
from brain_tumor.networks.determinism import make_deterministic  # noqa: E402
from brain_tumor.networks.training_view import training_view  # noqa: E402
from brain_tumor.networks.trunks import BACKBONES, pretrained_weights  # noqa: E402
from brain_tumor.params import load_params  # noqa: E402
from brain_tumor.training.losses import PartialCrossentropy  # noqa: E402
from brain_tumor.training.optimizing import LayerwiseAdamW, layer_rates  # noqa: E402

CLASSES = 4
_BATCH = {"compact": 32}  # its default before transfer learning; the others take that of params.yaml


class KerasAdamW(keras.optimizers.AdamW):
    """Keras's own steps, at the rate of each layer."""

    def __init__(self, *args, rates, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._rates = rates

    def update_step(self, gradient, variable, learning_rate) -> None:
        if self._rates is not None:
            learning_rate *= self._rates[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate)


def build(params, backbone: str) -> tuple[keras.Model, list[float] | None]:
    """A classifier with the initial weights of a training, and its relative learning rates."""
    keras.utils.set_random_seed(0)
    weights = pretrained_weights(backbone, "imagenet")[0] if BACKBONES[backbone].weights else None
    options = params.model.model_dump(exclude={"weights", "backbone"})
    size = params.preprocess.image_size
    model = classifier.build(backbone, size, CLASSES, weights=weights, **options)
    return model, None if weights is None else layer_rates(model, params.train.backbone_rate)


def compiled(model: keras.Model, optimizer: type, params, rates) -> keras.Model:
    train = params.train
    model.compile(
        optimizer(train.learning_rate, weight_decay=train.weight_decay, rates=rates),
        PartialCrossentropy(train.label_smoothing),
    )
    return model


def products(model: keras.Model) -> tuple[float, float]:
    """Multiplications and additions of all convolutions for an image: of a prediction, and of a training step."""
    forward = step = 0.0
    learning = False  # whether a layer before needs a gradient of what comes out of it
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            _, height, width, channels = layer.output.shape
            rows, columns, incoming = layer.kernel.shape[:3]
            each = 1 if isinstance(layer, keras.layers.DepthwiseConv2D) else incoming
            work = 2.0 * height * width * channels * rows * columns * each
            forward += work
            step += work * (1 + layer.trainable + learning)
        learning |= bool(layer.trainable_variables)
    return forward, step


def matrix_product_rate(seconds: float = 2.0) -> float:
    """Multiplications and additions of a core in a second, in TensorFlow's product of two matrices; the most."""
    a, b = tf.random.normal((1152, 1152), seed=0), tf.random.normal((1152, 1152), seed=1)
    best, end = float("inf"), time.process_time() + seconds
    while time.process_time() < end:
        start = time.process_time()
        (a @ b).numpy()
        best = min(best, time.process_time() - start)
    return 2 * 1152**3 / best


def compared(params, backbone: str, steps: int, rate: float) -> list[Row]:
    """Rows of one network: a training step, and a prediction."""
    batch = _BATCH.get(backbone, params.train.batch_size)
    rng, size = np.random.default_rng(0), params.preprocess.image_size
    pixels = rng.integers(0, 256, (batch, size, size, 1), np.uint8)
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, batch)][:, None]
    plain, rates = build(params, backbone)
    forward, step = products(plain)
    plain = compiled(plain, KerasAdamW, params, rates)
    model, rates = build(params, backbone)
    ours = compiled(training_view(model), LayerwiseAdamW, params, rates)
    losses = [[float(m.train_on_batch(pixels, targets)) for _ in range(3)] for m in (plain, ours)]
    times = np.zeros((2, 2, steps))
    for i in range(-1, steps):  # the first round is left out: it builds the function that predicts
        for which, m in enumerate((plain, ours)):
            for kind, work in enumerate(
                (lambda m=m: m.train_on_batch(pixels, targets), lambda m=m: m.predict_on_batch(pixels))
            ):
                start = time.process_time()
                work()
                if i >= 0:
                    times[kind, which, i] = time.process_time() - start
    print(f"{backbone}: losses of the first steps differ by {np.abs(np.subtract(*losses)).max():.1e}")
    rows = []
    for kind, name, work in ((0, "training step", step), (1, "prediction", forward)):
        usual, own = (1000 * times[kind, which].min() / batch for which in (0, 1))
        bound, what = 1000 * work / rate, f"{backbone}, {name} in batches of {batch}, processor time of an image"
        target = {} if kind else {"most": 1 / 1.5}
        rows.append(Row(what, own, "ms", "Keras's own operations", usual, **target))
        rows.append(Row(what, own, "ms", "the products of its convolutions alone", bound))
    return rows


def measure(arguments: argparse.Namespace) -> list[Row]:
    params = load_params(ROOT / "params.yaml")
    make_deterministic(params.run.threads, params.run.seed)
    rate = matrix_product_rate()
    print(f"matrix product: {rate / 1e9:.0f} billion multiplications and additions a second on each core")
    return [row for name in arguments.backbone for row in compared(params, name, arguments.steps, rate)]


if __name__ == "__main__":
    sys.exit(
        run(
            __doc__,
            measure,
            steps={"type": int, "default": 30, "help": "measured steps of each"},
            backbone={"nargs": "+", "default": ["efficientnet_lite0", "compact"], "choices": list(BACKBONES)},
        )
    )
