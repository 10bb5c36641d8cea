"""Bring the data set that params.yaml names to data/raw, verified and whole.

DATASET_ARCHIVE=/path/to/zip-or-folder takes an archive that is already there instead of Kaggle.
"""

import os
from pathlib import Path

from _stage import ROOT, run

from brain_tumor.data import phantoms, sources
from brain_tumor.files import replacing_folder

TARGET = Path("data/raw")


def main(params, arguments):
    if params.data.dataset == "phantoms":
        with replacing_folder(TARGET) as folder:
            phantoms.draw_data_set(folder, **params.phantoms.model_dump())
        return
    archive = os.environ.get("DATASET_ARCHIVE")
    sources.fetch(
        params.data.dataset,
        TARGET,
        archive=Path(archive) if archive else None,
        manifests=ROOT / "manifests",
        retries=params.data.retries,
        stall_seconds=params.data.stall_seconds,
        accept=arguments.accept,
    )


if __name__ == "__main__":
    run(main, accept="take the content as it comes and rewrite its manifest")
