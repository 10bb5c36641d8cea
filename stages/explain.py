"""Where the models look: data/maps/fold-<k>.npy, a map per class and test image, and metrics/maps.json.

The maps are float16, (images, height, width, classes), in the order of data/predictions/test/fold-<k>.csv.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from _stage import quiet_tensorflow, run

quiet_tensorflow("explain")

from brain_tumor.audit.brain import brain_region  # noqa: E402
from brain_tumor.data.store import Store  # noqa: E402
from brain_tumor.evaluation.cohorts import class_names, probabilities  # noqa: E402
from brain_tumor.evaluation.looking import look, look_figures, prepared_box  # noqa: E402
from brain_tumor.files import replacing_folder, write_json  # noqa: E402
from brain_tumor.imaging import Preprocessing, decode  # noqa: E402
from brain_tumor.model.determinism import make_deterministic  # noqa: E402
from brain_tumor.model.maps import explained, outputs, randomised  # noqa: E402
from brain_tumor.model.saving import load_model  # noqa: E402
from brain_tumor.tables import read_table  # noqa: E402

RAW = Path("data/raw")


def lesion_boxes(preprocessing):
    """Path -> box of the lesion in the prepared image, where the data set tells: simulated scans do."""
    if not (RAW / "truth.csv").exists():
        return {}
    truth = read_table(RAW / "truth.csv")
    boxes = truth.loc[truth["lesion_x"] != "", ["path", "lesion_x", "lesion_y", "lesion_w", "lesion_h"]]
    return {
        path: prepared_box(decode((RAW / path).read_bytes()), tuple(map(int, box)), preprocessing)
        for path, *box in boxes.itertuples(index=False)
    }


def main(params, arguments):
    make_deterministic(params.train.threads)
    store = Store("data/prepared")
    boxes = lesion_boxes(Preprocessing(**params.preprocess.model_dump(exclude={"max_rejected"})))
    place = {path: row for row, path in enumerate(store.index["path"])}
    looked = []
    with replacing_folder("data/maps") as folder:
        for fold in params.train.folds:
            model, _ = load_model(f"models/fold-{fold}/model.keras")
            table = read_table(f"data/predictions/test/fold-{fold}.csv")
            images = store.images[[place[path] for path in table["path"]]]
            maps = outputs(explained(model), images, params.predict.batch_size)["maps"]
            np.save(folder / f"fold-{fold}.npy", maps.astype(np.float16))

            called = probabilities(table).argmax(axis=1)
            shown = np.arange(len(table)), slice(None), slice(None), called
            # A map of another class than the lesion's is not asked to show it.
            right = np.array(class_names(table))[called] == table["label"]
            nowhere = [np.nan] * 4
            lesions = [boxes.get(path, nowhere) for path in table["path"].where(right)]
            # Another seed than that of training, which began with the weights of its own.
            anew_model = explained(randomised(model, params.train.seed + 1))
            anew = outputs(anew_model, images, params.predict.batch_size)["maps"]
            brains = np.stack([brain_region(image) for image in images])
            # Every model is shown the published test folder, which counts once.
            counted = (table["role"] == "test").to_numpy() | (fold == params.train.folds[0])
            looked.append(look(maps[shown], anew[shown], brains, np.array(lesions))[counted])
            print(f"fold {fold}: {len(table)} images")
    write_json("metrics/maps.json", figures := look_figures(pd.concat(looked)))
    print(", ".join(f"{name} {value:.3g}" for name, value in figures.items()))


if __name__ == "__main__":
    run(main)
