"""The data set comes whole and checked, or not at all; the real `kaggle` client asks a server on this machine."""

import hashlib
import io
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from kaggle_stand_in import KaggleStandIn
from limited_disk import OBEYING, LimitedDisk

from brain_tumor.errors import PipelineError, in_one_line
from brain_tumor.source import archive, manifest
from brain_tumor.source import kaggle as kaggle_client
from brain_tumor.source.fetching import copy_folder, fetch_kaggle, own_archive
from brain_tumor.source.layout import list_images, once

SLUG, SECOND = "someone/some-scans", "somebody/more-scans"
RAW = "data/raw/scans"
SUBPROCESS = {"PYTHONPATH": str(Path(archive.__file__).parents[2])}
# As in a published set: two folders of two classes, a name with a space and brackets, a file that is no image.
CONTENT = {
    "Testing/glioma/image(1).jpg": b"test glioma",
    "Testing/healthy/image(1).jpg": b"test healthy",
    "Training/glioma/gg (1).jpg": b"train glioma",
    "Training/glioma/gg (2).jpg": b"train glioma 2",
    "Training/healthy/1.png": b"train healthy",
    "licence.txt": b"public domain",
}


def member(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.filename = name  # ZipInfo itself cuts it at a null byte
    info.create_system = 3  # Unix: the mode counts
    info.external_attr = mode << 16
    return info


def zipped(
    content: dict[str, bytes], *more: tuple[zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_STORED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a duplicate name is what one test is about
        for info, data in [*((member(name), data) for name, data in content.items()), *more]:
            opened.writestr(info, data, compress_type=compression)
    return buffer.getvalue()


def unzipped(content: dict[str, bytes], folder: Path) -> Path:
    for name, data in content.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A project folder of its own, a user without a Kaggle account, and short pauses between attempts."""
    for name in list(os.environ):
        if name.startswith("KAGGLE_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home/.config"))
    monkeypatch.setattr(kaggle_client, "BACKOFF_SECONDS", 0.1)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def kaggle(place, monkeypatch):
    """Starts a stand-in for Kaggle and leads the client to it."""
    started = []

    def start(archive_bytes: bytes, *script) -> KaggleStandIn:
        stand_in = KaggleStandIn(archive_bytes, *script)
        started.append(stand_in)
        stand_in.__enter__()
        for name, value in stand_in.environment.items():
            monkeypatch.setenv(name, value)
        return stand_in

    yield start
    for stand_in in started:
        stand_in.__exit__()


def bring(place: Path, folder: Path | None = None, **options) -> None:
    """Copy the folder, or fetch the Kaggle set."""
    if folder is not None:
        copy_folder(folder, place / RAW, **options)
        return
    archive, usual = options.pop("archive", None), {"retries": 3, "stall_seconds": 60, "accept": False}
    fetch_kaggle(SLUG, place / RAW, archive, Path("manifests"), **usual | options)


def fetch(place: Path, folder: Path | None = None, **options) -> dict[str, bytes]:
    bring(place, folder, **options)
    assert [path.name for path in place.glob("data/raw/*")] == ["scans"]
    return tree(place / RAW)


def failure(place: Path, folder: Path | None = None, **options) -> str:
    """The one line that the user sees; nothing may be left that looks finished."""
    with pytest.raises(PipelineError) as caught:
        bring(place, folder, **options)
    text = str(caught.value)
    assert "\n" not in text and "\r" not in text
    assert not any(place.glob("data/raw/*")), "a failed download left something behind"
    return text


# --- Kaggle, with the real client


def test_download_without_an_account(place, kaggle, capsys):
    server = kaggle(zipped(CONTENT))
    assert fetch(place) == CONTENT
    assert {stat.S_IMODE(p.stat().st_mode) for p in place.glob(f"{RAW}/*/*/*")} == {0o666 & ~current_umask()}
    assert all("Authorization" not in headers for _, headers in server.requests)
    assert "make accept-data SOURCE=" in capsys.readouterr().err  # no manifest: one line says how to record one


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_credentials_are_used_where_there_are_some(place, kaggle, monkeypatch):
    server = kaggle(zipped(CONTENT))
    monkeypatch.setenv("KAGGLE_USERNAME", "a-user")
    monkeypatch.setenv("KAGGLE_KEY", "a-key")
    assert fetch(place) == CONTENT
    assert server.requests[0][1]["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "answer", [403, 404, 401, (403, "Permission 'datasets.get' was denied")], ids=["403", "404", "401", "403-json"]
)
def test_a_refusal_is_final_and_names_the_ways_out(place, kaggle, answer):
    server = kaggle(b"", answer)
    text = failure(place, retries=3)
    assert server.runs == 1
    assert {401: "Authentication required", 403: "403", 404: "404"}.get(answer, "was denied") in text
    assert "data.sources" in text
    assert_ways_out(text)


@pytest.mark.parametrize("answer", [429, 503, (429, "Too many requests"), "short", "page"])
def test_a_passing_failure_is_tried_again(place, kaggle, capsys, answer):
    server = kaggle(zipped(CONTENT), answer, "serve")
    assert fetch(place, retries=1) == CONTENT
    assert server.runs == 2
    assert "attempt 1 of 2 failed" in capsys.readouterr().err


def test_the_attempts_are_bounded(place, kaggle):
    server = kaggle(b"", 503)
    text = failure(place, retries=2)
    assert server.runs == 3
    assert "503" in text and "3 attempts" in text
    assert_ways_out(text)


def test_nobody_answers(place, kaggle, monkeypatch):
    server = kaggle(b"")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # a port that nothing listens to
    text = failure(place, retries=1)
    assert server.runs == 0
    assert "2 attempts" in text
    assert_ways_out(text)


@pytest.mark.timeout(30)
def test_a_silent_server_counts_as_a_failure(place, kaggle):
    server = kaggle(b"", "silent")
    text = failure(place, retries=1, stall_seconds=3)
    assert server.runs == 2
    assert "no data for 3 s" in text
    assert_ways_out(text)


@pytest.mark.timeout(30)
def test_a_download_that_falls_silent_is_continued_and_not_repeated(place, kaggle):
    content = CONTENT | {"Training/glioma/large.jpg": bytes(4 * 1024**2)}  # the client writes pieces of 1 MiB
    server = kaggle(zipped(content), "stall", "serve")
    assert fetch(place, retries=1, stall_seconds=3) == content
    assert server.runs == 2
    assert server.requests[-1][1]["Range"] == f"bytes={3 * 1024**2}-"


@pytest.mark.timeout(30)
def test_a_connection_that_ends_early(place, kaggle):
    kaggle(zipped(CONTENT), "cut")
    assert fetch(place, retries=0) == CONTENT  # the client itself asks for the rest


def test_a_damaged_download_is_named_by_its_data_set(place, kaggle):
    kaggle(zipped(CONTENT).replace(b"train healthy", b"train damaged"))
    text = failure(place)
    assert f"{SLUG} cannot be read (Bad CRC-32" in text
    assert ".partial" not in text


@pytest.mark.timeout(60)
def test_a_killed_download_leaves_nothing_finished_and_the_next_one_succeeds(place, kaggle):
    server = kaggle(zipped(CONTENT), "stall", "serve")
    process = subprocess.Popen(fetching(3), env=os.environ | SUBPROCESS)
    try:
        assert server.stalled.wait(timeout=30)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (place / RAW).exists()
    assert list((place / "data/raw").glob("scans.*.partial"))
    assert fetch(place) == CONTENT


def assert_ways_out(text: str) -> None:
    for way in ["kaggle.json", "KAGGLE_API_TOKEN", "DATASET_ARCHIVE=/path/to/archive.zip make repro", "make demo"]:
        assert way in text


LARGE = CONTENT | {"Training/glioma/large.jpg": random.Random(0).randbytes(4 * 1024**2)}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", ["refused", "garbage", "circle", "login", "elsewhere", 500])
def test_a_faulty_answer_is_followed_by_another_attempt(place, kaggle, capsys, fault):
    """A reset before the answer, what is no HTTP, redirections without end, a page to sign in, a wrong resumption."""
    server = kaggle(zipped(LARGE), fault, "serve")
    assert fetch(place, retries=1, stall_seconds=30) == LARGE
    assert server.runs == 2
    (said, _) = capsys.readouterr().err.splitlines()  # the other line is about the manifest
    assert said.startswith("download: attempt 1 of 2 failed (")
    assert ("web page to sign in" in said) == (fault == "login")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", ["reset", "changed", "unsatisfiable", "drip"])
def test_a_faulty_line_is_borne_by_the_first_attempt(place, kaggle, fault):
    """A reset in the middle, another version or status 416 in answer to a resumption, a slow line without a pause."""
    server = kaggle(zipped(LARGE), fault)
    assert fetch(place, retries=0, stall_seconds=8 if fault == "drip" else 30) == LARGE
    assert server.runs == 1


@pytest.mark.timeout(60)
def test_a_length_that_never_comes(place, kaggle):
    server = kaggle(zipped(CONTENT), "long")
    assert_ways_out(failure(place, retries=0, stall_seconds=1))
    server.script = ["serve"]
    assert fetch(place, retries=0) == CONTENT


def through_a_proxy(monkeypatch, answer: bytes) -> None:
    """Lead the client, which then asks for Kaggle itself, to a proxy that gives this answer and ends."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(2**16)
                    connection.sendall(answer)
                    connection.settimeout(5)
                    connection.recv(2**16)

    threading.Thread(target=serve, daemon=True).start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listening.getsockname()[1]}")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "407 Proxy Authentication"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403 Forbidden"),
        (b"HTTP/1.1 200 Connection established\r\n\r\nthis is no TLS record", "SSL"),
    ],
    ids=["password", "forbidden", "no TLS"],
)
def test_a_proxy_that_stands_in_the_way(place, monkeypatch, answer, said):
    through_a_proxy(monkeypatch, answer)
    text = failure(place, retries=0)
    assert said in text
    assert_ways_out(text)


def fetching(retries: int) -> list[str]:
    """A program that fetches the set in the folder that it runs in, and ends as a stage does."""
    program = (
        "from pathlib import Path; from brain_tumor.errors import ending_in_one_line; "
        "from brain_tumor.source.fetching import fetch_kaggle\nwith ending_in_one_line(): "
        f"fetch_kaggle({SLUG!r}, Path({RAW!r}), None, Path('manifests'), retries={retries}, stall_seconds=60, "
        "accept=False)"
    )
    return [sys.executable, "-c", program]


def test_without_a_network(place):
    """In a network namespace that has no device: no name of a host can be looked up."""
    for rights in ([], ["--map-root-user"]):
        alone = ["unshare", "--net", *rights]
        if subprocess.run([*alone, "true"], capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("no network namespace can be made here")
    done = subprocess.run([*alone, *fetching(0)], env=os.environ | SUBPROCESS, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith(f"error: Kaggle did not deliver {SLUG} in 1 attempts")
    assert "resol" in line
    assert_ways_out(line)
    assert list((place / "data/raw").iterdir()) == []


@pytest.mark.timeout(60)
def test_a_download_to_a_full_disk_is_not_tried_again(place, kaggle, tmp_path):
    """The client itself would try five times, for a minute, and then be called a failure of Kaggle."""
    server = kaggle(zipped(LARGE))
    with LimitedDisk(tmp_path / "disk") as disk:
        with disk.leaving(2 * 1024**2):
            done = disk.run(*fetching(3), fails=True, **SUBPROCESS)
        (line,) = done.stderr.splitlines()
        assert line == f"error: cannot write {RAW}: No space left on device: make room there and run again"
        assert server.runs == 1
        assert list((disk.seen / "data/raw").iterdir()) == []
        disk.run(*fetching(0), **SUBPROCESS)
        assert tree(disk.seen / RAW) == LARGE


def test_a_key_that_may_not_be_read(place, kaggle, tmp_path):
    server = kaggle(zipped(CONTENT))
    key = tmp_path / "home/.kaggle/kaggle.json"
    key.parent.mkdir(parents=True)
    key.touch(mode=0o000)
    obeying = OBEYING if os.geteuid() == 0 else []
    done = subprocess.run([*obeying, *fetching(3)], env=os.environ | SUBPROCESS, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot open {key}: Permission denied: ") and done.stderr.count("\n") == 1
    assert server.runs == 0 and list((place / "data/raw").iterdir()) == []


@pytest.mark.parametrize("way", ["zip", "folder"])
def test_unpacking_to_a_full_disk(tmp_path, place, way):
    source = packed(LARGE, tmp_path, way)
    with LimitedDisk(tmp_path / "disk") as disk:
        target = disk.seen / "scans"
        with disk.leaving(2 * 1024**2), pytest.raises(OSError) as caught:
            fetch_kaggle(SLUG, target, source, Path("manifests"), retries=0, stall_seconds=60, accept=False)
        assert "\n" not in (line := in_one_line(caught.value))
        assert line.startswith(f"cannot write {target}") and ".partial" not in line
        assert line.endswith(": No space left on device: make room there and run again")
        assert not target.exists() and len(list(disk.seen.iterdir())) == 1
        fetch_kaggle(SLUG, target, source, Path("manifests"), retries=0, stall_seconds=60, accept=False)
        assert tree(target) == LARGE


# --- an archive that is already here, and a folder


def test_an_archive_and_its_folder_bring_the_bytes_of_the_download_without_network(place, kaggle, tmp_path):
    server = kaggle(zipped(CONTENT))
    downloaded = fetch(place)
    asked = len(server.requests)
    file = tmp_path / "some.zip"
    file.write_bytes(zipped(CONTENT, compression=zipfile.ZIP_DEFLATED))
    assert fetch(place, archive=file) == downloaded
    assert fetch(place, archive=unzipped(CONTENT, tmp_path / "some")) == downloaded
    assert len(server.requests) == asked


def test_a_folder_is_copied(place, tmp_path, capsys):
    folder = unzipped(CONTENT, tmp_path / "scans")
    assert fetch(place, folder) == CONTENT
    assert tree(folder) == CONTENT
    assert capsys.readouterr().err == ""  # a folder has no manifest that one could miss


@pytest.mark.parametrize("way", ["zip", "folder"])
def test_litter_is_left_out_and_a_wrapping_folder_taken_off(place, tmp_path, way):
    litter = ["__MACOSX/._1.jpg", ".DS_Store", "set/Thumbs.db", "set/Training/glioma/.hidden.jpg", "set/.git/a/1.jpg"]
    content = {f"set/{name}": data for name, data in CONTENT.items() if "/" in name} | dict.fromkeys(litter, b"x")
    assert fetch(place, archive=packed(content, tmp_path, way)) == {n: d for n, d in CONTENT.items() if "/" in n}


@pytest.mark.parametrize(
    "content, expected",
    [
        ({"set/a/1.jpg": b"1", "set/b/2.jpg": b"2"}, {"a/1.jpg", "b/2.jpg"}),
        ({"x/y/a/1.jpg": b"1", "x/y/b/2.jpg": b"2"}, {"a/1.jpg", "b/2.jpg"}),
        ({"set/a/1.jpg": b"1", "set/b/2.jpg": b"2", "README": b""}, {"set/a/1.jpg", "set/b/2.jpg", "README"}),
        ({"set/a/1.jpg": b"1", "set/b/2.jpg": b"2", "set/README": b""}, {"a/1.jpg", "b/2.jpg", "README"}),
        ({"a/1.jpg": b"1", "a/2.jpg": b"2"}, {"a/1.jpg", "a/2.jpg"}),
    ],
    ids=["wrapped", "wrapped twice", "file beside", "file inside", "class folder"],
)
def test_what_counts_as_wrapping(tmp_path, content, expected):
    (tmp_path / "out").mkdir()
    archive.unpack(packed(content, tmp_path, "zip"), tmp_path / "out")
    assert tree(tmp_path / "out").keys() == expected


@pytest.mark.parametrize("way", ["zip", "folder"])
@pytest.mark.parametrize(
    "content, expected",
    [
        ({"a/1.jpg": b"1", "b/2.jpg": b"2", "c/": b""}, "none in 'c'"),
        ({"a/1.jpg": b"1", "b/2.jpg": b"2", "c/Thumbs.db": b""}, "none in 'c'"),
        ({"a/1.jpg": b"1"}, "only 'a'"),
        ({"1.jpg": b"1", "2.jpg": b"2"}, "found none"),
        ({}, "found none"),
    ],
    ids=["empty class", "class of litter", "single class", "no class", "empty"],
)
def test_a_layout_that_cannot_be_learned_from(place, tmp_path, way, content, expected):
    text = failure(place, archive=packed(content, tmp_path, way))
    assert expected in text
    assert ".partial" not in text


@pytest.mark.parametrize("way", ["zip", "folder"])
def test_a_single_class_is_enough_where_it_is_asked_for(place, tmp_path, way):
    """Only the main source must tell classes apart."""
    single = {"no_tumor/1.jpg": b"healthy", "no_tumor/2.jpg": b"healthy too"}
    sources = []
    for number, content in enumerate([{"1.jpg": b"1"}, single | {"empty/": b""}, single]):
        (tmp_path / str(number)).mkdir()
        sources.append(packed(content, tmp_path / str(number), way))
    assert "one class folder" in failure(place, archive=sources[0], classes=1)
    assert "none in 'empty'" in failure(place, archive=sources[1], classes=1)
    assert "only 'no_tumor'" in failure(place, archive=sources[2], classes=2)
    # A folder that contains everything else counts as wrapping, but not that of the only class.
    assert fetch(place, archive=sources[2], classes=1) == single
    assert fetch(place, unzipped(single, tmp_path / "unpacked"), classes=1) == single


def packed(content: dict[str, bytes], tmp_path: Path, way: str) -> Path:
    if way == "folder":
        (tmp_path / "source").mkdir()
        return unzipped(content, tmp_path / "source")
    (tmp_path / "source.zip").write_bytes(zipped(content))
    return tmp_path / "source.zip"


def test_what_is_not_there(place, tmp_path):
    assert str(tmp_path / "nothing.zip") in failure(place, archive=tmp_path / "nothing.zip")
    assert "data.sources" in failure(place, tmp_path / "nothing")
    for main in (True, False):
        with pytest.raises(PipelineError, match="DATASET_ARCHIVE") as caught:
            own_archive(str(tmp_path / "nothing.zip"), SLUG, main)
        assert str(tmp_path / "nothing.zip") in str(caught.value) and "\n" not in str(caught.value)


def test_a_source_that_the_copy_would_replace_is_refused(place):
    unzipped(CONTENT, place / RAW)
    for folder in ["data", "data/raw", RAW, f"{RAW}/Training"]:
        with pytest.raises(PipelineError, match="apart"):
            copy_folder(Path(folder), place / RAW)
    assert tree(place / RAW) == CONTENT


def test_links_are_refused_in_a_folder(place, tmp_path):
    (tmp_path / "private.jpg").write_bytes(b"private")
    for number, target in enumerate(["private.jpg", "."]):
        folder = unzipped(CONTENT, tmp_path / f"scans {number}")
        (folder / "Training/glioma/link.jpg").symlink_to(tmp_path / target)
        assert "cp -rL" in failure(place, folder)


# --- several sources: which archive is whose


def found(given: Path | str, tmp_path: Path) -> tuple[str | None, str | None]:
    """The archives of the main source and of a second one, relative to the user's folder; None: download."""
    places = own_archive(str(given), SLUG, main=True), own_archive(str(given), SECOND, main=False)
    return tuple(place and place.relative_to(tmp_path).as_posix() for place in places)


def test_without_an_archive_of_the_users_every_source_is_downloaded():
    for given in (None, ""):
        assert own_archive(given, SLUG, main=True) is own_archive(given, SECOND, main=False) is None


def test_a_zip_is_that_of_the_main_source_and_the_second_is_downloaded(tmp_path):
    (tmp_path / "some.zip").write_bytes(zipped(CONTENT))
    assert found(tmp_path / "some.zip", tmp_path) == ("some.zip", None)


def test_a_folder_of_images_is_that_of_the_main_source_and_the_second_is_downloaded(tmp_path):
    unzipped(CONTENT, tmp_path / "unpacked")
    assert found(tmp_path / "unpacked", tmp_path) == ("unpacked", None)


def test_archives_in_one_folder_are_told_apart_by_the_names_of_the_slugs(tmp_path):
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives/more-scans.zip").write_bytes(zipped(CONTENT))
    # The archive of another set is never taken for the main one.
    assert found(tmp_path / "archives", tmp_path) == (None, "archives/more-scans.zip")
    (tmp_path / "archives/some-scans.zip").write_bytes(zipped(CONTENT))
    assert found(tmp_path / "archives", tmp_path) == ("archives/some-scans.zip", "archives/more-scans.zip")
    (tmp_path / "archives/more-scans.zip").unlink()
    assert found(tmp_path / "archives", tmp_path) == ("archives/some-scans.zip", None)


def test_unpacked_folders_in_one_folder_are_told_apart_as_well(tmp_path):
    unzipped(CONTENT, tmp_path / "sets/some-scans")
    unzipped(CONTENT, tmp_path / "sets/more-scans")
    assert found(tmp_path / "sets", tmp_path) == ("sets/some-scans", "sets/more-scans")
    shutil.rmtree(tmp_path / "sets/more-scans")
    assert found(tmp_path / "sets", tmp_path) == ("sets/some-scans", None)
    (tmp_path / "sets/more-scans.zip").write_bytes(zipped(CONTENT))
    assert found(tmp_path / "sets", tmp_path) == ("sets/some-scans", "sets/more-scans.zip")


def test_the_place_of_the_archives_may_be_below_the_home_folder(place, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/some-scans.zip").write_bytes(zipped(CONTENT))
    assert found("~", tmp_path) == ("home/some-scans.zip", None)
    assert found("~/some-scans.zip", tmp_path) == ("home/some-scans.zip", None)


def test_each_source_has_a_folder_and_a_manifest_of_its_own(place, tmp_path, capsys):
    """What comes for one neither touches the files of another nor is verified by its manifest."""
    contents = {SLUG: CONTENT, SECOND: {"yes/1.jpg": b"tumour", "no/1.jpg": b"healthy"}}
    for slug, content in contents.items():
        (tmp_path / f"{slug.split('/')[1]}.zip").write_bytes(zipped(content))
    manifests, options = place / "manifests", {"retries": 0, "stall_seconds": 60}

    def bring_all(accept: bool) -> None:
        for slug in contents:
            archive = own_archive(str(tmp_path), slug, main=slug == SLUG)
            fetch_kaggle(slug, place / "data/raw" / slug.split("/")[1], archive, manifests, accept=accept, **options)

    bring_all(accept=True)
    for slug, content in contents.items():
        assert tree(place / "data/raw" / slug.split("/")[1]) == content
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
        assert manifest.read(manifests / f"{slug.replace('/', '--')}.sha256") == digests
    assert capsys.readouterr().err == ""
    bring_all(accept=False)
    assert capsys.readouterr().err == ""  # verified: none passes for want of a manifest
    (tmp_path / "more-scans.zip").write_bytes(zipped(contents[SECOND] | {"yes/2.jpg": b"new"}))
    with pytest.raises(PipelineError, match="1 extra"):
        bring_all(accept=False)
    assert tree(place / "data/raw/more-scans") == contents[SECOND]
    assert tree(place / "data/raw/some-scans") == CONTENT


# --- a set that stands twice in its own archive


def listed_once(folder: Path, content: dict[str, bytes]) -> list[str]:
    unzipped(content, folder)
    return [image.path for image in once(folder, list_images(folder))]


SMALL_SET = {"no/1.jpg": b"healthy", "no/2.jpeg": b"healthy too", "yes/1.jpg": b"tumour"}


def test_a_folder_that_holds_the_whole_set_again_is_left_out(tmp_path):
    again = {f"whole/{name}": content for name, content in SMALL_SET.items()}
    assert listed_once(tmp_path / "a", SMALL_SET | again) == sorted(SMALL_SET)
    # Files that are no images do not matter, neither do names: the folder may sort before or after the others.
    again = {name.replace("whole", "a"): content for name, content in again.items()}
    assert listed_once(tmp_path / "b", SMALL_SET | again | {"a/licence.txt": b"mine"}) == sorted(SMALL_SET)
    # Folders above the class folders are part of the names.
    split = {f"Training/{name}": content for name, content in SMALL_SET.items()} | {"Testing/no/9.jpg": b"held out"}
    again = {f"set/{name}": content for name, content in split.items()}
    assert listed_once(tmp_path / "c", split | again) == sorted(split)


@pytest.mark.parametrize(
    "changes",
    [
        {"whole/yes/1.jpg": b"tumour, of another size"},
        {"whole/yes/1.jpg": None},
        {"whole/yes/2.jpg": b"one more"},
        {"yes/2.jpg": b"one more"},
        {"whole/yes/1.jpg": None, "whole/yes/2.jpg": b"tumour"},
        {"whole/yes/1.jpg": None, "whole/tumour/1.jpg": b"tumour"},
    ],
    ids=["another size", "one fewer", "one more inside", "one more outside", "another name", "another class"],
)
def test_what_is_not_the_whole_set_again_stays(tmp_path, changes):
    content = SMALL_SET | {f"whole/{name}": content for name, content in SMALL_SET.items()} | changes
    content = {name: data for name, data in content.items() if data is not None}
    assert listed_once(tmp_path, content) == sorted(content)


def test_two_folders_of_the_same_files_are_no_set_that_stands_twice(tmp_path):
    """Training and Testing may hold the same files: that is for the audit to find, and not to be hidden from it."""
    content = {f"{top}/{name}": data for top in ("Training", "Testing") for name, data in SMALL_SET.items()}
    assert listed_once(tmp_path, content) == sorted(content)


# --- archives that are damaged or mean harm


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "C:/a.jpg", "a\\..\\..\\b.jpg", "a/x\ny.jpg", "a/1.jpg\0.exe"],
)
def test_names_that_leave_the_folder_are_refused(place, tmp_path, name):
    (tmp_path / "bad.zip").write_bytes(zipped(CONTENT | {name: b"harm"}))
    before = set(tmp_path.rglob("*"))
    assert repr(name) in failure(place, archive=tmp_path / "bad.zip")
    assert set(tmp_path.rglob("*")) - before <= {place / "data", place / "data/raw"}


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644], ids=["link", "pipe"])
def test_links_and_devices_are_refused_in_an_archive(place, tmp_path, mode):
    (tmp_path / "bad.zip").write_bytes(zipped(CONTENT, (member("Training/glioma/l.jpg", mode), b"/etc/passwd")))
    assert "Training/glioma/l.jpg" in failure(place, archive=tmp_path / "bad.zip")


@pytest.mark.parametrize("name", ["Training/glioma/gg (1).jpg", "Training/./glioma//gg (1).jpg", "Training/glioma"])
def test_a_name_twice_is_refused(place, tmp_path, name):
    (tmp_path / "bad.zip").write_bytes(zipped(CONTENT, (member(name), b"another")))
    assert "do not trust" in failure(place, archive=tmp_path / "bad.zip")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    bomb = tmp_path / "bomb.zip"
    bomb.write_bytes(zipped({"a/1.jpg": bytes(1_000_000), "b/1.jpg": b"2"}, compression=zipfile.ZIP_DEFLATED))
    for limit in [{}, {"max_ratio": 2000, "max_bytes": 999_999}, {"max_ratio": 2000, "max_files": 1}]:
        (tmp_path / "out").mkdir()
        with pytest.raises(PipelineError, match="at most"):
            archive.unpack(bomb, tmp_path / "out", **limit)
        (tmp_path / "out").rmdir()  # fails where something was written
    (tmp_path / "out").mkdir()
    archive.unpack(bomb, tmp_path / "out", max_ratio=2000)
    assert len(tree(tmp_path / "out")["a/1.jpg"]) == 1_000_000


def test_a_member_that_lies_about_its_size_is_refused(place, tmp_path):
    size = (1_000_000).to_bytes(4, "little")
    data = zipped(CONTENT | {"Training/glioma/bomb.jpg": bytes(1_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert data.count(size) == 2
    (tmp_path / "bad.zip").write_bytes(data.replace(size, (1000).to_bytes(4, "little")))
    assert "cannot be read" in failure(place, archive=tmp_path / "bad.zip")


def test_a_damaged_archive_is_refused(place, tmp_path):
    whole = zipped(CONTENT)
    broken = bytearray(whole)
    broken[whole.index(b"train healthy")] ^= 1
    for data in [whole[:-10], whole[: len(whole) // 2], b"", b"<html>", bytes(broken)]:
        (tmp_path / "bad.zip").write_bytes(data)
        assert "expected a whole zip archive" in failure(place, archive=tmp_path / "bad.zip")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"\n<!DOCTYPE html><html><title>Login</title>", "it is a web page"),
        (b"<html>", "it is a web page"),
        (b"Rar!\x1a\x07\x01\x00", "it is a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive"),
        (b"\x1f\x8b\x08", "it is a gzip file"),
        (zipped(CONTENT)[:-30], "its end is missing"),
    ],
    ids=["nothing", "login page", "page", "rar", "7z", "gzip", "cut"],
)
def test_what_is_no_zip_archive_is_called_what_it_is(place, tmp_path, data, said):
    (tmp_path / "bad.zip").write_bytes(data)
    text = failure(place, archive=tmp_path / "bad.zip")
    assert "expected a whole zip archive" in text and f"({said}" in text and "get it again" in text


def in_headers(data: bytes, offset: int, change) -> bytes:
    """A zip with a byte of all its headers changed; `offset` counts from the general purpose bits."""
    changed = bytearray(data)
    for signature, bits in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = -1
        while (at := data.find(signature, at + 1)) >= 0:
            changed[at + bits + offset] = change(changed[at + bits + offset])
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (in_headers(zipped(CONTENT), 0, lambda bits: bits | 1), "is encrypted: unpack it and give the folder"),
        (in_headers(zipped(CONTENT), 2, lambda method: 9), "by a method that Python does not read, as Windows does"),
        (zipped({"a\\1.jpg": b"1", "b\\2.jpg": b"2"}), "expected / between folders, found 'a\\\\1.jpg'"),
        (
            zipped({"set/Training.zip": zipped(CONTENT), "set/README": b""}),
            "'set/Training.zip' (an archive: unpack it)",
        ),
        (zipped({}), "found none"),
    ],
    ids=["password", "deflate64", "backslashes", "zip in a zip", "no file"],
)
def test_an_archive_that_others_can_read_says_what_to_do(place, tmp_path, data, said):
    (tmp_path / "odd.zip").write_bytes(data)
    assert said in failure(place, archive=tmp_path / "odd.zip")


def test_an_archive_in_place_of_a_folder_is_said(place, tmp_path):
    (tmp_path / "scans.zip").write_bytes(zipped(CONTENT))
    text = failure(place, tmp_path / "scans.zip")
    assert "found a file: unpack it" in text


# --- the manifest


@pytest.fixture
def recorded(place, tmp_path):
    """A copy of the set, and its manifest as `sha256sum` writes it."""
    lines = sorted((name, hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items())
    (place / "manifests").mkdir()
    file = place / "manifests/someone--some-scans.sha256"
    file.write_text("".join(f"{digest}  {name}\n" for name, digest in lines))
    return unzipped(CONTENT, tmp_path / "scans")


def test_content_that_agrees_with_the_manifest_passes_without_a_word(place, recorded, capsys):
    assert fetch(place, archive=recorded) == CONTENT
    assert capsys.readouterr().err == ""


def test_a_difference_is_counted_and_named(place, recorded):
    (recorded / "Training/glioma/gg (1).jpg").write_bytes(b"other bytes")
    (recorded / "Training/glioma/gg (2).jpg").write_bytes(b"other bytes")
    (recorded / "Testing/healthy/image(1).jpg").rename(recorded / "Testing/healthy/image(2).jpg")
    (recorded / "Training/healthy/2.png").write_bytes(b"new")
    text = failure(place, archive=recorded)
    assert "1 missing, 2 extra, 2 changed (first: 'Testing/healthy/image(1).jpg' missing)" in text
    assert "make accept-data SOURCE=" in text


def test_a_failed_verification_leaves_what_was_there(place, recorded):
    fetch(place, archive=recorded)
    (recorded / "Training/healthy/2.png").write_bytes(b"new")
    with pytest.raises(PipelineError, match="1 extra"):
        bring(place, archive=recorded)
    assert tree(place / RAW) == CONTENT


def test_accept_records_the_content_that_came(place, recorded):
    file = place / "manifests/someone--some-scans.sha256"
    before = file.read_bytes()
    fetch(place, archive=recorded, accept=True)
    assert file.read_bytes() == before
    (recorded / "Training/healthy/2.png").write_bytes(b"new")
    content = fetch(place, archive=recorded, accept=True)
    assert fetch(place, archive=recorded) == content
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    assert manifest.read(file) == digests


def test_the_manifest_is_that_of_the_slug(place, recorded, capsys):
    """Another set with the same content has none, and says so; the folder it comes to does not matter."""
    options = {"retries": 0, "stall_seconds": 60, "accept": False}
    fetch_kaggle("another/some-scans", place / RAW, recorded, Path("manifests"), **options)
    said = capsys.readouterr().err
    assert "another/some-scans has no manifest" in said and "another--some-scans.sha256" in said
    fetch_kaggle(SLUG, place / "data/raw/other-name", recorded, Path("manifests"), **options)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not on this system")
def test_sha256sum_understands_the_manifest(place, recorded):
    fetch(place, archive=recorded, accept=True)
    file = place / "manifests/someone--some-scans.sha256"
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", file], cwd=place / RAW, check=True)


def test_a_data_set_that_cannot_be_learned_from_is_not_accepted(place, recorded):
    file = place / "manifests/someone--some-scans.sha256"
    before = file.read_bytes()
    (recorded / "Training/empty").mkdir()
    failure(place, archive=recorded, accept=True)
    assert file.read_bytes() == before


def test_a_broken_manifest_is_named_by_its_line(place, recorded):
    with (place / "manifests/someone--some-scans.sha256").open("a") as file:
        file.write("<<<<<<< HEAD\n")
    assert f"line {len(CONTENT) + 1}" in failure(place, archive=recorded)
