"""DICOM, NIfTI and pictures as grey slices: what a viewer would show, and files that are damaged or hostile."""

import gzip
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations, product
from pathlib import Path

import cv2
import numpy as np
import pytest
from nibabel import Nifti1Header, Nifti1Image, Nifti2Image
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from scan_files import attributes, dicom, nifti

from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.serving.readers.formats import SUFFIXES, is_candidate, read_scans

RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 4096, (30, 40)).astype(np.uint16)
FRAMES = [DEEP >> k for k in range(5)]
COLOUR = RANDOM.integers(0, 256, (30, 40, 3)).astype(np.uint8)
LUMINANCE = np.array([0.299, 0.587, 0.114])  # BT.601, of red, green, blue
ROUNDED = 0.501


def only(data: bytes, name: str = "x") -> np.ndarray:
    (scan,) = read_scans(name, data)
    assert scan.pixels.dtype == np.uint8
    return scan.pixels


def scaled(values: np.ndarray) -> np.ndarray:
    return (values - float(values.min())) / (float(values.max()) - float(values.min())) * 255


def window(x: np.ndarray, c: float, w: float, function: str = "LINEAR") -> np.ndarray:
    """DICOM PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2, for an output from 0 to 255."""
    if function == "SIGMOID":
        return 255 / (1 + np.exp(np.minimum(-4 * (x - c) / w, 700)))
    if function == "LINEAR_EXACT":
        return np.where(x <= c - w / 2, 0, np.where(x > c + w / 2, 255, ((x - c) / w + 0.5) * 255))
    between = ((x - (c - 0.5)) / max(w - 1, 1e-9) + 0.5) * 255
    return np.where(x <= c - 0.5 - (w - 1) / 2, 0, np.where(x > c - 0.5 + (w - 1) / 2, 255, between))


# --- DICOM


@pytest.mark.parametrize("stored", [DEEP, (DEEP >> 4).astype(np.uint8), DEEP << 4, DEEP.astype(np.int16) - 2000])
@pytest.mark.parametrize("more", [{}, {"WindowCenter": 99, "WindowWidth": 0}, {"WindowCenter": 99, "WindowWidth": 0.5}])
def test_without_a_window_that_the_standard_allows_the_range_is_shown(stored, more):
    assert np.abs(only(dicom(stored, **more)) - scaled(stored)).max() <= ROUNDED
    inverted = only(dicom(stored, PhotometricInterpretation="MONOCHROME1", **more))
    assert np.abs(inverted - (255 - scaled(stored))).max() <= ROUNDED


@pytest.mark.parametrize("slope, intercept", [(1, 0), (2.5, -1024), (-1, 500)])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("centre, width", [(500, 1000), (40, 2), (1000.5, 333), (0, 4096), (300, 1)])
def test_the_first_window_is_applied_to_rescaled_values(centre, width, function, slope, intercept):
    stored = (DEEP // 2).astype(np.int16) - 1000  # 12 bits with the sign
    more = {"RescaleSlope": slope, "RescaleIntercept": intercept, "VOILUTFunction": function, "BitsStored": 12}
    got = only(dicom(stored, WindowCenter=[centre, 7], WindowWidth=[width, 7], **more))
    assert np.abs(got - window(stored * slope + intercept, centre, width, function)).max() <= ROUNDED


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("bits", [8, 12])
def test_tables_are_applied(bits, packed):
    values = (np.sqrt(np.arange(4000) / 3999) * (2**bits - 1)).astype("<u2")
    table = attributes(LUTDescriptor=[4000, 50, bits])
    table.add_new("LUTData", "OW" if packed else "US", values.tobytes() if packed else values.tolist())
    expected = values[np.clip(DEEP.astype(int) - 50, 0, 3999)] / (2**bits - 1) * 255
    assert np.abs(only(dicom(DEEP, VOILUTSequence=[table])) - expected).max() <= ROUNDED
    whole = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}
    assert np.abs(only(dicom(DEEP, ModalityLUTSequence=[table], **whole)) - expected).max() <= ROUNDED


def test_colour_becomes_luminance():
    more = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    expected = cv2.cvtColor(COLOUR, cv2.COLOR_RGB2GRAY)
    assert np.abs(expected - COLOUR @ LUMINANCE).max() < 1.01
    assert np.array_equal(only(dicom(COLOUR, **more)), expected)
    planes = np.ascontiguousarray(COLOUR.transpose(2, 0, 1)).tobytes()
    assert np.array_equal(only(dicom(COLOUR, planes, **more | {"PlanarConfiguration": 1})), expected)
    soft = COLOUR // 4 + 96  # so that no primary saturates, and the luminance is the Y
    assert np.abs(only(dicom(soft, **more | {"PhotometricInterpretation": "YBR_FULL"})) - soft[..., 0] * 1.0).max() <= 2


@pytest.mark.parametrize("bits, told", [(8, 8), (16, 16), (8, 16)])  # some writers tell 16 of tables of 8
def test_a_palette_is_looked_up(bits, told):
    tables, more = RANDOM.integers(0, 2**bits, (3, 300)).astype(f"<u{bits // 8}"), {}
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        more[f"{colour}PaletteColorLookupTableDescriptor"] = [300, 10, told]
        more[f"{colour}PaletteColorLookupTableData"] = table.tobytes()
    stored = DEEP // 12
    colours = tables[:, np.clip(stored.astype(int) - 10, 0, 299)]
    got = only(dicom(stored, PhotometricInterpretation="PALETTE COLOR", **more))
    assert np.abs(got - np.einsum("c,cyx->yx", LUMINANCE, colours) / (2**bits - 1) * 255).max() <= 1.01


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.RLELossless])
def test_frames_are_chosen(syntax):
    more = {"NumberOfFrames": 5, "WindowCenter": 2048, "WindowWidth": 4096}
    data = dicom(DEEP, np.stack(FRAMES).tobytes(), syntax, **more)
    for wanted, numbers in {"middle": [2], "all": range(5), 4: [4], 0: [0]}.items():
        got = read_scans("m.dcm", data, wanted)
        assert [(scan.name, scan.slice, scan.slices) for scan in got] == [("m.dcm", number, 5) for number in numbers]
        assert all(np.abs(s.pixels - window(FRAMES[s.slice], 2048, 4096)).max() <= ROUNDED for s in got)
    for outside in (5, -1):
        assert "one of 5 slices" in refusal("m.dcm", data, wanted=outside)


def test_an_enhanced_file_has_a_window_for_each_frame():
    rescaling = attributes(PixelValueTransformationSequence=[attributes(RescaleSlope=2, RescaleIntercept=-7)])
    windows = [attributes(WindowCenter=1000 + 100 * k, WindowWidth=900) for k in range(5)]
    frames = [attributes(FrameVOILUTSequence=[each]) for each in windows]
    groups = {"SharedFunctionalGroupsSequence": [rescaling], "PerFrameFunctionalGroupsSequence": frames}
    for scan in read_scans("x", dicom(DEEP, np.stack(FRAMES).tobytes(), NumberOfFrames=5, **groups), "all"):
        expected = window(FRAMES[scan.slice] * 2.0 - 7, 1000 + 100 * scan.slice, 900)
        assert np.abs(scan.pixels - expected).max() <= ROUNDED


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_the_signature_may_lack_where_the_name_says_dicom(syntax):
    data = dicom(DEEP, syntax=syntax, signed=False)
    assert np.array_equal(only(data, "A.DCM"), only(dicom(DEEP)))
    assert "not an image" in refusal("a.png", data)


def test_compressed_pixels_are_decoded_or_the_compression_is_named():
    assert np.array_equal(only(dicom(DEEP, syntax=uid.RLELossless)), only(dicom(DEEP)))
    file = io.BytesIO()
    Image.fromarray(DEEP).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    lossless = dicom(DEEP, encapsulate([file.getvalue()]), uid.JPEG2000Lossless)
    assert np.array_equal(only(lossless), only(dicom(DEEP)))
    smooth = cv2.GaussianBlur((DEEP >> 4).astype(np.uint8), (0, 0), 3)
    jpeg = cv2.imencode(".jpg", smooth)[1]
    got = only(dicom(smooth, encapsulate([jpeg.tobytes()]), uid.JPEGBaseline8Bit))
    assert np.abs(got - scaled(cv2.imdecode(jpeg, 0))).max() <= ROUNDED
    if not get_decoder(uid.JPEGLosslessSV1).is_available:
        assert "got JPEG Lossless" in refusal("x", dicom(smooth, encapsulate([b"\xff\xd8"]), uid.JPEGLosslessSV1))


# --- NIfTI


def head() -> np.ndarray:
    """(20, 24, 16) uint8 running to the right, anterior, superior: a box, bright where it is left and anterior."""
    volume = np.zeros((20, 24, 16), np.uint8)
    volume[4:16, 5:20, 3:13] = 100 + 5 * np.arange(10)
    volume[4:7, 16:20, 3:13] += 100
    return volume


def upright(across: np.ndarray) -> np.ndarray:
    """(x to the right, y to anterior) as a picture in radiological convention."""
    width, height = across.shape
    return np.array(
        [[across[width - 1 - column, height - 1 - row] for column in range(width)] for row in range(height)]
    )


@pytest.mark.parametrize("cls", [Nifti1Image, Nifti2Image])
@pytest.mark.parametrize("packed", [False, True])
def test_slices_are_axial_and_radiological(cls, packed):
    scans = read_scans("x.nii", nifti(head(), cls=cls, packed=packed), "all")
    assert [(scan.slice, scan.slices) for scan in scans] == [(number, 16) for number in range(16)]
    assert all(np.abs(s.pixels - upright(scaled(head())[:, :, s.slice])).max() <= ROUNDED for s in scans)
    rows, columns = np.nonzero(scans[8].pixels > 200)
    assert rows.max() < 12  # anterior is at the top
    assert columns.min() >= 10  # the patient's left is on the right


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_orientation_of_the_file_does_not_matter(order):
    edges = np.array([2.0, 1.0, 3.0])  # mm to the right, anterior, superior
    whole = read_scans("x", nifti(head(), np.diag([*edges, 1])), "all")
    assert whole[0].pixels.shape == (24, 40)  # square pixels
    for flips in product([1, -1], repeat=3):
        stored = np.ascontiguousarray(head().transpose(order)[tuple(slice(None, None, flip) for flip in flips)])
        affine = np.diag([0.0, 0, 0, 1])
        for axis, (world, flip) in enumerate(zip(order, flips, strict=True)):
            affine[world, axis] = flip * edges[world]
            affine[world, 3] = 0 if flip > 0 else edges[world] * (stored.shape[axis] - 1)
        got = read_scans("x", nifti(stored, affine), "all")
        assert np.array_equal([scan.pixels for scan in got], [scan.pixels for scan in whole])


def test_the_middle_is_that_of_the_head():
    volume = np.zeros((20, 20, 100), np.int16)
    volume[4:16, 4:16, 50:91] = 300  # a head above empty slices
    assert [(scan.slice, scan.slices) for scan in read_scans("x", nifti(volume))] == [(66, 100), (70, 100), (74, 100)]
    assert [scan.slice for scan in read_scans("x", nifti(volume), 7)] == [7]
    assert "one of 100 slices" in refusal("x", nifti(volume), wanted=100)


@pytest.mark.parametrize("packed", [False, True])
def test_of_several_volumes_the_first_is_read_in_any_byte_order(packed):
    expected = [scan.pixels for scan in read_scans("x", nifti(head()), "all")]
    several = nifti(np.stack([head(), 255 - head()], axis=3), packed=packed)
    assert np.array_equal([scan.pixels for scan in read_scans("x", several, "all")], expected)
    big = Nifti1Image(head().astype(">i2"), np.eye(4), Nifti1Header(endianness=">")).to_bytes()
    assert big[:2] == b"\0\0"
    assert np.array_equal([scan.pixels for scan in read_scans("x", big, "all")], expected)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("slope, intercept", [(1, 0), (0.01, 5), (-2, 0)])
def test_intensities_are_scaled_by_the_volume(slope, intercept, kind):
    data = bytearray(nifti(head().astype(kind)))
    struct.pack_into("<2f", data, 112, slope, intercept)
    expected = scaled(head() * float(slope))
    for scan in read_scans("x", bytes(data), "all"):
        assert np.abs(scan.pixels - upright(expected[:, :, scan.slice])).max() <= ROUNDED


def test_spikes_saturate_and_what_is_no_number_is_black():
    volume = head().astype(np.float32)
    expected = read_scans("x", nifti(volume), 8)[0].pixels.astype(int)
    volume[10, 10, 8], volume[5, 18, 8], volume[6, 17, 8], volume[0, 0, 0] = np.nan, np.inf, -np.inf, 1e6
    expected[13, 9] = expected[5, 14] = expected[6, 13] = 0
    assert np.abs(read_scans("x", nifti(volume), 8)[0].pixels - expected).max() <= 1
    for constant in (np.full((9, 9, 9), np.nan, np.float32), np.full((9, 9, 9), 77, np.int16)):
        assert not read_scans("x", nifti(constant), 4)[0].pixels.any()


# --- pictures and folders


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize("name", ["x.png", "x.dcm", "x.nii.gz", ""])
def test_a_picture_is_read_whatever_its_name(name):
    for wanted in ("middle", "all", 0):
        (scan,) = read_scans(name, png(COLOUR[..., ::-1]), wanted)
        assert (scan.name, scan.slice, scan.slices, scan.series, scan.position) == (name, None, 1, "", None)
        assert np.abs(scan.pixels - COLOUR @ LUMINANCE).max() < 1.01
    assert "one of 1 slices" in refusal("x", png(COLOUR), wanted=1)


def test_candidates_of_a_folder(tmp_path):
    assert {".png", ".jpg", ".tiff", ".dcm", ".dicom", ".nii", ".nii.gz"} < set(SUFFIXES)
    start = bytes(128) + b"DICM"
    yes = {"a.PNG": b"", "b.nii.gz": b"", "c.NII": b"", "d.dcm": b"", "IM0001": start, "1.2.840.55": start}
    yes |= {"PATIENT.MR.HEAD.0001.IMA": start, "e.img": start, "f.v2": start + bytes(9)}  # DICOM, whatever the suffix
    no = {".a.png": b"", "notes.txt": b"DICM", "x.gz": b"", "IM2": b"", "1.2.840.56": bytes(200), "DICOMDIR": start}
    no |= {"old.IMA": bytes(200), ".b.IMA": start}
    for name, content in {**yes, **no}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")  # to open it would block
    assert {path.name for path in tmp_path.iterdir() if is_candidate(path)} == set(yes)


# --- what must be refused


def refusal(name: str, data: bytes, **options) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_scans(name, data, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


KINDS = {
    "picture": png(DEEP),
    "raw": dicom(DEEP, WindowCenter=500, WindowWidth=900, RescaleSlope=1, RescaleIntercept=0),
    "rle": dicom(DEEP, syntax=uid.RLELossless),
    "headless.dcm": dicom(DEEP, signed=False),
    "nifti": nifti(head()),
    "nifti2": nifti(head(), cls=Nifti2Image),
    "packed": nifti(head(), packed=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused_in_silence(kind, capfd, caplog, recwarn):
    whole, random, outcomes = KINDS[kind], np.random.default_rng(7), set()
    for length in range(0, len(whole) - 1, len(whole) // 20):
        refusal(kind, whole[:length])
    for attempt in range(300):
        data = bytearray(whole)
        for position in random.integers(0, len(data) if attempt % 2 else min(700, len(data)), attempt % 5 + 1):
            data[position] = random.integers(256)
        try:
            for scan in read_scans(kind, bytes(data), "all", 1_000_000):
                assert (scan.pixels.dtype, scan.pixels.ndim) == (np.uint8, 2)
            outcomes.add("read")
        except UnreadableImage as error:
            assert str(error).isprintable()
            outcomes.add("refused")
    assert "refused" in outcomes
    if kind != "picture":  # there libpng itself writes
        assert not (caplog.records or recwarn.list or capfd.readouterr().err)


def test_a_size_beyond_the_limit_is_refused_by_the_header():
    chunks = [
        b"IHDR" + struct.pack(">2I5B", 40_000, 40_000, 8, 0, 0, 0, 0),
        b"IDAT" + zlib.compress(bytes(99)),
        b"IEND",
    ]
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    picture = b"\x89PNG\r\n\x1a\n" + b"".join(framed)
    assert "100,000,000 pixels" in refusal("x", picture)
    several = dicom(np.zeros((1000, 1000), np.uint8), NumberOfFrames=2)
    flat, oblong = (
        nifti(np.zeros((1001, 1000), np.uint8)),
        nifti(np.zeros((99, 99, 1), np.uint8), np.diag([1, 1e6, 1, 1])),
    )
    for data in (picture, png(np.zeros((1001, 1000), np.uint8)), several, flat, oblong):
        assert "1,000,000 pixels" in refusal("x", data, max_pixels=1_000_000)


def test_a_bomb_is_refused_in_little_memory():
    zeros = gzip.compress(bytes(2**24)) * 64  # 1 GiB
    small, large = struct.pack("<4h", 3, 20, 24, 16), struct.pack("<4h", 3, 999, 999, 999)
    short, long = b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x16\x001.2.840.10008.1.2.1.99"
    meta = dicom(DEEP).split(b"\x08\0\x16\0")[0]
    assert short in meta
    deflate = zlib.compressobj(wbits=-15)
    deflated = meta.replace(short, long) + deflate.compress(bytes(2**28)) + deflate.flush()
    for kind in ("nifti", "raw"):
        read_scans("x", KINDS[kind])  # the import of the readers takes memory
    tracemalloc.start()
    try:
        assert "gzip" in refusal("x", zeros)
        assert "pixels" in refusal("x", gzip.compress(KINDS["nifti"].replace(small, large)) + zeros)
        assert "deflated" in refusal("x", deflated)
        assert len(read_scans("x", KINDS["packed"] + zeros, "all")) == 16
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


def test_errors_say_what_is_wrong():
    assert "PixelData" in refusal("x", dicom(DEEP).replace(b"\xe0\x7f\x10\0", b"\xe1\x7f\x10\0"))
    hsv = {"SamplesPerPixel": 3, "PhotometricInterpretation": "HSV", "PlanarConfiguration": 0}
    assert "got HSV" in refusal("x", dicom(COLOUR, **hsv))
    with warnings.catch_warnings(action="ignore"):
        assert len(refusal("x", dicom(DEEP, PhotometricInterpretation="X\n" * 999))) < 300
    assert "2 pixels" in refusal("x", nifti(np.zeros((1, 9, 9), np.uint8)))
    for kind, told in (([("R", "u1"), ("G", "u1"), ("B", "u1")], "got RGB"), (np.complex64, "got complex64")):
        assert told in refusal("x", nifti(np.zeros((5, 5, 5), np.dtype(kind))))
    assert "not an image" in refusal("x.nii", b"text")


def test_the_filters_of_warnings_survive_reads_in_many_threads():
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda kind: read_scans(kind, KINDS[kind]), list(KINDS) * 10))
    assert warnings.filters == before


PROGRAM = """
import sys
from pathlib import Path
from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.serving.readers.formats import read_scans
for name in ("picture", "nifti", "raw"):
    print(*({"tensorflow", "pandas", "sklearn", "matplotlib", "nibabel"} & set(sys.modules)))
    try:
        print(read_scans(name, Path(name).read_bytes())[0].slice)
    except UnreadableImage as error:
        print(error)
"""


@pytest.mark.parametrize("installed", [True, False])
def test_the_readers_are_optional_and_imported_late(tmp_path, installed):
    for name in ("picture", "nifti", "raw"):
        (tmp_path / name).write_bytes(KINDS[name])
    for name in () if installed else ("pydicom", "nibabel"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    variables = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[1] / 'src'}"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=variables, capture_output=True, text=True)
    missing = "{} files need the optional readers: pip install 'brain-tumor[readers]'"
    without = ["", "None", "", missing.format("NIfTI"), "", missing.format("DICOM")]
    assert done.stdout.splitlines() == (["", "None", "", "7", "nibabel", "None"] if installed else without)
    assert done.stderr == ""
