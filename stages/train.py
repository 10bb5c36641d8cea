"""Train the network of one fold: models/fold-<k>/model.keras and its learning curves."""

from dataclasses import asdict
from functools import partial

import numpy as np
from _stage import quiet_tensorflow, run

quiet_tensorflow("train")

from dvclive import Live  # noqa: E402

from brain_tumor.data.roles import roles  # noqa: E402
from brain_tumor.data.store import Store, fingerprint  # noqa: E402
from brain_tumor.files import replacing_folder  # noqa: E402
from brain_tumor.imaging import Preprocessing  # noqa: E402
from brain_tumor.model import recipe, training  # noqa: E402
from brain_tumor.model.augment import Augmentation  # noqa: E402
from brain_tumor.model.checkpoint import Checkpoint, origin  # noqa: E402
from brain_tumor.model.determinism import make_deterministic  # noqa: E402
from brain_tumor.model.saving import save_model  # noqa: E402
from brain_tumor.model.transfer import read_backbone  # noqa: E402
from brain_tumor.tables import read_table  # noqa: E402


def record(live, row):
    for name, value in row.items():
        if name != "epoch":
            live.log_metric(name, value)
    live.next_step()


def main(params, arguments):
    fold, train = arguments.fold, params.train
    make_deterministic(train.threads, train.seed)
    options = train.model_dump(exclude={"folds", "augment", "seed", "threads", "precision", "backbone_rate"})
    facts = params.model_dump(include={"preprocess", "split", "model", "train"}, exclude={"train": {"folds"}})
    inputs = [f"data/{name}" for name in ("backbone", "features", "prepared", "split")]
    store, table = Store("data/prepared"), read_table("data/split/folds.csv")
    classes = sorted(table["label"].unique())
    weights, digest = read_backbone("data/backbone")
    with (
        Checkpoint("checkpoints", origin(facts | {"fold": fold}, inputs)) as checkpoint,
        Live(f"plots/training/fold-{fold}", dvcyaml=None, save_dvc_exp=False, report=None) as live,
    ):
        model, history, (scale, biases) = recipe.train_network(
            store.images,
            np.array([classes.index(label) for label in table["label"]]),
            roles(table, fold, params.split.strategy, params.split.on_leak),
            network=params.model.model_dump(exclude={"weights"}),
            weights=weights,
            features=np.load("data/features/features.npy"),
            schedule=training.Schedule(**options),
            augmentation=Augmentation(**train.augment.model_dump()),
            precision=train.precision,
            backbone_rate=train.backbone_rate,
            seed=train.seed,
            checkpoint=checkpoint,
            on_epoch=partial(record, live),
        )
        best = max(history, key=lambda row: row["validation/macro_f1"])
        print(f"best epoch {best['epoch']} of {len(history)}: validation macro-F1 {best['validation/macro_f1']:.4f}")
        metadata = {
            "classes": classes,
            "preprocessing": asdict(Preprocessing(**params.preprocess.model_dump(exclude={"max_rejected"}))),
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
    run(main, fold=True)
