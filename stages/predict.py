"""Class probabilities of every image a fold's model is judged on: data/predictions/fold-<k>.csv."""

import numpy as np
from _stage import quiet_tensorflow, run

quiet_tensorflow("predict")

from brain_tumor.data.folds import roles  # noqa: E402
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
    with replacing_folder("data/predictions") as folder:
        for fold in params.train.folds:
            model, metadata = load_model(f"models/fold-{fold}/model.keras")
            role = roles(table, fold, params.split.strategy)
            judged = np.flatnonzero(role != "train")
            probabilities = predict(model, store.images, judged, **params.predict.model_dump())
            frame = table.loc[judged, ["path", "label"]].assign(role=role[judged])
            for k, name in enumerate(metadata["classes"]):
                frame[f"p_{name}"] = probabilities[:, k]
            write_table(folder / f"fold-{fold}.csv", frame)
            print(f"fold {fold}: {len(judged)} images")


if __name__ == "__main__":
    run(main)
