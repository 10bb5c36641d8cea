"""Whether the content of an exported file can be predicted with.

A SHA-256 says that a file is what somebody wrote, not that it was this project. What passes here is answered with;
anything else would fail at the first scan, with an error that says nothing.
"""

import math
from collections.abc import Mapping

import numpy as np

from brain_tumor.exported.novelty import Novelty


def check_contents(values: Mapping[str, object], novelty: Novelty) -> None:
    """Raise a ValueError about the first field of the metadata or array of the novelty score that cannot be.

    Args:
        values: the fields of `classifier_file.Metadata`.
        novelty: the score.
    """
    classes = values["classes"]
    _expect("classes", isinstance(classes, list) and classes and all(_is_name(name) for name in classes))
    count = len(classes)
    _expect("classes", len(set(classes)) == count)
    preprocessing = values["preprocessing"]
    _expect("preprocessing", isinstance(preprocessing, dict) and preprocessing.keys() == {"size", "crop", "clip"})
    _expect("size", _is_whole(preprocessing["size"]) and 1 <= preprocessing["size"] <= 4096)
    _expect("crop", isinstance(preprocessing["crop"], bool))
    _expect("clip", _is_number(preprocessing["clip"]) and 0 <= preprocessing["clip"] < 50)
    _expect("calibration", isinstance(values["calibration"], dict))
    confidence, sets = values["confidence"], values["sets"]
    _expect("confidence", isinstance(confidence, list) and len(confidence) == count)
    _expect("confidence", all(least is None or _is_number(least) for least in confidence))
    _expect("sets", isinstance(sets, dict) and all(level.isascii() and level.isdecimal() for level in sets))
    _expect("sets", all(isinstance(least, list) and len(least) == count for least in sets.values()))
    _expect("sets", all(_is_number(each) for least in sets.values() for each in least))
    _expect("fold", values["fold"] is None or _is_whole(values["fold"]))
    measured = values["measured"]
    _expect("measured", isinstance(measured, list) and all(isinstance(each, dict) for each in measured))
    _expect("measured", all(_is_text(each.get("images")) and _is_whole(each.get("n")) for each in measured))
    _expect("measured", all(_is_number(each[name]) for each in measured for name in each if name != "images"))
    texts = ("backbone", "data_fingerprint", "expects", "healthy_class")
    _expect("text", all(_is_text(values[name]) for name in texts))

    features = np.size(novelty.mean)
    centres = len(np.atleast_1d(novelty.class_means))  # of classes, and of sets of classes in partial labels
    shapes = {"mean": (features,), "scale": (features,), "class_means": (max(centres, 1), features)}
    shapes |= {"whitening": (features, features), "threshold": ()}
    for name, shape in shapes.items():
        array = np.asarray(getattr(novelty, name))
        _expect(name, array.shape == shape and array.dtype.kind == "f")
        _expect(name, array > 0 if name == "threshold" else np.isfinite(array).all())


def _expect(name: str, fits: object) -> None:
    if not fits:
        raise ValueError(f"{name} cannot be used")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and (not value or value.isprintable())


def _is_name(value: object) -> bool:
    return _is_text(value) and value != ""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
