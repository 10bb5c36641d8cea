"""The network that is served, calibrated, with its thresholds and what it predicts elsewhere: data/served/.

It is the network of all patients, where every fold is run, and that of the first fold otherwise. model.keras is that
network with its calibration, thresholds.json has the calibration and the thresholds (`evaluation.thresholds`).
official_test.csv and <source>.csv are its predictions of the published test folder and of the sources whose role is
external; sources.csv lists the latter, even if there are none.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from _stage import run

from brain_tumor.evaluation.thresholds import HeldOut, Targets
from brain_tumor.files import replacing_folder, write_json
from brain_tumor.networks.classifier import recalibrate
from brain_tumor.networks.determinism import make_deterministic
from brain_tumor.networks.saving import load_model, save_model
from brain_tumor.prediction.predicting import Predictor
from brain_tumor.prediction.tables import SERVED, held_out_part, held_out_predictions
from brain_tumor.tables.csv_tables import read_table, write_table
from brain_tumor.tables.roles import roles
from brain_tumor.tables.store import Store

SPLIT = "data/split/folds.csv"


def main(params, arguments):
    make_deterministic(params.run.threads)
    options, first, all_folds = params.evaluate, params.run.folds[0], params.runs_all_folds
    part = held_out_part(params.split.strategy, all_folds)
    rows = held_out_predictions(f"data/predictions/{part}", SPLIT, params.run.folds, params.data.learned, part)
    targets = Targets(options.target_error, options.target_miss, options.healthy_class)
    thresholds = HeldOut(rows, all_folds, targets).of(SERVED)
    model, metadata = load_model("data/final/model.keras" if all_folds else f"models/fold-{first}/model.keras")
    # In place of the calibration that the network has.
    ratio = thresholds.scale / metadata["calibration"]["scale"]
    recalibrate(model, ratio, thresholds.biases - ratio * np.array(metadata["calibration"]["biases"]))
    metadata["calibration"] = thresholds.as_json()["calibration"]

    store, table = Store("data/prepared"), read_table(SPLIT)
    official = roles(table, first, params.split.strategy, params.split.on_leak) == "official_test"
    with replacing_folder("data/served") as folder:
        save_model(folder / "model.keras", model, metadata)
        write_json(folder / "thresholds.json", thresholds.as_json())
        predict = params.predict
        predictor = Predictor(folder / "model.keras", batch_size=predict.batch_size, flips=predict.flips)
        # Where there is no such folder, the table has the columns of any other, and no row.
        count = official.sum()
        shown = np.flatnonzero(official) if count else [0]
        about = table.loc[shown, ["path", "source", "label"]].assign(role="official_test")
        frame, features = predictor.table(store.images[shown], about)
        write_table(folder / "official_test.csv", frame[:count])
        np.save(folder / "official_test.npy", features[:count])
        for name in params.data.external:
            foreign = Store(Path("data/external") / name)
            about = foreign.index[["path", "source", "label"]].assign(role="external")
            write_table(folder / f"{name}.csv", predictor.table(foreign.images, about)[0])
            print(f"{name}: {len(about)} images")
        write_table(folder / "sources.csv", pd.DataFrame({"source": params.data.external}, dtype=str))
    network, of = ("all patients", "all folds") if all_folds else (f"fold {first}", "that fold")
    print(f"network of {network}; thresholds from the {part} images of {of}")


if __name__ == "__main__":
    run(main)
