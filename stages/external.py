"""Class probabilities of the external test sets in evaluate.external: data/predictions/external/external-<i>.csv.

sets.csv lists them, even if there are none. They are predicted by the model that is exported, that of the first fold.
After the files in a folder changed, run `dvc repro -f external`.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from _stage import run

from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_folder
from brain_tumor.imaging.preprocessing import Preprocessing
from brain_tumor.networks.determinism import make_deterministic
from brain_tumor.networks.saving import load_model
from brain_tumor.prediction.predicting import prediction_table
from brain_tumor.prepare.preparing import prepare_data_set
from brain_tumor.tables.csv_tables import write_table
from brain_tumor.tables.store import Store


def main(params, arguments):
    make_deterministic(params.run.threads)
    paths, options = params.evaluate.external, params.predict.model_dump(exclude={"controls"})
    model, metadata = load_model(f"models/fold-{params.run.folds[0]}/model.keras")
    preprocessing, classes = Preprocessing(**metadata["preprocessing"]), metadata["classes"]
    with replacing_folder("data/predictions/external") as folder, tempfile.TemporaryDirectory() as scratch:
        for i, path in enumerate(paths):
            prepare_data_set(path, Path(scratch) / str(i), preprocessing, params.preprocess.max_rejected)
            store = Store(Path(scratch) / str(i))
            if unknown := sorted(set(store.index["label"]) - set(classes)):
                raise PipelineError(f"expected the classes {classes} in {path}, found {unknown}: rename the folders")
            about, rows = store.index[["path", "label"]].assign(role="external"), np.arange(len(store.index))
            frame = prediction_table(model, metadata, store.images, rows, about, **options)
            write_table(folder / f"external-{i}.csv", frame)
            print(f"{path}: {len(frame)} images")
        sets = [(f"external-{i}.csv", path) for i, path in enumerate(paths)]
        write_table(folder / "sets.csv", pd.DataFrame(sets, columns=["file", "path"]))


if __name__ == "__main__":
    run(main)
