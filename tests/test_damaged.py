"""Damaged files of every format, in a process of its own: no crash, no hang, no traceback, one line for each.

`LONG=1 pytest --timeout 1500 tests/test_damaged.py` tries 500 files of each format instead of some dozens.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from nibabel import Nifti2Image
from pydicom import uid
from scan_files import H16, RGBA, dicom, encoded, nifti, png, tiff, tiff_page

MODEL = Path(__file__).parent / "golden" / "classifier-2.tflite"
FILES = 500 if os.environ.get("LONG") else 25
SECONDS = 2.0  # of the processor for one file, which takes some milliseconds

H8, DEEP = np.rint(H16 / 1920 * 255).astype(np.uint8), H16.astype(np.uint16)
FRAMES = {"NumberOfFrames": 3, "WindowCenter": 900, "WindowWidth": 1800, "PixelSpacing": [1, 1], "PixelPaddingValue": 0}
WHOLE = {
    "dicom": dicom(H16, np.stack([H16] * 3).tobytes(), **FRAMES),
    "rle.dcm": dicom(H16, syntax=uid.RLELossless, PixelPaddingValue=-5),
    "headless.dcm": dicom(H16, signed=False),
    "nifti": nifti(np.stack([H16.T] * 5, axis=2)),
    "nifti2": nifti(np.stack([H16.T] * 5, axis=2), cls=Nifti2Image),
    "nifti.gz": nifti(np.stack([H16.T] * 5, axis=2), packed=True),
    "tiff": tiff(tiff_page(DEEP, 0), tiff_page(H8, deflate=True), tiff_page(DEEP, tile=16)),
    "bigtiff": tiff(tiff_page(np.dstack([H8] * 4), 2, extra=[2]), order=">", big=True),
    "png": encoded(DEEP, ".png"),
    "alpha.png": png(np.dstack([H8] * 4), RGBA),
    "jpeg": encoded(H8, ".jpg"),
    "bmp": encoded(H8, ".bmp"),
    "webp": encoded(np.dstack([H8] * 4), ".webp"),
    "pgm": encoded(DEEP, ".pgm"),
}

# Reads each file through all that a user's file passes, and tells how it went before it starts with the next.
PROGRAM = """
import json, sys, time
from pathlib import Path
import numpy as np
from brain_tumor import Classifier
from brain_tumor.serving.answers import File, answer
from brain_tumor.serving.command.lines import Lines
model, folder, wanted = sys.argv[1:]
classifier = Classifier.load(model)
answer(classifier, [File("whole.dcm", sys.stdin.buffer.read)], wanted=wanted)  # the import of the readers is no hang
for path in sorted(Path(folder).iterdir()):
    data = path.read_bytes()
    print(path.name, end=" ", flush=True)
    start = time.process_time()
    found = answer(classifier, [File(path.name, lambda: data)], wanted=wanted)
    seconds = time.process_time() - start
    lines = Lines(classifier.metadata.classes, [path.name], coloured=False)
    print(json.dumps([seconds, [each.error for each in found], [lines.line(each) for each in found]]), flush=True)
"""


def damaged(whole: bytes, number: int) -> bytes:
    """By the number: cut, bits flipped, or a number of 2 or 4 bytes changed; mostly where the header is."""
    random = np.random.default_rng(number)
    data = bytearray(whole)
    place = int(random.integers(len(data) if random.random() < 0.4 else min(len(data), 700)))
    if number % 5 == 0:
        return bytes(data[:place])
    if number % 5 == 1:  # bytes lost or twice
        return bytes(data[:place] + data[place + int(random.integers(-20, 20)) :])
    if number % 5 == 2:  # a length, an offset or a size
        width = int(random.choice([2, 4, 8]))
        value = int(random.choice([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, int(random.integers(2**32))]))
        data[place : place + width] = (value % 2 ** (8 * width)).to_bytes(width, str(random.choice(["little", "big"])))
        return bytes(data)
    for _ in range(int(random.integers(1, 9))):
        spot = int(random.integers(len(data) if random.random() < 0.4 else min(len(data), 700)))
        data[spot] ^= 1 << int(random.integers(8))
    return bytes(data)


@pytest.mark.parametrize("kind", WHOLE)
def test_damaged_files_are_read_or_refused(kind, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:03}.{kind}").write_bytes(damaged(WHOLE[kind], number))
    command = [sys.executable, "-X", "faulthandler", "-c", PROGRAM, MODEL, folder, "all"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OPENBLAS_NUM_THREADS": "1"}
    limit = 120 + FILES * SECONDS  # a file that waits instead of computing
    done = subprocess.run(command, env=environment, input=WHOLE[kind], capture_output=True, timeout=limit)
    lines, errors = done.stdout.decode().splitlines(), done.stderr.decode(errors="replace")
    assert done.returncode == 0 and "Traceback" not in errors, f"{lines[-1:]}\n{errors[-2000:]}"
    results = {line.split(" ", 1)[0]: json.loads(line.split(" ", 1)[1]) for line in lines}
    assert len(results) == FILES
    assert {name: seconds for name, (seconds, _, _) in results.items() if seconds > SECONDS} == {}
    errors = [error for _, texts, _ in results.values() for error in texts if error]
    assert errors and all(error.isprintable() and len(error) < 400 for error in errors)
    assert all(line.isprintable() for _, _, lines in results.values() for line in lines)
