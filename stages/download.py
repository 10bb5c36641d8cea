"""Bring a source that params.yaml names to data/raw/<name>, verified and whole.

DATASET_ARCHIVE uses archives that are already there instead of the network: the zip archive or folder of the main
source, or a folder with one archive per source, named after its slug.
"""

import os
from pathlib import Path

from _stage import ROOT, run

from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_folder
from brain_tumor.source.fetching import copy_folder, fetch_kaggle, own_archive
from brain_tumor.source.phantoms.planting import draw_data_set
from brain_tumor.source.phantoms.second import draw_second_set

_PHANTOMS = {"": draw_data_set, ":second": draw_second_set}


def main(params, arguments):
    name, data = arguments.source, params.data
    if name not in data.sources:
        raise PipelineError(f"expected one of data.sources: {sorted(data.sources)}, received {name!r}")
    kind, place = data.sources[name].kind
    target = Path("data/raw") / name
    wanted = {"classes": 2 if name == data.main else 1, "named": data.sources[name].labels.keys()}
    if arguments.accept and kind != "kaggle":
        raise PipelineError(f"expected a Kaggle set to accept, received {data.sources[name].dataset}: no manifest")
    if kind == "phantoms":
        with replacing_folder(target) as folder:
            _PHANTOMS[place](folder, **params.phantoms.model_dump())
    elif kind == "folder":
        copy_folder(Path(place).expanduser(), target, **wanted)
    else:
        archive = own_archive(os.environ.get("DATASET_ARCHIVE"), place, main=name == data.main)
        options = data.model_dump(include={"retries", "stall_seconds"})
        options |= {"accept": arguments.accept} | wanted
        fetch_kaggle(place, target, archive, ROOT / "manifests", **options)


if __name__ == "__main__":
    run(main, "source", accept="take the files as they come and rewrite their manifest")
