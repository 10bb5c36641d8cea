"""Our recipe compared with the usual notebook recipe at equal wall-clock time: same fold, same machine, one run.

    python benchmarks/plain_recipe.py [--fold 0] [--minutes 2 5 10]

Needs data/raw, data/prepared and data/split (`dvc repro split`). Both are trained for the longest time given, one
after the other, each in its own process with the same number of threads. For each time the table shows the best
validation macro-F1 so far and the training images per second. Importing, decoding and preparing are not timed. The
plain recipe: RGB arrays of 150 x 150 floats, ImageDataGenerator, four convolutions with max pooling, flatten and dense
layers, Adam.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from sklearn.metrics import f1_score  # noqa: E402

from brain_tumor.params import load_params  # noqa: E402
from brain_tumor.tables.csv_tables import read_table  # noqa: E402
from brain_tumor.tables.roles import roles  # noqa: E402
from brain_tumor.tables.store import Store  # noqa: E402


class Clock:
    """Records time, score and images per second after each epoch, and ends the training when the time is over."""

    class Over(Exception):
        pass

    def __init__(self, seconds: float, images: int) -> None:
        self.rows, self._seconds, self._images = [], seconds, images

    def start(self) -> None:
        self._start = time.monotonic()

    def epoch(self, score: float) -> None:
        elapsed = time.monotonic() - self._start
        self.rows.append((elapsed, score, self._images * (len(self.rows) + 1) / elapsed))
        if elapsed > self._seconds:
            raise self.Over


def train_ours(params, labels, role, clock: Clock) -> None:
    from brain_tumor.training.augment import Augmentation
    from brain_tumor.training.fitting import Schedule
    from brain_tumor.training.recipe import train_network

    clock.start()
    names = {field.name for field in dataclasses.fields(Schedule)}
    train_network(
        Store("data/prepared").images,
        labels,
        role,
        network=params.model.model_dump(exclude={"weights"}),
        weights=None,
        features=np.empty(0),
        schedule=Schedule(**params.train.model_dump(include=names)),
        augmentation=Augmentation(**params.train.augment.model_dump()),
        precision=params.train.precision,
        backbone_rate=params.train.backbone_rate,
        seed=params.run.seed,
        on_epoch=lambda row: clock.epoch(row["validation/macro_f1"]),
    )


def train_plain(paths, labels, role, clock: Clock) -> None:
    import tensorflow as tf
    from keras import layers

    def pictures(rows):
        read = (cv2.resize(cv2.imread(str(Path("data/raw") / paths[i])), (150, 150)) for i in rows)
        return np.stack([image.astype(np.float32) / 255 for image in read])

    train, validation = (np.flatnonzero(role == name) for name in ("train", "validation"))
    x, y = pictures(train), tf.keras.utils.to_categorical(labels[train])
    seen, truth = pictures(validation), labels[validation]
    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        rotation_range=30, zoom_range=0.2, width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True
    )
    levels = [(layers.Conv2D(n, 3, activation="relu"), layers.MaxPooling2D(2)) for n in (32, 64, 128, 128)]
    head = [layers.Flatten(), layers.Dense(512, activation="relu"), layers.Dropout(0.5)]
    head.append(layers.Dense(y.shape[1], activation="softmax"))
    network = tf.keras.Sequential(
        [tf.keras.Input((150, 150, 3)), *(layer for level in levels for layer in level), *head]
    )
    network.compile("adam", "categorical_crossentropy")

    clock.start()
    while True:
        network.fit(generator.flow(x, y, batch_size=32, seed=len(clock.rows)), verbose=0)
        clock.epoch(f1_score(truth, network.predict(seen, verbose=0).argmax(axis=1), average="macro"))


def one(name: str, fold: int, seconds: float) -> list:
    params = load_params()
    import tensorflow as tf

    from brain_tumor.networks.determinism import make_deterministic

    if name == "ours":
        make_deterministic(params.run.threads, params.run.seed)
    else:
        tf.keras.utils.set_random_seed(params.run.seed)
        tf.config.threading.set_intra_op_parallelism_threads(params.run.threads)
    table = read_table("data/split/folds.csv")
    role = roles(table, fold, params.split.strategy, params.split.on_leak)
    labels = table["label"].factorize(sort=True)[0]
    clock = Clock(seconds, int((role == "train").sum()))
    try:
        if name == "ours":
            train_ours(params, labels, role, clock)
        else:
            train_plain(table["path"], labels, role, clock)
    except Clock.Over:
        pass
    return clock.rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 5, 10])
    parser.add_argument("--only", choices=["ours", "plain"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    longest = max(arguments.minutes) * 60
    if arguments.only:
        print(json.dumps(one(arguments.only, arguments.fold, longest)))
        return 0
    rows = {}
    for name in ("plain", "ours"):
        command = [sys.executable, __file__, "--only", name, "--fold", str(arguments.fold), "--minutes"]
        done = subprocess.run([*command, str(longest / 60)], cwd=ROOT, capture_output=True, text=True, check=True)
        rows[name] = json.loads(done.stdout.splitlines()[-1])
    print(f"fold {arguments.fold}: best validation macro-F1 so far and training images/s; ours has early stopping")
    print(f"{'minutes':>8}  {'plain':>14}  {'ours':>14}  ahead")
    ahead = True
    for minutes in arguments.minutes:
        shown = []
        for name in ("plain", "ours"):
            reached = [row for row in rows[name] if row[0] <= minutes * 60]
            shown.append((max((row[1] for row in reached), default=0.0), reached[-1][2] if reached else 0.0))
        ahead &= shown[1][0] > shown[0][0]
        cells = "  ".join(f"{score:.3f}  {speed:4.0f}/s" for score, speed in shown)
        print(f"{minutes:8g}  {cells}  {shown[1][0] - shown[0][0]:+.3f}")
    return 0 if ahead else 1


if __name__ == "__main__":
    sys.exit(main())
