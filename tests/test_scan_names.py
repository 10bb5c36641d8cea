"""File names of any kind, and what "middle" means, in the command, in Python and in the server."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from scan_files import H16, dicom, nifti, tiff, tiff_page
from test_server import FILE, Server

from brain_tumor import Classifier

GOLDEN = Path(__file__).parent / "golden"
MODEL = GOLDEN / "classifier-2.tflite"
SCAN = (GOLDEN / "scan.png").read_bytes()
STRICT = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:strict"}


def predict(*arguments: object, code: int = 0, **variables: str) -> tuple[str, str]:
    """What the command prints to its output and errors, with bytes that are no UTF-8 as errors of the test."""
    command = [sys.executable, "-m", "brain_tumor", "predict", "--model", MODEL, *arguments]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", **variables}
    done = subprocess.run([os.fsencode(str(a)) for a in command], capture_output=True, env=environment, timeout=120)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    return done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    """A folder of three scans: the middle one has a name in Latin-1, and beside them is one that is no scan."""
    folder = tmp_path_factory.mktemp("odd")
    for name in (b"a.png", b"caf\xe9.png", b"caf\xe8.png", b"na\xc3\xafve \xf0\x9f\xa7\xa0.png", b"z\x1b\n.png"):
        (folder / os.fsdecode(name)).write_bytes(SCAN)
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"none")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    project = tmp_path_factory.mktemp("project")
    (project / FILE).parent.mkdir(parents=True)
    shutil.copy(MODEL, project / FILE)
    running = Server(project, tmp_path_factory.mktemp("server"))
    yield running
    log = running.stop()
    assert "Traceback" not in log, log


NAMES = ["a.png", "caf\\xe8.png", "caf\\xe9.png", "naïve 🧠.png"]


@pytest.mark.parametrize(
    "variables", [STRICT, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "1"}]
)
def test_every_file_is_answered_whatever_its_name(odd, variables):
    told = [json.loads(line) for line in predict(odd, "--json", code=1, **variables)[0].splitlines()]
    assert sorted(Path(each["name"]).name for each in told) == sorted([*NAMES, "z\x1b\n.png", "\\xff.png"])
    assert [Path(each["name"]).name for each in told if "error" in each] == ["\\xff.png"]
    table = list(csv.DictReader(io.StringIO(predict(odd, "--csv", code=1, **variables)[0])))
    assert len(table) == 6 and sum(bool(row["label"]) for row in table) == 5
    lines, errors = predict(odd, code=1, **variables)
    assert errors.startswith("5 slices: ") and "; 1 file could not be read.\n" in errors
    printed = [Path(line.split("  ")[0]).name for line in lines.splitlines()]
    assert len(printed) == 6 and len({line.index("  unsure ") for line in lines.splitlines()[:3]}) == 1
    if variables is STRICT:
        assert {Path(row["file"]).name for row in table} > set(NAMES)
        assert sorted(printed) == sorted([*NAMES, "z\\x1b\\n.png", "\\xff.png"])


def test_each_file_has_a_map_of_its_own_whatever_its_name(odd, tmp_path):
    long = tmp_path / "in"
    long.mkdir()
    for last in (b"\xe1", b"\xe2"):  # escaped, they are longer than a file name may be
        (long / os.fsdecode(b"\xe0" * 100 + last + b".png")).write_bytes(SCAN)
    predict(odd, long, "--explain", tmp_path / "maps", code=1, **STRICT)
    written = [path.name for path in (tmp_path / "maps").rglob("*.png")]
    assert len(written) == 7 and {f"{name}.png" for name in NAMES} < set(written)
    assert all(len(name.encode()) <= 255 and name.isprintable() for name in written)


def test_a_name_that_is_none_is_escaped_by_the_server(server):
    body = (
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="\\udcff.png"\r\n\r\n' + SCAN + b"\r\n--b--\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=b; charset=unicode_escape"}  # decodes to a lone surrogate
    status, _, content, _ = server.request("/v1/predict", body, **kind)
    assert status == 200 and json.loads(content)["results"][0]["name"] == "\\xff.png"


def test_dicom_is_found_in_a_folder_whatever_its_suffix(tmp_path):
    names = ["PATIENT.MR.HEAD.0001.IMA", "1.2.840.1", "IM0001", "series.img", "x.v2"]
    for name in names:
        (tmp_path / name).write_bytes(dicom(H16))
    (tmp_path / "notes.doc").write_text("no scan")
    (tmp_path / "DICOMDIR").write_bytes(dicom(H16))
    told = [json.loads(line) for line in predict(tmp_path, "--json")[0].splitlines()]
    assert sorted(Path(each["name"]).name for each in told) == sorted(names)
    assert all("label" in each for each in told)


def volume() -> bytes:
    """Of 100 axial slices 50 to 90 show a head, each another one."""
    slices = np.zeros((80, 96, 100), np.int16)
    slices[:, :, 50:91] = (H16.T[::-1, ::-1, None] * np.linspace(0.4, 1, 41)).astype(np.int16)
    return nifti(slices)


MIDDLE = {
    "volume.nii": (volume(), [66, 70, 74]),
    "frames.dcm": (dicom(H16, np.stack([H16 // k for k in range(1, 5)]).tobytes(), NumberOfFrames=4), [2]),
    "pages.tif": (tiff(*[tiff_page((H16 // k).astype(np.uint16)) for k in range(1, 6)]), [2]),
    "scan.png": (SCAN, [None]),
}


@pytest.mark.parametrize("name", MIDDLE)
def test_the_middle_is_the_same_in_python_command_and_server(server, name, tmp_path):
    data, numbers = MIDDLE[name]
    (tmp_path / name).write_bytes(data)
    classifier = Classifier.load(MODEL)
    for scan in (data, tmp_path / name, str(tmp_path / name)):
        in_python = classifier.predict_file(scan)
        assert [found.slice for found, _ in in_python] == numbers
    expected = [{k: pytest.approx(v, abs=1e-5) for k, v in said.probabilities.items()} for _, said in in_python]
    printed = [json.loads(line) for line in predict(tmp_path / name, "--json")[0].splitlines()]
    served, every = (server.predict((name, data), query=query)[1]["results"] for query in ("", "?slice=all"))
    for results in (printed, served):
        assert [each.get("slice") for each in results] == numbers
        assert [each["probabilities"] for each in results] == expected
    assert len(every) == len(classifier.predict_file(data, "all"))
    one = classifier.predict(data)  # for a single answer: the one in the middle of these
    assert one.probabilities == expected[len(expected) // 2]
    if None not in numbers:
        ((found, said),) = classifier.predict_file(data, numbers[-1])
        assert found.slice == numbers[-1] and said.probabilities == expected[-1]
