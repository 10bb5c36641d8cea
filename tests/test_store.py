"""The store of prepared images: one row per readable image, whole or absent."""

import csv
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import require
from settings import preprocessing

import brain_tumor
from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_file, replacing_folder, write_json, write_text
from brain_tumor.imaging.preprocessing import Preprocessing, prepare
from brain_tumor.prepare.preparing import prepare_images
from brain_tumor.prepare.sources import source_images
from brain_tumor.source.layout import list_images
from brain_tumor.tables.csv_tables import read_table, write_table
from brain_tumor.tables.store import Store, fingerprint

SMALL = Preprocessing(size=32, crop=True, clip=0.5)
SOURCES = str(Path(brain_tumor.__file__).parents[1])


def scan(seed: int, shape: tuple[int, int] = (48, 40)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def put(root: Path, path: str, content: bytes | int) -> None:
    """Write a file: the bytes given, or a scan of that seed in the format of the suffix."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, int):
        content = cv2.imencode(target.suffix, scan(content))[1].tobytes()
    target.write_bytes(content)


def data_set(root: Path, content: dict[str, bytes | int]) -> Path:
    for path, value in content.items():
        put(root, path, value)
    return root


def scans(root: Path, content: dict[str, bytes | int]) -> Path:
    """The folder of all sources, with a single one."""
    data_set(root / "scans", content)
    return root


def prepare_scans(root: Path, target: Path, options: Preprocessing, max_rejected: float) -> int:
    return prepare_images(root, source_images(root, "scans", {}, None), target, options, max_rejected)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def check_against_files(root: Path, target: Path, options: Preprocessing) -> list[dict]:
    """Every row is what the index says of it, read without the library; returns the index."""
    with open(target / "index.csv", encoding="utf-8", newline="") as stream:
        index = list(csv.DictReader(stream))
    images = np.load(target / "images.npy", mmap_mode="r")
    assert images.shape == (len(index), options.size, options.size)
    assert images.dtype == np.uint8
    assert (target / "images.npy").stat().st_size == images.offset + images.nbytes
    for k, (row, pixels) in enumerate(zip(index, images, strict=True)):
        data = (root / row["path"]).read_bytes()
        direct = prepare(data, options)
        assert row["row"] == str(k)
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["width"], row["height"]) == (str(direct.width), str(direct.height))
        assert np.array_equal(pixels, direct.pixels)
    return index


# --- what is stored


def test_every_image_is_prepared_in_the_order_of_the_paths(tmp_path):
    """More images than may wait at once, prepared by several threads."""
    folders = ["Training/glioma", "Training/healthy", "Testing/glioma", "Testing/healthy"]
    root = scans(tmp_path / "raw", {f"{folders[k % 4]}/{k * 7919 % 600:03}.png": k for k in range(600)})
    put(root, "scans/Training/glioma/wide.png", cv2.imencode(".png", scan(1, (30, 90)))[1].tobytes())
    assert prepare_scans(root, tmp_path / "store", SMALL, 0.0) == 601
    index = check_against_files(root, tmp_path / "store", SMALL)
    assert [row["path"] for row in index] == sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))
    assert all(row["path"].startswith(f"scans/{row['folder']}/{row['label']}/") for row in index)
    assert {row["source"] for row in index} == {"scans"}
    wide = next(row for row in index if row["path"].endswith("wide.png"))
    assert (wide["width"], wide["height"]) == ("90", "30")
    assert (tmp_path / "store" / "rejected.csv").read_text() == "path,reason\n"


def test_the_store_is_read_back_as_it_was_written(tmp_path):
    root = scans(tmp_path / "raw", {"NA/1.png": 1, "NA/007.png": 2, "null/1.png": 3})
    prepare_scans(root, tmp_path / "store", SMALL, 0.0)
    store = Store(tmp_path / "store")
    assert isinstance(store.images, np.memmap)
    assert store.index["row"].tolist() == [0, 1, 2]
    assert store.index["label"].tolist() == ["NA", "NA", "null"]
    assert store.index["source"].tolist() == ["scans", "scans", "scans"]
    assert store.index["folder"].tolist() == ["", "", ""]
    assert store.index["path"].tolist() == ["scans/NA/007.png", "scans/NA/1.png", "scans/null/1.png"]


def test_the_same_files_give_the_same_bytes(tmp_path):
    root = scans(tmp_path / "raw", {f"{'ab'[k % 2]}/{k}.png": k for k in range(40)} | {"a/no.png": b"no image"})
    for name in ("one", "two"):
        prepare_scans(root, tmp_path / name, SMALL, 0.5)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert str(tmp_path).encode() not in b"".join(contents(tmp_path / "one").values())


@pytest.mark.parametrize("classes", [2, 10])
def test_a_pool_with_any_classes_formats_and_names(tmp_path, classes):
    suffixes = [".png", ".jpg", ".JPEG", ".bmp", ".tiff", ".PNG"]
    names = [f"Größe {k}, ☃ 'x'" for k in range(classes)]
    root = scans(
        tmp_path / "scans of März",
        {f"{name}/scan ({k}) “é”{suffix}": k for name in names for k, suffix in enumerate(suffixes)},
    )
    put(root, f"scans/{names[0]}/notes.txt", b"passed over")
    put(root, "scans/readme.md", b"passed over")
    assert prepare_scans(root, tmp_path / "store", SMALL, 0.0) == classes * len(suffixes)
    index = check_against_files(root, tmp_path / "store", SMALL)
    assert {row["label"] for row in index} == set(names)
    assert {row["folder"] for row in index} == {""}


@pytest.mark.parametrize(
    "path", [".git/refs/x", ".cache/class/a.png", "__MACOSX/a/._1.png", "a/.thumbs/1.png", ".DS_Store"]
)
def test_what_an_operating_system_leaves_is_passed_over(tmp_path, path):
    root = data_set(tmp_path / "raw", {"a/1.png": 1, "b/1.png": 2, path: b"no image"})
    (root / ".git" / "objects").mkdir(parents=True, exist_ok=True)
    assert [image.path for image in list_images(root)] == ["a/1.png", "b/1.png"]


@pytest.mark.parametrize(
    "content, said",
    [
        ({}, "none"),
        ({"1.png": 1, "2.png": 2}, "none"),
        ({"a/1.png": 1}, "'a'"),
        ({"Training/a/1.png": 1, "Testing/a/1.png": 2}, "'a'"),
        ({"a/1.png": 1, "b/1.png": 2, "c/notes.txt": b""}, "'c'"),
    ],
)
def test_an_unusable_layout_is_refused(tmp_path, content, said):
    root = scans(tmp_path / "raw", content)
    with pytest.raises(PipelineError, match=said):
        prepare_scans(root, tmp_path / "store", SMALL, 0.0)
    assert not (tmp_path / "store").exists()


# --- files that cannot be read


def damaged(root: Path) -> tuple[Path, dict[str, str]]:
    """12 files; the readable ones have fewer digits in their count."""
    scans(root, {f"{'ab'[k % 2]}/{k:02}.png": k for k in range(9)})
    jpeg = cv2.imencode(".jpg", scan(3))[1].tobytes()
    put(root, "scans/a/00-empty.png", b"")
    put(root, "scans/a/03-text.jpg", b"<html>not found</html>")
    put(root, "scans/b/99-cut.jpg", jpeg[: len(jpeg) // 2])
    return root, {"scans/a/00-empty.png": "empty", "scans/a/03-text.jpg": "image", "scans/b/99-cut.jpg": "truncated"}


def test_rejected_files_are_listed_and_leave_no_gap(tmp_path):
    root, reasons = damaged(tmp_path / "raw")
    assert prepare_scans(root, tmp_path / "store", SMALL, 0.25) == 9
    index = check_against_files(root, tmp_path / "store", SMALL)
    assert not {row["path"] for row in index} & set(reasons)
    with open(tmp_path / "store" / "rejected.csv", newline="") as stream:
        rejected = {row["path"]: row["reason"] for row in csv.DictReader(stream)}
    assert list(rejected) == sorted(reasons)
    for path, reason in reasons.items():
        assert reason in rejected[path]


@pytest.mark.parametrize("existing", [False, True])
def test_too_many_rejected_files_leave_everything_as_it_was(tmp_path, existing):
    root, _ = damaged(tmp_path / "raw")
    work = tmp_path / "work"
    work.mkdir()
    if existing:
        prepare_scans(root, work / "store", SMALL, 1.0)
    before = contents(work)
    with pytest.raises(PipelineError) as caught:
        prepare_scans(root, work / "store", preprocessing(size=48), 0.24)
    assert len(str(caught.value).splitlines()) == 1
    for part in ("3 of 12", "0.24", "scans/a/00-empty.png"):
        assert part in str(caught.value)
    assert contents(work) == before
    assert list(work.iterdir()) == ([work / "store"] if existing else [])


def test_a_class_whose_only_image_is_unreadable_is_refused(tmp_path):
    root = scans(tmp_path / "raw", {"a/1.png": 1, "b/1.png": 2, "odd class/1.png": b"no image"})
    with pytest.raises(PipelineError, match="'odd class'"):
        prepare_scans(root, tmp_path / "store", SMALL, 1.0)
    assert list(tmp_path.iterdir()) == [root]


# --- the fingerprint


def test_the_fingerprint_is_of_the_content_and_not_of_the_order(tmp_path):
    index = pd.DataFrame({"path": [f"a/{k}.png" for k in range(20)], "sha256": [f"{k:064x}" for k in range(20)]})
    value = fingerprint(index)
    assert fingerprint(index.sample(frac=1, random_state=0)) == value
    swapped = index.copy()
    swapped.loc[[3, 4], "sha256"] = index.loc[[4, 3], "sha256"].to_numpy()
    changed = index.copy()
    changed.loc[7, "sha256"] = "f" * 64
    renamed = index.copy()
    renamed.loc[7, "path"] = "b/7.png"
    assert len({fingerprint(other) for other in (index, swapped, changed, renamed, index[1:])}) == 5


# --- interrupted writes


@pytest.fixture(scope="module")
def many_files(tmp_path_factory) -> Path:
    """3,000 files, links to a few of them."""
    root = tmp_path_factory.mktemp("many")
    for k in range(12):
        put(root, f"scans/{'ab'[k % 2]}/{k}.png", cv2.imencode(".png", scan(k, (200, 200)))[1].tobytes())
    for k in range(12, 3000):
        os.link(root / f"scans/{'ab'[k % 2]}/{k % 12}.png", root / f"scans/{'ab'[k % 2]}/{k}.png")
    return root


@pytest.mark.parametrize("existing", [False, True])
def test_a_killed_process_leaves_nothing_that_looks_finished(tmp_path, many_files, existing):
    target = tmp_path / "store"
    small = scans(tmp_path / "raw", {"a/1.png": 1, "b/1.png": 2})
    if existing:
        prepare_scans(small, target, SMALL, 0.0)
    before = contents(target)
    program = (
        "import sys; from brain_tumor.prepare.preparing import prepare_images;"
        "from brain_tumor.prepare.sources import source_images;"
        "from brain_tumor.imaging.preprocessing import Preprocessing;"
        "found = source_images(sys.argv[1], 'scans', {}, None);"
        "prepare_images(sys.argv[1], found, sys.argv[2], Preprocessing(128, True, 0.5), 0.0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, many_files, target], env=os.environ | {"PYTHONPATH": SOURCES}
    )
    try:
        while process.poll() is None:
            begun = [p for p in tmp_path.glob("store*/images.npy") if p.parent != target]
            if begun and begun[0].stat().st_size > 50 * 128 * 128:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    finally:
        assert process.wait() == -signal.SIGKILL  # it had not finished
    assert contents(target) == before
    assert target.exists() == existing

    assert prepare_scans(small, target, preprocessing(size=48), 0.0) == 2
    check_against_files(small, target, preprocessing(size=48))
    assert sorted(tmp_path.iterdir()) == sorted([small, target])


def test_a_block_that_fails_leaves_the_old_content(tmp_path):
    write_text(tmp_path / "file.txt", "old\n")
    data_set(tmp_path / "folder", {"a": b"old"})
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "folder") as folder:
        (folder / "b").write_text("new")
        raise KeyboardInterrupt
    with pytest.raises(OSError), replacing_file(tmp_path / "file.txt") as partial:
        partial.write_text("new")
        raise OSError
    with pytest.raises(ValueError):
        write_json(tmp_path / "file.txt", {"score": float("nan")})
    assert contents(tmp_path) == before


def test_what_a_killed_process_left_beside_a_file_is_removed_and_of_a_running_one_is_not(tmp_path):
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    dead, alive = (tmp_path / f".partial-{pid}-file.txt" for pid in (ended.pid, os.getppid()))
    for path in (dead, alive):
        path.write_text("half")
    write_text(tmp_path / "file.txt", "new\n")
    assert contents(tmp_path) == {"file.txt": b"new\n", alive.name: b"half"}


@pytest.mark.skipif(sys.platform != "linux", reason="strace is of Linux")
@pytest.mark.parametrize("files", [1, 200])
def test_content_is_on_the_disk_before_the_rename(tmp_path, files):
    """As the system sees it: every file is flushed, or everything, then the folder gets its name, then the name is."""
    require("strace")
    program = (
        "import sys; from brain_tumor.files import replacing_folder\n"
        "with replacing_folder(sys.argv[1]) as folder:\n"
        "    for i in range(int(sys.argv[2])): (folder / str(i)).write_text('content')\n"
    )
    log = tmp_path / "calls"
    command = ["strace", "-f", "-y", "-o", log, "-e", "trace=fsync,sync,rename,renameat,renameat2", sys.executable]
    environment = os.environ | {"PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1"}
    traced = subprocess.run([*command, "-c", program, tmp_path / "out", str(files)], env=environment)
    if traced.returncode and not re.search("rename", log.read_text() if log.exists() else ""):
        pytest.skip("strace may not trace here")
    assert traced.returncode == 0
    calls = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines() if not line.endswith("+++")]
    (renamed,) = [i for i, call in enumerate(calls) if call.startswith("rename")]
    assert any(call.startswith("sync()") or "partial/0>" in call for call in calls[:renamed])
    assert any(call.startswith("fsync") and f"{tmp_path}>" in call for call in calls[renamed:])


def test_a_new_folder_holds_nothing_of_the_old_one(tmp_path):
    data_set(tmp_path / "folder", {"a": b"old", "deep/er/b": b"old"})
    with replacing_folder(tmp_path / "folder") as folder:
        (folder / "c").write_text("new")
    assert contents(tmp_path) == {"folder/c": b"new"}


def test_two_writers_at_a_time_never_mix(tmp_path):
    """A killed `dvc repro` leaves its stage running, and the next one starts the stage again."""
    target = tmp_path / "out"
    program = (
        "import sys; from brain_tumor.files import replacing_folder\n"
        "with replacing_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'first').write_text('second writer')\n"
        "    print('begun', flush=True); sys.stdin.read()\n"
        "    (folder / 'last').write_text('second writer')\n"
    )
    try:
        with replacing_folder(target) as folder:
            (folder / "first").write_text("first writer")
            (folder / "last").write_text("first writer")
            second = subprocess.Popen(
                [sys.executable, "-c", program, target],
                env=os.environ | {"PYTHONPATH": SOURCES},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert second.stdout.readline() == b"begun\n"
    except OSError:
        pass  # the one that came first may fail, loudly
    assert contents(target) in ({}, {"first": b"first writer", "last": b"first writer"})
    second.communicate()
    assert second.returncode == 0
    assert contents(tmp_path) == {"out/first": b"second writer", "out/last": b"second writer"}


# --- tables


def test_a_table_is_read_back_as_it_was_written(tmp_path):
    values = np.random.default_rng(0).random(50, np.float32)
    frame = pd.DataFrame({"path": "a, b.png", "patient": "007", "label": "NA", "fold": "", "p_NA": values})
    write_table(tmp_path / "table.csv", frame)
    assert b"\r" not in (tmp_path / "table.csv").read_bytes()
    got = read_table(tmp_path / "table.csv")
    assert got["p_NA"].to_numpy(np.float32).tolist() == values.tolist()
    for column in ("path", "patient", "label", "fold"):
        assert got[column].tolist() == frame[column].tolist()


def test_a_table_that_is_missing_says_what_to_run(tmp_path):
    with pytest.raises(PipelineError, match=r"index\.csv.*dvc repro"):
        read_table(tmp_path / "index.csv")
