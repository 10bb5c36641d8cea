"""Decode, crop and resize every image once: data/raw -> data/prepared."""

from _stage import run

from brain_tumor.data.preparing import prepare_data_set
from brain_tumor.imaging import Preprocessing


def main(params, arguments):
    options = params.preprocess.model_dump()
    max_rejected = options.pop("max_rejected")
    count = prepare_data_set("data/raw", "data/prepared", Preprocessing(**options), max_rejected)
    print(f"{count} images prepared")


if __name__ == "__main__":
    run(main)
