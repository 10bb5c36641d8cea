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


def main(params, arguments):
    make_deterministic(params.train.threads)
    store = Store("data/prepared")
    table = read_table("data/split/folds.csv")
    options = params.predict.model_dump(exclude={"controls"})
    with replacing_folder("data/predictions") as folder:
        for fold in params.train.folds:
            model, metadata = load_model(f"models/fold-{fold}/model.keras")
            role = roles(table, fold, params.split.strategy, params.split.on_leak)

            def rated(images, rows, model=model, role=role, classes=metadata["classes"]):
                probabilities = predict(model, images, np.arange(len(images)), **options)
                frame = table.loc[rows, ["path", "label"]].assign(role=role[rows])
                return frame.assign(**{f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)})

            judged = np.flatnonzero(~np.isin(role, ["train", "left_out"]))
            write_table(folder / f"fold-{fold}.csv", rated(store.images[judged], judged))
            print(f"fold {fold}: {len(judged)} images")
            if params.predict.controls:
                tested = np.flatnonzero(role == ("official_test" if params.split.strategy == "official" else "test"))
                variants = [
                    rated(np.stack([masked(store.images[i], mask) for i in tested]), tested).assign(mask=mask)
                    for mask in MASKS
                ]
                write_table(folder / f"controls-{fold}.csv", pd.concat(variants))


if __name__ == "__main__":
    run(main)
