"""The novelty score of each model: data/novelty/fold-<k>.npz, and how well it works: metrics/novelty.json.

It is fitted on training images of the main source; its threshold comes from its validation images. The kinds of
non-scans that the method was chosen with are compared with validation scans, the others with test scans.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from _stage import run

from brain_tumor.drawing.gallery import kinds_png
from brain_tumor.files import replacing_folder, write_json
from brain_tumor.imaging.preprocessing import Preprocessing
from brain_tumor.networks.determinism import make_deterministic
from brain_tumor.networks.saving import load_model
from brain_tumor.prediction.maps import feature_extractor
from brain_tumor.probes.novelty import NoveltyTrial
from brain_tumor.progress import bar
from brain_tumor.tables.csv_tables import read_table
from brain_tumor.tables.roles import roles, test_role
from brain_tumor.tables.store import Store


def main(params, arguments):
    make_deterministic(params.run.threads)
    strategy, store, table = params.split.strategy, Store("data/prepared"), read_table("data/split/folds.csv")
    trial, preprocessing = NoveltyTrial(Path("data/raw"), params.novelty.pictures), Preprocessing(**store.preprocessing)
    with replacing_folder("data/novelty") as folder:
        for fold in bar(params.run.folds, desc="novelty", unit="fold"):
            model, _ = load_model(f"models/fold-{fold}/model.keras")
            about = table[["path", "label"]].assign(role=roles(table, fold, strategy, params.split.on_leak))
            about["role"] = about["role"].where(table["source"] == params.data.main, "left_out")
            features = feature_extractor(model, params.predict.batch_size)
            novelty = trial.add(features, store.images, about, test_role(strategy), preprocessing)
            np.savez(folder / f"fold-{fold}.npz", **asdict(novelty))
        kinds_png(folder / "non_scans.png", trial.shown)
    write_json("metrics/novelty.json", scores := trial.scores())
    for part, found in scores.items():
        print(f"{part}: ROC-AUC {found['roc_auc']:.4f}, false alarms at 95 % detection {found['false_alarms']:.4f}")


if __name__ == "__main__":
    run(main)
