"""Class probabilities of held-out images by each fold's model: data/predictions/<part>/fold-<k>.csv.

The part "validation" is what recipes are chosen by, "test" the test fold and the published test folder; they are
separate so that a search computes no test score. With predict.controls also those of perturbed images of the main
source, from a single view of each, controls-<k>.csv. features-<k>.npy has the (images, features) of the network for the
rows of fold-<k>.csv.
"""

import numpy as np
from _stage import run

from brain_tumor.files import replacing_folder
from brain_tumor.networks.determinism import make_deterministic
from brain_tumor.prediction.held_out import predict_controls, predict_part
from brain_tumor.prediction.predicting import Predictor
from brain_tumor.tables.csv_tables import read_table, write_table
from brain_tumor.tables.roles import roles, test_role
from brain_tumor.tables.store import Store


def main(params, arguments):
    make_deterministic(params.run.threads)
    part, strategy, flips, size = arguments.part, params.split.strategy, params.predict.flips, params.predict.batch_size
    perturbed = "validation" if part == "validation" else test_role(strategy)
    images, table = Store("data/prepared").images, read_table("data/split/folds.csv")
    with replacing_folder(f"data/predictions/{part}") as folder:
        for fold in params.run.folds:
            path = f"models/fold-{fold}/model.keras"
            about = table[["path", "source", "label"]]
            about = about.assign(role=roles(table, fold, strategy, params.split.on_leak))
            frame, features = predict_part(Predictor(path, batch_size=size, flips=flips), images, about, part)
            write_table(folder / f"fold-{fold}.csv", frame)
            np.save(folder / f"features-{fold}.npy", features)
            print(f"fold {fold}: {len(frame)} images")
            if params.predict.controls:
                shown = (about["role"] == perturbed) & (about["source"] == params.data.main)
                single = Predictor(path, batch_size=size, flips=False)
                write_table(folder / f"controls-{fold}.csv", predict_controls(single, images, about, part, shown))


if __name__ == "__main__":
    run(main, "part")
