"""Class probabilities of the sources whose role is external: data/predictions/external/<name>.csv.

They are predicted by the model that is exported, that of the first fold. sources.csv lists them, even if there are
none.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from _stage import run

from brain_tumor.files import replacing_folder
from brain_tumor.networks.determinism import make_deterministic
from brain_tumor.networks.saving import load_model
from brain_tumor.prediction.predicting import prediction_table
from brain_tumor.tables.csv_tables import write_table
from brain_tumor.tables.store import Store


def main(params, arguments):
    make_deterministic(params.run.threads)
    options = params.predict.model_dump(exclude={"controls"})
    network = load_model(f"models/fold-{params.run.folds[0]}/model.keras")
    with replacing_folder("data/predictions/external") as folder:
        for name in params.data.external:
            store = Store(Path("data/external") / name)
            about = store.index[["path", "source", "label"]].assign(role="external")
            frame = prediction_table(*network, store.images, np.arange(len(about)), about, **options)
            write_table(folder / f"{name}.csv", frame)
            print(f"{name}: {len(frame)} images")
        write_table(folder / "sources.csv", pd.DataFrame({"source": params.data.external}, dtype=str))


if __name__ == "__main__":
    run(main)
