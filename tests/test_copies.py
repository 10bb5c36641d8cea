"""Copies are found whatever was done to them, and slices that only look alike are left apart."""

import os
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from numpy.lib.stride_tricks import sliding_window_view
from planted import KINDS, plant
from scan_tables import MAIN, NO_JOINS
from settings import preprocessing

from brain_tumor.audit import hashing
from brain_tumor.audit.copies import COPY, COPY_COLUMNS, IDENTICAL, LOOK_ALIKE, find_copies
from brain_tumor.audit.groups import PROVENANCE, group_table, merge_groups
from brain_tumor.audit.matching import register, similarity
from brain_tumor.audit.reading import read_views
from brain_tumor.audit.views import ORIENTATIONS, SIZE, Views, oriented, resized, view
from brain_tumor.imaging.decoding import decode
from brain_tumor.params import load_params
from brain_tumor.prepare.preparing import prepare_images
from brain_tumor.prepare.sources import source_images
from brain_tumor.source.phantoms.planting import draw_data_set
from brain_tumor.source.phantoms.scanner import draw_scan
from brain_tumor.split.folds import split_table
from brain_tumor.tables.csv_tables import read_table

PARAMS = load_params(ROOT / "params.yaml").audit


def audited(root: Path, store: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index and pairs of the source below `root`, with the committed params."""
    prepare_images(root, source_images(root, MAIN, {}, None), store, preprocessing(size=32), 0.0)
    index = read_table(store / "index.csv")
    views, _ = read_views(root, index, root)
    pairs = find_copies(
        index,
        views,
        hash_distance=PARAMS.hash_distance,
        candidates_per_image=PARAMS.candidates,
        crops=PARAMS.crops,
        least=PARAMS.similarity,
    )
    return index, pairs


def clusters(index: pd.DataFrame, pairs: pd.DataFrame) -> pd.Series:
    """Path -> name of its group of copies; patients and published facts play no part."""
    accepted, row = pairs[pairs["kind"] != LOOK_ALIKE], pd.Series(index.index, index["path"])
    links = row[accepted["path"]].to_numpy(), row[accepted["other"]].to_numpy()
    return pd.Series(merge_groups(index["path"], [], links), index["path"])


# --- phantoms


@pytest.mark.slow
def test_planted_copies_of_phantoms_are_found(tmp_path):
    """At least 0.99 of the pairs found, at least 0.99 of what is found true, over five seeds."""
    true = accepted = hits = 0
    for seed in range(10, 15):
        root = tmp_path / f"raw{seed}"
        (root / MAIN).mkdir(parents=True)
        options = {
            "patients": 14,
            "slices": 6,
            "image_size": 192,
            "test_share": 0.15,
            "copies": 0.2,
            "wrong_labels": 0.05,
        }
        draw_data_set(root / MAIN, seed=seed, **options)
        truth = pd.read_csv(root / MAIN / "truth.csv", keep_default_na=False)
        index, pairs = audited(root, tmp_path / f"store{seed}")
        found = clusters(index, pairs)[MAIN + "/" + truth["path"]].to_numpy()
        source = truth["copy_of"].where(truth["copy_of"] != "", truth["path"]).to_numpy()
        upper = np.triu(np.ones((len(truth), len(truth)), bool), 1)
        same, together = ((key[:, None] == key[None, :]) & upper for key in (source, found))
        true, accepted, hits = true + same.sum(), accepted + together.sum(), hits + (same & together).sum()
    print(f"{true} planted pairs: recall {hits / true:.4f}, precision {hits / accepted:.4f}")
    assert true > 300
    assert hits / true >= 0.99
    assert hits / accepted >= 0.99


# --- the real scans, where REAL_SCANS names the archive or folder


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index and pairs of the Kaggle set with 500 changed copies of Training images in a folder `Planted`.

    A planted file is called <number>_<kind>.jpg, the number being the row of its source among the sorted paths.
    """
    source = os.environ.get("REAL_SCANS")
    if not source:
        pytest.skip("the real scans are not here: set REAL_SCANS to the archive or folder of the Kaggle set")
    folder = tmp_path_factory.mktemp("real")
    root = folder / "raw" / MAIN
    if Path(source).is_dir():
        shutil.copytree(source, root)
    else:
        with zipfile.ZipFile(source) as archive:
            archive.extractall(root)
    random = np.random.default_rng(0)
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpg"))
    training = [k for k, path in enumerate(paths) if path.startswith("Training/")]
    for place, k in enumerate(random.choice(training, 500, replace=False).tolist()):
        kind = KINDS[place % len(KINDS)]
        target = root / "Planted" / paths[k].split("/")[1] / f"{k}_{kind}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(plant(decode((root / paths[k]).read_bytes()), kind, random))
    return audited(root.parent, folder / "store")


def published() -> pd.DataFrame:
    """The published facts by path; they know nothing of the name that the source has here."""
    facts = pd.read_csv(PROVENANCE, dtype=str, keep_default_na=False)
    return facts.set_index(MAIN + "/" + facts["path"])


def test_planted_copies_of_real_scans_are_found(real):
    """Recall over 500 planted copies; precision against all slices of known patients, of which none but the planted
    show one picture: 0.98 each."""
    index, pairs = real
    originals = sorted(index["path"][index["folder"] != "Planted"])
    found = clusters(index, pairs)
    planted = index["path"][index["folder"] == "Planted"]
    source = {path: originals[int(path.split("/")[-1].split("_")[0])] for path in planted}
    hit = {path: found[path] == found[source[path]] for path in planted}

    facts = published()
    patients_slice = facts["source_slice"].where(facts["source"] == "cheng", "")
    accepted = pairs[pairs["kind"] == COPY]
    pictures = accepted[["path", "other"]].apply(lambda column: column.map(lambda path: source.get(path, path)))
    slices = pictures.apply(lambda column: column.map(patients_slice))
    false = int(((slices["path"] != "") & (slices["other"] != "") & (slices["path"] != slices["other"])).sum())
    hits = sum(hit.values())
    missed = Counter(path.split("_")[-1] for path in planted if not hit[path])
    recall, precision = hits / len(planted), hits / (hits + false)
    print(f"500 planted copies: recall {recall:.4f}, precision {precision:.4f}, {false} false pairs")
    print(f"missed: {dict(missed)}")
    assert len(planted) == 500
    assert recall >= 0.98
    assert precision >= 0.98


def test_what_the_published_set_repeats(real):
    index, pairs = real
    kept = index["folder"] != "Planted"
    index = index[kept].reset_index(drop=True)
    pairs = pairs[pairs["path"].isin(index["path"]) & pairs["other"].isin(index["path"])]
    contents = index["sha256"].value_counts()
    assert (contents > 1).sum() == 166
    assert pairs["path"][pairs["kind"] == IDENTICAL].nunique() == 166

    found = clusters(index, pairs)
    in_training = set(found[index["path"][index["folder"] == "Training"]])
    testing = index[index["folder"] == "Testing"]
    leaked = testing[testing["path"].map(found).isin(in_training)]
    print(f"{len(leaked)} of {len(testing)} Testing images: {leaked['label'].value_counts().to_dict()}")
    assert 265 <= len(leaked) <= 280
    assert found.value_counts().max() <= 12
    # every pair of files that published facts call one picture
    facts = published().loc[index["path"]]
    known = facts["source_slice"] != ""
    picture = (facts["source"] + facts["source_slice"])[known]
    assert (found[picture.index].groupby(picture).nunique() == 1).all()


def test_no_patient_and_no_copy_crosses_the_real_folds(real):
    index, pairs = real
    kept = index["folder"] != "Planted"
    index = index[kept].reset_index(drop=True)
    pairs = pairs[pairs["path"].isin(index["path"]) & pairs["other"].isin(index["path"])]
    groups = group_table(index, pairs, pd.Series("", index=index.index), max_share=PARAMS.max_group_share)
    nothing = pd.DataFrame(columns=["path", "fold"], dtype=str)
    options = {"folds": 5, "seed": 0, "official_test": "Testing", "own_folds": nothing}
    table = split_table(index, groups, NO_JOINS, main=MAIN, strategy="patient", **options).set_index("path")
    pool = table[table["fold"] != ""]
    assert len(pool) == 2870
    patients = published()["group"]
    known = patients.loc[pool.index]
    known = known[known != ""]
    assert len(known) == 2321
    assert (pool["fold"].loc[known.index].groupby(known).nunique() == 1).all()
    accepted = pairs[pairs["kind"] != LOOK_ALIKE]
    inside = accepted["path"].isin(pool.index) & accepted["other"].isin(pool.index)
    assert inside.sum() > 100
    one, other = (pool["fold"].loc[accepted[name][inside]].to_numpy() for name in ("path", "other"))
    assert (one == other).all()


# --- the parts


def test_the_search_compares_everything():
    random = np.random.default_rng(0)
    database = random.integers(0, 256, (400, 32), np.uint8)
    queries = database[:90].copy()
    for row in range(90):  # 0 to 89 bits away
        for bit in random.choice(256, row, replace=False):
            queries[row, bit // 8] ^= 1 << (bit % 8)
    distance = np.bitwise_count(queries[:, None] ^ database[None]).sum(axis=2)
    for radius in (0, 40, 95):
        got = sorted(zip(*(part.tolist() for part in hashing.HashIndex(database).near(queries, radius)), strict=True))
        rows, columns = np.nonzero(distance <= radius)
        assert got == sorted(zip(rows.tolist(), columns.tolist(), distance[rows, columns].tolist(), strict=True))


def test_thumbnails_are_averages_over_areas():
    random = np.random.default_rng(0)
    pictures = np.stack([cv2.blur(random.integers(0, 256, (SIZE, SIZE), np.uint8), (5, 5)) for _ in range(300)])
    thumbs = hashing.thumbnails(pictures, hashing.WINDOWS)
    assert thumbs.shape == (300, 81, 12, 12)
    for number in (0, 5, 44, 80):
        left, right, top, bottom = hashing.WINDOWS[number]
        for picture, thumb in zip(pictures, thumbs[:, number], strict=True):
            part = np.ascontiguousarray(picture[top:bottom, left:right])
            averages = cv2.resize(part.astype(np.float64), (12, 12), interpolation=cv2.INTER_AREA)
            assert np.abs(averages - thumb).max() <= 0.5 + 1e-4


def test_a_hash_is_turned_by_turning_its_bits():
    """Bits are worked out one by one from the turned thumbnail; equal cells are frequent."""
    thumbs = np.random.default_rng(0).integers(0, 4, (20, 12, 12), np.uint8)
    for orientation, got in enumerate(hashing.hashes(thumbs)):
        for thumb, found in zip(oriented(thumbs, orientation), got, strict=True):
            across = [
                thumb[row, column] > thumb[row, column - 1]
                for row in range(12)
                for column in range(1, 12)
                if (row, column) not in {(0, 1), (0, 11), (11, 1), (11, 11)}
            ]
            down = [
                thumb[row, column] > thumb[row - 1, column]
                for row in range(1, 12)
                for column in range(12)
                if (row, column) not in {(1, 0), (1, 11), (11, 0), (11, 11)}
            ]
            assert np.unpackbits(found).tolist() == across + down


def test_among_many_hashes_near_ones_are_found_in_the_nearest_parts():
    """Smooth pictures, as thumbnails of heads are, and noisy copies of some; what is found is compared bit by bit."""
    random = np.random.default_rng(0)
    n, planted = hashing.EXHAUSTIVE + 2000, 500
    coarse = random.uniform(0, 255, (n, 4, 4)).astype(np.float32)
    thumbs = np.stack([cv2.resize(grid, (12, 12), interpolation=cv2.INTER_CUBIC) for grid in coarse])
    thumbs[-planted:] = thumbs[:planted] + random.normal(0, 6, (planted, 12, 12))
    database = hashing.hashes(thumbs.clip(0, 255).astype(np.uint8))[0]
    distance = np.bitwise_count(database[:planted] ^ database[-planted:]).sum(axis=1)
    near = np.flatnonzero(distance <= PARAMS.hash_distance)
    assert len(near) > 300 and distance[near].max() > 40
    rows, found, bits = hashing.HashIndex(database).near(database[:planted], PARAMS.hash_distance)
    pairs = dict(zip(zip(rows.tolist(), found.tolist(), strict=True), bits.tolist(), strict=True))
    assert len(pairs) == len(rows) and all(pairs[row, row] == 0 for row in range(planted))
    np.testing.assert_array_equal(bits, np.bitwise_count(database[rows] ^ database[found]).sum(axis=1))
    hits = [pairs.get((row, n - planted + row)) == distance[row] for row in near.tolist()]
    assert np.mean(hits) >= 0.99


def test_orientations_are_the_eight_of_a_square():
    picture = np.arange(9).reshape(3, 3)
    expected = {
        "as_it_is": picture,
        "rotate_90": np.rot90(picture),
        "rotate_180": np.rot90(picture, 2),
        "rotate_270": np.rot90(picture, 3),
        "flip_left_right": np.fliplr(picture),
        "flip_top_bottom": np.flipud(picture),
        "transpose": picture.T,
        "transverse": np.rot90(picture, 2).T,
    }
    assert len({oriented(picture, k).tobytes() for k in range(8)}) == 8
    for k, name in enumerate(ORIENTATIONS):
        np.testing.assert_array_equal(oriented(picture, k), expected[name])


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    return draw_scan("glioma", plane="axial", patient=7, index=0, size=256, seed=1)[0]


def test_a_view_passes_over_borders_frames_and_brightness(scan):
    def mean_difference(changed: np.ndarray) -> float:
        return float(np.abs(view(changed).astype(int) - view(scan)).mean())

    assert mean_difference(np.pad(scan, ((30, 5), (0, 44)), constant_values=255)) < 1
    assert mean_difference(np.pad(scan, 25)) < 1
    assert mean_difference((scan * 0.6 + 50).astype(np.uint8)) < 3
    framed = np.pad(scan, 40)
    framed[:, [20, -20]] = 255  # a thin line on either side
    assert mean_difference(framed) < 2


def test_similarity_knows_noise_from_another_slice(scan):
    other = draw_scan("glioma", plane="axial", patient=7, index=3, size=256, seed=1)[0]
    darker = (scan * 0.5 + 20).astype(np.uint8)
    shown = np.stack([view(scan), view(darker), view(other), np.zeros((SIZE, SIZE), np.uint8)])
    same, dark, neighbour, nothing = similarity(np.stack([view(scan)] * 4), shown)
    assert same == 1 and dark > 0.95 and neighbour < 0.8 and nothing == -1


def test_similarity_is_the_mean_of_local_correlations(scan):
    """By NumPy's floating-point statistics of each window of 9 x 9 pixels."""
    other = draw_scan("glioma", plane="axial", patient=7, index=1, size=256, seed=1)[0]
    a, b = view(scan), view(other)
    one, two = (sliding_window_view(x.astype(float), (9, 9)).reshape(-1, 81) for x in (a, b))
    textured = (one.var(axis=1) > 36) & (two.var(axis=1) > 36)
    saturated = [((x <= 1) | (x >= 254)).mean(axis=1) > 1 / 40 for x in (one, two)]
    used = textured & ~saturated[0] & ~saturated[1]
    assert 0.02 < used.mean() < textured.mean()
    expected = np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(one[used], two[used], strict=True)])
    assert similarity(a[None], b[None])[0] == pytest.approx(expected, abs=1e-4)


def test_a_part_is_found_whatever_stands_beside_it(scan):
    """Each view is the first one, cut, oriented and brightened; one is no part of it, and has no registration."""
    whole, random = view(scan), np.random.default_rng(0)
    edges = [(0, 128, 0, 128), (10, 120, 6, 126), (0, 116, 12, 128), (5, 123, 9, 119)]
    shown = [
        resized(oriented(whole, how)[top:bottom, left:right] // 2 + 60, SIZE)
        for how, (left, right, top, bottom) in enumerate(edges)
    ]
    shown.append(random.integers(0, 256, (SIZE, SIZE), np.uint8))
    # A window is given before orienting, so that of the whole picture is the same in all of them.
    guesses = [(0, SIZE, 0, SIZE)] * 5
    parts, correlations = register([whole] * 5, range(5), guesses, shown)
    assert (correlations[:4] > 0.97).all() and correlations[4] < 0.3
    assert (similarity(parts[:4], np.stack(shown[:4])) > 0.9).all()
    for m in range(5):
        part, correlation = register([whole], [m], guesses[:1], [shown[m]])
        assert (part == parts[m]).all() and correlation == correlations[m]


@pytest.mark.parametrize("value", [0, 255])
def test_pictures_without_content_are_no_copies(tmp_path, value):
    """Blank and nearly blank images pass through; equal bytes are still equal bytes."""
    index = pd.DataFrame({"path": ["a/0.png", "a/1.png", "b/2.png"], "sha256": ["x", "y", "x"]})
    views = np.full((2, SIZE, SIZE), value, np.uint8)
    views[1, 5, 5] = 128
    options = {"hash_distance": 52, "candidates_per_image": 5, "crops": True, "least": 0.87}
    pairs = find_copies(index, views, **options)
    assert list(pairs.columns) == COPY_COLUMNS
    assert pairs[pairs["kind"] != LOOK_ALIKE][["kind", "path", "other"]].to_numpy().tolist() == [
        [IDENTICAL, "a/0.png", "b/2.png"]
    ]


def test_the_nearest_candidates_are_kept(scan):
    """A bound on the candidates of each image keeps its nearest one."""
    random = np.random.default_rng(0)
    noisy = [scan + random.normal(0, deviation, scan.shape) for deviation in range(30)]
    views = np.stack([view(picture.clip(0, 255).astype(np.uint8)) for picture in noisy])
    everything = hashing.candidates(views, 120, 1000)
    few = hashing.candidates(views, 120, 2)
    assert len(everything.a) == 30 * 29 // 2
    kept = set(zip(few.a.tolist(), few.b.tolist(), strict=True))
    for row in range(30):
        touches = (everything.a == row) | (everything.b == row)
        nearest = everything.distance[touches].min()
        mine = (few.a == row) | (few.b == row)
        assert few.distance[mine].min() == nearest
    assert len(kept) <= 60


def test_views_in_a_file_are_those_that_were_put_there(tmp_path):
    random = np.random.default_rng(0)
    views = random.integers(0, 256, (20, SIZE, SIZE), np.uint8)
    stored = Views(iter(views), tmp_path)
    rows = random.permutation(20)[:9]
    assert len(stored) == 20 and len(stored.part(rows)) == 9 and not list(tmp_path.iterdir())
    for key in (3, np.int64(0), slice(2, 7), slice(18, 30), np.array([4, 4, 0]), np.array([], int)):
        np.testing.assert_array_equal(stored[key], views[key])
    np.testing.assert_array_equal(stored.part(rows).part([1, 0])[:], views[rows[[1, 0]]])


@pytest.mark.parametrize("known", [0, 11])
def test_candidates_do_not_depend_on_how_many_are_held_at_a_time(scan, monkeypatch, tmp_path, known):
    random = np.random.default_rng(0)
    noisy = [np.rot90(scan, 2 * (k % 2)) + random.normal(0, k, scan.shape) for k in range(30)]
    views = np.stack([view(picture.clip(0, 255).astype(np.uint8)) for picture in noisy])
    whole = hashing.candidates(views, 100, 3, hashing.WINDOWS[:9], known)
    monkeypatch.setattr(hashing, "_HELD", 5)
    monkeypatch.setattr(hashing, "_BLOCK", 7)
    parts = hashing.candidates(Views(views, tmp_path), 100, 3, hashing.WINDOWS[:9], known)
    assert len(whole.a) > 30
    for name in ("a", "b", "orientation", "window", "distance"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert (np.maximum(whole.a, whole.b) >= known).all()
