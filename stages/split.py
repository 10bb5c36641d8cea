"""Assign every image to a fold that no group crosses: data/prepared, data/audit -> data/split/folds.csv."""

import sys

import pandas as pd
from _stage import run

from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_folder
from brain_tumor.own_tables.reading import read_own_table
from brain_tumor.split.folds import split_table
from brain_tumor.split.leaks import leaks
from brain_tumor.tables.csv_tables import read_table, write_table
from brain_tumor.tables.roles import roles


def main(params, arguments):
    options = params.split.model_dump()
    on_leak, strategy = options.pop("on_leak"), params.split.strategy
    index, own = read_table("data/prepared/index.csv"), read_own_table("data/folds.csv", ["path", "fold"])
    groups, joins = read_table("data/audit/groups.csv"), read_table("data/audit/joins.csv")
    table = split_table(index, groups, joins, main=params.data.main, own_folds=own, **options)
    found = [leaks(table, roles(table, k, strategy, on_leak), strategy) for k in range(params.split.folds)]
    leaking = pd.concat(found).drop_duplicates("path")
    if len(leaking):
        first = "; ".join(
            f"{row.path} ({row.role}) and {row.other} ({row.other_role})" for row in leaking[:3].itertuples()
        )
        leak = f"{len(leaking)} images of the split {strategy!r} have a copy or their patient on another side: {first}"
        if on_leak == "fail":
            raise PipelineError(f"{leak}. Set split.on_leak to drop or report, or split.strategy to patient")
        print(f"warning: {leak}. The score cannot be trusted", file=sys.stderr)
    first = table[table["source"] == params.data.main]
    if params.split.official_test and first["folder"].any() and (first["fold"] != "").all():
        print(f"warning: no folder is called split.official_test = {params.split.official_test!r}", file=sys.stderr)
    if (healthy := params.evaluate.healthy_class) and healthy not in set(first["label"]):
        print(
            f"warning: no class is called evaluate.healthy_class = {healthy!r}: no score of tumour vs. no tumour and "
            "no limit of missed tumours; name the class, or '' if there is none",
            file=sys.stderr,
        )
    with replacing_folder("data/split") as folder:
        write_table(folder / "folds.csv", table)
    known = (first["patient"] != "").mean()
    print(pd.crosstab(first["fold"].replace("", "official test"), first["label"]).to_string())
    print(f"{first['group'].nunique()} groups; the patient of {known:.1%} of the images is known")
    for source, part in table[table["source"] != params.data.main].groupby("source"):
        learned, left_out = (part["target"] != "").sum(), (part["fold"] == "").sum()
        print(f"{source}: {learned} of {len(part)} images are learned from, {left_out} left out as they join two folds")


if __name__ == "__main__":
    run(main)
