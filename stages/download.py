"""Bring the data set that params.yaml names to data/raw, verified and whole.

DATASET_ARCHIVE=/path/to/zip-or-folder uses an archive of a Kaggle set that is already there instead of the network.
"""

import os
from pathlib import Path

from _stage import ROOT, run

from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_folder
from brain_tumor.source.fetching import copy_folder, fetch_kaggle
from brain_tumor.source.phantoms.planting import draw_data_set

TARGET = Path("data/raw")


def main(params, arguments):
    kind, name = params.data.source
    if arguments.accept and kind != "kaggle":
        raise PipelineError(f"expected a Kaggle set to accept, received {params.data.dataset}: it has no manifest")
    if kind == "phantoms":
        with replacing_folder(TARGET) as folder:
            draw_data_set(folder, **params.phantoms.model_dump())
    elif kind == "folder":
        copy_folder(Path(name).expanduser(), TARGET)
    else:
        archive = Path(given).expanduser() if (given := os.environ.get("DATASET_ARCHIVE")) else None
        options = params.data.model_dump(exclude={"dataset"})
        fetch_kaggle(name, TARGET, archive, ROOT / "manifests", accept=arguments.accept, **options)


if __name__ == "__main__":
    run(main, accept="take the files as they come and rewrite their manifest")
