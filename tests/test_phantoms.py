"""Phantoms: the truth table holds on the files, the classes have their anatomy, and bytes repeat."""

import csv
import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brain_tumor.errors import PipelineError
from brain_tumor.source.layout import list_images
from brain_tumor.source.phantoms.patients import CLASSES
from brain_tumor.source.phantoms.planting import draw_data_set
from brain_tumor.source.phantoms.scanner import PLANES, draw_scan
from brain_tumor.source.phantoms.second import draw_second_set

ARGUMENTS = {
    "patients": 6,
    "slices": 4,
    "image_size": 112,
    "test_share": 0.34,
    "copies": 0.3,
    "wrong_labels": 0.08,
    "seed": 11,
}
TUMOURS = tuple(label for label in CLASSES if label != "no_tumor")
UNDO = {
    "flip_left_right": lambda a: cv2.flip(a, 1),
    "flip_top_bottom": lambda a: cv2.flip(a, 0),
    "rotate_90": lambda a: cv2.rotate(a, cv2.ROTATE_90_CLOCKWISE),
    "rotate_180": lambda a: cv2.rotate(a, cv2.ROTATE_180),
    "rotate_270": lambda a: cv2.rotate(a, cv2.ROTATE_90_COUNTERCLOCKWISE),
    "transpose": cv2.transpose,
    "transverse": lambda a: cv2.rotate(cv2.transpose(a), cv2.ROTATE_180),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    draw_data_set(folder, **ARGUMENTS)
    return folder


@pytest.fixture(scope="module")
def truth(root) -> list[dict[str, str]]:
    return read_truth(root)


@pytest.fixture(scope="module")
def second(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("second")
    draw_second_set(folder, **ARGUMENTS)
    return folder


@pytest.fixture(scope="module")
def second_truth(second) -> list[dict[str, str]]:
    return read_truth(second)


def read_truth(root: Path) -> list[dict[str, str]]:
    with open(root / "truth.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(root: Path, path: str) -> np.ndarray:
    return cv2.imread(str(root / path), cv2.IMREAD_UNCHANGED)


def box_text(row: dict[str, str]) -> list[str]:
    return [row[name] for name in ("lesion_x", "lesion_y", "lesion_w", "lesion_h")]


def box(row: dict[str, str]) -> list[int]:
    return [int(text) for text in box_text(row)]


def digest(folder: Path) -> str:
    """One hash over the names and bytes of all files."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\n" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def test_same_arguments_give_the_same_bytes_here_and_in_another_process(root, tmp_path):
    (tmp_path / "again").mkdir()
    draw_data_set(tmp_path / "again", **ARGUMENTS)
    (tmp_path / "other").mkdir()
    code = (
        f"import pathlib, sys; sys.path.insert(0, {str(Path(__file__).parents[1] / 'src')!r})\n"
        f"from brain_tumor.source.phantoms.planting import draw_data_set\n"
        f"draw_data_set(pathlib.Path('other'), **{ARGUMENTS!r})"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert digest(root) == digest(tmp_path / "again") == digest(tmp_path / "other")


def test_another_seed_gives_other_pictures(root, tmp_path):
    draw_data_set(tmp_path, **{**ARGUMENTS, "patients": 2, "seed": 12})
    contents = [{hashlib.sha256(p.read_bytes()).digest() for p in folder.rglob("*.jpg")} for folder in (root, tmp_path)]
    assert contents[0] and contents[1] and not contents[0] & contents[1]


def test_truth_lists_exactly_the_images_sorted(root, truth):
    images = list_images(root)
    assert [(row["path"], row["folder_label"]) for row in truth] == [(image.path, image.label) for image in images]
    assert {image.folder for image in images} == {"Training", "Testing"}
    assert b"\r" not in (root / "truth.csv").read_bytes()
    for row in truth:
        image = read(root, row["path"])
        assert image.ndim == 2 and image.dtype == np.uint8


def test_names_keep_patients_in_one_folder_and_copies_anonymous(truth):
    folders: dict[str, set[str]] = {}
    for row in truth:
        folder, _, name = row["path"].split("/")
        if row["copy_of"]:
            assert name.startswith("copy_") and row["patient"] not in name
        else:
            assert name == f"{row['patient']}_s{int(row['slice']):02d}.jpg"
            folders.setdefault(row["patient"], set()).add(folder)
    assert len(folders) == ARGUMENTS["patients"] * len(CLASSES)
    assert all(len(where) == 1 for where in folders.values())
    assert sum(where == {"Testing"} for where in folders.values()) == 2 * len(CLASSES)  # 0.34 of 6


def assert_copy(folder: Path, row: dict[str, str], root: Path, source: dict[str, str]) -> None:
    """The file of `row` in `folder` is the kind of copy that it says of the file of `source` in `root`."""
    assert all(row[name] == source[name] for name in ("true_label", "patient", "plane", "slice"))
    content, original = (folder / row["path"]).read_bytes(), (root / source["path"]).read_bytes()
    image, pixels = read(folder, row["path"]), read(root, source["path"])
    if row["transform"] == "exact":
        assert content == original and box_text(row) == box_text(source)
    elif row["transform"] == "recompressed":
        assert len(content) < len(original) and image.shape < pixels.shape
        assert np.corrcoef(cv2.resize(image, pixels.shape[::-1]).ravel(), pixels.ravel())[0, 1] > 0.96
    else:
        back = UNDO[row["transform"]](image)
        assert np.abs(back.astype(int) - pixels).mean() < 3
        others = [u(image) for name, u in UNDO.items() if name != row["transform"]]
        assert all(o.shape != pixels.shape or np.abs(o.astype(int) - pixels).mean() > 6 for o in [image, *others])
        if row["lesion_x"]:
            x, y, w, h = box(row)
            region = np.zeros_like(image)
            region[y : y + h, x : x + w] = 1
            assert list(cv2.boundingRect(UNDO[row["transform"]](region))) == box(source)


def test_copies_are_what_the_truth_says(root, truth):
    rows = {row["path"]: row for row in truth}
    copies = [row for row in truth if row["copy_of"]]
    assert len(copies) == round(ARGUMENTS["copies"] * (len(truth) - len(copies)))
    assert {row["path"].split("/")[0] for row in copies} == {"Training", "Testing"}
    for row in copies:
        source = rows[row["copy_of"]]
        assert source["copy_of"] == "" and source["path"].startswith("Training/")
        assert_copy(root, row, root, source)
    assert {"exact", "recompressed"} < {row["transform"] for row in copies}


def test_wrong_labels_stand_where_told(root, truth):
    wrong = [row for row in truth if row["wrong_label"] == "1"]
    assert len(wrong) == round(ARGUMENTS["wrong_labels"] * len(truth))
    for row in truth:
        assert row["path"].split("/")[1] == row["folder_label"]
        assert (row["folder_label"] != row["true_label"]) == (row["wrong_label"] == "1")
    drawn = next(row for row in wrong if not row["copy_of"])
    number, index = int(drawn["patient"][1:]), int(drawn["slice"])
    image, _ = draw_scan(
        drawn["true_label"], plane=drawn["plane"], patient=number, index=index, size=ARGUMENTS["image_size"], seed=11
    )
    assert np.abs(image.astype(int) - read(root, drawn["path"])).mean() < 3


def test_boxes_lie_inside_and_only_tumours_have_one(root, truth):
    for row in truth:
        if row["true_label"] == "no_tumor":
            assert box_text(row) == ["", "", "", ""]
            continue
        x, y, w, h = box(row)
        height, width = read(root, row["path"]).shape
        assert w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= width and y + h <= height


@pytest.mark.parametrize("label", CLASSES)
def test_lesions_show(label):
    """A tumour differs from the tissue around it by far more than noise; without a tumour there is no mask."""
    contrasts = []
    for patient in range(1, 25):
        plane = PLANES[patient % 3]
        image, mask = draw_scan(label, plane=plane, patient=patient, index=0, size=112, seed=3)
        assert image.shape == mask.shape and mask.dtype == bool
        if label == "no_tumor":
            assert not mask.any()
            continue
        assert mask.any()
        grown = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        edge = mask & ~(cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0)
        contrasts.append(np.median(image[edge]) / np.median(image[grown & ~mask]))
    if contrasts:
        assert np.median(contrasts) > 1.4


def centres(label: str, plane: str, axis: int) -> np.ndarray:
    """Place of the lesion along a side of the image (0 rows, 1 columns), as a share of the head's extent there."""
    places = []
    for patient in range(1, 25):
        image, mask = draw_scan(label, plane=plane, patient=patient, index=0, size=112, seed=5)
        head = np.flatnonzero((cv2.blur(image, (5, 5)) > 30).any(axis=1 - axis))
        lesion = np.flatnonzero(mask.any(axis=1 - axis))
        places.append((lesion.mean() - head[0]) / (head[-1] - head[0]))
    return np.array(places)


def test_classes_have_their_places():
    off_midline = {label: np.abs(centres(label, "axial", axis=1) - 0.5) for label in TUMOURS}
    assert np.max(off_midline["pituitary"]) < 0.15
    assert np.median(off_midline["glioma"]) > 0.1 and np.median(off_midline["meningioma"]) > 0.15
    height = {label: np.median(centres(label, "coronal", axis=0)) for label in TUMOURS}
    assert height["pituitary"] > max(height["glioma"], height["meningioma"]) + 0.1  # at the base of the skull


def distance_inside(mask: np.ndarray) -> np.ndarray:
    """Of every true pixel, how many pixels it lies from the nearest false one."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)


def test_meningioma_lies_at_the_skull_and_glioma_is_ringed():
    hollow, below_skin = {}, {}
    for label in ("glioma", "meningioma"):
        hollow[label], below_skin[label] = [], []
        for patient in range(1, 25):
            image, mask = draw_scan(label, plane="axial", patient=patient, index=0, size=144, seed=9)
            depth = distance_inside(mask) / distance_inside(mask).max()
            hollow[label].append(np.median(image[depth > 0.7]) / np.median(image[mask & (depth < 0.4)]))
            outline = max(cv2.findContours((image > 40).astype(np.uint8), 0, 2)[0], key=cv2.contourArea)
            head = cv2.drawContours(np.zeros_like(image), [outline], 0, 1, thickness=-1)
            below_skin[label].append(distance_inside(np.pad(head, 1))[1:-1, 1:-1][mask].min())
    assert np.mean(np.array(hollow["glioma"]) < 0.7) > 0.4
    assert np.mean(np.array(hollow["meningioma"]) < 0.7) == 0
    assert np.median(below_skin["meningioma"]) < 0.75 * np.median(below_skin["glioma"])


def test_slices_of_a_patient_are_alike_and_patients_differ():
    def thumbnail(patient: int, index: int) -> np.ndarray:
        image, _ = draw_scan("glioma", plane="axial", patient=patient, index=index, size=96, seed=2)
        return cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA).ravel().astype(float)

    thumbnails = [[thumbnail(patient, index) for index in range(3)] for patient in (1, 5, 9, 13)]
    own = [np.corrcoef(t[0], t[i])[0, 1] for t in thumbnails for i in (1, 2)]
    foreign = [np.corrcoef(a[0], b[1])[0, 1] for a in thumbnails for b in thumbnails if a is not b]
    assert max(own) < 0.999 and np.mean(own) > np.mean(foreign) + 0.1


def test_brightness_and_size_do_not_tell_the_class():
    features, labels, patients = [], [], []
    for patient in range(1, 73):
        for index in range(3):
            label = CLASSES[patient % 4]
            image, _ = draw_scan(label, plane=PLANES[index], patient=patient, index=index, size=72, seed=21)
            histogram = np.bincount(image.ravel() // 16, minlength=16) / image.size
            features.append([image.mean(), image.std(), *image.shape, *histogram])
            labels.append(label)
            patients.append(patient)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = StratifiedGroupKFold(4, shuffle=True, random_state=0)
    predicted = cross_val_predict(model, np.array(features), labels, groups=patients, cv=folds)
    assert f1_score(labels, predicted, average="macro") < 0.5


def test_a_folder_with_files_and_an_unknown_class_are_refused(root):
    for draw in (draw_data_set, draw_second_set):
        before = digest(root)
        with pytest.raises(PipelineError, match="empty folder"):
            draw(root, **ARGUMENTS)
        assert digest(root) == before
    with pytest.raises(ValueError, match="label"):
        draw_scan("other", plane="axial", patient=1, index=0, size=96, seed=0)


# --- the second set


def test_the_second_set_repeats_here_and_in_another_process(second, tmp_path):
    (tmp_path / "again").mkdir()
    draw_second_set(tmp_path / "again", **ARGUMENTS)
    (tmp_path / "other").mkdir()
    code = (
        f"import pathlib, sys; sys.path.insert(0, {str(Path(__file__).parents[1] / 'src')!r})\n"
        f"from brain_tumor.source.phantoms.second import draw_second_set\n"
        f"draw_second_set(pathlib.Path('other'), **{ARGUMENTS!r})"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert digest(second) == digest(tmp_path / "again") == digest(tmp_path / "other")
    (tmp_path / "seed").mkdir()
    draw_second_set(tmp_path / "seed", **ARGUMENTS | {"seed": 12})
    contents = [{p.read_bytes() for p in folder.rglob("*.jpg")} for folder in (second, tmp_path / "seed")]
    assert contents[0] and contents[1] and not contents[0] & contents[1]


def test_the_second_set_says_yes_or_no_as_the_truth_does(second, second_truth):
    images = list_images(second)
    assert [(row["path"], row["folder_label"]) for row in second_truth] == [(i.path, i.label) for i in images]
    assert {image.folder for image in images} == {""}
    assert {row["true_label"] for row in second_truth} == set(CLASSES)
    assert b"\r" not in (second / "truth.csv").read_bytes()
    for row in second_truth:
        expected = "no" if row["true_label"] == "no_tumor" else "yes"
        assert row["path"].split("/")[0] == row["folder_label"] == expected
        assert row["wrong_label"] == "0"
        image = read(second, row["path"])
        assert image.ndim == 2 and image.dtype == np.uint8
        if expected == "no":
            assert box_text(row) == ["", "", "", ""]
        else:
            x, y, w, h = box(row)
            assert w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= image.shape[1] and y + h <= image.shape[0]


def test_the_second_set_holds_copies_of_the_first_where_its_truth_says(second, second_truth, root, truth):
    first = {row["path"]: row for row in truth}
    copies = [row for row in second_truth if row["copy_of"]]
    assert len(copies) == round(0.3 / 0.7 * (len(second_truth) - len(copies)))
    assert len({row["copy_of"] for row in copies}) == len(copies)
    assert {row["copy_of"].split("/")[0] for row in copies} == {"Training", "Testing"}
    kinds = [row["transform"] if row["transform"] in ("exact", "recompressed") else "turned" for row in copies]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(("exact", "turned", "recompressed"), 2)
    for row in copies:
        source = first[row["copy_of"]]
        assert source["copy_of"] == ""
        name = row["path"].split("/")[1]
        assert name.startswith("copy_") and row["patient"] not in name
        assert_copy(second, row, root, source)
    # and nowhere else
    contents = {(root / path).read_bytes() for path in first}
    exact = {row["path"] for row in copies if row["transform"] == "exact"}
    assert {r["path"] for r in second_truth if (second / r["path"]).read_bytes() in contents} == exact


def test_copies_of_wrongly_labelled_images_show_what_was_drawn(tmp_path):
    """Yes and no agree with the truth even where the label of the first set does not."""
    arguments = ARGUMENTS | {"wrong_labels": 0.5, "copies": 0.0}
    for name, draw in (("first", draw_data_set), ("second", draw_second_set)):
        (tmp_path / name).mkdir()
        draw(tmp_path / name, **arguments)
    first = {row["path"]: row for row in read_truth(tmp_path / "first")}
    copies = [row for row in read_truth(tmp_path / "second") if row["copy_of"]]
    assert {first[row["copy_of"]]["wrong_label"] for row in copies} == {"0", "1"}
    for row in copies:
        assert row["true_label"] == first[row["copy_of"]]["true_label"]
        assert row["folder_label"] == ("no" if row["true_label"] == "no_tumor" else "yes")
        assert_copy(tmp_path / "second", row, tmp_path / "first", first[row["copy_of"]])


def explained(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the variance of b that some function of the grey level of a explains."""
    a, b = (cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).ravel() for image in (a, b))
    levels, means = a // 8, np.zeros(32)
    for level in np.unique(levels):
        means[level] = b[levels == level].mean()
    return 1 - np.var(b - means[levels]) / np.var(b)


def test_the_second_set_has_other_patients_in_another_contrast(second, second_truth, root, truth):
    """No change of contrast makes a scan of it from one of the first set, but from a scan of another seed."""
    drawn = [row for row in second_truth if not row["copy_of"]]
    first = {(row["patient"], row["slice"]): row for row in truth if not row["copy_of"]}
    assert len({row["patient"] for row in drawn}) == len(CLASSES) * 2  # a quarter of 6 patients, but at least two
    compared = 0
    for row in drawn:
        assert row["path"].split("/")[1] == f"{row['patient']}_s{int(row['slice']):02d}.jpg"
        image, place = read(second, row["path"]), {"patient": int(row["patient"][1:]), "index": int(row["slice"])}
        own, _ = draw_scan(
            row["true_label"], plane=row["plane"], **place, size=ARGUMENTS["image_size"], seed=ARGUMENTS["seed"] + 1
        )
        assert explained(own, image) > 0.9 and np.corrcoef(own.ravel(), image.ravel())[0, 1] < 0.8
        if namesake := first.get((row["patient"], row["slice"])):
            compared += 1
            assert explained(read(root, namesake["path"]), image) < 0.75
            assert image.shape != read(root, namesake["path"]).shape
    assert compared > len(drawn) / 2
