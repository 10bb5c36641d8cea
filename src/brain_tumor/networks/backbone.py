"""The pre-trained weights of a backbone as the stage `backbone` writes them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brain_tumor.files import write_json


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
