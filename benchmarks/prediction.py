"""Speed and memory of prediction, and its parity with training, on the real scans and the committed classifier.

    python benchmarks/prediction.py --what cold throughput memory parity [--json FILE]

cold: time from the start of a new process to its printed answer, compared with Keras and TensorFlow.
throughput: files per second, decoding included, compared with LiteRT and Keras on the arrays of data/prepared. All of
    them answer from as many views of an image as params.yaml says.
memory: largest resident set size for 100 and for 10,000 files.
parity: compares preprocessing and probabilities with data/prepared and the Keras model; always on data/raw. The file
    has its weights in half precision.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the command `brain-tumor` does, before NumPy is imported

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
from rows import Row, run

from brain_tumor.exported.classifier_file import read_exported
from brain_tumor.serving.answers import File, stream
from brain_tumor.serving.classifier import DEFAULT, Classifier
from brain_tumor.tables.store import Store
from brain_tumor.workers import cores

SOURCE = Path(__file__).resolve().parents[1] / "src"
COMMAND = [sys.executable, "-m", "brain_tumor", "predict"]
WITH_KERAS = """
import sys, keras, numpy as np
from brain_tumor.imaging.preprocessing import Preprocessing, prepare
from brain_tumor.networks.saving import read_metadata
model = keras.saving.load_model(sys.argv[1], compile=False)
preprocessing = Preprocessing(**read_metadata(sys.argv[1])["preprocessing"])
pixels = prepare(open(sys.argv[2], "rb").read(), preprocessing).pixels
print(model.predict(pixels[None, ..., None], verbose=0))
"""
BATCH = 32


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(SOURCE), "TF_CPP_MIN_LOG_LEVEL": "3"}


def seconds(*command: object) -> float:
    """Run time of a process that must succeed, in seconds."""
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), env=environment(), check=True, capture_output=True)
    return time.perf_counter() - start


def cold(scans: list[Path], keras_file: Path) -> list[Row]:
    ours, theirs = [], []
    for scan in scans[:: len(scans) // 15][:15]:
        ours.append(seconds(*COMMAND, scan))
        theirs.append(seconds(sys.executable, "-c", WITH_KERAS, keras_file, scan))
    for name, times in (("brain-tumor predict", ours), ("Keras", theirs)):
        print(f"{name:<20} median {statistics.median(times):.3f} s, {min(times):.3f} to {max(times):.3f}")
    what, own = "one scan, from the start of the process to its answer", statistics.median(ours)
    other = statistics.median(theirs)
    return [Row(what, own, "s", "limit", 0.5, most=1), Row(what, own, "s", "the Keras model", other, most=1 / 8)]


def rate(work, images: int) -> float:
    start = time.perf_counter()
    work()
    return images / (time.perf_counter() - start)


def throughput(scans: list[Path], keras_file: Path) -> list[Row]:
    from ai_edge_litert.interpreter import Interpreter

    images = Store("data/prepared").images[: len(scans)][..., None]
    model = averaged(keras_file)
    classifier, network = Classifier.load(), read_exported(DEFAULT).network
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]

    def intra() -> None:
        runner = Interpreter(model_content=network, num_threads=cores()).get_signature_runner()
        for batch in batches:
            runner(pixels=batch)

    def parallel() -> None:
        def part(own: list[np.ndarray]) -> None:
            runner = Interpreter(model_content=network, num_threads=1).get_signature_runner()
            for batch in own:
                runner(pixels=batch)

        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(part, [batches[i :: cores()] for i in range(cores())]))

    def folder() -> None:
        for _ in stream(classifier, (File(str(path), path.read_bytes) for path in scans)):
            pass

    work = {
        "LiteRT, one interpreter on all cores": intra,
        "LiteRT, one interpreter a core": parallel,
        f"Keras predict(batch_size={BATCH})": lambda: model.predict(images, batch_size=BATCH, verbose=0),
        "files, decoding included": folder,
    }
    rates: dict[str, list[float]] = {name: [] for name in work}
    for name in itertools.chain.from_iterable([work] * 5):
        rates[name].append(rate(work[name], len(scans)))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        print(f"{name:<38} {medians[name]:6.1f} images/s, {min(values):.1f} to {max(values):.1f}")
    one, several, keras_rate, files = medians.values()
    what = f"answers to {len(scans):,} files, decoding included"
    return [
        Row(what, files, "images/s", "LiteRT alone, on arrays", max(one, several), least=0.85),
        Row(what, files, "images/s", f"Keras predict(batch_size={BATCH}), on arrays", keras_rate, least=1),
    ]


def memory(scans: list[Path], _: Path) -> list[Row]:
    measure = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)"
    measure += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    peaks = []
    for count in (100, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            for i, scan in zip(range(count), itertools.cycle(scans[:100]), strict=False):
                (Path(folder) / f"{i:05}.jpg").symlink_to(scan.resolve())
            command = [sys.executable, "-c", measure, *COMMAND, folder, "--json"]
            done = subprocess.run(command, env=environment(), check=True, capture_output=True, text=True)
        peaks.append(float(done.stdout))
    return [Row("largest memory for 10,000 files", peaks[1], "MiB", "for 100 files", peaks[0], most=1.1)]


def averaged(keras_file: Path):
    """The Keras model, over as many views of an image as the exported file answers from."""
    from brain_tumor.networks.saving import load_model
    from brain_tumor.params import load_params
    from brain_tumor.prediction.maps import explained

    return explained(load_model(keras_file)[0], load_params("params.yaml").predict.flips)


def parity(scans: list[Path], keras_file: Path) -> list[Row]:
    store, classifier = Store("data/prepared"), Classifier.load()
    files = (File(path, (Path("data/raw") / path).read_bytes) for path in store.index["path"])
    same, ours = 0, []
    for pixels, answer in zip(store.images, stream(classifier, files), strict=True):
        same += np.array_equal(pixels, answer.prediction.pixels)
        ours.append(list(answer.prediction.probabilities.values()))
    theirs = averaged(keras_file).predict(store.images[..., None], batch_size=BATCH, verbose=0)["probabilities"]
    largest = np.abs(np.array(ours) - theirs).max()
    called = np.mean(np.argmax(ours, axis=1) == theirs.argmax(axis=1))
    what = f"{len(ours):,} scans"
    return [
        Row(f"{what}, prepared to the same bytes as in training", same, "", "all", len(ours), least=1),
        Row(f"largest difference of a probability from the Keras model, {what}", largest, "", "limit", 0.01, most=1),
        Row(f"{what}, called the same as by the Keras model", called, "", "all", 1, least=0.999),
    ]


def measure(arguments: argparse.Namespace) -> list[Row]:
    scans = sorted(arguments.scans.rglob("*.jpg"))[:1024]
    return [row for what in arguments.what for row in globals()[what](scans, arguments.keras)]


if __name__ == "__main__":
    sys.exit(
        run(
            __doc__,
            measure,
            what={"nargs": "+", "required": True, "choices": ["cold", "throughput", "memory", "parity"]},
            scans={"type": Path, "default": Path("data/raw")},
            keras={"type": Path, "default": Path("data/served/model.keras")},
        )
    )
