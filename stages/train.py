"""Train the network of one fold: models/fold-<k>/model.keras and its learning curves."""

from dataclasses import asdict

import numpy as np
from _stage import quiet_tensorflow, run

quiet_tensorflow("train")

from dvclive import Live  # noqa: E402

from brain_tumor.data.roles import roles  # noqa: E402
from brain_tumor.data.store import Store, fingerprint  # noqa: E402
from brain_tumor.files import replacing_folder  # noqa: E402
from brain_tumor.imaging import Preprocessing  # noqa: E402
from brain_tumor.model import networks, training  # noqa: E402
from brain_tumor.model.augment import Augmentation  # noqa: E402
from brain_tumor.model.determinism import make_deterministic  # noqa: E402
from brain_tumor.model.saving import save_model  # noqa: E402
from brain_tumor.tables import read_table  # noqa: E402


def main(params, arguments):
    options = params.train.model_dump(exclude={"folds", "augment", "seed", "threads"})
    make_deterministic(params.train.threads, params.train.seed)
    store = Store("data/prepared")
    table = read_table("data/split/folds.csv")
    role = roles(table, arguments.fold, params.split.strategy, params.split.on_leak)
    classes = sorted(table["label"].unique())
    model = networks.compact(params.preprocess.size, len(classes), **params.model.model_dump())
    print(f"fold {arguments.fold}: {model.count_params():,} weights, {(role == 'train').sum()} training images")
    with Live(f"plots/training/fold-{arguments.fold}", dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def record(row):
            for name, value in row.items():
                if name != "epoch":
                    live.log_metric(name, value)
            live.next_step()

        history = training.fit(
            model,
            store.images,
            np.array([classes.index(label) for label in table["label"]]),
            np.flatnonzero(role == "train"),
            np.flatnonzero(role == "validation"),
            schedule=training.Schedule(**options),
            augmentation=Augmentation(**params.train.augment.model_dump()),
            seed=params.train.seed,
            on_epoch=record,
        )
    best = max(history, key=lambda row: row["validation/macro_f1"])
    print(f"best epoch {best['epoch']} of {len(history)}: validation macro-F1 {best['validation/macro_f1']:.4f}")
    metadata = {
        "classes": classes,
        "preprocessing": asdict(Preprocessing(**params.preprocess.model_dump(exclude={"max_rejected"}))),
        "data_fingerprint": fingerprint(store.index),
        "fold": arguments.fold,
        "epoch": best["epoch"],
    }
    with replacing_folder(f"models/fold-{arguments.fold}") as folder:
        save_model(folder / "model.keras", model, metadata)


if __name__ == "__main__":
    run(main, fold=True)
