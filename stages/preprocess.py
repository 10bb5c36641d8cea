"""Decode, crop and resize every image once, as data/fixes.csv corrects it: data/raw -> data/prepared."""

from _stage import run

from brain_tumor.data.fixes import read_fixes
from brain_tumor.data.preparing import prepare_data_set
from brain_tumor.imaging import Preprocessing


def main(params, arguments):
    options = params.preprocess.model_dump()
    max_rejected = options.pop("max_rejected")
    fixes = read_fixes("data/fixes.csv")
    count = prepare_data_set("data/raw", "data/prepared", Preprocessing(**options), max_rejected, fixes)
    print(f"{count} images prepared, {len(fixes)} fixes applied")


if __name__ == "__main__":
    run(main)
