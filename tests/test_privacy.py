"""A Kaggle token, and names of patients in headers, are nowhere but where they were given.

The tokens go through the real client and a stand-in for Kaggle, the names through the readers, the command and the
server as real processes. What is allowed is in docs/privacy.md.
"""

import base64
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from kaggle_stand_in import KaggleStandIn
from nibabel import Nifti1Image, Nifti2Image
from nibabel.nifti1 import Nifti1Extension
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom import config, uid
from pydicom.datadict import DicomDictionary, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from scan_files import H16, attributes, dicom
from scratch import change_params, environment
from test_encodings import dicom_files
from test_server import Server

from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.serving.readers.formats import read_scans

GOLDEN = Path(__file__).parent / "golden"
FILE = "src/brain_tumor/serving/classifier.tflite"
PAGE = (ROOT / "docs/privacy.md").read_text(encoding="utf-8")


def everything(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder by its path."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def holding(files: dict[str, bytes], *words: str) -> list[str]:
    """The files that hold one of the words in their path or content, in UTF-8, UTF-16 or base64."""
    wanted = [form for word in words for form in (word.encode(), word.encode("utf-16-le"), *in_base64(word))]
    return sorted(path for path, data in files.items() if any(form in path.encode() + b"\n" + data for form in wanted))


def in_base64(word: str) -> list[bytes]:
    """What base64 makes of a word, wherever it stands in a longer text."""
    found = []
    for before in range(3):
        whole = base64.b64encode(b"x" * before + word.encode())
        found.append(whole[-(-before * 4 // 3) : -4])  # without what depends on its neighbours
    return found


def test_the_search_finds_what_it_should():
    for text in (TOKEN, f"somebody:{TOKEN}:", f"xy{TOKEN}!"):
        coded = base64.b64encode(text.encode())
        assert holding({"a": text.encode(), "b": coded, "c": b"x", "d": text.encode("utf-16-le")}, TOKEN) == [
            "a",
            "b",
            "d",
        ]
    assert holding({f"x/{TOKEN}.png": b""}, TOKEN)


# --- the token

# Not as a whole in this file, which the project under test contains.
TOKEN, PASSWORD = "0".join(["planted", "kaggle", "token"]), "0".join(["planted", "proxy", "password"])
KEY = {"KAGGLE_USERNAME": "somebody", "KAGGLE_KEY": TOKEN}
NOBODY = "nobody listens"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "file", "runs"),
    [
        (KEY, None, [(500, 401), (NOBODY,), ("serve",)]),
        ({}, ("kaggle.json", json.dumps({"username": "somebody", "key": TOKEN})), [(403,), ("serve",)]),
        ({"KAGGLE_API_TOKEN": TOKEN}, None, [(500,), ("serve",)]),
        ({}, ("access_token", TOKEN), [(401,)]),
        ({"KAGGLE_API_TOKEN": f"{TOKEN}\n"}, None, [(403,)]),  # no header can hold it, so it is never sent
    ],
    ids=["KAGGLE_KEY", "kaggle.json", "KAGGLE_API_TOKEN", "access_token", "line break"],
)
def test_the_token_is_nowhere(project, tmp_path, variables, file, runs):
    """A download by DVC through a proxy with a password: it fails, is refused, finds nobody, or succeeds."""
    for name in ("home/.kaggle", "tmp", "out"):
        (tmp_path / name).mkdir(parents=True)
    if file:
        (tmp_path / "home/.kaggle" / file[0]).write_text(file[1])
    (project / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    sources = {"phantoms": {"dataset": "phantoms"}, "scans": {"dataset": "someone/scans", "role": "external"}}
    change_params(project / "params.yaml", {"data": {"sources": sources, "retries": int(len(runs[0]) > 1)}})
    own = {name: value for name, value in environment().items() if not name.startswith("KAGGLE_")}
    own |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    for number, script in enumerate(runs):
        with KaggleStandIn(zipped(), *script) as kaggle:
            port = "9" if script == (NOBODY,) else kaggle.environment["HTTP_PROXY"].rpartition(":")[2]
            led = kaggle.environment | {"HTTP_PROXY": f"http://somebody:{PASSWORD}@127.0.0.1:{port}"}
            command = ["dvc", "repro", "download@scans"]
            done = subprocess.run(command, cwd=project, env=own | led | variables, capture_output=True, timeout=120)
        (tmp_path / "out" / f"{number}").write_bytes(done.stdout + done.stderr)
        assert (done.returncode == 0) == (script == ("serve",)), done.stderr
        sent = {"": " ".join(value for _, headers in kaggle.requests for value in headers.values()).encode()}
        if kaggle.requests:  # both were in use
            assert holding(sent, TOKEN) and holding(sent, PASSWORD)
        else:
            assert script == (NOBODY,) or b"***" in done.stderr
    files = everything(tmp_path)
    assert len([path for path in files if "/.dvc/" in path]) > 3
    assert holding(files, TOKEN, PASSWORD) == ([str(tmp_path / "home/.kaggle" / file[0])] if file else [])


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("glioma/1.png", "no_tumor/2.png"):
            archive.writestr(name, (GOLDEN / "scan.png").read_bytes())
    return content.getvalue()


# --- headers

NAME, NUMBER = "Mustermann^Leopoldine", "98765.4321"
NAMES = ("Mustermann", "Leopoldine", NUMBER)
DOCUMENTED = dict(re.findall(r"^\| (\w+) \| \(([0-9A-F]{4},[0-9A-F]{4})\) \|", PAGE, re.MULTILINE))
TEXTS = {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
BYTES = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}


def planted(data: bytes) -> bytes:
    """A DICOM file with a name or number in each attribute that is not on the page, private ones and the preamble."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    for tag, (kind, _, _, _, keyword) in DicomDictionary.items():
        kind, group = kind.split(" ")[0], tag >> 16
        if keyword in DOCUMENTED or not keyword or group < 8 or group in (0x7FE0, 0xFFFE) or tag in dataset:
            continue
        if kind == "SQ":
            value = [attributes(PatientName=NAME, TextValue=NAME)]
        elif kind in ("DS", "IS"):
            value = NUMBER if kind == "DS" else "9876543"
        else:
            value = NAME if kind in TEXTS else NAME.encode() if kind in BYTES else None
        if value is not None:
            dataset[tag] = DataElement(tag, kind, value, validation_mode=config.IGNORE)
    dataset[0x60003000] = DataElement(0x60003000, "OW", NAME.encode())
    dataset[0x60000022] = DataElement(0x60000022, "LO", NAME)
    block = dataset.private_block(0x0029, NAME, create=True)
    block.add_new(0x10, "LO", NAME)
    block.add_new(0x11, "UN", NAME.encode())
    dataset.preamble = (NAME * 8).encode()[:128]
    dataset.file_meta.SourceApplicationEntityTitle = NAME[:16]
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"
    dataset.file_meta.PrivateInformation = NAME.encode()
    file = io.BytesIO()
    former, config.settings.writing_validation_mode = config.settings.writing_validation_mode, config.IGNORE
    try:
        dataset.save_as(file, enforce_file_format=True)
    finally:
        config.settings.writing_validation_mode = former
    return file.getvalue()


SERIES = {"SeriesInstanceUID": "1.2.3.4", "ImagePositionPatient": [0, 0, 7], "InstanceNumber": 3}
SERIES |= {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "WindowCenter": 900, "WindowWidth": 1800}
H8 = np.rint(H16 / 1920 * 255).astype(np.uint8)


def pictures() -> dict[str, tuple[bytes, bytes]]:
    """File name -> the file with names in all that is no pixel, and the same file without."""
    found = {}
    image, note = Image.fromarray(H8), Image.Exif()
    note[0x010E] = note[0x013B] = note[0x9286] = NAME  # ImageDescription, Artist, UserComment
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{NAME}</x:xmpmeta>".encode()
    text = PngInfo()
    text.add_text("Patient", NAME)
    text.add_itxt("Patient", NAME)
    text.add_text("Comment", NAME, zip=True)
    for kind, more in {
        "JPEG": {"exif": note, "xmp": xmp, "comment": NAME.encode()},
        "PNG": {"exif": note, "pnginfo": text},
        "TIFF": {"tiffinfo": {270: NAME, 315: NAME, 305: NAME}},
        "WEBP": {"exif": note, "xmp": xmp, "lossless": True},
    }.items():
        with_, without = io.BytesIO(), io.BytesIO()
        image.save(with_, kind, **more)
        image.save(without, kind, **({"lossless": True} if kind == "WEBP" else {}))
        found[f"x.{kind.lower()}"] = with_.getvalue(), without.getvalue()
    volume = np.stack([H16.T] * 5, axis=2)
    for name, form in {"x.nii": Nifti1Image, "y.nii": Nifti2Image}.items():
        plain, told = form(volume, np.eye(4)), form(volume, np.eye(4))
        fields = ("descrip", "aux_file", "intent_name") + (("db_name",) if form is Nifti1Image else ())
        for field in fields:
            told.header[field] = NAME[: told.header[field].dtype.itemsize].encode()
        told.header.extensions.append(Nifti1Extension("comment", NAME.encode()))
        found[name] = told.to_bytes(), plain.to_bytes()
    single = dicom(H16, **SERIES)
    several = dicom(H16, np.stack([H16] * 3).tobytes(), NumberOfFrames=3)
    for name, data in {"x.dcm": single, "y.dcm": several, "rle.dcm": dicom(H16, syntax=uid.RLELossless)}.items():
        found[name] = planted(data), data
    return found


SCANS = pictures()


def test_the_planted_files_hold_the_names():
    assert all(b"Mustermann" in data and b"Mustermann" not in plain for data, plain in SCANS.values())
    assert SCANS["x.dcm"][0].count(b"Mustermann") > 2000 and SCANS["x.dcm"][0].count(NUMBER.encode()) > 100


@pytest.mark.parametrize("name", SCANS)
def test_nothing_but_the_pixels_is_read(name):
    """And the place in its series."""
    with_, without = (read_scans("scan.dcm", data, "all") for data in SCANS[name])
    assert len(with_) == len(without)
    for a, b in zip(with_, without, strict=True):
        assert np.array_equal(a.pixels, b.pixels)
        assert (a.slice, a.slices, a.series, a.position) == (b.slice, b.slices, b.series, b.position)
    assert not holding({"": repr(with_).encode()}, *NAMES)


ENHANCED = attributes(
    PixelMeasuresSequence=[attributes(PixelSpacing=[1, 1])],
    FrameVOILUTSequence=[attributes(WindowCenter=900, WindowWidth=1800, VOILUTFunction="LINEAR")],
    PixelValueTransformationSequence=[attributes(RescaleSlope=1, RescaleIntercept=0)],
)
TABLE = attributes(LUTDescriptor=[1921, 0, 16], LUTData=np.arange(1921, dtype=np.uint16).tobytes())
# Attributes that dicom_files of the tests of encodings has not.
MORE = (
    dicom(
        H16, SharedFunctionalGroupsSequence=[ENHANCED], PerFrameFunctionalGroupsSequence=[ENHANCED], NumberOfFrames=1
    ),
    dicom(
        H16,
        ModalityLUTSequence=[TABLE],
        VOILUTSequence=[TABLE],
        NominalScannedPixelSpacing=[1, 1],
        SpecificCharacterSet="",
    ),
    dicom(H16, PixelAspectRatio=[1, 1], SeriesInstanceUID="1.2.3.4", InstanceNumber=3),
)


def test_the_attributes_that_are_read_are_those_of_the_page(monkeypatch):
    """Whatever looks an attribute up, in this package or in pydicom, does it by this method."""
    asked, looked_up = set(), Dataset.__getitem__

    def watched(dataset, key):
        found = looked_up(dataset, key)
        if not isinstance(key, slice) and Tag(key).group != 2:
            asked.add(keyword_for_tag(Tag(key)) or str(Tag(key)))
        return found

    def read(data: bytes) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Dataset, "__getitem__", watched)
            read_scans("x.dcm", data, "all")

    @examples(max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(dicom_files())
    def read_any(written):
        read(written.data)

    read_any()
    for data in (*MORE, *(data for name, (data, _) in SCANS.items() if name.endswith(".dcm"))):
        read(data)
    assert asked == DOCUMENTED.keys()
    assert {keyword: str(Tag(tag_for_keyword(keyword))) for keyword in DOCUMENTED} == {
        keyword: f"({tag})" for keyword, tag in DOCUMENTED.items()
    }


def test_an_error_about_a_damaged_file_tells_no_name():
    """Lengths, numbers and bits of the header change, or bytes are missing: names come where they do not belong."""
    fields = ("PatientName", "PatientID", "InstitutionName", "StudyDescription", "ImageComments", "OperatorsName")
    whole = dicom(H16, **SERIES, **dict.fromkeys(fields, NAME), RescaleSlope=1, PixelSpacing=[1, 1])
    end, errors = whole.index(b"\xe0\x7f\x10\0") + 12, []
    for number in range(400):
        random = np.random.default_rng(number)
        data, place = bytearray(whole), int(random.integers(132, end))
        if number % 4 == 0:
            del data[place:]
        elif number % 4 == 1:
            del data[place : place + int(random.integers(1, 40))]
        elif number % 4 == 2:
            data[place : place + 2] = int(random.choice([0, 1, 8, 16, 64, 2**15, 2**16 - 1])).to_bytes(2, "little")
        else:
            data[place] ^= 1 << int(random.integers(8))
        try:
            read_scans("x.dcm", bytes(data), "all")
        except UnreadableImage as error:
            errors.append(str(error))
    assert len(errors) > 100 and not holding({"": "\n".join(errors).encode()}, *NAMES)


# --- command and server


@pytest.mark.slow
def test_the_command_tells_nothing_of_the_headers(tmp_path):
    scans, place = tmp_path / "scans", tmp_path / "all"
    scans.mkdir()
    for name in ("home", "tmp", "out"):
        (place / name).mkdir(parents=True)
    for name, (data, _) in SCANS.items():
        (scans / name).write_bytes(data)
        (scans / f"cut-{name}").write_bytes(data[: len(data) * 3 // 4])
    variables = {"PYTHONPATH": str(ROOT / "src"), "HOME": str(place / "home"), "TMPDIR": str(place / "tmp")}
    model = ["--model", str(GOLDEN / "classifier-2.tflite")]
    for number, options in enumerate((["--explain", "maps"], ["--csv", "-o", "answers.csv"], ["--json"])):
        command = [sys.executable, "-m", "brain_tumor", "predict", *model, *options, "--slice", "all", str(scans)]
        done = subprocess.run(
            command, cwd=place / "out", env=environment() | variables, capture_output=True, timeout=120
        )
        assert done.returncode == 1, done.stderr  # those that are cut
        (place / f"printed-{number}").write_bytes(done.stdout + done.stderr)
    files = everything(place)
    assert len([path for path in files if path.endswith(".png")]) >= len(SCANS) and holding(files, "x.dcm")
    assert holding(files, *NAMES) == []
    assert not list((place / "tmp").iterdir()) and not list((place / "home").iterdir())


@pytest.mark.slow
def test_the_server_tells_names_of_files_to_the_one_who_sent_them_alone(tmp_path, monkeypatch):
    (tmp_path / "model" / FILE).parent.mkdir(parents=True)
    (tmp_path / "model" / FILE).write_bytes((GOLDEN / "classifier-2.tflite").read_bytes())
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    server = Server(tmp_path / "model", tmp_path / "server")
    for name, (data, _) in SCANS.items():
        for content in (data, data[: len(data) // 2], b"no scan"):
            upload = f"Musterfrau, Petronella {name}"
            _, told = server.predict((upload, content), query="?explain=true&slice=all")
            named = [result.pop("name") for result in told.get("results") or told["errors"]]
            assert set(named) == {upload}
            assert not holding({"": json.dumps(told).encode()}, *NAMES, "Musterfrau", "Petronella")
            for picture in re.findall(r'"data:image/png;base64,([^"]+)"', json.dumps(told)):
                assert not holding({"": base64.b64decode(picture)}, *NAMES)
    log = server.stop()
    assert log.count("POST /v1/predict") == 3 * len(SCANS) and "WROTE" not in log
    assert holding(everything(tmp_path), *NAMES, "Musterfrau", "Petronella") == []


# --- the pipeline


def test_names_of_files_are_where_the_page_says_and_not_in_what_git_tracks(small_run):
    names = [path.name for path in (small_run / "data/raw").rglob("*.jpg")]
    assert len(names) > 30
    held = {Path(path).relative_to(small_run) for path in holding(everything(small_run), *names)}
    places = {path.parts[0] for path in held}
    assert places >= {"data", "report", ".dvc"}
    assert places.isdisjoint({"metrics", "plots", "logs", "models", "checkpoints", "dvc.lock", "repro.log"})
    assert Path(FILE) not in held and (small_run / "metrics/test.json").is_file()
