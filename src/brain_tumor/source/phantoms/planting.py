"""A data set of simulated patients with planted copies and wrong labels, and its table of the ground truth."""

import csv
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np

from brain_tumor.errors import PipelineError
from brain_tumor.files import write_text
from brain_tumor.progress import bar
from brain_tumor.source.phantoms.patients import CLASSES
from brain_tumor.source.phantoms.scanner import PLANES, draw_scan

FOLDERS = ("Training", "Testing")
QUALITY = 92  # of the JPEGs other than re-compressed copies

_TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flip_left_right": np.fliplr,
    "flip_top_bottom": np.flipud,
    "rotate_90": lambda a: np.rot90(a, 1),
    "rotate_180": lambda a: np.rot90(a, 2),
    "rotate_270": lambda a: np.rot90(a, 3),
    "transpose": lambda a: a.T,
    "transverse": lambda a: np.rot90(a, 2).T,
}


@dataclass
class PhantomImage:
    """A row of truth.csv; the fields are its columns."""

    path: str
    true_label: str
    folder_label: str
    patient: str
    plane: str
    slice: int
    copy_of: str = ""
    transform: str = ""
    wrong_label: int = 0
    lesion_x: int | str = ""
    lesion_y: int | str = ""
    lesion_w: int | str = ""
    lesion_h: int | str = ""


def jpeg(image: np.ndarray, quality: int = QUALITY) -> bytes:
    """The greyscale JPEG file of an image, (height, width) uint8."""
    return cv2.imencode(".jpg", np.ascontiguousarray(image), (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()


def plan_images(
    *, patients: int, slices: int, test_share: float, copies: float, wrong_labels: float, rng: np.random.Generator
) -> tuple[list[PhantomImage], list[tuple[PhantomImage, PhantomImage]]]:
    """Decide every file before anything is drawn.

    Returns:
        The drawn images, and (copy, source) pairs; boxes, and how mirrored copies are turned, are decided later.
    """
    in_test = {}  # patient number (classes take turns) -> whether the patient goes to Testing
    for offset in range(len(CLASSES)):
        numbers = np.arange(patients) * len(CLASSES) + offset + 1
        count = min(max(round(patients * test_share), 1), patients - 1) if test_share else 0
        held_out = set(rng.choice(numbers, count, replace=False).tolist())
        in_test.update({number: number in held_out for number in numbers.tolist()})

    drawn = []
    for number in sorted(in_test):
        label, folder = CLASSES[(number - 1) % len(CLASSES)], FOLDERS[in_test[number]]
        for index in range(int(rng.integers(slices - slices // 2, slices + slices // 2, endpoint=True))):
            # The planes take turns: two slices of the same plane are three steps of the position apart.
            patient, plane = f"p{number:04d}", PLANES[(number + index) % len(PLANES)]
            drawn.append(
                PhantomImage(f"{folder}/{label}/{patient}_s{index:02d}.jpg", label, label, patient, plane, index)
            )

    kinds = ("exact", "mirrored", "recompressed")
    folders = FOLDERS if test_share else FOLDERS[:1]
    sources = [image for image in drawn if image.path.startswith(FOLDERS[0])]
    copied = []
    for number in range(round(copies * len(drawn))):
        source = sources[int(rng.integers(len(sources)))]
        kind, folder = kinds[number % len(kinds)], folders[number // len(kinds) % len(folders)]
        path = f"{folder}/{source.true_label}/copy_{number + 1:04d}.jpg"
        copied.append((replace(source, path=path, transform=kind), source))

    images = drawn + [copy for copy, _ in copied]
    for place in rng.choice(len(images), round(wrong_labels * len(images)), replace=False).tolist():
        image = images[place]
        image.folder_label = str(rng.choice([label for label in CLASSES if label != image.true_label]))
        image.wrong_label = 1
        folder, _, name = image.path.split("/")
        image.path = f"{folder}/{image.folder_label}/{name}"
    for copy, source in copied:
        copy.copy_of = source.path
    return drawn, copied


def copied_image(content: bytes, image: PhantomImage, rng: np.random.Generator) -> tuple[bytes, PhantomImage]:
    """Make the kind of copy that `image.transform` names, from a JPEG and the lesion box of its source."""
    if image.transform == "exact":
        return content, image
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image.transform == "recompressed":
        height, width = (round(edge * rng.uniform(0.90, 0.97)) for edge in pixels.shape)
        quality = int(rng.integers(40, 70))

        def change(a: np.ndarray) -> np.ndarray:
            return cv2.resize(a, (width, height), interpolation=cv2.INTER_AREA)
    else:
        name = str(rng.choice(sorted(_TURNS)))
        image, change, quality = replace(image, transform=name), _TURNS[name], QUALITY
    if image.lesion_x != "":
        region = np.zeros_like(pixels)
        region[image.lesion_y : image.lesion_y + image.lesion_h, image.lesion_x : image.lesion_x + image.lesion_w] = 255
        image = with_box(image, change(region) > 127)
    return jpeg(change(pixels), quality), image


def with_box(image: PhantomImage, mask: np.ndarray) -> PhantomImage:
    """The row with the bounding box of the mask, unless the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)).tolist(), np.flatnonzero(mask.any(axis=0)).tolist()
    if not rows:
        return image
    x, y = columns[0], rows[0]
    return replace(image, lesion_x=x, lesion_y=y, lesion_w=columns[-1] - x + 1, lesion_h=rows[-1] - y + 1)


def draw_data_set(
    root: Path,
    *,
    patients: int,
    slices: int,
    image_size: int,
    test_share: float,
    copies: float,
    wrong_labels: float,
    seed: int,
) -> None:
    """Write an image-folder data set of simulated patients, and its ground truth.

    Files are greyscale JPEGs `<root>/<Training|Testing>/<class>/<name>`. Drawn images are named
    `p<patient>_s<slice>.jpg`, planted copies `copy_<number>.jpg`. All drawn images of a patient are in the same
    folder. Copies are made of Training images; half of them are in Testing, if there is such a folder. They are exact,
    mirrored or rotated, or re-compressed, a third each. Drawn images and copies can have a wrong label, so the copies
    of an image can contradict each other. The same arguments give the same bytes.

    `<root>/truth.csv` has a row per image, sorted by path:

        path          relative to the root
        true_label    class that was drawn
        folder_label  class folder that contains the file
        patient       simulated patient, also of copies
        plane         axial, coronal or sagittal
        slice         number of the slice in its patient, from 0
        copy_of       path of the image it was copied from; empty for drawn images
        transform     empty for drawn images; exact, recompressed (lower quality, 3 to 10 % smaller) or how the
                      source was transformed: flip_left_right, flip_top_bottom, rotate_90, rotate_180, rotate_270
                      (counter-clockwise), transpose, transverse (the other diagonal)
        wrong_label   1 if folder_label is not true_label, else 0
        lesion_x, lesion_y, lesion_w, lesion_h
                      bounding box of the tumour in pixels, from the top left corner; empty without a tumour

    Args:
        root: existing, empty folder.
        patients: per class.
        slices: mean number per patient.
        image_size: edge of a typical image, in pixels.
        test_share: share of the patients whose images go to Testing; 0: no Testing folder; otherwise each folder gets
            at least one patient per class.
        copies: number of planted copies per drawn image.
        wrong_labels: share of all images that are in the folder of another class.
        seed: at least 0.

    Raises:
        PipelineError: the folder is not empty.
    """
    if any(root.iterdir()):
        raise PipelineError(f"expected an empty folder for the phantoms, found files in {root}: empty it")

    rng = np.random.default_rng([seed, 0])  # patient numbers start at 1: no patient has this stream
    drawn, copied = plan_images(
        patients=patients, slices=slices, test_share=test_share, copies=copies, wrong_labels=wrong_labels, rng=rng
    )

    def write(image: PhantomImage, content: bytes) -> None:
        target = root / image.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        rows[image.path] = image

    rows: dict[str, PhantomImage] = {}
    for image in bar(drawn, desc="draw", unit="image"):
        place = {"plane": image.plane, "patient": int(image.patient[1:]), "index": image.slice}
        pixels, mask = draw_scan(image.true_label, **place, size=image_size, seed=seed)
        write(with_box(image, mask), jpeg(pixels, QUALITY))
    for image, source in copied:
        truth = rows[source.path]
        box = {name: getattr(truth, name) for name in ("lesion_x", "lesion_y", "lesion_w", "lesion_h")}
        content, image = copied_image((root / source.path).read_bytes(), replace(image, **box), rng)
        write(image, content)
    write_truth(root, rows)


def write_truth(root: Path, rows: dict[str, PhantomImage]) -> None:
    """Write `truth.csv`, the ground truth of a data set: path -> row."""
    table = io.StringIO()
    writer = csv.DictWriter(table, [field.name for field in fields(PhantomImage)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(rows[path]) for path in sorted(rows))
    write_text(root / "truth.csv", table.getvalue())
