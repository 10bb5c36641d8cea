"""Options as params.yaml has them, but for the given changes."""

from pathlib import Path

from brain_tumor.imaging.preprocessing import Preprocessing
from brain_tumor.params import load_params
from brain_tumor.training.augment import Augmentation

PARAMS = load_params(Path(__file__).resolve().parents[1] / "params.yaml")


def preprocessing(**changes) -> Preprocessing:
    options = PARAMS.preprocess
    return Preprocessing(**{"size": options.image_size, "crop": options.crop, "clip": options.clip} | changes)


def augmentation(**changes) -> Augmentation:
    return Augmentation(**PARAMS.train.augment.model_dump() | changes)
