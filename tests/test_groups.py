"""Images of one patient and of one picture are of one group, over any number of steps; nothing else is."""

import csv
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from scan_tables import MAIN, NO_JOINS, connected, grouped, identical, pool, random_data_set, split

from brain_tumor.audit.groups import GROUP_COLUMNS, PROVENANCE, group_table, merge_groups
from brain_tumor.errors import PipelineError
from brain_tumor.own_tables.patients import known_patients
from brain_tumor.own_tables.reading import read_own_table
from brain_tumor.split.folds import split_table

NO_LINKS = (np.empty(0, int), np.empty(0, int))
NOBODY = pd.DataFrame(columns=["path", "patient"], dtype=str)

# --- groups


@pytest.mark.parametrize("seed", range(20))
def test_groups_agree_with_a_plain_union_find(seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 80))
    paths = pd.Series([f"{k:04}.png" for k in random.permutation(n)])
    # The same values in every key: "3" of one is not "3" of another.
    keys = [
        pd.Series([str(v) if v else "" for v in random.integers(0, random.integers(1, 3 * n + 2), n)]) for _ in range(3)
    ]
    links = random.integers(0, n, (2, int(random.integers(0, n))))
    got = merge_groups(paths, keys, tuple(links))
    linked = [["" if k not in pair else "linked" for k in range(n)] for pair in links.T]
    truth = connected(n, [key.tolist() for key in keys] + linked)
    for members in truth:
        assert set(got[sorted(members)]) == {min(paths[k] for k in members)}
    assert len(set(got)) == len(truth)


def test_images_without_any_key_stay_alone():
    paths = pd.Series(["c", "a", "b"])
    assert merge_groups(paths, [pd.Series(["", "", ""])], NO_LINKS).tolist() == ["c", "a", "b"]


@pytest.mark.parametrize("seed", range(3))
def test_a_group_says_what_holds_it_together(tmp_path, seed):
    index, facts = random_data_set(seed)
    table = grouped(tmp_path, index, facts)
    assert list(table.columns) == GROUP_COLUMNS
    known = facts.set_index("sha256").loc[index["sha256"]]
    same_picture = connected(len(index), [index["sha256"].tolist(), known["source_slice"].tolist()])
    for members in same_picture:
        copies = set(table["copies"].iloc[sorted(members)])
        assert copies == ({min(index["path"].iloc[k] for k in members)} if len(members) > 1 else {""})
    for _, part in table.groupby("group"):
        kind = "patient" if (part["patient"] != "").any() else "copy" if len(part) > 1 else "single"
        assert set(part["kind"]) == {kind}
    assert set(table["kind"]) == {"patient", "copy", "single"}


def test_pairs_that_were_not_accepted_join_nothing(tmp_path):
    index, own = pool(4), pd.Series([""] * 4)
    pairs = pd.DataFrame(
        {
            "kind": ["copy", "look_alike"],
            "path": list(index["path"][:2]),
            "other": list(index["path"][2:]),
            "score": 0.9,
        }
    )
    table = group_table(index, pairs, own, max_share=1.0)
    assert table["group"].nunique() == 3
    assert table["copies"].tolist() == [index["path"][0], "", index["path"][0], ""]


def test_a_chain_that_swallows_everything_is_refused(tmp_path):
    index = pool(40).assign(sha256=[f"{max(k, 9)}" for k in range(40)])  # ten files of one content
    assert grouped(tmp_path, index, max_share=0.25)["group"].value_counts().max() == 10
    with pytest.raises(PipelineError, match=r"one of 10 \(25\.0%\) around 'scans/Training/a/000\.png'"):
        grouped(tmp_path, index, max_share=0.24)


# --- own patients

PATHS = pd.Series([f"{MAIN}/{name}.png" for name in ("a/p01_1", "a/p01_2", "b/p02_1", "b/unknown")])


@pytest.mark.parametrize(
    "expression, expected",
    [
        (r"(p\d+)_", ["p01", "p01", "p02", ""]),
        (r"p\d+", ["p01", "p01", "p02", ""]),
        (r"(p02)?_1", ["", "", "p02", ""]),
        (r"^(\w)/", ["a", "a", "b", "b"]),
    ],
)
def test_patients_by_an_expression(expression, expected):
    assert known_patients(PATHS, NOBODY, expression, MAIN).tolist() == expected


def test_the_same_number_in_another_source_is_another_patient():
    both = pd.concat([PATHS, PATHS.str.replace(MAIN, "others")], ignore_index=True)
    found = known_patients(both, NOBODY, r"(p\d+)_", MAIN).tolist()
    assert found == ["p01", "p01", "p02", "", "others/p01", "others/p01", "others/p02", ""]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_patients_from_a_table(tmp_path, encoding):
    (tmp_path / "own.csv").write_text(
        "age,path,patient\n50,scans/b/p02_1.png,007\n,scans/a/p01_1.png,NB\n,scans/b/unknown.png,\n", encoding
    )
    own = read_own_table(tmp_path / "own.csv", ["path", "patient"])
    assert known_patients(PATHS, own, None, MAIN).tolist() == ["NB", "", "007", ""]
    assert known_patients(PATHS, own, r"(p\d+)_", MAIN).tolist() == ["NB", "p01", "007", ""]


@pytest.mark.parametrize(
    "rows, said",
    [
        ([("elsewhere/a/p01_1.png", "1")], "elsewhere/a/p01_1.png"),
        ([("scans/a/p01_1.png", "1"), ("scans/a/p01_1.png", "2")], "several"),
    ],
)
def test_a_table_of_patients_that_does_not_fit(rows, said):
    with pytest.raises(PipelineError, match=said):
        known_patients(PATHS, pd.DataFrame(rows, columns=["path", "patient"]), None, MAIN)


@pytest.mark.parametrize("expression", ["(", "(?P<x", "*", "q", "x*", "(zz)?_1"])
def test_an_expression_that_is_wrong_or_gives_no_patient(expression):
    with pytest.raises(PipelineError) as caught:
        known_patients(PATHS, NOBODY, expression, MAIN)
    assert repr(expression) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_own_patients_hold_the_images_together(tmp_path):
    index = pool(80).assign(path=lambda t: [f"{MAIN}/Training/{c}/p{k // 8}_{k}.png" for k, c in enumerate(t["label"])])
    table = split(tmp_path, index, folds=3, expression=r"(p\d+)_")
    assert table["patient"].tolist() == [f"p{k // 8}" for k in range(80)]
    assert (table.groupby("patient")["fold"].nunique() == 1).all()


def test_own_patients_do_not_undo_published_ones(tmp_path):
    """A user who names some patients must not part the images of a patient that is known otherwise."""
    index = pool(60)
    published = np.array([f"published {k // 4}" for k in range(60)])
    facts = index[["path", "sha256"]].assign(source="s", source_slice="", patient="", group=published)
    table = split(tmp_path, index, facts, folds=3, expression=r"(/\w/00\d)\.png")
    assert (table.groupby(published)["fold"].nunique() == 1).all()
    assert table["patient"].tolist() == [f"/{'ab'[k % 2]}/00{k}" if k < 10 else published[k] for k in range(60)]


# --- the published facts that come with the library


def published() -> list[dict]:
    with open(PROVENANCE, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_published_patients():
    rows = published()
    assert len(rows) == 3264
    training = [row for row in rows if row["path"].startswith("Training/")]
    assert len({row["group"] for row in training} - {""}) == 202
    groups, patients = defaultdict(set), defaultdict(set)
    for row in rows:
        assert len(row["sha256"]) == 64
        assert (row["group"] == "") == (row["patient"] == "")
        groups[row["sha256"]].add(row["group"])
        if row["patient"]:
            patients[row["patient"]].add(row["group"])
    assert all(len(found) == 1 for found in groups.values())
    assert all(len(found) == 1 for found in patients.values())  # variants of a number are merged, never parted


def test_the_published_patients_do_not_cross_the_folds():
    """The real table of the Kaggle set, through the packaged facts."""
    rows = published()
    index = pd.DataFrame(
        [
            {"path": f"{MAIN}/{row['path']}", "sha256": row["sha256"], "source": MAIN, "label": label, "folder": folder}
            for row in rows
            for folder, label, _ in [row["path"].split("/")]
        ]
    )
    nobody = pd.Series("", index=index.index)
    groups = group_table(index, identical(index), nobody, max_share=0.1)
    nothing = pd.DataFrame(columns=["path", "fold"], dtype=str)
    options = {"folds": 5, "seed": 0, "official_test": "Testing", "own_folds": nothing}
    table = split_table(index, groups, NO_JOINS, main=MAIN, strategy="patient", **options)
    in_pool = table[table["fold"] != ""]
    assert len(in_pool) == 2870
    known = in_pool[in_pool["patient"] != ""]
    assert known["patient"].nunique() == 202
    assert (known.groupby("patient")["fold"].nunique() == 1).all()
    assert (in_pool.groupby("sha256")["fold"].nunique() == 1).all()
    assert pd.crosstab(in_pool["fold"], in_pool["label"]).min(axis=None) > 60
