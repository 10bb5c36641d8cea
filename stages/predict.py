"""Class probabilities of every image a fold's model is judged on: data/predictions/fold-<k>.csv.

With predict.controls also those of its test images without their brain and with nothing else: controls-<k>.csv.
"""

import numpy as np
import pandas as pd
from _stage import quiet_tensorflow, run

quiet_tensorflow("predict")

from brain_tumor.audit.brain import MASKS, masked  # noqa: E402
from brain_tumor.data.roles import roles  # noqa: E402
from brain_tumor.data.store import Store  # noqa: E402
from brain_tumor.files import replacing_folder  # noqa: E402
from brain_tumor.model.determinism import make_deterministic  # noqa: E402
from brain_tumor.model.predicting import predict  # noqa: E402
from brain_tumor.model.saving import load_model  # noqa: E402
from brain_tumor.tables import read_table, write_table  # noqa: E402


def rate(model, classes, images, rows, about, options):
    """The table `about` of some images, with the probability of each class."""
    probabilities = predict(model, images, rows, **options)
    return about.assign(**{f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)})


def main(params, arguments):
    make_deterministic(params.train.threads)
    strategy, options = params.split.strategy, params.predict.model_dump(exclude={"controls"})
    store = Store("data/prepared")
    table = read_table("data/split/folds.csv")
    with replacing_folder("data/predictions") as folder:
        for fold in params.train.folds:
            model, metadata = load_model(f"models/fold-{fold}/model.keras")
            classes, role = metadata["classes"], roles(table, fold, strategy, params.split.on_leak)
            about = table[["path", "label"]].assign(role=role)
            judged = np.flatnonzero(~np.isin(role, ["train", "left_out"]))
            frame = rate(model, classes, store.images, judged, about.loc[judged], options)
            write_table(folder / f"fold-{fold}.csv", frame)
            print(f"fold {fold}: {len(judged)} images")
            if params.predict.controls:
                tested = np.flatnonzero(role == ("official_test" if strategy == "official" else "test"))
                variants = []
                for mask in MASKS:
                    pictures = np.stack([masked(store.images[i], mask) for i in tested])
                    frame = rate(model, classes, pictures, np.arange(len(tested)), about.loc[tested], options)
                    variants.append(frame.assign(mask=mask))
                write_table(folder / f"controls-{fold}.csv", pd.concat(variants))


if __name__ == "__main__":
    run(main)
