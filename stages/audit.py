"""Find copies, patients and contradicting labels within and between sources: data/audit/ and metrics/audit.json.

groups.csv and joins.csv are about the sources that are learned from, and do not depend on the external ones, each of
which is searched for images that those contain: external.csv.
"""

import sys
from functools import partial
from pathlib import Path

import pandas as pd
from _stage import run

from brain_tumor.audit.copies import find_copies
from brain_tumor.audit.findings import audit_metrics, findings_table, in_lines, pictures
from brain_tumor.audit.galleries import pair_galleries
from brain_tumor.audit.groups import group_table, joined_groups, joined_through, published_facts
from brain_tumor.audit.reading import distinct_views, read_views
from brain_tumor.files import replacing_folder, write_json
from brain_tumor.own_tables.patients import apart_by_zeros, known_patients
from brain_tumor.own_tables.reading import read_own_table
from brain_tumor.tables.csv_tables import read_table, write_table


def main(params, arguments):
    options, data = params.audit, params.data
    learned = read_table("data/prepared/index.csv")
    external = [read_table(Path("data/external") / name / "index.csv") for name in data.external]
    every = pd.concat([learned, *external], ignore_index=True)
    listed = read_own_table("data/patients.csv", ["path", "patient"])
    patients = known_patients(every["path"], listed, options.patients, data.main)
    for names in apart_by_zeros(patients):
        print(
            f"warning: the patients {names} differ by leading zeros only: write them alike if they are one",
            file=sys.stderr,
        )
    patients = patients.set_axis(every["path"])
    views, traits = read_views("data/raw", every, "data")
    searched = partial(
        find_copies,
        hash_distance=options.hash_distance,
        candidates_per_image=options.candidates,
        crops=options.crops,
        least=options.similarity,
    )

    def search(index, known):
        pairs = searched(index, distinct_views(every, views, index), known=known)
        return pairs, patients[index["path"]]

    first = learned[learned["source"] == data.main]
    pairs, own = search(first, 0)
    groups = group_table(first, pairs, own, max_share=options.max_group_share)
    further, own = search(learned, len(first))
    joined, joins = joined_groups(learned, further, own, groups, max_share=options.max_group_share)
    pairs, groups = pd.concat([pairs, further]), pd.concat([groups, joined], ignore_index=True)
    shared = [pd.DataFrame(columns=["path", "source", "label", "copies", "group", "joined"])]
    for index in external:
        both = pd.concat([learned, index], ignore_index=True)
        across, own = search(both, len(learned))
        table, touched = joined_groups(both, across, own, groups, max_share=1.0)
        touched = joined_through(touched, joins)
        table = index[["path", "source", "label"]].merge(table.assign(copies=pictures(table)), on="path")
        shared.append(table.merge(touched, on="group", how="left")[shared[0].columns].fillna(""))

    findings = findings_table(learned, pairs, groups, published_facts(learned), data.main)
    figures = audit_metrics(learned, findings, groups, read_table("data/prepared/fixed.csv"))
    with replacing_folder("data/audit") as folder:
        write_table(folder / "groups.csv", groups)
        write_table(folder / "joins.csv", joins)
        write_table(folder / "external.csv", pd.concat(shared))
        write_table(folder / "findings.csv", findings)
        write_table(folder / "traits.csv", traits[: len(learned)])
        pair_galleries(folder, "data/raw", findings, pairs)
    write_json("metrics/audit.json", figures)
    print("\n".join(in_lines(figures)))


if __name__ == "__main__":
    run(main)
