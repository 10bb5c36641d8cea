"""The novelty score of the served network, data/novelty/served.npz, and how well it works: metrics/novelty.json.

How well it works is measured on the networks of the folds. The kinds of non-scans that the method was chosen with are
compared with validation scans, the others with test scans.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from _stage import run

from brain_tumor.drawing.gallery import kinds_html
from brain_tumor.files import replacing_folder, write_json
from brain_tumor.imaging.preprocessing import Preprocessing
from brain_tumor.networks.determinism import make_deterministic
from brain_tumor.prediction.predicting import Predictor
from brain_tumor.probes.novelty import NoveltyTrial
from brain_tumor.progress import bar
from brain_tumor.tables.csv_tables import read_table
from brain_tumor.tables.roles import pool_roles, roles, test_role
from brain_tumor.tables.store import Store


def main(params, arguments):
    make_deterministic(params.run.threads)
    strategy, store, table = params.split.strategy, Store("data/prepared"), read_table("data/split/folds.csv")
    options = {"batch_size": params.predict.batch_size, "flips": params.predict.flips}
    trial = NoveltyTrial(Path("data/raw"), params.data.main, params.novelty.pictures, params.runs_all_folds)
    preprocessing, labels = Preprocessing(**store.preprocessing), table["target"].to_numpy()
    for fold in bar(params.run.folds, desc="novelty", unit="fold"):
        scans = {}
        for part, role in (("validation", "validation"), ("test", test_role(strategy))):
            rows = read_table(f"data/predictions/{part}/fold-{fold}.csv")
            own = (rows["role"] == role).to_numpy()
            scans[part] = rows[own], np.load(f"data/predictions/{part}/features-{fold}.npy")[own]
        learned = roles(table, fold, strategy, params.split.on_leak) == "train"
        predictor = Predictor(f"models/fold-{fold}/model.keras", **options)
        trial.add(predictor.features, store.images[learned], labels[learned], scans, preprocessing)
    known = {}
    if params.runs_all_folds:
        pool = pool_roles(table) == "train"
        served = Predictor("data/served/model.keras", **options)
        known = {"features": served.features(store.images[pool]), "labels": labels[pool]}
    with replacing_folder("data/novelty") as folder:
        np.savez(folder / "served.npz", **asdict(trial.served(**known)))
        kinds_html(folder / "non_scans.html", trial.shown, "Simulated non-scans, of each kind the first four")
    write_json("metrics/novelty.json", scores := trial.scores())
    for part, found in scores.items():
        print(f"{part}: ROC-AUC {found['roc_auc']:.4f}, false alarms at 95 % detection {found['false_alarms']:.4f}")


if __name__ == "__main__":
    run(main)
