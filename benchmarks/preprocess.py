"""Preprocessing against decoding alone: images a second, in turn.

    python benchmarks/preprocess.py [--rounds 5] [--json FILE]

Needs data/raw. Ours is what stage `preprocess` does with the main source: read, check, hash, decode, crop, stretch,
resize, write the store. The rival reads the same files and decodes them to grey by `cv2.imdecode`, on all cores.
"""

import argparse
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from rows import Row, run  # noqa: E402

from brain_tumor.imaging.preprocessing import Preprocessing  # noqa: E402
from brain_tumor.params import load_params  # noqa: E402
from brain_tumor.prepare.preparing import prepare_images  # noqa: E402
from brain_tumor.prepare.sources import source_images  # noqa: E402
from brain_tumor.workers import cores  # noqa: E402


def measure(arguments: argparse.Namespace) -> list[Row]:
    params, raw = load_params(ROOT / "params.yaml"), ROOT / "data" / "raw"
    options, main = params.preprocess, params.data.main
    preprocessing = Preprocessing(size=options.image_size, crop=options.crop, clip=options.clip)
    images = source_images(raw, main, params.data.sources[main].labels, None)

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=ROOT) as folder:
            prepare_images(raw, images, Path(folder, "store"), preprocessing, options.max_rejected)

    def decode(part: list) -> None:
        for image in part:
            cv2.imdecode(np.frombuffer((raw / image.path).read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)

    def decoding() -> None:
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(decode, (images[i : i + 32] for i in range(0, len(images), 32))))

    rates = {ours: [], decoding: []}
    for work in (decoding, *(ours, decoding) * arguments.rounds):
        start = time.perf_counter()
        work()
        rates[work].append(len(images) / (time.perf_counter() - start))
    own, other = statistics.median(rates[ours]), statistics.median(rates[decoding][1:])
    what = f"preprocessing of the {len(images):,} images of {main}"
    return [Row(what, own, "images/s", "cv2.imdecode on all cores", other, least=0.8)]


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, rounds={"type": int, "default": 5}))
