"""Train the network of one fold, models/fold-<k>/model.keras with its learning curves, or that of all patients.

The network of all patients, data/final/model.keras, learns from the whole training pool by the same recipe, without
validation images: it never stops early, and it is calibrated by a later stage. It needs all folds to say what it is
worth; where fewer are run, data/final is empty, and the network of the first fold is the one that is served.
"""

from pathlib import Path

import numpy as np
from _stage import run

from brain_tumor.files import replacing_folder
from brain_tumor.networks.backbone import read_backbone
from brain_tumor.networks.determinism import make_deterministic
from brain_tumor.networks.saving import save_model
from brain_tumor.tables.csv_tables import read_table
from brain_tumor.tables.labels import allowed_classes, classes_in
from brain_tumor.tables.roles import pool_roles, roles
from brain_tumor.tables.store import Store, fingerprint
from brain_tumor.training.augment import Augmentation
from brain_tumor.training.checkpoint import Checkpoint, origin
from brain_tumor.training.curves import learning_curves
from brain_tumor.training.fitting import Schedule, kept_epoch
from brain_tumor.training.recipe import train_network

INPUTS = [f"data/{name}" for name in ("backbone", "features", "prepared", "split")]


def main(params, arguments):
    fold, seed, train = arguments.fold, params.run.seed, params.train
    whole, target = fold == "all", Path("data/final" if fold == "all" else f"models/fold-{fold}")
    if whole and not params.runs_all_folds:
        with replacing_folder(target):
            print("not all folds are run: the network of the first one is served")
        return
    make_deterministic(params.run.threads, seed)
    facts = params.model_dump(include={"split", "run", "model", "train"}, exclude={"run": {"folds"}})
    facts |= {"fold": fold, "main": params.data.main}
    store, table = Store("data/prepared"), read_table("data/split/folds.csv")
    classes, main_source = classes_in(table["label"]), (table["source"] == params.data.main).to_numpy()
    weights, digest = read_backbone("data/backbone")
    options = train.model_dump(exclude={"augment", "precision", "backbone_rate", "repeats"})
    schedule = Schedule(**options | ({"patience": 0} if whole else {}))
    with (
        Checkpoint("checkpoints", origin(facts, INPUTS)) as checkpoint,
        learning_curves(None if whole else f"plots/training/fold-{fold}") as on_epoch,
    ):
        model, history, (scale, biases) = train_network(
            store.images,
            allowed_classes(table["target"], classes),
            pool_roles(table) if whole else roles(table, fold, params.split.strategy, params.split.on_leak),
            main_source,
            np.where(main_source, 1, train.repeats),
            network=params.model.model_dump(exclude={"weights"}),
            weights=weights,
            features=np.load("data/features/features.npy"),
            schedule=schedule,
            augmentation=Augmentation(**train.augment.model_dump()),
            precision=train.precision,
            backbone_rate=train.backbone_rate,
            seed=seed,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
        )
        kept = kept_epoch(history, schedule.patience)
        scores = "" if whole else f": validation macro-F1 {kept['validation/macro_f1']:.4f}"
        print(f"kept epoch {kept['epoch']} of {len(history)}{scores}")
        metadata = {"fold": None if whole else fold, "epoch": kept["epoch"], "classes": classes}
        metadata |= {"preprocessing": store.preprocessing, "data_fingerprint": fingerprint(store.index)}
        metadata |= {"backbone": params.model.backbone, "backbone_sha256": digest}
        metadata |= {"calibration": {"scale": scale, "biases": biases.tolist()}}
        with replacing_folder(target) as folder:
            save_model(folder / "model.keras", model, metadata)
        checkpoint.remove()


if __name__ == "__main__":
    run(main, "fold")
