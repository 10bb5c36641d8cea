"""No patient, no copy and no group of them stands in two folds, whatever the table; every class stands in each."""

import csv
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest

from brain_tumor.data.folds import FOLD_COLUMNS, PROVENANCE, known_patients, merge_groups, roles, split_table
from brain_tumor.errors import PipelineError

FOLDS = 5
NO_FACTS = pd.DataFrame(columns=["path", "sha256", "source", "source_slice", "patient", "group"], dtype=str)


def random_data_set(seed: int, n: int = 900) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An index as the store writes it, and published facts about some of its images.

    A patient has 1 to 20 images, mostly of one class; a quarter of the images has no known patient;
    some files stand twice or more, also across patients, classes and folders; some show the same source slice.
    """
    random = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n), random.integers(1, 21, n))[:n]
    classes = np.array(["glioma", "healthy", "other one"])
    label = classes[random.choice(3, n, p=[0.5, 0.3, 0.2])[patients]]
    label = np.where(random.random(n) < 0.05, random.choice(classes, n), label)
    folder = np.where(random.random(n) < 0.12, "Testing", "Training")
    sha256 = np.array([f"{k:064x}" for k in np.where(random.random(n) < 0.015, random.integers(0, n, n), np.arange(n))])
    index = pd.DataFrame(
        {
            "row": np.arange(n),
            "path": [f"{f}/{c}/{k}.png" for k, (f, c) in enumerate(zip(folder, label, strict=True))],
            "sha256": sha256,
            "label": label,
            "folder": folder,
        }
    )
    known = random.random(n) < 0.75
    slices = np.where(random.random(n) < 0.08, random.integers(0, 200, n).astype(str), "")
    facts = index[["path", "sha256"]].assign(
        source="hospital", source_slice=slices, patient="", group=np.where(known, [f"p{k}" for k in patients], "")
    )
    return index, facts.drop_duplicates("sha256")


def split(tmp_path, index, facts=NO_FACTS, **options) -> pd.DataFrame:
    facts.to_csv(tmp_path / "facts.csv", index=False)
    options = {"strategy": "patient", "folds": FOLDS, "seed": 0, "official_test": "Testing"} | options
    return split_table(index, **options, provenance=tmp_path / "facts.csv")


def connected(n: int, keys: list[list[str]]) -> list[set[int]]:
    """Sets of images joined by shared keys; slow and plain."""
    parent = list(range(n))

    def find(i):
        while parent[i] != i:
            i = parent[i]
        return i

    for key in keys:
        first = {}
        for i, value in enumerate(key):
            if value != "":
                parent[find(i)] = find(first.setdefault(value, i))
    sets = defaultdict(set)
    for i in range(n):
        sets[find(i)].add(i)
    return sorted(sets.values(), key=min)


def pool(n: int = 60, folder: str = "Training", labels: str = "ab") -> pd.DataFrame:
    """Images that have nothing in common."""
    label = [labels[k % len(labels)] for k in range(n)]
    path = [f"{folder}/{c}/{k:03}.png" for k, c in enumerate(label)]
    return pd.DataFrame({"path": path, "sha256": [f"{folder}{k}" for k in range(n)], "label": label, "folder": folder})


# --- folds


@pytest.mark.parametrize("strategy", ["patient", "official"])
@pytest.mark.parametrize("seed", range(6))
def test_nothing_crosses_the_folds(tmp_path, seed, strategy):
    index, facts = random_data_set(seed)
    table = split(tmp_path, index, facts, strategy=strategy, seed=seed)
    assert list(table.columns) == FOLD_COLUMNS
    assert table["path"].tolist() == index["path"].tolist()
    official = (index["folder"] == "Testing").to_numpy()
    assert (table["fold"][official] == "").all()
    assert set(table["fold"][~official]) == {str(k) for k in range(FOLDS)}

    facts = facts.set_index("sha256").loc[index["sha256"]]
    assert table["patient"].tolist() == facts["group"].tolist()
    truth = connected(len(index), [facts["group"].tolist(), index["sha256"].tolist(), facts["source_slice"].tolist()])
    known = facts["group"].to_numpy()
    assert any(len(set(known[sorted(members)]) - {""}) > 1 for members in truth)  # patients were joined
    for members in truth:
        part = table.iloc[sorted(members)]
        assert part["group"].nunique() == 1
        assert part["fold"][part["fold"] != ""].nunique() <= 1
    assert table["group"].nunique() == len(truth)


@pytest.mark.parametrize("strategy, tolerance", [("patient", 0.02), ("random", 0.01)])
@pytest.mark.parametrize("seed", range(6))
def test_every_fold_has_its_share_of_every_class(tmp_path, seed, strategy, tolerance):
    index, facts = random_data_set(seed)
    table = split(tmp_path, index, facts, strategy=strategy)
    table = table[table["fold"] != ""]
    shares = pd.crosstab(table["fold"], table["label"], normalize="columns")
    assert np.abs(shares.to_numpy() - 1 / FOLDS).max() < tolerance


def test_random_folds_leak(tmp_path):
    """What the strategy is there to show; a split by groups would not."""
    index, facts = random_data_set(0)
    table = split(tmp_path, index, facts, strategy="random")
    table = table[table["fold"] != ""]
    assert (table.groupby("group")["fold"].nunique() > 1).mean() > 0.1


@pytest.mark.parametrize("strategy", ["patient", "random"])
def test_the_order_of_the_index_does_not_matter(tmp_path, strategy):
    index, facts = random_data_set(1)
    expected = split(tmp_path, index, facts, strategy=strategy).set_index("path")
    shuffled = index.sample(frac=1, random_state=0)
    for other in (shuffled, shuffled.reset_index(drop=True)):
        got = split(tmp_path, other, facts.sample(frac=1, random_state=1), strategy=strategy)
        assert got["path"].tolist() == other["path"].tolist()
        pd.testing.assert_frame_equal(got.set_index("path").loc[expected.index], expected)


def test_the_seed_decides(tmp_path):
    index, facts = random_data_set(2)
    first, again, other = (split(tmp_path, index, facts, seed=seed)["fold"].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("official_test, in_folds", [("Testing", 60), ("", 70), ("Elsewhere", 70)])
def test_the_official_folder_is_the_one_named(tmp_path, official_test, in_folds):
    index = pd.concat([pool(60), pool(10, "Testing")], ignore_index=True)
    assert (split(tmp_path, index, official_test=official_test)["fold"] != "").sum() == in_folds


# --- roles


@pytest.mark.parametrize("strategy", ["patient", "random"])
def test_the_test_folds_together_are_the_pool(tmp_path, strategy):
    index, facts = random_data_set(3)
    table = split(tmp_path, index, facts, strategy=strategy)
    in_pool = (index["folder"] != "Testing").to_numpy()
    tested, validated = np.zeros(len(index), int), np.zeros(len(index), int)
    for k in range(FOLDS):
        role = roles(table, k, strategy)
        assert set(role) == {"train", "validation", "test", "official_test"}
        assert ((role == "official_test") == ~in_pool).all()
        assert ((role == "test") == (table["fold"] == str(k))).all()
        assert ((role == "validation") == (table["fold"] == str((k + 1) % FOLDS))).all()
        tested += role == "test"
        validated += role == "validation"
        if strategy == "patient":
            used = table[in_pool].assign(role=role[in_pool])
            assert (used.groupby("group")["role"].nunique() == 1).all()
    assert (tested == in_pool).all()
    assert (validated == in_pool).all()


def test_under_official_the_published_folder_is_the_only_test(tmp_path):
    index, facts = random_data_set(4)
    table = split(tmp_path, index, facts, strategy="official")
    for k in range(FOLDS):
        role = roles(table, k, "official")
        assert ((role == "official_test") == (index["folder"] == "Testing")).all()
        assert ((role == "validation") == (table["fold"] == str(k))).all()
        assert set(role) == {"train", "validation", "official_test"}


def test_under_official_there_must_be_a_published_folder(tmp_path):
    with pytest.raises(PipelineError, match="Elsewhere"):
        split(tmp_path, pool(), strategy="official", official_test="Elsewhere")


def test_a_fold_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(PipelineError, match="5"):
        roles(split(tmp_path, pool()), 5, "patient")


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
    got = merge_groups(paths, keys)
    for members in connected(n, [key.tolist() for key in keys]):
        assert set(got[sorted(members)]) == {min(paths[k] for k in members)}
    assert len(set(got)) == len(connected(n, [key.tolist() for key in keys]))


def test_images_without_any_key_stay_alone():
    paths = pd.Series(["c", "a", "b"])
    assert merge_groups(paths, [pd.Series(["", "", ""])]).tolist() == ["c", "a", "b"]


# --- own patients

PATHS = pd.Series(["a/p01_1.png", "a/p01_2.png", "b/p02_1.png", "b/unknown.png"])


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
    assert known_patients(PATHS, expression).tolist() == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_patients_from_a_file(tmp_path, encoding):
    own = tmp_path / "own.csv"
    own.write_text("age,path,patient\n50,b/p02_1.png,007\n,a/p01_1.png,NA\n3,gone.png,1\n,b/unknown.png,\n", encoding)
    assert known_patients(PATHS, str(own)).tolist() == ["NA", "", "007", ""]


@pytest.mark.parametrize(
    "content, said",
    [
        ("path;patient\na/p01_1.png;1\n", "path;patient"),
        ("file,patient\na/p01_1.png,1\n", "file,patient"),
        ("path,patient\nelsewhere/p01_1.png,1\n", "a/p01_1.png"),
        ("path,patient\n", "a/p01_1.png"),
        ("", "path,patient"),
        (None, "not exist"),
    ],
)
def test_a_file_of_patients_that_cannot_be_used(tmp_path, content, said):
    own = tmp_path / "own.csv"
    if content is not None:
        own.write_text(content)
    with pytest.raises(PipelineError) as caught:
        known_patients(PATHS, str(own))
    assert said in str(caught.value)
    assert "own.csv" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("expression", ["(", "(?P<x", "*", "q", "x*", "(zz)?_1"])
def test_an_expression_that_is_wrong_or_gives_no_patient(expression):
    with pytest.raises(PipelineError) as caught:
        known_patients(PATHS, expression)
    assert repr(expression) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_own_patients_hold_the_images_together(tmp_path):
    index = pool(80).assign(path=lambda t: [f"Training/{c}/p{k // 8}_{k}.png" for k, c in enumerate(t["label"])])
    table = split(tmp_path, index, folds=3, groups=r"(p\d+)_")
    assert table["patient"].tolist() == [f"p{k // 8}" for k in range(80)]
    assert (table.groupby("patient")["fold"].nunique() == 1).all()


def test_own_patients_do_not_undo_published_ones(tmp_path):
    """A user who names some patients must not part the images of a patient that is known otherwise."""
    index = pool(60)
    published = np.array([f"published {k // 4}" for k in range(60)])
    facts = index[["path", "sha256"]].assign(source="s", source_slice="", patient="", group=published)
    table = split(tmp_path, index, facts, folds=3, groups=r"(/\w/00\d)\.png")
    assert (table.groupby(published)["fold"].nunique() == 1).all()
    assert table["patient"].tolist() == [f"/{'ab'[k % 2]}/00{k}" if k < 10 else published[k] for k in range(60)]


# --- data that cannot be split


@pytest.mark.parametrize("strategy, unit", [("patient", "groups"), ("random", "images")])
def test_too_few_of_a_class_are_refused(tmp_path, strategy, unit):
    index = pd.concat([pool(40), pool(4, "Rare", labels="c")], ignore_index=True)
    with pytest.raises(PipelineError, match=rf"5 .*{unit}.*'c' has 4"):
        split(tmp_path, index, strategy=strategy)
    assert set(split(tmp_path, index, strategy=strategy, folds=4)["fold"]) == set("0123")


def test_many_images_of_few_patients_are_refused(tmp_path):
    index = pool(80)
    facts = index[["path", "sha256"]].assign(
        source="s", source_slice="", patient="", group=[f"p{k % 8}" for k in range(80)]
    )
    with pytest.raises(PipelineError, match=r"groups.* has 4"):
        split(tmp_path, index, facts)
    assert set(split(tmp_path, index, facts, folds=4)["fold"]) == set("0123")


@pytest.mark.parametrize("in_training", [True, False])
def test_a_class_that_only_the_official_test_has_is_refused(tmp_path, in_training):
    """The network would have an output that nothing was learned for."""
    index = pool(10, "Testing", labels="c" if in_training else "ab")
    if in_training:
        index = pd.concat([pool(60), index], ignore_index=True)
    with pytest.raises(PipelineError, match="has 0"):
        split(tmp_path, index)


def test_the_class_that_a_fold_lacks_is_named(tmp_path):
    """Few, large and mixed groups, which no assignment spreads well."""
    named = 0
    for seed in range(250):
        random = np.random.default_rng(seed)
        index = pool(40).assign(label=random.choice(list("abc"), 40, p=[0.6, 0.25, 0.15]))
        facts = index[["path", "sha256"]].assign(
            source="s", source_slice="", patient="", group=random.integers(0, 9, 40).astype(str)
        )
        try:
            table = split(tmp_path, index, facts, folds=3)
        except PipelineError as error:
            if "came into fold" in str(error):
                assert "'a'" not in str(error)  # 24 of 40 images: no fold lacks it
                named += 1
        else:
            assert (pd.crosstab(table["fold"], table["label"]).reindex(list("012"), fill_value=0) > 0).all(axis=None)
    assert named > 0


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
            {"path": row["path"], "sha256": row["sha256"], "label": label, "folder": folder}
            for row in rows
            for folder, label, _ in [row["path"].split("/")]
        ]
    )
    table = split_table(index, strategy="patient", folds=5, seed=0, official_test="Testing")
    in_pool = table[table["fold"] != ""]
    assert len(in_pool) == 2870
    known = in_pool[in_pool["patient"] != ""]
    assert known["patient"].nunique() == 202
    assert (known.groupby("patient")["fold"].nunique() == 1).all()
    assert (in_pool.groupby("sha256")["fold"].nunique() == 1).all()
    assert pd.crosstab(in_pool["fold"], in_pool["label"]).min(axis=None) > 60
