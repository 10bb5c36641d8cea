"""A second data set of simulated patients: another contrast, coarser labels, and copies of the first set."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from brain_tumor.errors import PipelineError
from brain_tumor.progress import bar
from brain_tumor.source.phantoms.planting import (
    PhantomImage,
    copied_image,
    jpeg,
    plan_images,
    with_box,
    write_truth,
)
from brain_tumor.source.phantoms.scanner import draw_scan

# Grey level of the first set -> of this one: fluid is bright, white matter darker than grey matter, as in T2 weighting.
_CONTRAST = np.interp(
    np.arange(256), [0, 22, 40, 84, 105, 140, 175, 204, 255], [0, 12, 230, 90, 165, 110, 190, 140, 200]
).astype(np.uint8)
_SHARE = 0.25  # patients, relative to the first set
_COPIES = 0.3  # of the images


def draw_second_set(
    root: Path, *, patients: int, slices: int, image_size: int, seed: int, **first: float | int
) -> None:
    """Write `<root>/<yes|no>/<name>`: scans with and without a tumour, whose type is not told, and `<root>/truth.csv`.

    The patients are others than those of the first set, with numbers of their own. Beside them stand copies of images
    of the first set, Testing included: identical, mirrored or rotated, or re-compressed, a third each. In truth.csv,
    see `planting.draw_data_set`, `copy_of` is a path of the first set and `true_label` the class that was drawn.

    Args:
        root: existing, empty folder.
        patients, slices, image_size, seed, first: those of the first set, see `planting.draw_data_set`.

    Raises:
        PipelineError: the folder is not empty.
    """
    if any(root.iterdir()):
        raise PipelineError(f"expected an empty folder for the phantoms, found files in {root}: empty it")
    original, _ = plan_images(patients=patients, slices=slices, rng=np.random.default_rng([seed, 0]), **first)
    rng = np.random.default_rng([seed + 1, 0])
    number = max(2, round(patients * _SHARE))
    drawn, _ = plan_images(patients=number, slices=max(1, slices // 2), test_share=0, copies=0, wrong_labels=0, rng=rng)
    rows: dict[str, PhantomImage] = {}

    def draw(image: PhantomImage, seed: int) -> tuple[np.ndarray, PhantomImage]:
        place = {"plane": image.plane, "patient": int(image.patient[1:]), "index": image.slice}
        pixels, mask = draw_scan(image.true_label, **place, size=image_size, seed=seed)
        return pixels, with_box(image, mask)

    def write(image: PhantomImage, name: str, content: bytes) -> None:
        folder = "no" if image.true_label == "no_tumor" else "yes"
        image = replace(image, path=f"{folder}/{name}.jpg", folder_label=folder, wrong_label=0)
        (root / folder).mkdir(exist_ok=True)
        (root / image.path).write_bytes(content)
        rows[image.path] = image

    for image in bar(drawn, desc="draw", unit="image"):
        pixels, image = draw(image, seed + 1)
        # Smoothed first: the steep parts of the curve would make speckles of the noise.
        write(image, f"{image.patient}_s{image.slice:02d}", jpeg(_CONTRAST[cv2.blur(pixels, (3, 3))]))
    count = min(max(3, round(len(drawn) * _COPIES / (1 - _COPIES))), len(original))
    for i, chosen in enumerate(rng.choice(len(original), count, replace=False)):
        pixels, image = draw(original[chosen], seed)
        kind = ("exact", "mirrored", "recompressed")[i % 3]
        content, image = copied_image(jpeg(pixels), replace(image, copy_of=image.path, transform=kind), rng)
        write(image, f"copy_{i + 1:04d}", content)
    write_truth(root, rows)
