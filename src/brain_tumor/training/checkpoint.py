"""The state of a training on disk, so that a killed one resumes from its last epoch."""

import hashlib
import json
import shutil
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import filelock
import numpy as np
import tensorflow

from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_file, write_json

# A trainer whose parent was killed ends within a second; slow machines may take longer.
_PATIENCE = 60.0  # seconds


class Checkpoint:
    """A folder that one training writes its state to. Use as a context manager: one process holds it at a time.

    Args:
        folder: parent of all checkpoints.
        facts: JSON value of everything that decides the result of the training; the folder's name is its hash, so
            that a training never resumes from the state of another.

    Raises:
        PipelineError: on entering, if another process holds the folder and keeps it.
    """

    def __init__(self, folder: Path | str, facts: object) -> None:
        text = json.dumps(facts, sort_keys=True)
        self.folder = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._facts = facts
        self._lock = filelock.FileLock(self.folder / "lock")

    def __enter__(self) -> "Checkpoint":
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=_PATIENCE)
        except filelock.Timeout as error:
            raise PipelineError(
                f"expected to be the only training of this run, another process holds {self.folder}: end it or wait"
            ) from error
        write_json(self.folder / "facts.json", self._facts)
        return self

    def __exit__(self, *exception) -> None:
        self._lock.release()

    def save(self, arrays: Mapping[str, Sequence[np.ndarray]], facts: object) -> None:
        """Replace the state, atomically: named lists of arrays and a JSON value."""
        flat = {f"{name}/{i}": array for name, part in arrays.items() for i, array in enumerate(part)}
        with replacing_file(self.folder / "state.npz") as partial:
            np.savez(partial, facts=json.dumps(facts), **flat)

    def load(self) -> tuple[dict[str, list[np.ndarray]], object] | None:
        """What `save` was given last; None if there is nothing or the file is damaged."""
        try:
            with np.load(self.folder / "state.npz") as stored:
                facts, arrays = json.loads(str(stored["facts"])), {}
                for key in stored.files:
                    if key != "facts":
                        arrays.setdefault(key.split("/")[0], []).append(stored[key])
                return arrays, facts
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            print(f"{self.folder} is damaged ({error}): training starts from the beginning", flush=True)
            return None

    def remove(self) -> None:
        """Delete the state, once the result of the training is safe elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)


def origin(params: object, inputs: Sequence[Path | str], package: str = "brain_tumor") -> dict:
    """Everything that decides the result of a training, as a JSON value.

    Args:
        params: JSON value.
        inputs: folders whose files are read.
        package: its loaded modules are the code.
    """
    code = [m.__file__ for name, m in sorted(sys.modules.items()) if name.split(".")[0] == package and m.__file__]
    return {
        "params": params,
        "inputs": {str(path): _digest(sorted(p for p in Path(path).rglob("*") if p.is_file())) for path in inputs},
        "code": _digest(code),
        "versions": {name: metadata.version(name) for name in ("keras", "numpy", "opencv-python-headless")}
        | {"tensorflow": tensorflow.__version__},
    }


def _digest(paths: Sequence[Path | str]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()
