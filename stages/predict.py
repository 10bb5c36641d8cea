"""Class probabilities of the images a fold's model is judged on: data/predictions/<part>/fold-<k>.csv.

The part "validation" is what recipes are chosen by, "test" the test fold and the published test folder: apart, so
that a search computes no test figure. With predict.controls also those of changed images, controls-<k>.csv:
validation images as other scanners might show them, test images without their brain and with nothing else.
"""

from functools import partial

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
from brain_tumor.model.predicting import predict  # noqa: E402
from brain_tumor.model.saving import load_model  # noqa: E402
from brain_tumor.tables import read_table, write_table  # noqa: E402


def controls(part):
    """Name -> change of image i of the store, for the changed images of a part."""
    if part == "validation":
        return {name: partial(shifted, shift=name) for name in SHIFTS}
    return {name: lambda pixels, seed, name=name: masked(pixels, name) for name in MASKS}


def main(params, arguments):
    make_deterministic(params.train.threads)
    strategy, options = params.split.strategy, params.predict.model_dump(exclude={"controls"})
    store = Store("data/prepared")
    table = read_table("data/split/folds.csv")
    exhibit = "official_test" if strategy == "official" else "test"
    with replacing_folder(f"data/predictions/{arguments.part}") as folder:
        for fold in params.train.folds:
            model, metadata = load_model(f"models/fold-{fold}/model.keras")
            role = roles(table, fold, strategy, params.split.on_leak)
            about = table[["path", "label"]].assign(role=role)

            def rate(images, rows, of):
                probabilities = predict(model, images, rows, **options)
                names = [f"p_{name}" for name in metadata["classes"]]
                return pd.concat([about.loc[of].reset_index(drop=True), pd.DataFrame(probabilities, columns=names)], axis=1)

            shown = [arguments.part] if arguments.part == "validation" else ["test", "official_test"]
            judged = np.flatnonzero(np.isin(role, shown))
            write_table(folder / f"fold-{fold}.csv", rate(store.images, judged, judged))
            print(f"fold {fold}: {len(judged)} images")
            if params.predict.controls:
                changed = np.flatnonzero(role == (exhibit if arguments.part == "test" else arguments.part))
                frames = []
                for name, change in controls(arguments.part).items():
                    pictures = np.stack([change(store.images[i], seed=i) for i in changed])
                    frames.append(rate(pictures, np.arange(len(changed)), changed).assign(control=name))
                write_table(folder / f"controls-{fold}.csv", pd.concat(frames))


if __name__ == "__main__":
    run(main, part=True)
