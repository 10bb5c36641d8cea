"""Activation maps: data/maps/fold-<k>.npy, a map per class and test image, and metrics/maps.json.

The maps are float16, (images, height, width, classes), of the main source's images in the order of
data/predictions/test/fold-<k>.csv.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from _stage import run

from brain_tumor.files import replacing_folder, write_json
from brain_tumor.imaging.preprocessing import Preprocessing
from brain_tumor.networks.determinism import make_deterministic
from brain_tumor.networks.saving import load_model
from brain_tumor.probes.saliency import explain, lesion_boxes, saliency_scores
from brain_tumor.tables.csv_tables import read_table
from brain_tumor.tables.store import Store


def main(params, arguments):
    make_deterministic(params.run.threads)
    store = Store("data/prepared")
    boxes = lesion_boxes(Path("data/raw"), params.data.main, Preprocessing(**store.preprocessing))
    options = {"batch_size": params.predict.batch_size, "seed": params.run.seed + 1}
    compared = []
    with replacing_folder("data/maps") as folder:
        for fold in params.run.folds:
            model, _ = load_model(f"models/fold-{fold}/model.keras")
            table = read_table(f"data/predictions/test/fold-{fold}.csv")
            table = table[table["source"] == params.data.main].reset_index(drop=True)
            maps, rows = explain(model, store.images[store.rows(table["path"])], table, boxes, **options)
            np.save(folder / f"fold-{fold}.npy", maps.astype(np.float16))
            # Every model predicts the published test folder, which counts once.
            compared.append(rows[(table["role"] == "test").to_numpy() | (fold == params.run.folds[0])])
            print(f"fold {fold}: {len(table)} images")
    write_json("metrics/maps.json", scores := saliency_scores(pd.concat(compared)))
    print(", ".join(f"{name} {value:.3g}" for name, value in scores.items()))


if __name__ == "__main__":
    run(main)
