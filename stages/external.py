"""Class probabilities of the further data sets in evaluate.external: data/predictions/external/external-<i>.csv.

sets.csv lists them, also where there are none.

They are judged by the model that is exported, that of the first fold. After the files in a folder changed, run
`dvc repro -f external`.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from _stage import quiet_tensorflow, run

quiet_tensorflow("external")

from brain_tumor.data.preparing import prepare_data_set  # noqa: E402
from brain_tumor.data.store import Store  # noqa: E402
from brain_tumor.errors import PipelineError  # noqa: E402
from brain_tumor.files import replacing_folder  # noqa: E402
from brain_tumor.imaging import Preprocessing  # noqa: E402
from brain_tumor.model.determinism import make_deterministic  # noqa: E402
from brain_tumor.model.predicting import prediction_table  # noqa: E402
from brain_tumor.model.saving import load_model  # noqa: E402
from brain_tumor.tables import write_table  # noqa: E402


def main(params, arguments):
    make_deterministic(params.train.threads)
    options = params.predict.model_dump(exclude={"controls"})
    model, metadata = load_model(f"models/fold-{params.train.folds[0]}/model.keras")
    preprocessing, classes = Preprocessing(**metadata["preprocessing"]), metadata["classes"]
    with replacing_folder("data/predictions/external") as folder, tempfile.TemporaryDirectory() as scratch:
        for i, path in enumerate(params.evaluate.external):
            prepare_data_set(path, Path(scratch) / str(i), preprocessing, params.preprocess.max_rejected)
            store = Store(Path(scratch) / str(i))
            if unknown := sorted(set(store.index["label"]) - set(classes)):
                raise PipelineError(f"expected the classes {classes} in {path}, found {unknown}: rename the folders")
            about, rows = store.index[["path", "label"]].assign(role="external"), np.arange(len(store.index))
            frame = prediction_table(model, metadata, store.images, rows, about, **options)
            write_table(folder / f"external-{i}.csv", frame)
            print(f"{path}: {len(frame)} images")
        sets = [(f"external-{i}.csv", path) for i, path in enumerate(params.evaluate.external)]
        write_table(folder / "sets.csv", pd.DataFrame(sets, columns=["file", "path"]))


if __name__ == "__main__":
    run(main)
