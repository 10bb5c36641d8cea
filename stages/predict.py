"""Class probabilities of the images a fold's model is judged on: data/predictions/<part>/fold-<k>.csv.

The part "validation" is what recipes are chosen by, "test" the test fold and the published test folder: apart, so
that a search computes no test figure. With predict.controls also those of changed images, controls-<k>.csv:
validation images as other scanners might show them, test images without their brain and with nothing else.
"""

import numpy as np
import pandas as pd
from _stage import quiet_tensorflow, run

quiet_tensorflow("predict")

from brain_tumor.audit.brain import MASKS, masked  # noqa: E402
from brain_tumor.data.roles import roles  # noqa: E402
from brain_tumor.data.store import Store  # noqa: E402
from brain_tumor.evaluation.shifts import SHIFTS, shifted  # noqa: E402
from brain_tumor.files import replacing_folder  # noqa: E402
from brain_tumor.model.determinism import make_deterministic  # noqa: E402
from brain_tumor.model.predicting import prediction_table  # noqa: E402
from brain_tumor.model.saving import load_model  # noqa: E402
from brain_tumor.tables import read_table, write_table  # noqa: E402


def controls(part):
    """Name -> change of the image in a row of the store, for the changed images of a part."""
    if part == "validation":
        return {name: lambda pixels, row, name=name: shifted(pixels, name, seed=row) for name in SHIFTS}
    return {name: lambda pixels, row, name=name: masked(pixels, name) for name in MASKS}


def main(params, arguments):
    make_deterministic(params.train.threads)
    strategy, options = params.split.strategy, params.predict.model_dump(exclude={"controls"})
    part = [arguments.part] if arguments.part == "validation" else ["test", "official_test"]
    changed = "official_test" if strategy == "official" and arguments.part == "test" else part[0]
    store = Store("data/prepared")
    table = read_table("data/split/folds.csv")
    with replacing_folder(f"data/predictions/{arguments.part}") as folder:
        for fold in params.train.folds:
            model, metadata = load_model(f"models/fold-{fold}/model.keras")
            role = roles(table, fold, strategy, params.split.on_leak)
            about = table[["path", "label"]].assign(role=role)
            judged = np.flatnonzero(np.isin(role, part))
            frame = prediction_table(model, metadata, store.images, judged, about.loc[judged], **options)
            write_table(folder / f"fold-{fold}.csv", frame)
            print(f"fold {fold}: {len(judged)} images")
            if params.predict.controls:
                shown = np.flatnonzero(role == changed)
                variants = []
                for name, change in controls(arguments.part).items():
                    pictures = np.stack([change(store.images[i], i) for i in shown])
                    rows = np.arange(len(shown))
                    frame = prediction_table(model, metadata, pictures, rows, about.loc[shown], **options)
                    variants.append(frame.assign(control=name))
                write_table(folder / f"controls-{fold}.csv", pd.concat(variants))


if __name__ == "__main__":
    run(main, part=True)
