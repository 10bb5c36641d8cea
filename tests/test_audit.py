"""Findings, leakage, suspicious labels and shortcuts, held against planted truth."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scan_tables import findings, pool, random_data_set, split
from settings import preprocessing

from brain_tumor.audit.findings import FINDING_COLUMNS, audit_metrics
from brain_tumor.audit.galleries import pair_galleries
from brain_tumor.audit.traits import KINDS, traits
from brain_tumor.audit_model.galleries import label_gallery
from brain_tumor.audit_model.labels import LABEL_COLUMNS, out_of_sample, suspicious_labels
from brain_tumor.audit_model.leakage import leakage_metrics
from brain_tumor.audit_model.shortcuts import network_controls, predict_from_traits, shortcut_rows
from brain_tumor.drawing.gallery import file_gallery_html, read_gallery
from brain_tumor.imaging.decoding import decode
from brain_tumor.imaging.preprocessing import prepare
from brain_tumor.perturbations.masks import MASKS, brain_region, masked
from brain_tumor.prediction.tables import load_controls
from brain_tumor.source.phantoms.planting import draw_data_set
from brain_tumor.tables.roles import roles

# --- findings


def test_findings_name_every_image_that_contradicts_its_copies_or_patient(tmp_path):
    """Three files of one picture, two of a class; a patient of four, three of a class; a pair over a further copy."""
    index = pool(12).assign(label=list("aabaaababaaa"))
    index["path"] = [f"scans/{label}/{k:02}.png" for k, label in enumerate(index["label"])]
    index["sha256"] = ["x", "x", "x", *"3456", "y", "y", *"9", "10", "11"]
    facts = index[["path", "sha256"]].assign(source="s", source_slice="", patient="", group="")
    facts.loc[3:6, "group"] = "p1"
    _, found = findings(tmp_path, index, facts)
    assert list(found.columns) == FINDING_COLUMNS
    rows = found[["kind", "path", "label", "other", "other_label", "score"]].round(3).to_numpy().tolist()
    assert rows == [
        ["label_conflict", "scans/b/02.png", "b", "scans/a/00.png", "a", 0.667],
        ["label_conflict", "scans/b/08.png", "b", "scans/a/07.png", "a", 0.5],
        ["patient_conflict", "scans/b/06.png", "b", "scans/a/03.png", "a", 0.75],
        ["identical", "scans/a/00.png", "a", "scans/a/01.png", "a", 1.0],
        ["identical", "scans/a/00.png", "a", "scans/b/02.png", "b", 1.0],
        ["identical", "scans/a/07.png", "a", "scans/b/08.png", "b", 1.0],
    ]


@pytest.mark.parametrize("seed", range(3))
def test_the_counts_agree_with_a_plain_count(tmp_path, seed):
    index, facts = random_data_set(seed)
    groups, found = findings(tmp_path, index, facts)
    fixed = pd.DataFrame(
        {
            "path": ["scans/a/1.png", "scans/b/2.png", "scans/a/3.png", "scans of others/a/1.png"],
            "action": ["drop", "relabel:a", "drop", "drop"],
        }
    )
    of_sources = audit_metrics(index, found, groups, fixed)
    assert list(of_sources) == ["scans"]
    figures = of_sources["scans"]
    assert figures["n"] == len(index)
    files = index.groupby("sha256")["path"].apply(list)
    repeated = files[files.map(len) > 1]
    assert figures["byte_identical"] == {"groups": len(repeated), "images": sum(map(len, repeated))}
    assert figures["share_without_patient"] == round(float((groups["patient"] == "").mean()), 6)
    assert figures["groups"]["largest"] == groups["group"].value_counts().max()
    assert figures["fixes"] == {"dropped": 2, "relabelled": 1}
    label, folder = (dict(zip(index["path"], index[name], strict=True)) for name in ("label", "folder"))
    copies = [list(part["path"]) for name, part in groups.groupby("copies") if name]
    conflicts = sum(len(part) - max(pd.Series([label[p] for p in part]).value_counts()) for part in copies)
    assert figures["conflicts"]["label"] == conflicts > 0
    assert figures["conflicts"]["source"] == 0  # the origin states no tumour type
    assert "shared" not in figures
    leaked = [p for part in copies for p in part if folder[p] == "Testing" and {folder[q] for q in part} != {"Testing"}]
    assert figures["folders"]["Testing"]["with_copy_elsewhere"] == len(leaked) > 0
    assert sum(figures["folders"]["Testing"]["copies"].values()) == len(leaked)


def test_pictures_of_findings_are_drawn(tmp_path):
    """One page per kind, also where there is nothing to show."""
    root = tmp_path / "raw"
    (root / "scans" / "a").mkdir(parents=True)
    for k in range(3):
        Image.fromarray(np.full((40, 30 + 20 * k), 60 * k, np.uint8)).save(root / "scans" / "a" / f"{k}.png")
    pairs = pd.DataFrame(
        {
            "kind": "copy",
            "path": ["scans/a/0.png"],
            "other": ["scans/a/1.png"],
            "score": 0.9,
            "orientation": "transpose",
        }
    )
    doubted = pd.DataFrame(
        {"kind": ["source_conflict"], "path": "scans/a/2.png", "other": "", "other_label": "b", "orientation": ""}
    )
    pair_galleries(tmp_path, root, pd.concat([doubted, pairs], ignore_index=True), pairs)
    suspects = pd.DataFrame(
        {"rank": [1], "path": ["scans/a/2.png"], "label": ["a"], "suggested": ["b"], "quality": [0.1]}
    )
    label_gallery(tmp_path / "labels.html", root, suspects)
    for name in ("again", "twice"):
        file_gallery_html(tmp_path / f"{name}.html", root, [(("scans/a/2.png",), "<x> & y\nz")], "<i>title</i>")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "twice.html").read_bytes()
    title, (cell,) = read_gallery(tmp_path / "again.html")
    assert title == "<i>title</i>" and "&lt;x&gt; &amp; y\nz</li>" in cell
    shown = {path.stem: read_gallery(path) for path in tmp_path.glob("*.html")}
    empty = {"identical", "look_alike", "label_conflict", "patient_conflict"}
    assert {name for name, (title, cells) in shown.items() if not cells and title.endswith(": none")} == empty
    assert "scans/a\n2.png\norigin: b" in shown["source_conflict"][1][0]
    assert "1. scans/a\n2.png\nlabel a (0.100)\nmodels say b" in shown["labels"][1][0]
    (pair,) = shown["copy"][1]
    assert "scans/a/0.png\nscans/a/1.png\n0.900, transpose" in pair
    content = base64.b64decode(re.search(r'base64,([^"]+)"', pair)[1])
    picture = np.asarray(Image.open(io.BytesIO(content)))
    # Both images, side by side: all black, and grey in a black square.
    assert picture.shape == (224, 452) and picture[:, :224].max() < 10
    assert picture[112, 340] == pytest.approx(60, abs=5)


# --- leakage


@pytest.mark.parametrize("strategy", ["random", "patient"])
def test_leakage_agrees_with_a_plain_count(tmp_path, strategy):
    index, facts = random_data_set(1, 500)
    table = split(tmp_path, index, facts, strategy=strategy)
    role = roles(table, 0, strategy, "report")
    figures = leakage_metrics(table, role)
    assert set(figures) == {"test", "validation", "official_test"}
    learned = table[role == "train"].to_dict("records")
    for name, part in figures.items():
        judged = table[role == name].to_dict("records")
        counts = dict.fromkeys(("copies", "patient", "group"), 0)
        for row in judged:
            for key in counts:
                counts[key] += any(row[key] and row[key] == other[key] for other in learned)
        assert [part["copies"], part["patients"], part["leaking"]] == list(counts.values())
        assert sum(part["per_class"].values()) == part["leaking"]
        assert part["n"] == len(judged)
        assert (part["leaking"] > 0) == (strategy == "random" or name == "official_test")


# --- labels


def predictions(random: np.random.Generator, true: np.ndarray, given: np.ndarray, skill: float) -> pd.DataFrame:
    """What two imperfect models say: they know the true class of most images and nothing of the given one."""
    frames = []
    for _ in range(2):
        logits = random.normal(0, 1, (len(true), 3))
        logits[np.arange(len(true)), true] += skill
        values = np.exp(logits)
        values /= values.sum(axis=1, keepdims=True)
        frame = pd.DataFrame(values, columns=["p_a", "p_b", "p_c"])
        frames.append(frame.assign(path=[f"{k:04}.png" for k in range(len(true))], label=np.array(list("abc"))[given]))
    return pd.concat(frames, ignore_index=True)


def test_wrong_labels_come_first():
    random = np.random.default_rng(0)
    true = random.integers(0, 3, 600)
    given, wrong = true.copy(), random.choice(600, 30, replace=False)
    given[wrong] = (given[wrong] + random.integers(1, 3, 30)) % 3
    table = suspicious_labels(out_of_sample(predictions(random, true, given, skill=6)))
    assert list(table.columns) == LABEL_COLUMNS
    assert (table["models"] == 2).all()
    assert table["rank"].tolist() == list(range(1, 601))
    planted = {f"{k:04}.png" for k in wrong}
    assert len(planted & set(table["path"][:30])) >= 28
    assert len(planted & set(table["path"][table["issue"] == 1])) >= 28
    assert table["issue"].sum() <= 40
    assert table["issue"].is_monotonic_decreasing
    right = table[table["path"].isin(planted)]
    assert (right["suggested"] == [("abc")[true[int(path[:4])]] for path in right["path"]]).mean() > 0.9


def test_a_class_without_images_is_no_suggestion():
    random = np.random.default_rng(1)
    true = random.integers(0, 2, 100)
    table = suspicious_labels(out_of_sample(predictions(random, true, true, skill=4)))
    assert set(table["suggested"]) == {"a", "b"}


# --- shortcuts


def image_bytes(pixels: np.ndarray, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def test_traits_of_a_file():
    pixels = np.zeros((60, 80), np.uint8)
    pixels[15:45, 20:70] = 200
    png = traits(image_bytes(pixels, "PNG"), pixels)
    assert set(png) == {name for names in KINDS.values() for name in names}
    assert (png["width"], png["height"], png["aspect"]) == (80, 60, 80 / 60)
    assert [png[edge] for edge in ("left", "right", "top", "bottom")] == pytest.approx([0.25, 0.125, 0.25, 0.25])
    assert (png["ring_mean"], png["ring_deviation"]) == (0, 0)
    assert png["level_0"] + png["level_12"] == pytest.approx(1)
    assert png["quantiser"] == 0
    fine, coarse = (traits(image_bytes(pixels, "JPEG", quality=q), pixels)["quantiser"] for q in (95, 30))
    assert 1 <= fine < coarse


def test_a_trait_that_tells_the_class_is_found(tmp_path):
    """Sizes follow the class, all else is noise; patients of the folds are never parted."""
    random = np.random.default_rng(0)
    index = pool(200)
    folds = split(tmp_path, index)
    table = pd.DataFrame(
        random.random((200, sum(map(len, KINDS.values())))),
        columns=[name for names in KINDS.values() for name in names],
    )
    table.insert(0, "path", index["path"])
    table["width"] = np.where(index["label"] == "a", 500, 300) + random.integers(0, 50, 200)
    predicted = predict_from_traits(table, folds)
    rows = shortcut_rows(predicted, {}, min_class_images=20).set_index("control")
    assert rows.loc["size", "balanced_accuracy"] == 1
    assert rows.loc["all", "balanced_accuracy"] > 0.95
    for control in ("aspect", "border", "histogram", "jpeg"):
        row = rows.loc[control]
        assert row["balanced_accuracy_ci_low"] - 0.05 < 0.5 < row["balanced_accuracy_ci_high"] + 0.05
    assert (rows["n"] == 200).all()
    assert shortcut_rows(predicted, {}, min_class_images=101).empty


def test_network_controls_are_read_beside_the_whole_images(tmp_path):
    frame = pd.DataFrame(
        {
            "path": ["1", "2", "3"],
            "label": ["a", "b", "a"],
            "role": ["test", "test", "validation"],
            "group": ["g1", "g2", "g3"],
            "p_a": [0.9, 0.2, 0.6],
            "p_b": [0.1, 0.8, 0.4],
        }
    )
    assert network_controls(load_controls(tmp_path, frame, [0]), frame) == {}
    masks = frame[frame["role"] == "test"].drop(columns="group").assign(p_a=0.1, p_b=0.9)
    pd.concat([masks.assign(control=mask) for mask in MASKS]).to_csv(tmp_path / "controls-0.csv", index=False)
    found = network_controls(load_controls(tmp_path, frame, [0]), frame)
    assert list(found) == ["whole_image", *MASKS]
    assert found["whole_image"]["predicted"].tolist() == ["a", "b"]
    for mask in MASKS:
        assert found[mask]["predicted"].tolist() == ["b", "b"]
        assert found[mask]["group"].tolist() == ["g1", "g2"]


def test_masks_part_the_brain_from_the_rest(tmp_path):
    """Lesions lie in the brain region; the two masked images add up to the whole."""
    root = tmp_path / "raw"
    root.mkdir()
    options = {
        "patients": 8,
        "slices": 2,
        "image_size": 160,
        "test_share": 0.0,
        "copies": 0.0,
        "wrong_labels": 0.0,
        "seed": 3,
    }
    draw_data_set(root, **options)
    truth = pd.read_csv(root / "truth.csv", keep_default_na=False)
    inside, share = [], []
    for row in truth.itertuples():
        data = (root / row.path).read_bytes()
        grey = decode(data)
        region = brain_region(grey)
        without, only = (masked(grey, mask) for mask in MASKS)
        np.testing.assert_array_equal(np.where(region, only, without), grey)
        assert (only[~region] == 0).all()
        assert len(np.unique(without[region])) == 1
        share.append(brain_region(prepare(data, preprocessing(size=128)).pixels).mean())
        if row.lesion_x != "":
            left, width, top, height = map(int, map(float, (row.lesion_x, row.lesion_w, row.lesion_y, row.lesion_h)))
            x, y = left + width // 2, top + height // 2
            inside.append(region[y, x])
    assert np.mean(inside) > 0.95
    assert 0.3 < np.mean(share) < 0.8
    assert not brain_region(np.zeros((64, 64), np.uint8)).any()


def test_an_unknown_mask_is_refused():
    with pytest.raises(ValueError, match="brain_only"):
        masked(np.zeros((32, 32), np.uint8), "skull")
