"""No patient, no copy and no group of them stands in two folds, whatever the table; every class stands in each."""

import numpy as np
import pandas as pd
import pytest
from scan_tables import FOLDS, connected, pool, random_data_set, split

from brain_tumor.errors import PipelineError
from brain_tumor.split.folds import FOLD_COLUMNS
from brain_tumor.split.leaks import leaks
from brain_tumor.tables.roles import pool_roles, roles

# --- folds


@pytest.mark.parametrize("strategy", ["patient", "official"])
@pytest.mark.parametrize("seed", range(6))
def test_nothing_crosses_the_folds(tmp_path, seed, strategy):
    index, facts = random_data_set(seed)
    table = split(tmp_path, index, facts, strategy=strategy, seed=seed)
    assert list(table.columns) == FOLD_COLUMNS
    assert table["path"].tolist() == index["path"].tolist()
    assert table["target"].tolist() == index["label"].tolist()  # what one source says of its images is learned
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
        role = roles(table, k, strategy, "report")
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


@pytest.mark.parametrize("strategy", ["patient", "random", "official"])
def test_a_network_of_all_patients_learns_from_what_the_folds_learn_from_but_for_the_published_folder(
    tmp_path, strategy
):
    index, facts = random_data_set(5)
    table = split(tmp_path, index, facts, strategy=strategy)
    # Some images have nothing to learn, as of sources that overlap.
    lacking, official = np.random.default_rng(0).random(len(table)) < 0.2, (index["folder"] == "Testing").to_numpy()
    table.loc[lacking & ~official, "target"] = ""
    in_a_fold = np.zeros(len(table), bool)
    for k in range(FOLDS):
        in_a_fold |= roles(table, k, strategy, "report") == "train"
    assert (in_a_fold == ~lacking & ~official).all()
    role = pool_roles(table)
    assert set(role) == {"train", "left_out"}

    truth = facts.set_index("sha256").loc[index["sha256"]]
    connections = [truth["group"].tolist(), index["sha256"].tolist(), truth["source_slice"].tolist()]
    touching = np.zeros(len(table), bool)
    for members in map(sorted, connected(len(index), connections)):
        touching[members] = official[members].any()
    assert 0 < (in_a_fold & touching).sum() < in_a_fold.sum()
    assert ((role == "train") == in_a_fold & ~touching).all()


def test_under_official_the_published_folder_is_the_only_test(tmp_path):
    index, facts = random_data_set(4)
    table = split(tmp_path, index, facts, strategy="official")
    for k in range(FOLDS):
        role = roles(table, k, "official", "report")
        assert ((role == "official_test") == (index["folder"] == "Testing")).all()
        assert ((role == "validation") == (table["fold"] == str(k))).all()
        assert set(role) == {"train", "validation", "official_test"}


def test_under_official_there_must_be_a_published_folder(tmp_path):
    with pytest.raises(PipelineError, match="Elsewhere"):
        split(tmp_path, pool(), strategy="official", official_test="Elsewhere")


def test_a_fold_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(PipelineError, match="5"):
        roles(split(tmp_path, pool()), 5, "patient", "fail")


# --- leaks


def plain_leaks(table: pd.DataFrame, role: np.ndarray, order: list[str]) -> set[str]:
    """Paths of images that stand before another of their group in `order`; slow and plain."""
    found = set()
    for i, mine in enumerate(role):
        for j, other in enumerate(role):
            ordered = mine in order and other in order and order.index(mine) < order.index(other)
            if ordered and table["group"].iloc[i] == table["group"].iloc[j]:
                found.add(table["path"].iloc[i])
    return found


@pytest.mark.parametrize("strategy, judged", [("random", "test"), ("official", "official_test"), ("patient", "test")])
@pytest.mark.parametrize("seed", range(2))
def test_leaks_are_found_and_dropped(tmp_path, strategy, judged, seed):
    index, facts = random_data_set(seed, 400)
    table = split(tmp_path, index, facts, strategy=strategy)
    order = [judged, "validation", "train"]
    for fold in (0, 3):
        role = roles(table, fold, strategy, "report")
        found = leaks(table, role, strategy)
        assert set(found["path"]) == plain_leaks(table, role, order)
        assert found["path"].is_unique
        assert (strategy == "patient") == found.empty
        group, copies = (dict(zip(table["path"], table[name], strict=True)) for name in ("group", "copies"))
        for row in found.itertuples():
            assert group[row.path] == group[row.other]
            assert order.index(row.role) < order.index(row.other_role)
            assert (row.by == "copy") == (copies[row.path] == copies[row.other] != "")

        dropped = roles(table, fold, strategy, "drop")
        assert leaks(table, dropped, strategy).empty
        changed = role != dropped
        assert (dropped[changed] == "left_out").all()
        assert not changed[role == judged].any()  # what is judged stays whole
        without = table[np.isin(role, order[1:])]
        tested = set(table["group"][role == judged])
        assert set(without["path"][without["group"].isin(tested)]) <= set(table["path"][changed])


def test_a_drop_that_leaves_nothing_is_refused(tmp_path):
    index = pool(12).assign(sha256=[f"{k // 3}" for k in range(12)])
    table = split(tmp_path, index, strategy="own", folds=3, own_folds=own_split(index, list("012") * 4))
    with pytest.raises(PipelineError, match="leaves no validation image in fold 0"):
        roles(table, 0, "own", "drop")


# --- a split of the user


def own_split(index: pd.DataFrame, folds: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"path": index["path"], "fold": folds}, dtype=str)


def test_a_split_of_the_user_is_taken_as_it_is(tmp_path):
    index = pd.concat([pool(30), pool(10, "Testing")], ignore_index=True)
    folds = [str(k % 4) for k in range(30)]
    table = split(tmp_path, index, strategy="own", folds=4, own_folds=own_split(index.iloc[:30], folds))
    assert table["fold"].tolist() == folds + [""] * 10


def test_a_split_of_the_user_may_name_its_parts(tmp_path):
    parts = ["train", "train", "validation", "test", "train"] * 6
    index = pool(30)
    table = split(tmp_path, index, strategy="own", folds=3, own_folds=own_split(index, parts))
    assert roles(table, 0, "own", "fail").tolist() == parts


@pytest.mark.parametrize(
    "rows, folds, said",
    [
        (slice(0, 29), "012" * 10, "'scans/Training/b/029.png' and 0 others are missing"),
        (slice(0, 30), "012" * 9 + "01x", "'x'"),
        (slice(0, 30), "01" * 15, "['0', '1']"),
        (slice(0, 0), "012" * 10, "and 29 others"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(tmp_path, rows, folds, said):
    index = pool(30)
    own = own_split(index[rows], list(folds)[rows])
    with pytest.raises(PipelineError) as caught:
        split(tmp_path, index, strategy="own", folds=3, own_folds=own)
    assert said in str(caught.value)


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
