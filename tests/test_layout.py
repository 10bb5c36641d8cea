"""Folders and files as people have them: classes are classes, and no file is left out without a word."""

import csv
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from brain_tumor.errors import PipelineError
from brain_tumor.imaging.preprocessing import Preprocessing
from brain_tumor.own_tables.patients import known_patients
from brain_tumor.prepare.preparing import prepare_images
from brain_tumor.prepare.sources import source_images
from brain_tumor.source.fetching import copy_folder
from brain_tumor.source.layout import list_images
from brain_tumor.tables.csv_tables import read_table

SMALL = Preprocessing(size=32, crop=True, clip=0.5)
NFC, NFD = (unicodedata.normalize(form, "m\u00e9ningiome") for form in ("NFC", "NFD"))
DICOM = bytes(128) + b"DICM" + bytes(200)


def scan(seed: int, suffix: str = ".png") -> bytes:
    grey = np.random.default_rng(seed).integers(0, 256, (48, 40), np.uint8)
    return cv2.imencode(suffix, grey)[1].tobytes()


def put(root: Path, *paths: str, **content: bytes) -> Path:
    """Write a source called `mine` below `root`: a PNG each, or the content given for a path."""
    for seed, path in enumerate([*paths, *content]):
        target = root / "mine" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.get(path) if path in content else scan(seed))
    return root


def prepared(root: Path, labels=(), max_rejected: float = 0.0, fixes=None, classes=None) -> pd.DataFrame:
    """The index of the store that the stage would write of the source `mine`."""
    found = source_images(root, "mine", dict(labels), classes)
    prepare_images(root, found, root / "store", SMALL, max_rejected, fixes)
    return read_table(root / "store/index.csv")


def refusal(root: Path, **options) -> str:
    with pytest.raises(PipelineError) as caught:
        prepared(root, **options)
    assert len(str(caught.value).splitlines()) == 1 and not (root / "store").exists()
    return str(caught.value)


def rejected(root: Path) -> dict[str, str]:
    with open(root / "store/rejected.csv", encoding="utf-8", newline="") as stream:
        return {row["path"]: row["reason"] for row in csv.DictReader(stream)}


# --- which folder is the class

PATIENTS = {"glioma": ["patient000", "patient001", "patient002", "patient003"]}
PATIENTS["healthy"] = ["patient004", "patient005", "patient006", "patient007"]
BY_PATIENT = [f"{c}/{patient}/{k}.png" for c, patients in PATIENTS.items() for patient in patients for k in range(3)]


def test_patients_below_the_classes_are_no_classes(tmp_path):
    put(tmp_path, *BY_PATIENT)
    text = refusal(tmp_path)
    for part in ("8 that look like patients", "'patient000'", "data.sources.mine.labels", "'glioma': 'glioma'"):
        assert part in text
    # What the message says to do.
    assert "audit.patients: '([^/]+)/[^/]+$'" in text
    index = prepared(tmp_path, {"glioma": "glioma", "healthy": "healthy"})
    assert index["label"].tolist() == ["glioma"] * 12 + ["healthy"] * 12 and set(index["folder"]) == {""}
    nobody = pd.DataFrame(columns=["path", "patient"], dtype=str)
    found = known_patients(index["path"], nobody, r"([^/]+)/[^/]+$", "mine")
    assert found.tolist() == [patient for patients in PATIENTS.values() for patient in patients for _ in range(3)]


def test_a_class_folder_that_is_named_holds_all_below_it_however_deep(tmp_path):
    put(tmp_path, "Training/glioma/1.png", "Training/glioma/p1/2.png", "Training/glioma/p1/t1/axial/3.png")
    put(tmp_path, "Training/healthy/4.png", "Testing/glioma/p9/5.png", f"Testing/{NFD}/p8/6.png")
    labels = {"glioma": "glioma", "healthy": "drop", NFC: "meningioma"}
    index = prepared(tmp_path, labels)
    assert dict(zip(index["path"].str.rsplit("/").str[-1], index["label"], strict=True)) == {
        "1.png": "glioma",
        "2.png": "glioma",
        "3.png": "glioma",
        "5.png": "glioma",
        "6.png": "meningioma",
    }
    assert (index["folder"] == index["path"].str.split("/").str[1]).all()


def numbered(pattern: str, count: int, *above: str) -> list[str]:
    return [f"{top}{pattern.format(k)}/{i}.png" for top in above or [""] for k in range(1, count + 1) for i in range(2)]


NO_CLASSES = {
    "patients and nothing else": (numbered("patient{:03}", 8), "patients"),
    "below parts of a split": (
        [f"{part}/{path}" for part in ("Training", "Testing") for path in BY_PATIENT],
        "patients",
    ),
    "one patient": (["glioma/1.png", "healthy/Patient 7/1.png"], "1 that look like patients: 'Patient 7'"),
    "initials": (numbered("P{}", 3, "Training/", "Testing/"), "patients"),
    "subjects": (numbered("sub-{:02}", 3), "patients"),
    "numbers": (
        [f"{c}/{k:04}/1.png" for c, first in (("glioma", 1), ("healthy", 4)) for k in range(first, first + 3)],
        "",
    ),
    "the same numbers in each class": (numbered("{}", 3, "glioma/", "healthy/"), "patients"),
    "many numbers": (numbered("{}", 11), "patients"),
    "BraTS": (
        [f"HGG/BraTS19_2013_{k}_1/a.png" for k in (2, 3)] + [f"LGG/BraTS19_2013_{k}_1/a.png" for k in (0, 1)],
        "'HGG': 'HGG', 'LGG': 'LGG'",
    ),
    "TCGA": ([f"TCGA_CS_{4941 + k}_19960909/{k}.tif" for k in range(11)], "patients"),
    "hashes": ([f"{(k + 7) * 2654435761 % 2**32:08x}0/1.png" for k in range(60)], "patients"),
    "surnames": ([f"{chr(97 + k // 26)}{chr(97 + k % 26)}son/1.png" for k in range(51)], "51 that look like patients"),
    "parts of a split": ([f"{c}/{part}/1.png" for c in ("glioma", "healthy") for part in ("train", "Test")], "'Test'"),
    "planes": ([f"{c}/{plane}/1.png" for c in ("glioma", "healthy") for plane in ("axial", "coronal")], "'glioma'"),
    "sequences": ([f"{c}/{name}/1.png" for c in ("glioma", "healthy") for name in ("T1", "FLAIR")], "'healthy'"),
    "images and masks": (["images/1.png", "masks/1.png"], "'masks'"),
}


@pytest.mark.parametrize(("paths", "said"), NO_CLASSES.values(), ids=NO_CLASSES)
def test_folders_that_look_like_something_else_end_the_run(tmp_path, paths, said):
    put(tmp_path, *paths)
    text = refusal(tmp_path)
    assert "expected class folders in mine" in text and said in text
    # They may be the classes all the same: then they are named, and taken at that.
    names = sorted({path.split("/")[-2] for path in paths})
    assert set(prepared(tmp_path, {name: name for name in names})["label"]) == set(names)


KINDS = [
    "Astrocitoma",
    "Carcinoma",
    "Ependimoma",
    "Ganglioglioma",
    "Germinoma",
    "Glioblastoma",
    "Granuloma",
    "Neurocitoma",
]
CLASSES = {
    "two numbers": numbered("{}", 2),
    "ten digits": numbered("{}", 10),
    "grades": numbered("grade{}", 4),
    "grades of two hospitals": numbered("grade{}", 4, "north/", "south/"),
    "numbers below parts of a split": numbered("{}", 3, "Training/", "Testing/"),
    "ten classes below parts": numbered("class{}", 10, "train/", "val/", "test/"),
    "BraTS": ["HGG/1.png", "LGG/1.png"],
    "BraTS of two years": ["BraTS2020_HGG/1.png", "BraTS2020_LGG/1.png"],
    "tumours by sequence": [f"{kind} {name}/1.png" for kind in KINDS for name in ("T1", "T1C+", "T2")],
    "genes": ["p53_mutant/1.png", "p53_wild/1.png", "IDH1/1.png", "IDH2/1.png"],
    "people": ["patients/1.png", "controls/1.png"],
    "tumours by family": ["tumor/glioma/1.png", "tumor/meningioma/1.png", "healthy/normal/1.png"],
    "patients above the classes": [f"patient{k:03}/{c}/1.png" for k in range(20) for c in ("glioma", "healthy")],
}


@pytest.mark.parametrize("paths", CLASSES.values(), ids=CLASSES)
def test_classes_are_taken_for_classes(tmp_path, paths):
    put(tmp_path, *paths)
    assert sorted(set(prepared(tmp_path)["label"])) == sorted({path.split("/")[-2] for path in paths})


def test_a_named_class_that_holds_everything_is_not_taken_for_wrapping(tmp_path):
    put(tmp_path / "given", "healthy/p1/1.png", "healthy/p2/1.png")
    copy_folder(tmp_path / "given", tmp_path / "raw/mine", classes=1, named=["healthy"])
    index = prepared(tmp_path / "raw", {"healthy": "no_tumor"}, classes=["glioma", "no_tumor"])
    assert index["path"].tolist() == ["mine/healthy/p1/1.png", "mine/healthy/p2/1.png"]
    assert index["label"].tolist() == ["no_tumor"] * 2


# --- a class in two spellings

ALIKE = {
    "capital letters": ("tumor", "Tumor"),
    "a blank behind": ("tumor", "tumor "),
    "underscore and hyphen": ("no_tumor", "no-tumor"),
    "underscore and blank": ("no_tumor", "no tumor"),
    "together": ("no_tumor", "NoTumor"),
    "two blanks": ("no tumor", "no  tumor"),
    "long dash": ("no-tumor", "no\u2013tumor"),
    "accent as a character of its own": (NFC, NFD),
    "number": ("grade 1", "grade_1"),
}


@pytest.mark.parametrize("folders", [("Training/", "Testing/"), ("", "")], ids=["two folders", "one folder"])
@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=ALIKE)
def test_a_class_in_two_spellings_ends_the_run(tmp_path, one, other, folders):
    root = tmp_path / "raw"
    (root / "mine").mkdir(parents=True)
    for folder in set(folders):
        put(root, f"{folder}else/1.png")
    put(root, f"{folders[0]}{one}/1.png", f"{folders[1]}{other}/2.png")
    text = refusal(root)
    shown = [ascii(name)[1:-1] for name in (one, other)] if one == NFC else [repr(one), repr(other)]
    assert all(name in text for name in shown) and "data.sources.mine.labels" in text
    index = prepared(root, {other: one})
    assert sorted(set(index["label"])) == sorted([one, "else"]) and len(index) == len(set(folders)) + 2


def test_classes_that_differ_stay_apart(tmp_path):
    names = ["T1C Tumor", "T1C+ Tumor", "grade 1-2", "grade 12", "tumor", "no_tumor", "tumors"]
    put(tmp_path, *(f"{name}/1.png" for name in names))
    assert sorted(set(prepared(tmp_path)["label"])) == sorted(names)


def test_labels_in_two_spellings_end_the_run(tmp_path):
    put(tmp_path, "yes/1.png", "maybe/1.png", "no/1.png")
    text = refusal(tmp_path, labels={"yes": "tumor", "maybe": "Tumor"})
    assert "'Tumor', 'tumor'" in text and "data.sources.mine.labels" in text


def test_a_folder_of_a_further_source_is_compared_with_the_classes_of_the_main_one(tmp_path):
    put(tmp_path, "no-tumor/1.png", f"{NFD}/1.png")
    classes = [NFC, "no_tumor"]
    assert "'no-tumor' and not for 'no_tumor'" in refusal(tmp_path, classes=classes, labels={NFD: NFC})
    assert ascii(NFC) in refusal(tmp_path, classes=classes, labels={"no-tumor": "no_tumor"})
    index = prepared(tmp_path, {"no-tumor": "no_tumor", NFC: NFC}, classes=classes)
    assert index["label"].tolist() == [NFC, "no_tumor"]


# --- files that are no images by their suffix


def test_files_that_are_not_read_are_counted_named_and_held_against_the_limit(tmp_path):
    names = [f"{c}/{k}.png" for c in "ab" for k in range(6)]
    put(tmp_path, *names, **{"a/6.dcm": DICOM, "a/7.ima": b"", "b/6.nii": b"", "b/7.NII.GZ": b"", "b/8.svg": b"<svg/>"})
    put(tmp_path, **{"b/IM0001": DICOM, "b/8.heic": b"ftypheic", "a/scans.zip": b"PK"})
    text = refusal(tmp_path, max_rejected=0.39)
    for part in (
        "8 of 20",
        "max_rejected = 0.39",
        "mine/a/6.dcm",
        "DICOM",
        "convert it to PNG",
        "and 3 more",
        "fixes.csv",
    ):
        assert part in text
    assert len(prepared(tmp_path, max_rejected=0.4)) == 12
    reasons = rejected(tmp_path)
    assert sorted(reasons) == sorted(
        f"mine/{name}" for name in ("a/6.dcm", "a/7.ima", "a/scans.zip", "b/6.nii", "b/7.NII.GZ", "b/8.heic", "b/8.svg")
    ) + ["mine/b/IM0001"]
    assert {path for path, reason in reasons.items() if reason.startswith("DICOM is read for prediction only")} == {
        "mine/a/6.dcm",
        "mine/a/7.ima",
        "mine/b/IM0001",
    }
    assert {path for path, reason in reasons.items() if reason.startswith("NIfTI is read for")} == {
        "mine/b/6.nii",
        "mine/b/7.NII.GZ",
    }


def test_what_is_left_out_is_said(tmp_path, capsys):
    put(tmp_path, "a/1.png", "b/1.png", **{"a/2.dcm": DICOM})
    prepared(tmp_path, max_rejected=0.5)
    said = capsys.readouterr().err
    assert "1 of 3 files" in said and "'mine/a/2.dcm'" in said and "DICOM" in said
    prepared(tmp_path, fixes={"mine/a/2.dcm": "drop"})
    assert capsys.readouterr().err == "" and rejected(tmp_path) == {}


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        *((name, ".jpg") for name in (".jfif", ".jpe", ".JFIF", ".png", "")),
        *((name, ".png") for name in (".jpg", ".PNG", ".png.txt", ".scan", ".dcm", "")),
        *((name, ".bmp") for name in (".dib", ".bmp")),
        *((name, ".pgm") for name in (".ppm", ".pnm", ".pgm")),
        (".jp2", ".jp2"),
        (".tif", ".tiff"),
    ],
)
def test_an_image_is_read_whatever_it_is_called(tmp_path, suffix, content):
    put(tmp_path, "a/1.png", "b/1.png", **{f"a/odd{suffix}": scan(9, content)})
    assert prepared(tmp_path)["path"].tolist() == ["mine/a/1.png", f"mine/a/odd{suffix}", "mine/b/1.png"]
    pixels = np.load(tmp_path / "store/images.npy")[1]
    usual = tmp_path / "usual"
    put(usual, "a/1.png", "b/1.png", **{f"a/odd{content}": scan(9, content)})
    prepared(usual)
    assert np.array_equal(pixels, np.load(usual / "store/images.npy")[1])


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".dib", ".ppm", ".pnm", ".pbm", ".jp2"])
def test_a_class_may_have_images_of_such_a_suffix_only(tmp_path, suffix):
    put(tmp_path, "a/1.png", **{f"b/{k}{suffix}": scan(k, ".jpg") for k in range(3)})
    assert len(prepared(tmp_path)) == 4


def test_what_lies_beside_images_on_purpose_does_not_matter(tmp_path, capsys):
    put(tmp_path, "Training/a/1.png", "Training/b/1.png")
    before = prepared(tmp_path)
    names = ["README", "LICENSE", "licence.TXT", "labels.csv", "a.json", "a.xml", "notes.md", "paper.pdf", "a.mat"]
    names += ["Thumbs.db", "THUMBS.DB", "desktop.ini", ".DS_Store", "._1.png", ".png", "1.png.json", "1.png.txt"]
    for folder in ("", "Training/", "Training/a/"):
        put(
            tmp_path,
            **{f"{folder}{name}": b"anything" for name in names if folder == "Training/a/" or "1.png." not in name},
        )
    put(
        tmp_path,
        **{"__MACOSX/Training/a/._1.png": b"x", "Training/a/@eaDir/1.png/SYNOPHOTO_THUMB_S.jpg": scan(3, ".jpg")},
    )
    put(tmp_path, **{"train.sh": b"x", "model.h5": b"x", "Training/Makefile": b"x"})  # outside class folders
    assert prepared(tmp_path).equals(before)
    assert rejected(tmp_path) == {} and capsys.readouterr().err == ""


def test_an_image_beside_the_class_folders_is_rejected_by_name(tmp_path):
    put(tmp_path, "cover.jpg", "Training/a/1.png", "Training/b/1.png", **{"Training/x.dcm": DICOM})
    text = refusal(tmp_path)
    assert "2 of 4 files" in text and "'mine/cover.jpg': in no class folder" in text.replace(
        "'mine/Training/x.dcm', ", ""
    )
    index = prepared(tmp_path, fixes={"mine/cover.jpg": "relabel:a", "mine/Training/x.dcm": "drop"})
    assert dict(zip(index["path"], index["label"], strict=True)) == {
        "mine/cover.jpg": "a",
        "mine/Training/a/1.png": "a",
        "mine/Training/b/1.png": "b",
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a/1.dcm": DICOM, "b/2.dcm": DICOM}, ["found none", "2 other files such as 'a/1.dcm'", "DICOM", "PNG"]),
        ({"a/1.png": scan(1), "b/2.dcm": DICOM}, ["only 'a'", "the file 'b/2.dcm'", "DICOM"]),
        ({"a/1.png": scan(1), "b/1.png": scan(2), "c/3.nii.gz": b""}, ["none in 'c'", "'c/3.nii.gz'", "NIfTI"]),
        (
            {"a/1.png": scan(1), "b/1.png": scan(2), "c/IM1": DICOM, "c/IM2": DICOM},
            ["none in 'c'", "2 other", "'c/IM1'"],
        ),
        ({"Training.zip": b"", "Testing.zip": b"", "README": b""}, ["found none", "2 other", "unpack it"]),
    ],
)
def test_what_lies_where_images_were_expected_is_said(tmp_path, content, said):
    put(tmp_path, **content)
    with pytest.raises(PipelineError) as caught:
        list_images(tmp_path / "mine")
    assert all(part in str(caught.value) for part in said) and len(str(caught.value).splitlines()) == 1
