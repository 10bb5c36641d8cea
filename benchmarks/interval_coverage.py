"""Coverage of the 95 % intervals on simulated patients, by a bootstrap over groups and one over images.

    python benchmarks/interval_coverage.py [--repetitions 2000]

A simulation draws 200 patients of three classes with 1 to 25 images each. The images of a patient are correlated: the
probability of a correct prediction is drawn per patient, from a Beta distribution. The true score is the one over
100,000 such patients. Exit code 1 if the coverage over groups is not within 93 % to 97 %.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np

from brain_tumor.metrics.bootstrap import RESAMPLES, confusion_scores, interval
from brain_tumor.progress import bar

PATIENTS, CLASSES = 200, 3


def simulated(patients: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Actual class, predicted class and group of each image: three (n,) int."""
    groups = np.repeat(np.arange(patients), rng.integers(1, 26, patients))
    actual = rng.integers(0, CLASSES, patients)[groups]
    right = rng.random(len(groups)) < rng.beta(1.8, 0.3, patients)[groups]
    wrong = (actual + rng.integers(1, CLASSES, len(groups))) % CLASSES
    return actual, np.where(right, actual, wrong), groups


def simulated_coverage(repetitions: int, resamples: int = RESAMPLES) -> dict[str, dict[str, float]]:
    """Share of simulations whose interval contains the true score: "groups" or "images" -> score -> share."""
    rng = np.random.default_rng(0)
    matrix = np.zeros((CLASSES, CLASSES))
    actual, predicted, _ = simulated(100_000, rng)
    np.add.at(matrix, (actual, predicted), 1)
    truth = confusion_scores(matrix)
    held = {unit: dict.fromkeys(truth, 0) for unit in ("groups", "images")}
    for _ in bar(range(repetitions), desc="coverage", unit="simulation"):
        actual, predicted, groups = simulated(PATIENTS, rng)
        for unit, units in (("groups", groups), ("images", np.arange(len(groups)))):
            for score, (low, high) in interval(actual, predicted, units, CLASSES, resamples).items():
                held[unit][score] += low <= truth[score] <= high
    return {unit: {score: count / repetitions for score, count in counts.items()} for unit, counts in held.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    found = simulated_coverage(parser.parse_args().repetitions)
    print(f"{'score':<18}  {'over groups':>11}  {'over images':>11}")
    for score in found["groups"]:
        print(f"{score:<18}  {found['groups'][score]:>11.3f}  {found['images'][score]:>11.3f}")
    return 0 if all(0.93 <= share <= 0.97 for share in found["groups"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
