"""Tensors from a file that PyTorch wrote before version 1.6, read without PyTorch and without running code.

Such a file is a row of pickles (a magic number, a protocol version, facts about the system, the tensors, the names of
their storages) and then the content of each storage: its number of elements as an 8-byte integer, and the elements.
A pickle may call any function; the reader here knows the few names that tensors need and refuses all others.
Format: `_legacy_load` in `torch/serialization.py` of PyTorch.
"""

import collections
import pickle
from pathlib import Path
from typing import BinaryIO

import numpy as np

from brain_tumor.errors import PipelineError

_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
# What a pickle that is none, or one with impossible sizes, may raise.
_DAMAGED = (
    *(pickle.UnpicklingError, AttributeError, EOFError, LookupError),
    *(MemoryError, OverflowError, TypeError, ValueError),
)


def read_torch_file(path: Path | str) -> dict[str, np.ndarray]:
    """Read a state dictionary.

    Returns:
        Name -> array, in the file's order. Strides are kept, so an array need not be contiguous.

    Raises:
        PipelineError: there is no such file, it is another one or damaged, or holds more than tensors of float32 and
            int64.
    """
    try:
        with open(path, "rb") as stream:
            return _read(stream)
    except OSError as error:
        raise PipelineError(f"expected pre-trained weights in {path}: {error.strerror}") from error
    except _DAMAGED as error:
        raise PipelineError(
            f"expected a state dictionary of PyTorch in {path} (format before 1.6), the file is another one or "
            f"damaged: {' '.join(str(error).split())}"
        ) from error


def _read(stream: BinaryIO) -> dict[str, np.ndarray]:
    if _Unpickler(stream).load() != _MAGIC:
        raise ValueError("it does not begin as such a file")
    _version, system = _Unpickler(stream).load(), _Unpickler(stream).load()
    if system["little_endian"] is not True:
        raise ValueError("it is big-endian")
    unpickler = _Unpickler(stream)
    tensors, keys = dict(unpickler.load()), _Unpickler(stream).load()
    if not all(isinstance(name, str) and isinstance(array, np.ndarray) for name, array in tensors.items()):
        raise ValueError("it holds more than tensors")
    if set(keys) != unpickler.storages.keys():
        raise ValueError("it lists other storages than its tensors need")
    for key in keys:
        storage = unpickler.storages[key]
        content = stream.read(8 + storage.nbytes)
        if len(content) != 8 + storage.nbytes or content[:8] != len(storage).to_bytes(8, "little"):
            raise ValueError(f"storage {key} has another length than its tensors say")
        storage[:] = np.frombuffer(content, storage.dtype, offset=8)
    return tensors


class _Unpickler(pickle.Unpickler):
    """Unpickles tensors as arrays over `storages`, which are filled afterwards."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> object:
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no tensor needs")

    def persistent_load(self, pid: tuple) -> np.ndarray:
        _, kind, key, _device, size, _view = pid
        return self.storages.setdefault(key, np.empty(size, kind))


def _tensor(storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_hooks: object) -> np.ndarray:
    # The bounds are checked by NumPy, which raises ValueError.
    size = storage.itemsize
    return np.ndarray(shape, storage.dtype, storage, offset * size, tuple(size * step for step in strides))
