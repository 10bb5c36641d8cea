"""What the headers of DICOM and NIfTI files say about the values and the shape of pixels, as people really have them.

The right picture is always computed by NumPy from the planted head.
"""

import struct

import numpy as np
import pytest
from nibabel import Nifti1Image
from pydicom import uid
from scan_files import H16, attributes, correlation, dicom, levels, nifti, with_text

from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.serving.readers.formats import read_scans

ROUNDED = 0.501
CORNERS = np.zeros(H16.shape, bool)
for rows in (slice(0, 18), slice(-18, None)):
    for columns in (slice(0, 16), slice(-16, None)):
        CORNERS[rows, columns] = True
ROUND = np.where(CORNERS, 0, H16)  # the head in a round field of view: nothing is in the corners


def only(data: bytes, name: str = "x.dcm") -> np.ndarray:
    (scan,) = read_scans(name, data)
    return scan.pixels


def refusal(data: bytes, name: str = "x.dcm", **options) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_scans(name, data, **options)
    assert str(caught.value).isprintable() and str(caught.value).startswith("expected ")
    return str(caught.value)


def padded(values: np.ndarray, padding: int) -> np.ndarray:
    return np.where(CORNERS, padding, values).astype(values.dtype)


# --- padding


@pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("padding", [-2000, -32768, 32767])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 960, "WindowWidth": 1920}])
def test_padding_is_black_and_outside_the_range(padding, kind, window):
    got = only(dicom(padded(H16, padding), PixelPaddingValue=padding, PhotometricInterpretation=kind, **window))
    shown = np.clip((H16 - 0.0) / (1920 if not window else 1919) * 255, 0, 255)
    expected = np.where(CORNERS, 0, 255 - shown if kind == "MONOCHROME1" else shown)
    assert np.abs(got - expected).max() <= (ROUNDED if not window else 0.7)  # a window is shifted by half a value
    assert not got[CORNERS].any()


def test_padding_is_told_in_stored_values_and_may_be_a_range():
    stored = padded(H16, -1000)
    stored[:4, :4] = -1003
    more = {"PixelPaddingValue": -1000, "PixelPaddingRangeLimit": -1005, "RescaleSlope": 2, "RescaleIntercept": -1000}
    assert np.abs(only(dicom(stored, **more)) - levels(ROUND)).max() <= ROUNDED
    limits = {"PixelPaddingValue": -1005, "PixelPaddingRangeLimit": -1000}
    assert np.abs(only(dicom(stored, **limits)) - levels(ROUND)).max() <= ROUNDED
    value = int(H16[50, 40])
    got = only(dicom(H16, PixelPaddingValue=value, RescaleIntercept=-value // 2))
    assert np.array_equal(got == 0, (value == H16) | (levels(H16) < 0.5))


@pytest.mark.parametrize("stored_bits", [16, 12])
def test_padding_may_be_written_with_the_other_sign_or_in_bits_that_are_not_stored(stored_bits):
    unsigned = padded(H16.astype(np.uint16), 63536)
    got = only(dicom(unsigned, BitsStored=stored_bits, PixelPaddingValue=63536))
    assert np.abs(got - levels(ROUND)).max() <= ROUNDED
    data = dicom(padded(H16, -2000), PixelPaddingValue=-2000)
    wrong = data.replace(b"\x28\0\x20\1SS\2\0", b"\x28\0\x20\1US\2\0")
    assert wrong != data
    assert np.abs(only(wrong) - levels(ROUND)).max() <= ROUNDED
    nowhere = dicom(
        H16.astype(np.uint16), BitsStored=12, PixelPaddingValue=63536
    )  # and 2096 = 63536 % 4096 is no padding
    assert np.abs(only(nowhere) - levels(H16)).max() <= ROUNDED
    same = H16.astype(np.uint16).copy()
    same[50, 40] = 63536 % 4096
    assert only(dicom(same, BitsStored=12, PixelPaddingValue=63536))[50, 40] == 255


def test_what_is_not_declared_as_padding_is_a_value():
    """docs/serving.md says so: nobody can tell a spoilt corner from a dark one."""
    got = only(dicom(padded(H16, -2000), PixelPaddingValue=-32768))
    assert np.abs(got - levels(padded(H16, -2000))).max() <= ROUNDED


def test_padding_of_a_palette_is_black():
    index = (padded(H16, 2040) // 8).astype(np.uint8)
    table, more = np.arange(256, dtype=np.uint8), {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        more |= {f"{colour}PaletteColorLookupTableDescriptor": [256, 0, 8]}
        more |= {f"{colour}PaletteColorLookupTableData": table.tobytes()}
    got = only(dicom(index, PixelPaddingValue=255, **more))
    assert np.abs(got - np.where(CORNERS, 0.0, H16 // 8)).max() <= 1


def test_a_frame_of_padding_alone_is_black():
    assert not only(dicom(np.full((20, 20), -2000, np.int16), PixelPaddingValue=-2000)).any()


# --- byte order and bits


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
@pytest.mark.parametrize("kind", [np.int16, np.uint8])
def test_byte_orders_are_found_without_the_file_meta(syntax, kind):
    stored = H16 if kind == np.int16 else (H16 // 8).astype(np.uint8)
    headless = dicom(stored, syntax=syntax, signed=False)
    assert headless[128:132] != b"DICM"
    assert np.abs(only(headless) - levels(stored)).max() <= ROUNDED


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_tables_have_the_byte_order_of_the_file(syntax):
    values = (np.sqrt(np.arange(2000) / 1999) * 4095).astype(np.uint16)
    table = attributes(LUTDescriptor=[2000, 0, 12])
    table.add_new("LUTData", "OW", values.astype("<u2" if syntax.is_little_endian else ">u2").tobytes())
    got = only(dicom(H16, syntax=syntax, VOILUTSequence=[table], WindowCenter=5, WindowWidth=5))  # the table is taken
    assert np.abs(got - values[H16] / 4095 * 255).max() <= ROUNDED


def test_bits_above_those_stored_are_no_values():
    overlay = np.zeros(H16.shape, np.uint16)
    overlay[40:60, 30:50] = 0b1011 << 12
    drawn = H16.astype(np.uint16) | overlay
    assert np.abs(only(dicom(drawn, BitsStored=12)) - levels(H16)).max() <= ROUNDED
    signed = ((H16 - 900).astype(np.uint16) & 0xFFF | overlay).view(np.int16)  # the sign is bit 11
    assert np.abs(only(dicom(signed, BitsStored=12)) - levels(H16)).max() <= ROUNDED


def test_values_in_the_upper_bits_are_refused():
    assert "HighBit" in refusal(dicom((H16 << 4).astype(np.uint16), BitsStored=12, HighBit=15))


# --- windows and rescaling

WIDTH, CENTRE, SLOPE = b"\x28\0\x51\x10", b"\x28\0\x50\x10", b"\x28\0\x53\x10"


@pytest.mark.parametrize(
    "window", [{"WindowWidth": 400}, {"WindowCenter": 400}, {"WindowCenter": 99, "WindowWidth": -5}]
)
def test_half_a_window_is_none(window):
    assert np.abs(only(dicom(H16, **window)) - levels(H16)).max() <= ROUNDED


@pytest.mark.parametrize("text", ["NaN", "inf", "-inf", "", "abc", "40,5", "1e999"])
@pytest.mark.parametrize("tag", [WIDTH, CENTRE])
def test_a_window_that_is_no_number_is_none(tag, text):
    data = dicom(H16, WindowCenter="400", WindowWidth="600")
    assert np.abs(only(data) - levels(H16)).max() > 50  # the window shows
    assert np.abs(only(with_text(data, tag, text)) - levels(H16)).max() <= ROUNDED


def test_of_several_windows_the_first_that_is_one_is_taken():
    data = dicom(H16, WindowCenter=["NaN", 600, 7], WindowWidth=[1, 901, 7])
    assert np.abs(only(data) - np.clip((H16 - 149.5) / 900 * 255, 0, 255)).max() <= ROUNDED


@pytest.mark.parametrize("text", ["0", "NaN", "inf", "abc"])
def test_a_rescaling_by_no_number_is_refused(text):
    data = with_text(dicom(H16, RescaleSlope="1", RescaleIntercept="0"), SLOPE, text)
    with pytest.raises(UnreadableImage, match="abc" if text == "abc" else "expected a rescaling by numbers"):
        only(data)


def test_a_blank_rescaling_is_none():
    data = with_text(dicom(H16, RescaleSlope="1", RescaleIntercept="0"), SLOPE, "")
    assert np.abs(only(data) - levels(H16)).max() <= ROUNDED


# --- the shape of pixels

EVERY_OTHER = {
    "rows": (H16[::2], [2, 1]),
    "columns": (np.ascontiguousarray(H16[:, ::2]), [1, 2]),
}


@pytest.mark.parametrize("which", EVERY_OTHER)
@pytest.mark.parametrize(
    "keyword", ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"]
)
def test_pixels_become_square(which, keyword):
    stored, edges = EVERY_OTHER[which]
    assert correlation(only(dicom(stored, **{keyword: edges})), H16) >= 0.99
    in_mm = {"PixelSpacing": [each * 0.47 for each in edges], "PixelAspectRatio": [1, 1]}
    assert correlation(only(dicom(stored, **in_mm)), H16) >= 0.99


def test_pixels_of_an_enhanced_file_and_of_colours_become_square():
    measures = attributes(PixelMeasuresSequence=[attributes(PixelSpacing=[2, 1])])
    frames = np.stack([H16[::2], H16[::-2]])
    data = dicom(H16[::2], frames.tobytes(), NumberOfFrames=2, SharedFunctionalGroupsSequence=[measures])
    for scan, expected in zip(read_scans("x", data, "all"), (H16, H16[::-1]), strict=True):
        assert correlation(scan.pixels, expected) >= 0.99
    colours = np.dstack([(H16[::2] // 8).astype(np.uint8)] * 3)
    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "PixelSpacing": [2, 1]}
    assert correlation(only(dicom(colours, **rgb)), H16) >= 0.99


@pytest.mark.parametrize(
    "edges", [["0", "1"], ["-1", "1"], ["NaN", "1"], ["inf", "1"], ["1"], ["0.5", "0.5"], ["1", "1.001"]]
)
def test_senseless_or_square_pixels_change_nothing(edges):
    assert np.abs(only(dicom(H16, PixelSpacing=edges)) - levels(H16)).max() <= ROUNDED


def test_pixels_that_are_those_of_no_head_are_refused():
    assert "20 : 1" in refusal(dicom(H16, PixelSpacing=[1, 50]))
    assert "100,000,000 pixels" in refusal(dicom(H16, PixelSpacing=["1e-9", "1e9"]))
    assert "9,000 pixels" in refusal(dicom(H16, PixelSpacing=[2, 1]), max_pixels=9_000)
    flat = nifti(H16[..., None], np.diag([1, 50, 1, 1]))
    assert "20 : 1" in refusal(flat)


# --- the orientation of NIfTI

SEEN = np.clip((H16 - 0.0) / np.percentile(H16, 99.9) * 255, 0, 255)  # 0.1 % of the voxels saturate at either end
VOLUME = np.stack([H16.T[::-1, ::-1]] * 3, axis=2)  # x to the right, y to anterior: shown as the head
SFORM, QFORM, CODES = slice(280, 328), slice(256, 280), slice(252, 256)
BROKEN = {
    "zero": np.zeros(12),
    "NaN": np.full(12, np.nan),
    "inf": [np.inf, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
    "flat": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    "one axis twice": [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
}


def with_sform(volume: np.ndarray, sform, qform_code: int) -> bytes:
    """sform_code 1 with that sform, beside a qform that is right."""
    image = Nifti1Image(volume, np.diag([-1.0, 1, 1, 1]))
    image.set_qform(np.diag([-1.0, 1, 1, 1]), 1)
    data = bytearray(image.to_bytes())
    data[SFORM] = struct.pack("<12f", *sform)
    data[CODES] = struct.pack("<2h", qform_code, 1)
    return bytes(data)


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_sform_gives_way_to_the_qform(how):
    data = with_sform(VOLUME[::-1], BROKEN[how], 1)  # x runs to the left: only the qform says so
    for scan in read_scans("x.nii", data, "all"):
        assert np.abs(scan.pixels - SEEN).max() <= 1
    assert "orientation" in refusal(with_sform(VOLUME[::-1], BROKEN[how], 0), "x.nii")


def test_without_any_orientation_the_edges_of_a_voxel_count():
    data = bytearray(nifti(VOLUME[::-1]))  # x runs to the left then, as in ANALYZE files and to nibabel
    data[CODES] = bytes(4)
    data[80:92] = struct.pack("<3f", 1, 2, 1)  # pixdim 1 to 3
    got = read_scans("x.nii", bytes(data), 1)[0].pixels
    assert got.shape == (192, 80)
    data[80:92] = struct.pack("<3f", 0, 0, 0)  # read as 1, as by other programs
    assert np.abs(read_scans("x.nii", bytes(data), 1)[0].pixels - SEEN).max() <= 1


@pytest.mark.parametrize("slope, intercept", [(0, 5), (np.nan, 5), (np.nan, np.nan)])
def test_a_blank_scaling_of_nifti_is_none(slope, intercept):
    data = bytearray(nifti(VOLUME))
    data[112:120] = struct.pack("<2f", slope, intercept)
    assert np.abs(read_scans("x.nii", bytes(data), 1)[0].pixels - SEEN).max() <= 1
