"""Assign every image to a fold that no patient crosses: data/prepared -> data/split/folds.csv."""

import sys

import pandas as pd
from _stage import run

from brain_tumor.data.folds import split_table
from brain_tumor.files import replacing_folder
from brain_tumor.tables import read_table, write_table


def main(params, arguments):
    table = split_table(read_table("data/prepared/index.csv"), **params.split.model_dump())
    with replacing_folder("data/split") as folder:
        write_table(folder / "folds.csv", table)
    if params.split.strategy == "random":
        print(
            "warning: split.strategy is 'random': patients and copies cross the folds, the score is not to be believed",
            file=sys.stderr,
        )
    if params.split.official_test and table["folder"].any() and (table["fold"] != "").all():
        print(f"warning: no folder is called split.official_test = {params.split.official_test!r}", file=sys.stderr)
    known = (table["patient"] != "").mean()
    print(pd.crosstab(table["fold"].replace("", "official test"), table["label"]).to_string())
    print(f"{table['group'].nunique()} groups; the patient of {known:.1%} of the images is known")


if __name__ == "__main__":
    run(main)
