"""The pre-trained weights of a backbone as the stage `backbone` writes them, and the features they give."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from keras import layers

from brain_tumor.files import write_json
from brain_tumor.progress import bar


def write_backbone(folder: Path, weights: Sequence[np.ndarray] | None, origin: dict) -> dict:
    """Write weights.npz, if there are weights, and about.json, whose content is returned.

    It is arrays (their number), sha256 (of their values), and the `origin` that `trunks.pretrained_weights` states.
    """
    about = {"arrays": len(weights or []), "sha256": ""} | origin
    if weights is not None:
        about["sha256"] = hashlib.sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in weights)).hexdigest()
        np.savez(folder / "weights.npz", *weights)
    write_json(folder / "about.json", about)
    return about


def read_backbone(folder: Path | str) -> tuple[list[np.ndarray] | None, str]:
    """The weights that `write_backbone` wrote, or None, and the SHA-256 of their values, or ""."""
    about = json.loads((Path(folder) / "about.json").read_text(encoding="utf-8"))
    if not about["arrays"]:
        return None, ""
    with np.load(Path(folder) / "weights.npz") as stored:
        return [stored[f"arr_{i}"] for i in range(about["arrays"])], about["sha256"]


def pooled_features(trunk: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Features of images and of their mirror images, averaged over the map.

    Args:
        trunk: from pixels to a (n, h, w, c) map.
        images: (n, size, size) uint8, may be memory-mapped.
        batch_size: images computed at once.

    Returns:
        (n, 2, c) float32.
    """
    pooled = keras.Model(trunk.input, layers.GlobalAveragePooling2D()(trunk.output))
    parts = []
    for start in bar(range(0, len(images), batch_size), desc="features", unit="batch"):
        batch = images[start : start + batch_size, ..., None]
        parts.append(np.stack([pooled.predict_on_batch(view) for view in (batch, batch[:, :, ::-1])], axis=1))
    return np.concatenate(parts)
