"""Train the network of one fold: models/fold-<k>/model.keras and its learning curves."""

from functools import partial

import numpy as np
from _stage import run
from dvclive import Live

from brain_tumor.files import replacing_folder
from brain_tumor.networks.backbone import read_backbone
from brain_tumor.networks.determinism import make_deterministic
from brain_tumor.networks.saving import save_model
from brain_tumor.tables.csv_tables import read_table
from brain_tumor.tables.labels import allowed_classes, classes_in
from brain_tumor.tables.roles import roles
from brain_tumor.tables.store import Store, fingerprint
from brain_tumor.training.augment import Augmentation
from brain_tumor.training.checkpoint import Checkpoint, origin
from brain_tumor.training.fitting import Schedule
from brain_tumor.training.recipe import train_network

INPUTS = [f"data/{name}" for name in ("backbone", "features", "prepared", "split")]


def record(live, row):
    for name, value in row.items():
        if name != "epoch":
            live.log_metric(name, value)
    live.next_step()


def main(params, arguments):
    fold, seed, train = arguments.fold, params.run.seed, params.train
    make_deterministic(params.run.threads, seed)
    facts = params.model_dump(include={"split", "run", "model", "train"}, exclude={"run": {"folds"}})
    facts |= {"fold": fold, "main": params.data.main}
    store, table = Store("data/prepared"), read_table("data/split/folds.csv")
    classes = classes_in(table["label"])
    weights, digest = read_backbone("data/backbone")
    with (
        Checkpoint("checkpoints", origin(facts, INPUTS)) as checkpoint,
        Live(f"plots/training/fold-{fold}", dvcyaml=None, save_dvc_exp=False, report=None) as live,
    ):
        model, history, (scale, biases) = train_network(
            store.images,
            allowed_classes(table["target"], classes),
            roles(table, fold, params.split.strategy, params.split.on_leak),
            (table["source"] == params.data.main).to_numpy(),
            network=params.model.model_dump(exclude={"weights"}),
            weights=weights,
            features=np.load("data/features/features.npy"),
            schedule=Schedule(**train.model_dump(exclude={"augment", "precision", "backbone_rate"})),
            augmentation=Augmentation(**train.augment.model_dump()),
            precision=train.precision,
            backbone_rate=train.backbone_rate,
            seed=seed,
            checkpoint=checkpoint,
            on_epoch=partial(record, live),
        )
        best = max(history, key=lambda row: row["validation/macro_f1"])
        print(f"best epoch {best['epoch']} of {len(history)}: validation macro-F1 {best['validation/macro_f1']:.4f}")
        metadata = {
            "classes": classes,
            "preprocessing": store.preprocessing,
            "data_fingerprint": fingerprint(store.index),
            "backbone": params.model.backbone,
            "backbone_sha256": digest,
            "fold": fold,
            "epoch": best["epoch"],
            "calibration": {"scale": scale, "biases": biases.tolist()},
        }
        with replacing_folder(f"models/fold-{fold}") as folder:
            save_model(folder / "model.keras", model, metadata)
        checkpoint.remove()


if __name__ == "__main__":
    run(main, "fold")
