"""Run time and recall of the search for copies: 1,000 to 100,000 hashes, one in a hundred a planted copy.

    python benchmarks/hash_search.py [--scans data/raw] [--most 100000]

The hashes are random with the bit statistics of real ones: the mean of each bit and the correlation of each pair of
bits, measured on --scans (by default the data set of the last run, or simulated scans if there is none). A copy is a
hash in one of the eight orientations, at random, with 0 to audit.hash_distance bits changed. Crops are left out.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np  # noqa: E402
from scipy.special import ndtri  # noqa: E402

from brain_tumor.audit.hashing import BITS, hashes, nearest_pairs, neighbours, thumbnails  # noqa: E402
from brain_tumor.audit.views import ORIENTATIONS, oriented, view  # noqa: E402
from brain_tumor.imaging.decoding import decode  # noqa: E402
from brain_tumor.params import load_params  # noqa: E402
from brain_tumor.source.layout import list_images  # noqa: E402
from brain_tumor.source.phantoms.planting import draw_data_set  # noqa: E402


def real_hashes(scans: Path) -> np.ndarray:
    """(n, 256) bool, hashes of the distinct files in a folder."""
    contents = {(scans / image.path).read_bytes() for image in list_images(scans)}
    views = np.stack([view(decode(data)) for data in sorted(contents)])
    return np.unpackbits(hashes(thumbnails(views)), axis=1).astype(bool)


def like(sample: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
    """(n, 256) bool random bits with the means and about the correlations of a sample (Gaussian copula)."""
    share = sample.mean(axis=0).clip(0.002, 0.998)
    correlation = np.nan_to_num(np.corrcoef(sample.T + 1e-3 * random.standard_normal(sample.T.shape)))
    # Exact for bits with mean 0.5.
    values, vectors = np.linalg.eigh(np.sin(np.pi / 2 * correlation))
    root = (vectors * np.sqrt(values.clip(0))).astype(np.float32)
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    return random.standard_normal((n, BITS), np.float32) @ root.T < ndtri(share).astype(np.float32)


def turned(bits: np.ndarray, orientation: int) -> np.ndarray:
    """Hashes of the same pictures in another orientation, from (n, 256) bool: bits move, and some are inverted."""
    cells = np.arange(144).reshape(1, 12, 12)
    place = {pair: bit for bit, pair in enumerate(zip(*(c[0].tolist() for c in neighbours(cells)), strict=True))}
    pairs = list(zip(*(c[0].tolist() for c in neighbours(oriented(cells, orientation))), strict=True))
    inverted = np.array([pair not in place for pair in pairs])
    return bits[:, [place.get(pair, place.get(pair[::-1])) for pair in pairs]] ^ inverted


def measure(sample: np.ndarray, n: int, radius: int, most: int) -> tuple[float, float, int]:
    """Seconds and recall of one search, and the number of pairs found."""
    random = np.random.default_rng(n)
    bits = like(sample, n, random)
    rows = random.permutation(n)[: 2 * (n // 100)].reshape(2, -1)
    for source, copy in rows.T:
        bits[copy] = bits[source]
        bits[copy, random.choice(BITS, int(random.integers(radius + 1)), replace=False)] ^= True
    for orientation in range(len(ORIENTATIONS)):
        chosen = rows[1][random.integers(0, 8, rows.shape[1]) == orientation]
        bits[chosen] = turned(bits[chosen], orientation)
    start = time.perf_counter()
    variants = (np.packbits(turned(bits, orientation), axis=1) for orientation in range(len(ORIENTATIONS)))
    a, b, _, _ = nearest_pairs(np.packbits(bits, axis=1), variants, radius, most)
    seconds = time.perf_counter() - start
    found = set(zip(np.minimum(a, b).tolist(), np.maximum(a, b).tolist(), strict=True))
    planted = list(zip(rows.min(axis=0).tolist(), rows.max(axis=0).tolist(), strict=True))
    return seconds, sum(pair in found for pair in planted) / len(planted), len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=Path, default=ROOT / "data" / "raw", help="data set for the bit statistics")
    parser.add_argument("--most", type=int, default=100_000, help="largest number of hashes")
    arguments = parser.parse_args()
    options = load_params(ROOT / "params.yaml").audit
    with tempfile.TemporaryDirectory() as folder:
        scans = arguments.scans
        if not scans.is_dir():
            scans = Path(folder)
            truthful = {"test_share": 0.0, "copies": 0.0, "wrong_labels": 0.0}
            draw_data_set(scans, patients=40, slices=6, image_size=128, seed=0, **truthful)
        sample = real_hashes(scans)
    print(f"bit statistics of {len(sample)} scans; copies up to {options.hash_distance} of {BITS} bits")
    print(f"{'hashes':>8} {'seconds':>8} {'times':>6} {'recall':>7} {'pairs':>9} {'peak GiB':>9}")
    before = None
    for n in (1000, 3162, 10_000, 31_623, 100_000):
        if n <= arguments.most:
            # In a new process, so that its peak memory is measured alone.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, recall, pairs = pool.apply(measure, (sample, n, options.hash_distance, options.candidates))
                peak = pool.apply(peak_memory)
            growth = f"{seconds / before:.1f}" if before else ""
            print(f"{n:8,} {seconds:8.2f} {growth:>6} {recall:7.4f} {pairs:9,} {peak:9.2f}", flush=True)
            before = seconds


def peak_memory() -> float:
    """Largest resident set size of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "linux" else 1 << 30)


if __name__ == "__main__":
    main()
