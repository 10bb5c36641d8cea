"""What is fuzzed: for each parser valid files to begin with, and a function of bytes that lets documented errors pass.

Whatever else such a function raises is a finding.
"""

import asyncio
import io
import json
import logging
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import mutators
import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = GOLDEN / "classifier-2.tflite"
MAX_PIXELS = 1_000_000  # in all slices of a file, where the caller sets the limit


@dataclass(frozen=True)
class Target:
    """Attributes:
    prepare: imports the parser and returns the function that is fuzzed.
    seeds: valid inputs.
    mutate: (bytes, random generator) -> other bytes that are whole again, such as with the right checksums.
    modules: those whose branches guide the search.
    """

    prepare: Callable[[], Callable[[bytes], None]]
    seeds: Callable[[], list[bytes]]
    mutate: Callable[[bytes, Random, mutators.Change], bytes]
    modules: tuple[str, ...] = ("brain_tumor",)


@contextmanager
def _file_of(data: bytes, suffix: str) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(data)
        file.flush()
        yield Path(file.name)


def _refused(error: Exception) -> None:
    """A refusal is one line that a terminal can show."""
    text = str(error)
    assert text and text.isprintable() and len(text) <= 1000, f"the refusal is not one line: {text!r}"


# --- archives


def _archive() -> Callable[[bytes], None]:
    from brain_tumor.errors import PipelineError
    from brain_tumor.source.archive import unpack

    def run(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in", "set.zip"), Path(folder, "out", "target")
            source.parent.mkdir()
            target.mkdir(parents=True)
            source.write_bytes(data)
            try:
                unpack(source, target, max_bytes=1_000_000, max_files=100, max_ratio=50)
            except PipelineError as error:
                _refused(error)
            # Nothing beside the target, no links, and no more than was allowed.
            assert [path.name for path in Path(folder).iterdir()] in (["in", "out"], ["out", "in"])
            assert [path.name for path in target.parent.iterdir()] == ["target"]
            found = list(target.rglob("*"))
            assert not any(path.is_symlink() for path in found)
            assert sum(path.stat().st_size for path in found if path.is_file()) <= 1_000_000

    return run


def _zips() -> list[bytes]:
    content = {"set/a/1.jpg": b"one", "set/b/2.png": b"two" * 50, "set/readme.txt": b"", "set/.hidden": b"x"}
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in content.items():
                with archive.open(zipfile.ZipInfo(name), "w", force_zip64=method == zipfile.ZIP_STORED) as member:
                    member.write(data)
            archive.comment = b"made here"
        made.append(buffer.getvalue())
    return made


# --- text: manifests, tables that people write, tables of stages, params.yaml


def _text() -> Callable[[bytes], None]:
    import pandas as pd

    from brain_tumor.errors import PipelineError
    from brain_tumor.own_tables.patients import known_patients
    from brain_tumor.own_tables.reading import read_own_table
    from brain_tumor.params import load_params
    from brain_tumor.source import manifest
    from brain_tumor.tables.csv_tables import read_table

    paths = pd.Series(["main/a/1.png", "main/a/2.png", "second/b/1.png"])

    def patients(path: Path) -> None:
        known_patients(paths, read_own_table(path, ["path", "patient"]), None, "main")

    def run(data: bytes) -> None:
        with _file_of(data, ".txt") as path:
            for read in (manifest.read, patients, read_table, load_params):
                try:
                    read(path)
                except PipelineError as error:
                    _refused(error)

    return run


def _texts() -> list[bytes]:
    yaml = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")
    lines = [line.partition(" #")[0].rstrip() for line in yaml.splitlines()]
    return [
        f"{'0a' * 32}  a/1.png\n{'f1' * 32} *b c/2.png\n".encode(),
        'path,patient\nmain/a/1.png,p1\nmain/a/2.png,"p,2"\n\nsecond/b/1.png,Zoë\n'.encode(),
        "\ufeffpath,patient,note\r\nmain/a/1.png,007,x\r\n".encode(),
        b"path,fold,role,score\nmain/a/1.png,0,test,0.5\nmain/a/2.png,1,,nan\n",
        "\n".join(line for line in lines if line and not line.lstrip().startswith("#")).encode(),
        b"data: &a {main: x, sources: {x: {dataset: 'o/n', labels: {a: [b, c]}}}}\nrun: *a\n",
    ]


# --- the exported classifier


def _exported() -> Callable[[bytes], None]:
    from brain_tumor.errors import PipelineError
    from brain_tumor.exported.classifier_file import read_exported
    from brain_tumor.serving.classifier import Classifier

    blank, network = np.zeros((40, 30), np.uint8), read_exported(MODEL).network

    def run(data: bytes) -> None:
        with _file_of(data, ".tflite") as path:
            try:
                exported = read_exported(path)
                # LiteRT trusts a network as a shell trusts a program, so only this one is run: what counts is that
                # whatever else is accepted can be predicted with.
                if exported.network == network:
                    Classifier(exported).predict(blank)
            except PipelineError as error:
                _refused(error)

    return run


# --- readers of scans


def _scans(name: str) -> Callable[[], Callable[[bytes], None]]:
    def prepare() -> Callable[[bytes], None]:
        from brain_tumor.imaging.unreadable import UnreadableImage
        from brain_tumor.serving.readers.formats import read_scans

        def run(data: bytes) -> None:
            for wanted in ("middle", "all"):
                try:
                    found = read_scans(name, data, wanted, MAX_PIXELS)
                except UnreadableImage as error:
                    _refused(error)
                else:
                    assert found and all(scan.pixels.dtype == np.uint8 and scan.pixels.ndim == 2 for scan in found)
                    assert sum(scan.pixels.size for scan in found) <= MAX_PIXELS

        return run

    return prepare


def _small() -> tuple[np.ndarray, np.ndarray]:
    from scan_files import H16

    small = H16[::8, ::8].copy()
    return small, (small // 8).astype(np.uint8)


def _dicoms() -> list[bytes]:
    from pydicom import uid
    from scan_files import attributes, dicom

    small, grey = _small()
    window = {"WindowCenter": 900, "WindowWidth": 1800, "PixelSpacing": [1, 2], "PixelPaddingValue": 0}
    series = {"SeriesInstanceUID": "1.2", "ImagePositionPatient": [0, 1, 2], "InstanceNumber": 3}
    series |= {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    table = attributes(LUTDescriptor=[4, 0, 8], LUTData=bytes([0, 9, 99, 255]))
    tables = {f"{c}PaletteColorLookupTableData": bytes(range(256)) for c in ("Red", "Green", "Blue")}
    tables |= {f"{c}PaletteColorLookupTableDescriptor": [256, 0, 8] for c in ("Red", "Green", "Blue")}
    shared = attributes(PixelMeasuresSequence=[attributes(PixelSpacing=[1, 1])])
    frames = {"NumberOfFrames": 3, "SharedFunctionalGroupsSequence": [shared]}
    rgb = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}
    return [
        dicom(small, **window, **series),
        dicom(small, np.stack([small] * 3).tobytes(), syntax=uid.ImplicitVRLittleEndian, **frames),
        dicom(small, syntax=uid.ExplicitVRBigEndian, RescaleSlope="2", RescaleIntercept="-5"),
        dicom(small, syntax=uid.RLELossless),
        dicom(small, signed=False),
        dicom(grey, PhotometricInterpretation="PALETTE COLOR", **tables),
        dicom(np.dstack([grey] * 3), **rgb),
        dicom(grey, PhotometricInterpretation="MONOCHROME1", VOILUTSequence=[table]),
    ]


def _niftis() -> list[bytes]:
    from nibabel import Nifti2Image
    from scan_files import nifti

    volume = np.stack([_small()[0].T] * 4, axis=2)
    turned = np.array([[0, 2, 0, 1], [-1, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])
    plain = [
        nifti(volume),
        nifti(volume.astype(">f4"), turned),
        nifti(volume, cls=Nifti2Image),
        nifti(volume.astype(np.uint8)[..., None]),
    ]
    return [*plain, nifti(volume, turned, packed=True)]


def _pictures() -> list[bytes]:
    from scan_files import GREY, PALETTE, RGB, RGBA, encoded, png, tiff, tiff_page

    small, grey = _small()
    deep = small.astype(np.uint16)
    colours, seen = np.dstack([grey] * 3), np.dstack([grey] * 4)
    palette = b"PLTE" + bytes(range(256)) * 3
    moving = b"acTL" + (2).to_bytes(4, "big") + bytes(4)
    return [
        *(encoded(grey, suffix) for suffix in (".jpg", ".png", ".bmp", ".webp", ".pgm")),
        *(encoded(seen, suffix) for suffix in (".png", ".webp", ".gif")),
        png(grey, GREY, chunks=(b"tRNS\0\7",)),
        png(grey, PALETTE, chunks=(palette, b"tRNS" + bytes(3))),
        png(colours, RGB, 16, chunks=(b"tRNS" + bytes(6), moving)),
        png(seen, RGBA),
        tiff(tiff_page(deep, 0), tiff_page(grey, deflate=True), tiff_page(deep, tile=16)),
        tiff(tiff_page(seen, 2, extra=[2], orientation=6), order=">", big=True),
        tiff(tiff_page(grey, 3, palette=list(range(768))), tiff_page(grey // 32, subfile=1)),
    ]


# --- uploads: the address, the Content-Type and the body of a request, two lines and the rest


def _upload() -> Callable[[bytes], None]:
    from brain_tumor.serving.classifier import Classifier
    from brain_tumor.serving.server import Limits, make_app

    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    app = make_app(Classifier.load(MODEL), Limits(bytes=20_000, files=4, pixels=MAX_PIXELS))
    loop, ready = asyncio.new_event_loop(), asyncio.Event()

    async def start() -> None:
        events = [{"type": "lifespan.startup"}]

        async def receive() -> dict:
            return events.pop() if events else await asyncio.Future()

        async def send(_: dict) -> None:
            ready.set()

        await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)

    serving = loop.create_task(start())
    loop.run_until_complete(ready.wait())

    def run(data: bytes) -> None:
        assert not serving.done()
        address, _, rest = data.partition(b"\n")
        kind, _, body = rest.partition(b"\n")
        path, _, query = address.partition(b"?")
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
        scope |= {"path": path.decode("latin-1") or "/", "raw_path": path, "query_string": query, "root_path": ""}
        scope |= {"headers": [(b"host", b"localhost"), (b"content-type", kind)]}
        scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000)}
        step = 1 + len(body) // 3
        parts = [body[start : start + step] for start in range(0, len(body), step)] or [b""]
        events = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        events[-1]["more_body"] = False
        sent = []

        async def receive() -> dict:
            return events.pop(0) if events else {"type": "http.disconnect"}

        async def send(event: dict) -> None:
            sent.append(event)

        loop.run_until_complete(app(scope, receive, send))
        status = sent[0]["status"]
        told = b"".join(event.get("body", b"") for event in sent)
        assert status in (200, 400, 404, 405, 413, 415, 422), (status, told)
        # Only the web page and what belongs to it is no JSON; a POST never gets it.
        found = json.loads(told) if told else {"status": status}
        assert status == 200 or found["status"] == status, found

    return run


def _uploads() -> list[bytes]:
    from scan_files import encoded

    scan = encoded(_small()[1], ".png")

    def form(*parts: bytes, address: bytes = b"/v1/predict", kind: bytes = b"multipart/form-data; boundary=b") -> bytes:
        body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
        return address + b"\n" + kind + b"\n" + body + b"--b--\r\n"

    part = b'Content-Disposition: form-data; name="files"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + scan
    field = b'Content-Disposition: form-data; name="x"\r\n\r\n1'
    odd = b"Content-Disposition: form-data; name=files; filename*=UTF-8''%e2%82%ac.png\r\n\r\n" + scan[:60]
    quoted = b'multipart/form-data; charset="latin-1"; boundary="b"'
    return [
        form(part),
        form(part, part, address=b"/v1/predict?explain=true&slice=0"),
        form(field, odd, kind=quoted),
        form(odd, address=b"/v1/predict?slice=all"),
        b"/v1/model\napplication/json\n{}",
    ]


# --- pre-trained weights in PyTorch's former format


def _weights() -> Callable[[bytes], None]:
    from brain_tumor.errors import PipelineError
    from brain_tumor.networks.torch_file import read_torch_file

    def run(data: bytes) -> None:
        with _file_of(data, ".pth") as path:
            try:
                found = read_torch_file(path)
            except PipelineError as error:
                _refused(error)
            else:
                assert all(isinstance(value, np.ndarray) for value in found.values())

    return run


def _state_dictionaries() -> list[bytes]:
    values, counts = np.arange(12, dtype="<f4"), np.array([3, -4], "<i8")

    def text(value: str) -> bytes:
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    def tensor(kind: str, key: str, size: int, view: bytes) -> bytes:
        place = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + b"K%cNtQ" % size
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + place + view + b"\x89ccollections\nOrderedDict\n)RtR"

    weights = tensor("FloatStorage", "0", 12, b"K\2(K\2K\5tq\1(K\5K\1t")
    number = tensor("LongStorage", "1", 2, b"K\0K\1\x85q\2h\2")
    state = b"ccollections\nOrderedDict\n)R(" + text("a") + weights + text("b") + number + b"u}" + text("m") + b"Nsb"
    magic, version = b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little"), b"M\xe9\3"
    system = b"}(" + text("protocol_version") + b"M\xe9\3" + text("little_endian") + b"\x88u"
    parts = (magic, version, system, state, b"](" + text("0") + text("1") + b"e")
    stored = b"".join(len(a).to_bytes(8, "little") + a.tobytes() for a in (values, counts))
    return [b"".join(b"\x80\2" + part + b"." for part in parts) + stored]


TARGETS = {
    "archive": Target(_archive, _zips, mutators.zip_file, ("brain_tumor", "zipfile")),
    "text": Target(_text, _texts, mutators.text),
    "exported": Target(_exported, lambda: [MODEL.read_bytes()], mutators.exported, ("brain_tumor", "zipfile")),
    "dicom": Target(_scans("a.dcm"), _dicoms, mutators.dicom, ("brain_tumor", "pydicom")),
    "nifti": Target(_scans("a.nii"), _niftis, mutators.packed, ("brain_tumor", "nibabel", "gzip")),
    "picture": Target(_scans("a"), _pictures, mutators.picture),
    "upload": Target(_upload, _uploads, mutators.text, ("brain_tumor", "python_multipart", "starlette.formparsers")),
    "weights": Target(_weights, _state_dictionaries, mutators.pickles),
}
