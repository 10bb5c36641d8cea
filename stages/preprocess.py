"""Decode, crop and resize every image once, corrected by data/fixes.csv: data/raw -> data/prepared."""

from _stage import run

from brain_tumor.imaging.preprocessing import Preprocessing
from brain_tumor.prepare.fixes import read_fixes
from brain_tumor.prepare.preparing import prepare_data_set


def main(params, arguments):
    options = params.preprocess
    preprocessing = Preprocessing(size=options.image_size, crop=options.crop, clip=options.clip)
    fixes = read_fixes("data/fixes.csv")
    count = prepare_data_set("data/raw", "data/prepared", preprocessing, options.max_rejected, fixes)
    print(f"{count} images prepared, {len(fixes)} fixes applied")


if __name__ == "__main__":
    run(main)
