"""DICOM files of one slice each: which are of one series, in which order, and that nobody learns whose they are.

The geometry is planted: the axes of a slice and its corner in the patient, of whom x runs to the left, y to the back
and z to the head (PS3.3 C.7.6.2.1.1).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from scan_files import H16, dicom, tiff, tiff_page
from test_server import Server

from brain_tumor.serving.readers.formats import read_scans

MODEL = Path(__file__).parent / "golden" / "classifier-2.tflite"
UID, OTHER = "1.2.826.0.1.3680043.8.498.77", "1.2.826.0.1.3680043.8.498.78"
WHOSE = {
    "PatientName": "Doe^Jane",
    "PatientID": "J-4711",
    "PatientBirthDate": "19700102",
    "StudyInstanceUID": "1.9.8.7",
}
SMALL = H16[::4, ::4].copy()
AXES = {  # of the rows and of the columns, and along which axis of the patient slices of these lie
    "axial": ([1, 0, 0, 0, 1, 0], 2),
    "axial, from the head": ([-1, 0, 0, 0, 1, 0], 2),
    "sagittal": ([0, 1, 0, 0, 0, -1], 0),
    "sagittal, from the left": ([0, -1, 0, 0, 0, -1], 0),
    "coronal": ([1, 0, 0, 0, 0, -1], 1),
    "coronal, from the back": ([-1, 0, 0, 0, 0, -1], 1),
}


def place(**more) -> tuple[str, float | None]:
    (scan,) = read_scans("x.dcm", dicom(SMALL, **{"SeriesInstanceUID": UID} | more))
    return scan.series, scan.position


def test_files_of_a_series_have_something_in_common_that_is_not_its_uid():
    names = [place()[0], place(**WHOSE, InstanceNumber=7)[0]]
    other = place(SeriesInstanceUID=OTHER)[0]
    assert names[0] == names[1] != other and names[0] and other
    assert UID not in names[0] and len(names[0]) <= 20 and names[0].isalnum()
    assert place(SeriesInstanceUID="") == place(SeriesInstanceUID=None) == ("", None)
    # The frames of a file are a series of their own.
    frames = dicom(SMALL, np.stack([SMALL] * 3).tobytes(), NumberOfFrames=3, SeriesInstanceUID=UID, InstanceNumber=2)
    assert {(scan.slices, scan.series, scan.position) for scan in read_scans("x", frames, "all")} == {(3, "", None)}
    assert place(NumberOfFrames=1, InstanceNumber=2) == (names[0], 2)


@pytest.mark.parametrize("how", AXES)
def test_the_position_is_that_along_the_axis_of_the_slices(how):
    axes, along = AXES[how]
    random = np.random.default_rng(0)
    for mm in (-31.5, -0.25, 0, 12, 140.125):
        corner = random.uniform(-200, 200, 3).round(2)  # where in its plane a slice begins does not matter
        corner[along] = mm
        got = place(ImageOrientationPatient=axes, ImagePositionPatient=corner.tolist(), InstanceNumber=3)[1]
        assert got == mm and str(got) == str(float(mm))  # 0.0 and not -0.0


def test_oblique_slices_lie_along_their_normal():
    tilted = np.radians(20)
    across, down = np.array([1, 0, 0]), np.array([0, np.cos(tilted), np.sin(tilted)])
    normal, random = np.array([0, -np.sin(tilted), np.cos(tilted)]), np.random.default_rng(0)
    for turned in (across, -across):  # seen from below or above
        found = []
        for k in range(6):
            corner = 5.5 * k * normal + random.uniform(-90, 90) * across + random.uniform(-90, 90) * down
            axes = [f"{value:.6f}" for value in (*turned, *down)]
            found.append(place(ImageOrientationPatient=axes, ImagePositionPatient=corner.round(4).tolist())[1])
        np.testing.assert_allclose(found, 5.5 * np.arange(6), atol=1e-3)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"ImagePositionPatient": [1, 2, 3]},
        {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        {"ImagePositionPatient": [1, 2], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": [1, 0, 0, 0, 1]},
        {"ImagePositionPatient": ["1", "2", "NaN"], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
        {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
def test_without_a_geometry_the_number_of_the_file_counts(broken):
    assert place(InstanceNumber=12, **broken)[1] == 12
    assert place(**broken)[1] is None


@pytest.mark.slow
def test_json_tells_the_order_but_not_whose_scans_they_are(tmp_path):
    """Both the command's and the server's; of a file with several slices it tells how many."""
    scans = tmp_path / "scans"
    scans.mkdir()
    geometry = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    for k in range(3):
        corner = {"ImagePositionPatient": [-90, -90, 40 - 6.5 * k]}
        (scans / f"{k}.dcm").write_bytes(
            dicom(H16, SeriesInstanceUID=UID, InstanceNumber=k, **WHOSE, **geometry, **corner)
        )
    (scans / "4.dcm").write_bytes(dicom(H16, SeriesInstanceUID=OTHER, **WHOSE))
    (scans / "5.dcm").write_bytes(dicom(H16, **WHOSE))
    (scans / "6.tif").write_bytes(tiff(*[tiff_page((H16 // k).astype(np.uint16)) for k in range(1, 6)]))
    command = [sys.executable, "-m", "brain_tumor", "predict", "--model", MODEL, "-q", "--json", "."]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=scans, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    server = Server(tmp_path, tmp_path / "server", "--model", str(MODEL))
    files = [(path.name, path.read_bytes()) for path in sorted(scans.iterdir())]
    status, served = server.predict(*files, query="?explain=true")
    log = server.stop()
    for told in ([json.loads(line) for line in done.stdout.splitlines()], served["results"]):
        assert [each.get("position", "none") for each in told] == [40, 33.5, 27, None, "none", "none"]
        first, second, third, fourth = (each["series"] for each in told[:4])
        assert first == second == third != fourth
        assert ["series" in each for each in told] == [True] * 4 + [False] * 2
        assert [(each.get("slice"), each.get("slices")) for each in told] == [(None, None)] * 5 + [(2, 5)]
    assert status == 200 and "Traceback" not in log
    for secret in (UID, OTHER, *WHOSE.values(), "Doe", "Jane", "1.2.3"):
        assert not any(secret in text for text in (done.stdout, json.dumps(served), log)), secret
