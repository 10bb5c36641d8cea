"""Images of several sources: groups, folds and targets of those beside the main one, by planted truth."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run
from planted import KINDS, plant
from ruamel.yaml import YAML
from settings import preprocessing

from brain_tumor.audit.copies import COPY, COPY_COLUMNS, IDENTICAL, LOOK_ALIKE, find_copies
from brain_tumor.audit.findings import (
    FINDING_COLUMNS,
    LABEL_CONFLICT,
    PATIENT_CONFLICT,
    SOURCE_CONFLICT,
    findings_table,
)
from brain_tumor.audit.galleries import pair_galleries
from brain_tumor.audit.groups import group_table, joined_groups
from brain_tumor.audit.reading import distinct_views, read_views
from brain_tumor.errors import PipelineError
from brain_tumor.imaging.decoding import decode
from brain_tumor.params import load_params
from brain_tumor.prepare.preparing import prepare_images
from brain_tumor.prepare.sources import source_images
from brain_tumor.source.phantoms.planting import draw_data_set
from brain_tumor.source.phantoms.scanner import PLANES, draw_scan
from brain_tumor.split.folds import split_table
from brain_tumor.tables.csv_tables import read_table
from brain_tumor.tables.roles import roles

PARAMS = load_params(ROOT / "params.yaml").audit
TUMOURS = ["glioma", "meningioma", "pituitary"]
OPTIONS = {"strategy": "patient", "folds": 3, "seed": 0, "official_test": "Testing"}

# --- folds and targets, from tables


def main_images(patients: int = 6) -> pd.DataFrame:
    """Two slices of each patient of two classes in the pool, and one of a patient in Testing."""
    rows = [
        (f"main/Training/{label}/{k}_{i}.png", "Training", label, f"{label} {k}")
        for label in ("glioma", "no_tumor")
        for k in range(patients)
        for i in range(2)
    ]
    rows += [("main/Testing/glioma/t.png", "Testing", "glioma", "tested")]
    return pd.DataFrame(rows, columns=["path", "folder", "label", "patient"], dtype=str).assign(source="main")


def other_images(source: str = "other", /, **files: str) -> pd.DataFrame:
    """Images of a further source: name of the file -> label; the patients are unknown."""
    rows = [(f"{source}/{name}.png", "", label, "") for name, label in files.items()]
    return pd.DataFrame(rows, columns=["path", "folder", "label", "patient"], dtype=str).assign(source=source)


def placed(other: pd.DataFrame, pairs: list[tuple[str, str]], patients: dict[str, str] | None = None, **options):
    """The split of the main images and others, where `pairs` show the same picture."""
    first = main_images()
    index = pd.concat([first, other], ignore_index=True)
    index["sha256"] = index["path"]
    found = pd.DataFrame(pairs, columns=["path", "other"]).assign(kind="copy")
    own = (index["patient"].where(~index["path"].isin(patients or {}), index["path"].map(patients or {}))).fillna("")
    inside = found["path"].str.startswith("main/") & found["other"].str.startswith("main/")
    groups = group_table(index[: len(first)], found[inside], own[: len(first)], max_share=1.0)
    further, joins = joined_groups(index, found[~inside], own, groups, max_share=1.0)
    groups = pd.concat([groups, further], ignore_index=True)
    table = split_table(index, groups, joins, main="main", own_folds=None, **OPTIONS | options)
    return table.set_index("path")


A, B, T = "main/Training/glioma/0_0.png", "main/Training/glioma/1_0.png", "main/Testing/glioma/t.png"
PARTIAL = "glioma|pituitary"


def two_folds() -> tuple[str, str]:
    """Two images of the main source that are in different folds."""
    table = placed(other_images(), [])
    first = table.loc[A, "fold"]
    return A, next(path for path, row in table.iterrows() if row["fold"] not in ("", first))


def test_what_is_added_changes_nothing_of_the_main_source():
    alone = placed(other_images(), [])
    a, b = two_folds()
    other = other_images(**{f"x{i}": PARTIAL for i in range(20)}, bridge="glioma", copy="glioma", tested="glioma")
    pairs = [("other/bridge.png", a), ("other/bridge.png", b), ("other/copy.png", a), ("other/tested.png", T)]
    both = placed(other, pairs)
    pd.testing.assert_frame_equal(both[both["source"] == "main"], alone, check_dtype=False)


def test_a_copy_goes_to_the_fold_of_its_original_and_is_learned_once():
    table = placed(other_images(copy=PARTIAL, more=PARTIAL), [("other/copy.png", A), (B, "other/more.png")])
    for name, original in (("copy", A), ("more", B)):
        row = table.loc[f"other/{name}.png"]
        assert (row["fold"], row["group"]) == (table.loc[original, "fold"], table.loc[original, "group"])
        assert row["copies"] == original and row["target"] == ""
        assert table.loc[original, "target"] == "glioma"


def test_a_picture_that_brings_two_folds_together_is_left_out():
    a, b = two_folds()
    chain = [("other/x.png", a), ("other/x.png", "other/y.png"), ("other/y.png", b)]
    table = placed(other_images(x="glioma", y="glioma", z="glioma"), chain)
    for name in ("x", "y"):
        assert (table.loc[f"other/{name}.png", ["fold", "target"]] == "").all()
    assert table.loc["other/z.png", "fold"] != "" and table.loc["other/z.png", "target"] == "glioma"
    for k in range(3):
        role = pd.Series(roles(table.reset_index(), k, "patient", "fail"), table.index)
        assert role["other/x.png"] == role["other/y.png"] == "left_out"


@pytest.mark.parametrize("way", ["copy", "copy of a copy", "patient"])
def test_nothing_that_touches_the_published_test_is_learned_from(way):
    other = other_images(x=PARTIAL, y=PARTIAL)
    pairs = {"copy": [("other/x.png", T)], "copy of a copy": [("other/x.png", "other/y.png"), ("other/y.png", T)]}
    table = placed(other, pairs.get(way, []), {"other/x.png": "tested"} if way == "patient" else None)
    assert table.loc["other/x.png", "target"] == "" and table.loc["other/x.png", "fold"] != ""
    seen = {roles(table.reset_index(), k, "patient", "fail")[list(table.index).index("other/x.png")] for k in range(3)}
    assert seen == {"test", "left_out"}, "it is tested on once, and never learned from or validated with"


def test_files_of_a_picture_are_learned_from_once_with_what_they_agree_on():
    other = other_images(a="glioma|meningioma", b="glioma|pituitary", c="no_tumor", d=PARTIAL, e="pituitary")
    pairs = [("other/a.png", "other/b.png"), ("other/c.png", "other/d.png")]
    target = placed(other, pairs)["target"]
    assert target["other/a.png"] == "glioma" and target["other/b.png"] == ""
    assert target["other/c.png"] == target["other/d.png"] == "", "they contradict each other"
    assert target["other/e.png"] == "pituitary"


def test_a_partial_label_of_a_copy_does_not_weaken_the_label_of_the_main_source():
    table = placed(other_images(a="pituitary", b=PARTIAL), [("other/a.png", A), ("other/b.png", B)])
    assert table.loc[A, "target"] == table.loc[B, "target"] == "glioma"


def test_the_rest_is_spread_evenly_over_the_folds_and_groups_stay_together():
    other = other_images(**{f"y{i:02}": PARTIAL for i in range(31)}, **{f"n{i:02}": "no_tumor" for i in range(10)})
    pairs = [(f"other/y{i:02}.png", f"other/y{i + 1:02}.png") for i in range(0, 10, 2)]
    table = placed(other, pairs)
    rows = table[table["source"] == "other"]
    counts = pd.crosstab(rows["fold"], rows["label"])
    assert set(counts.index) == {"0", "1", "2"} and ((counts.max() - counts.min()) <= 1).all()
    assert (rows.groupby("group")["fold"].nunique() == 1).all() and rows["group"].nunique() == 41 - 5
    again = placed(other.sample(frac=1, random_state=0), pairs)
    assert again.loc[rows.index, "fold"].equals(rows["fold"])
    assert not placed(other, pairs, seed=1).loc[rows.index, "fold"].equals(rows["fold"])


@pytest.mark.parametrize("by", ["picture", "patient"])
@pytest.mark.parametrize("names", [("other", "third"), ("third", "other")])
def test_a_group_of_two_further_sources_is_in_one_fold(names, by):
    """They share nothing with the main source, so each would be free to go anywhere by itself."""
    labels = {f"x{i:02}": PARTIAL if i % 3 else "no_tumor" for i in range(24)}
    # The labels of a picture may differ between the sources.
    again = {name: "glioma" if i % 2 else label for i, (name, label) in enumerate(labels.items())}
    alone = {f"y{i:02}": PARTIAL for i in range(10)}
    first, second = other_images(names[0], **labels, **alone), other_images(names[1], **again, **alone)
    shared = [(f"{names[0]}/{name}.png", f"{names[1]}/{name}.png") for name in labels]
    patients = {path: str(k) for k, pair in enumerate(shared) for path in pair}
    options = {"pairs": shared} if by == "picture" else {"pairs": [], "patients": patients}
    table = placed(pd.concat([first, second], ignore_index=True), **options)
    for one, other in shared:
        assert table.loc[one, "group"] == table.loc[other, "group"]
        assert table.loc[one, "fold"] == table.loc[other, "fold"] != ""
    assert set(table.loc[[one for one, _ in shared], "fold"]) == {"0", "1", "2"}
    # By a patient alone all images are learned from, of a picture the first.
    taught = (table.loc[[path for pair in shared for path in pair], "target"] != "").sum()
    contradicting = sum(1 for name in labels if labels[name] == "no_tumor" and again[name] == "glioma")
    assert taught == (len(shared) - contradicting if by == "picture" else 2 * len(shared))
    # What has nothing in common is still spread over the folds.
    for name in names:
        counts = table.loc[[f"{name}/{file}.png" for file in alone], "fold"].value_counts()
        assert set(counts.index) == {"0", "1", "2"}


def test_a_group_of_two_further_sources_goes_where_the_main_source_has_it():
    a, b = two_folds()
    both = pd.concat([other_images(x=PARTIAL, y=PARTIAL), other_images("third", x=PARTIAL, y=PARTIAL)])
    across = [("other/x.png", "third/x.png"), ("other/y.png", "third/y.png")]
    table = placed(both.reset_index(drop=True), [*across, ("third/x.png", a), ("other/y.png", a), ("third/y.png", b)])
    assert table.loc["other/x.png", "fold"] == table.loc["third/x.png", "fold"] == table.loc[a, "fold"]
    # One of its images joins one fold and the other another: neither may be in any.
    assert table.loc["other/y.png", "fold"] == table.loc["third/y.png", "fold"] == ""


def test_chains_over_three_further_sources_stay_together():
    parts = [other_images(name, **{f"z{i}": PARTIAL for i in range(12)}) for name in ("one", "three", "two")]
    steps = [("one", "two"), ("two", "three")]
    pairs = [(f"{a}/z{i}.png", f"{b}/z{i}.png") for a, b in steps for i in range(12)]
    table = placed(pd.concat(parts, ignore_index=True), pairs)
    folds = table[table["source"] != "main"].groupby("group")["fold"].agg(["nunique", "size"])
    assert (folds == [1, 3]).all(axis=None) and len(folds) == 12


@pytest.mark.parametrize("seed", range(5))
def test_what_groups_join_is_listed_once_and_in_order(seed):
    """Several groups of further images that each join the same group of the main source become that one group."""
    rng, first = np.random.default_rng(seed), main_images()
    other = other_images(**{f"x{i:02}": PARTIAL for i in range(30)})
    index = pd.concat([first, other], ignore_index=True)
    index["sha256"] = index["path"]
    pairs = [(path, known) for path in other["path"] for known in rng.choice(first["path"], int(rng.integers(0, 3)))]
    pairs = pd.DataFrame(pairs, columns=["path", "other"]).assign(kind="copy")
    own = index["patient"].where(index["source"] == "main", "")
    groups = group_table(first.assign(sha256=first["path"]), pairs[:0], own[: len(first)], max_share=1.0)
    further, joins = joined_groups(index, pairs, own, groups, max_share=1.0)
    # By hand: every further image is a group of its own, unless it joins just one.
    known = dict(zip(groups["path"], groups["group"], strict=True))
    joined = {path: set(pairs.loc[pairs["path"] == path, "other"].map(known)) for path in other["path"]}
    name = {path: next(iter(found)) if len(found) == 1 else path for path, found in joined.items()}
    assert dict(zip(further["path"], further["group"], strict=True)) == name
    expected = sorted({(name[path], group) for path, found in joined.items() for group in found})
    assert list(joins.itertuples(index=False, name=None)) == expected
    assert joins.index.tolist() == list(range(len(expected)))
    assert len(expected) < sum(map(len, joined.values())), "some join the same"


def test_fewer_images_than_folds_are_no_reason_to_fail():
    assert placed(other_images(only="glioma"), []).loc["other/only.png", "fold"] in {"0", "1", "2"}


def test_known_patients_join_the_fold_of_their_other_images():
    table = placed(other_images(x=PARTIAL), [], {"other/x.png": "glioma 0"})
    row = table.loc["other/x.png"]
    assert (row["fold"], row["group"], row["target"]) == (table.loc[A, "fold"], table.loc[A, "group"], PARTIAL)


# --- findings where labels are partial


def conflicts(labels: list[str], further: tuple[int, ...] = (), by: str = "copies") -> list[tuple[int, int, float]]:
    """Number of each conflicting file, of the one it is shown beside, and the score, of files that belong together.

    Args:
        labels: of the files.
        further: numbers of those that are not of the main source.
        by: what they have in common, "copies" or "patient".
    """
    paths = [f"{k:02}.png" for k in range(len(labels))]
    source = ["other" if k in further else "main" for k in range(len(labels))]
    index = pd.DataFrame({"path": paths, "label": labels, "source": source})
    groups = pd.DataFrame({"path": paths, "patient": "", "copies": ""}).assign(**{by: "same"})
    facts = pd.DataFrame({"source_label": [""] * len(labels)})
    found = findings_table(index, pd.DataFrame(columns=COPY_COLUMNS), groups, facts, "main")
    assert set(found["kind"]) <= {{"copies": LABEL_CONFLICT, "patient": PATIENT_CONFLICT}[by]}
    label = dict(zip(paths, labels, strict=True))
    assert found["label"].tolist() == found["path"].map(label).tolist()
    assert found["other_label"].tolist() == found["other"].map(label).tolist()
    return [(int(row.path[:2]), int(row.other[:2]), round(row.score, 3)) for row in found.itertuples()]


@pytest.mark.parametrize("by", ["copies", "patient"])
def test_labels_that_contradict_each_other_are_found_beside_partial_ones(by):
    # The most frequent label contradicts neither of the two that contradict each other.
    assert conflicts(["a|b", "a|b", "a", "b"], by=by) == [(3, 2, 0.75)]
    assert conflicts(["b", "a|b", "a", "a|b"], by=by) == [(0, 2, 0.75)]
    assert conflicts(["a|b", "b", "a", "b"], by=by) == [(2, 1, 0.75)]
    assert conflicts(["a|b|c", "c", "a|b"], by=by) == [(1, 2, 0.667)]
    # What has a class in common with all others is no contradiction, and neither is what has one with each of them.
    assert conflicts(["a|b", "a|b", "b", "a|b|c"], by=by) == [] == conflicts(["a|b", "b|c", "a|c"], by=by)
    # The main source decides, also where it is outnumbered.
    assert conflicts(["b", "b|c", "a", "a|b"], further=(0, 1, 3), by=by) == [(0, 2, 1.0), (1, 2, 1.0)]
    assert conflicts(["a|b", "b", "a"], further=(1, 2), by=by) == [(1, 2, 1.0)]


@pytest.mark.parametrize("seed", range(40))
def test_no_contradiction_is_missed_and_none_is_made_up(seed):
    rng, classes = np.random.default_rng(seed), list("abcd")
    labels = ["|".join(c for c in classes if rng.random() < 0.4) or "d" for _ in range(int(rng.integers(2, 9)))]
    further = tuple(k for k in range(len(labels)) if rng.random() < 0.4)
    allowed = [set(label.split("|")) for label in labels]
    found = conflicts(labels, further)
    reported = [path for path, _, _ in found]
    assert len(set(reported)) == len(reported)
    contradicting = [(i, j) for i in range(len(labels)) for j in range(i) if not allowed[i] & allowed[j]]
    assert all((max(path, other), min(path, other)) in contradicting for path, other, _ in found)
    judges = [k for k in range(len(labels)) if k not in further] or range(len(labels))
    counts = {name: sum(name in allowed[k] for k in judges) for name in classes}
    usual = max(classes, key=counts.__getitem__)
    for i, j in contradicting:
        assert {i, j} & set(reported)
    for path, other, score in found:
        assert usual not in allowed[path] and score == round(counts[usual] / len(judges), 3)
        # Beside a file that has the usual class, if there is one that it contradicts and that may decide.
        better = [k for k in judges if usual in allowed[k] and not allowed[k] & allowed[path]]
        assert other == min(better) if better else usual not in allowed[other] or other in further


# --- copies between sources, from pixels


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """Three sources of phantoms below a folder, and the truth: path of a planted copy -> path of its original.

    `further` and `hospital` hold changed copies of images of `main` and, the latter, of `further`, among scans of other
    patients.
    """
    root, rng, truth = tmp_path_factory.mktemp("planted") / "raw", np.random.default_rng(0), {}
    (root / "main").mkdir(parents=True)
    options = {"patients": 14, "slices": 6, "test_share": 0.15, "copies": 0.1, "wrong_labels": 0.0}
    draw_data_set(root / "main", image_size=192, seed=3, **options)

    def write(path: str, content: bytes) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)

    for source, patients, count in (("further", range(1001, 1021), 60), ("hospital", range(2001, 2021), 60)):
        originals = sorted(path.relative_to(root).as_posix() for path in root.rglob("*_s*.jpg"))
        for number in patients:
            label = (*TUMOURS, "no_tumor")[number % 4]
            for k in range(3):
                grey, _ = draw_scan(label, plane=PLANES[k], patient=number, index=k, size=192, seed=3)
                write(f"{source}/{label}/p{number}_s{k}.jpg", plant(grey, "recompressed", rng))
        for k, chosen in enumerate(rng.choice(len(originals), count, replace=False)):
            grey = decode((root / originals[chosen]).read_bytes())
            path = f"{source}/glioma/copy_{k}.jpg"
            write(path, plant(grey, KINDS[k % len(KINDS)], rng))
            truth[path] = originals[chosen]
    return root, truth


@pytest.mark.slow
def test_planted_copies_between_sources_are_found(planted, tmp_path):
    """Recall and precision of the pictures that a further and an external source share, at least 0.98 each."""
    root, truth = planted
    index = pd.DataFrame()
    for name in ("main", "further", "hospital"):
        prepare_images(root, source_images(root, name, {}, None), tmp_path / name, preprocessing(size=32), 0.0)
        index = pd.concat([index, read_table(tmp_path / name / "index.csv")], ignore_index=True)
    views, _ = read_views(root, index, root)
    nobody = pd.Series("", index=index.index)
    known_copies = pd.read_csv(root / "main/truth.csv", keep_default_na=False).query("copy_of != ''")
    original = dict(zip("main/" + known_copies["path"], "main/" + known_copies["copy_of"], strict=True))

    def picture(path: str) -> str:
        while path in truth or path in original:
            path = truth.get(path) or original[path]
        return path

    def search(part: pd.DataFrame, known: int) -> pd.DataFrame:
        limits = {"hash_distance": PARAMS.hash_distance, "candidates_per_image": PARAMS.candidates}
        return find_copies(
            part, distinct_views(index, views, part), crops=True, least=PARAMS.similarity, known=known, **limits
        )

    n = [int((index["source"] == name).sum()) for name in ("main", "further", "hospital")]
    first, learned = index[: n[0]], index[: n[0] + n[1]]
    pairs = search(first, 0)
    groups = group_table(first, pairs, nobody[: n[0]], max_share=1.0)
    for part, known in ((learned, n[0]), (index, n[0] + n[1])):
        across = search(part, known)
        accepted = across[across["kind"] != LOOK_ALIKE]
        rows = dict(zip(part["path"], range(len(part)), strict=True))
        assert (accepted[["path", "other"]].map(rows.get).max(axis=1) >= known).all(), "only pairs with a new image"
        table, _ = joined_groups(part, across, nobody[: len(part)], groups, max_share=1.0)
        groups = pd.concat([groups, table], ignore_index=True)
        new = table["path"].tolist()
        shown = dict(zip(groups["path"], groups["copies"].where(groups["copies"] != "", groups["path"]), strict=True))
        older = part["path"][:known].tolist()
        found = {(path, other) for path in new for other in older if shown[path] == shown[other]}
        true = {(path, other) for path in new for other in older if picture(path) == picture(other)}
        recall, precision = (len(found & true) / len(pairs) for pairs in (true, found))
        print(f"{len(true)} pairs: recall {recall:.4f}, precision {precision:.4f}")
        assert len(true) >= 60 and recall >= 0.98 and precision >= 0.98


# --- the pipeline, with real DVC


def names_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '(.+?)'", output))


def stages_run(project: Path) -> set[str]:
    return names_run(run("dvc", "repro", cwd=project).stdout)


def sources(project: Path, change) -> None:
    yaml, path = YAML(), project / "params.yaml"
    params = yaml.load(path)
    params["data"]["sources"] = change(dict(params["data"]["sources"]))
    yaml.dump(params, path)


@pytest.mark.timeout(600)
def test_sources_come_and_go_and_what_must_runs_again(small_run, small_clone, tmp_path):
    """An external source is searched and scored and trains nothing; the order is of no account."""
    hospital = tmp_path / "hospital"
    for label in TUMOURS:
        shutil.copytree(small_clone / "data/raw/phantoms/Testing" / label, hospital / label)
    shutil.copytree(small_clone / "data/raw/phantoms/Training/no_tumor", hospital / "healthy")
    rng = np.random.default_rng(0)
    for k in range(2):
        grey, _ = draw_scan("glioma", plane=PLANES[k], patient=900, index=k, size=96, seed=9)
        (hospital / "glioma" / f"new_{k}.jpg").write_bytes(plant(grey, "recompressed", rng))
    kept = ["data/split/folds.csv", "models/fold-0/model.keras", "metrics/validation.json", "metrics/novelty.json"]
    kept += [f"data/served/{name}" for name in ("model.keras", "official_test.csv", "thresholds.json")]
    kept += ["data/novelty/served.npz", "src/brain_tumor/serving/classifier.tflite"]
    kept = {name: (small_clone / name).read_bytes() for name in kept}

    added = {"dataset": f"folder:{hospital}", "role": "external", "labels": {"healthy": "no_tumor"}}
    sources(small_clone, lambda now: {"hospital": added} | now)
    # The served network predicts its images, and what reads those predictions or the list of sources runs again.
    follows = {"served", "validate", "novelty", "evaluate", "export", "report"}
    assert stages_run(small_clone) == {"download@hospital", "preprocess", "audit"} | follows
    for name, content in kept.items():
        assert (small_clone / name).read_bytes() == content
    test = json.loads((small_clone / "metrics/test.json").read_text(encoding="utf-8"))
    learned = {path.name for path in (small_clone / "data/raw/phantoms/Training/no_tumor").iterdir()}
    every, shared, clean = (test[f"external_hospital{part}"] for part in ("", "_shared", "_clean"))
    assert every["n"] == shared["n"] + clean["n"] and shared["n_no_tumor"] <= len(learned)
    assert "n_no_tumor" not in clean, "every healthy scan stands in training"

    sources(small_clone, lambda now: dict(reversed(now.items())))
    assert stages_run(small_clone) == {"report"}, "which shows params.yaml as it stands"

    # What a user types to do without a source; its folder stays behind, and nobody reads it.
    done = run("dvc", "exp", "run", "--name", "alone", "-S", "~data.sources.second", "split", cwd=small_clone)
    assert names_run(done.stdout) == {"preprocess", "audit", "split"}
    before = read_table(small_run / "data/split/folds.csv")
    alone = read_table(small_clone / "data/split/folds.csv")
    pd.testing.assert_frame_equal(alone, before[before["source"] == "phantoms"], check_dtype=False)
    assert (small_clone / "data/raw/second").exists()

    shutil.copy(small_run / "params.yaml", small_clone / "params.yaml")
    assert not stages_run(small_clone) & {"download@second", "split", "train@0"}, "restored, as it was run before"
    for name, content in kept.items():
        assert (small_clone / name).read_bytes() == content
    assert "up to date" in run("dvc", "status", cwd=small_clone).stdout


@pytest.mark.timeout(600)
def test_a_further_source_that_is_learned_from_retrains_and_downloads_nothing_again(small_clone, tmp_path):
    third = tmp_path / "third"
    for label in ("glioma", "no_tumor"):
        (third / label).mkdir(parents=True)
        for k in range(3):
            grey, _ = draw_scan(label, plane=PLANES[k], patient=950, index=k, size=96, seed=9)
            (third / label / f"{k}.jpg").write_bytes(plant(grey, "recompressed", np.random.default_rng(k)))
    sources(small_clone, lambda now: now | {"third": {"dataset": f"folder:{third}"}})
    every = {"preprocess", "audit", "split", "features", "train@0", "final", "predict@validation", "predict@test"}
    every |= {"served", "validate", "explain", "novelty", "robustness", "evaluate", "audit_model", "export", "report"}
    assert stages_run(small_clone) == {"download@third"} | every


def test_the_first_source_alone_gives_what_it_gave_before_there_were_several(project):
    """Images, folds and audit to the bit, networks to rounding, as golden/one_source.json has them.

    The file was made from the small run at commit f1649e0, the last that knew one source only. Its paths lack the name
    of the source. Processors differ in the last digits of a training.
    """
    expected = json.loads((Path(__file__).with_name("golden") / "one_source.json").read_text(encoding="utf-8"))
    sources(project, lambda now: {"phantoms": now["phantoms"]})
    run("dvc", "config", "--local", "core.no_scm", "true", cwd=project)
    run("dvc", "repro", "evaluate", cwd=project)
    pixels = np.load(project / "data/prepared/images.npy").tobytes()
    assert hashlib.sha256(pixels).hexdigest() == expected["images"]
    table = read_table(project / "data/split/folds.csv")
    own = table[["path", "group"]].map(lambda name: name.removeprefix("phantoms/"))
    assert dict(zip(own["path"], zip(table["fold"], own["group"], strict=True), strict=True)) == {
        path: tuple(values) for path, values in expected["folds"].items()
    }
    assert (table["target"] == table["label"]).all()
    audit = json.loads((project / "metrics/audit.json").read_text(encoding="utf-8"))["phantoms"]
    assert audit["conflicts"].pop("source") == 0 and audit == expected["audit"]
    for name, values in expected["curves"].items():
        curve = pd.read_csv(project / f"plots/training/fold-0/plots/metrics/{name}.tsv", sep="\t").iloc[:, 1]
        assert curve.tolist() == pytest.approx(values, rel=1e-3)
    predicted = read_table(project / "data/predictions/test/fold-0.csv").set_index("path")
    for path, values in expected["probabilities"].items():
        found = predicted.loc[f"phantoms/{path}", ["p_glioma", "p_no_tumor"]].tolist()
        assert found == pytest.approx(values, abs=2e-3)
    test = json.loads((project / "metrics/test.json").read_text(encoding="utf-8"))
    assert {name: figures["n"] for name, figures in test.items()} == expected["cohorts"]


def test_a_further_source_may_have_a_single_class(tmp_path):
    """Healthy scans of another source are what is missing most; only the main source must tell classes apart."""
    (tmp_path / "healthy/no_tumor").mkdir(parents=True)
    grey, _ = draw_scan("no_tumor", plane=PLANES[0], patient=1, index=0, size=96, seed=0)
    (tmp_path / "healthy/no_tumor/a.jpg").write_bytes(plant(grey, "recompressed", np.random.default_rng(0)))
    images = source_images(tmp_path, "healthy", {}, ["glioma", "no_tumor"])
    assert [(image.path, image.label) for image in images] == [("healthy/no_tumor/a.jpg", "no_tumor")]
    with pytest.raises(PipelineError, match="two class folders"):
        source_images(tmp_path, "healthy", {}, None)


def test_every_kind_of_finding_has_its_page_and_nothing_else_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "raw/main/glioma").mkdir(parents=True, exist_ok=True)
        grey, _ = draw_scan("glioma", plane=PLANES[0], patient=1, index=0, size=96, seed=0)
        (tmp_path / f"raw/main/glioma/{name}.jpg").write_bytes(plant(grey, "recompressed", np.random.default_rng(0)))
    a, b = "main/glioma/a.jpg", "main/glioma/b.jpg"
    kinds = [IDENTICAL, COPY, LABEL_CONFLICT, PATIENT_CONFLICT]
    rows = [(kind, a, "glioma", b, "glioma", 1.0, "") for kind in kinds]
    rows += [(SOURCE_CONFLICT, a, "glioma", "", "meningioma", 1.0, "")]
    pairs = pd.DataFrame([(LOOK_ALIKE, a, b, 0.5, "")], columns=COPY_COLUMNS)
    (tmp_path / "pages").mkdir()
    pair_galleries("pages", "raw", pd.DataFrame(rows, columns=FINDING_COLUMNS), pairs)
    assert {path.stem for path in (tmp_path / "pages").iterdir()} == {*kinds, SOURCE_CONFLICT, LOOK_ALIKE}
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "pages"}
