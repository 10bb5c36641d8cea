"""Decode, crop and resize every image once, corrected by data/fixes.csv: data/raw -> data/prepared, data/external.

data/prepared holds the main source first, then the others that are learned from, by name. Each external source has a
store of its own, data/external/<name>; sources.csv beside them lists them, even if there are none.
"""

from functools import partial

import pandas as pd
from _stage import run

from brain_tumor.files import replacing_folder
from brain_tumor.imaging.preprocessing import Preprocessing
from brain_tumor.prepare.fixes import read_fixes
from brain_tumor.prepare.preparing import prepare_images
from brain_tumor.prepare.sources import source_images
from brain_tumor.tables.csv_tables import write_table
from brain_tumor.tables.labels import classes_in


def main(params, arguments):
    options, data = params.preprocess, params.data
    preprocessing = Preprocessing(size=options.image_size, crop=options.crop, clip=options.clip)
    prepare = partial(prepare_images, "data/raw", preprocessing=preprocessing, max_rejected=options.max_rejected)
    fixes = read_fixes("data/fixes.csv")
    images = {data.main: source_images("data/raw", data.main, data.sources[data.main].labels, None)}
    classes = classes_in(image.label for image in images[data.main])
    for name in data.learned[1:] + data.external:
        images[name] = source_images("data/raw", name, data.sources[name].labels, classes)
    with replacing_folder("data/external") as folder:
        for name in data.external:
            own = {path: fixes.pop(path) for path in list(fixes) if path.startswith(f"{name}/")}
            count = prepare(images[name], folder / name, fixes=own)
            print(f"{name}: {count} images prepared, external, {len(own)} fixes applied")
        write_table(folder / "sources.csv", pd.DataFrame({"source": data.external}, dtype=str))
        # Within the block: where it fails, nothing is left of either.
        count = prepare([image for name in data.learned for image in images[name]], "data/prepared", fixes=fixes)
    print(
        f"{', '.join(data.learned)}: {count} images prepared, {len(fixes)} fixes applied; classes: {', '.join(classes)}"
    )


if __name__ == "__main__":
    run(main)
