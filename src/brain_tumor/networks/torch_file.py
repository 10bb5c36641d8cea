"""Tensors from a file that PyTorch wrote before version 1.6, read without PyTorch and without running code.

Such a file is a row of pickles (a magic number, a protocol version, facts about the system, the tensors, the names of
their storages) and then the content of each storage: its number of elements as an 8-byte integer, and the elements.
A pickle is a program that may call any function. Python's own interpreter, even where it is told which functions it
may find, takes gigabytes or years over a few bytes that are written for that, and lets them change what they find. The
one here knows the operations that tensors need, makes only plain values, and refuses everything else.
Format: `_legacy_load` in `torch/serialization.py` of PyTorch, and `pickletools` of Python.
"""

import pickletools
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from brain_tumor.errors import PipelineError

_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
_TENSOR, _MAPPING = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
# What impossible sizes and places in the stack may raise.
_DAMAGED = (AttributeError, EOFError, LookupError, MemoryError, OverflowError, TypeError, ValueError)


class _Name(NamedTuple):
    """A function or class that a pickle refers to."""

    name: str


class _Storage(NamedTuple):
    """Elements that several tensors may share: their name, NumPy's type, and number."""

    key: str
    kind: str
    size: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


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
    if _unpickled(stream) != _MAGIC:
        raise ValueError("it does not begin as such a file")
    _version, system = _unpickled(stream), _unpickled(stream)
    if system["little_endian"] is not True:
        raise ValueError("it is big-endian")
    tensors, keys = dict(_unpickled(stream)), _unpickled(stream)
    if not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise ValueError("it holds more than tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if not isinstance(keys, list) or keys != sorted(set(keys)) or set(keys) != storages.keys():
        raise ValueError("it lists other storages than its tensors need")
    contents = {key: _content(stream, storages[key]) for key in keys}
    return {name: _array(tensor, contents) for name, tensor in tensors.items()}


def _content(stream: BinaryIO, storage: _Storage) -> np.ndarray:
    """The elements of the storage that comes next."""
    kind = np.dtype(storage.kind)
    content = stream.read(8 + storage.size * kind.itemsize)
    if len(content) != 8 + storage.size * kind.itemsize or content[:8] != storage.size.to_bytes(8, "little"):
        raise ValueError(f"storage {storage.key} has another length than its tensors say")
    return np.frombuffer(content, kind, offset=8).copy()


def _array(tensor: _Tensor, contents: dict[str, np.ndarray]) -> np.ndarray:
    storage = contents[tensor.storage.key]
    if tensor.storage != (tensor.storage.key, storage.dtype.str, storage.size):
        raise ValueError(f"its tensors disagree about storage {tensor.storage.key}")
    # The bounds are checked by NumPy, which raises ValueError.
    size = storage.itemsize
    return np.ndarray(tensor.shape, storage.dtype, storage, tensor.offset * size, [size * s for s in tensor.strides])


def _unpickled(stream: BinaryIO) -> object:
    """The value of the pickle that comes next: None, bool, int, str, and tuples, lists, dicts and tensors of them."""
    stack, marks, known = [], [], {}

    def taken() -> list:
        """What was put on the stack since the last mark."""
        mark = marks.pop()
        items = stack[mark:]
        del stack[mark:]
        return items

    for operation, argument, _ in pickletools.genops(stream):
        match operation.name:
            case "PROTO":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[operation.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                stack.append(argument)
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}}[operation.name])
            case "TUPLE" | "LIST":
                stack.append((tuple if operation.name == "TUPLE" else list)(taken()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple([stack.pop() for _ in range(int(operation.name[-1]))][::-1]))
            case "DICT":
                stack.append(_mapping(taken()))
            case "APPEND" | "APPENDS":
                items = taken() if operation.name == "APPENDS" else [stack.pop()]
                list.extend(stack[-1], items)
            case "SETITEM" | "SETITEMS":
                items = taken() if operation.name == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
                dict.update(stack[-1], _mapping(items))
            case "GLOBAL":
                if argument not in (*_TYPES, _TENSOR, _MAPPING):
                    raise ValueError(f"it asks for {argument.replace(' ', '.')}, which no tensor needs")
                stack.append(_Name(argument))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_called(function, arguments))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "BUILD":
                dict.keys(stack[-2])  # the versions of modules, beside a state dictionary
                stack.pop()
            case "BINPUT" | "LONG_BINPUT":
                known[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(known[argument])
            case other:
                raise ValueError(f"it asks for {other}, which no tensor needs")
    raise EOFError  # unreachable: genops itself complains about a pickle without an end


def _mapping(items: list) -> dict[str, object]:
    names, values = items[::2], items[1::2]
    # Only text: nested tuples as keys can take years to compare.
    if not all(isinstance(name, str) for name in names):
        raise ValueError("it holds more than tensors by name")
    return dict(zip(names, values, strict=True))


def _called(function: object, arguments: object) -> object:
    if function == _Name(_TENSOR) and isinstance(arguments, tuple):
        storage, offset, shape, strides, *_hooks = arguments
        numbers = (offset, *shape, *strides)
        if isinstance(storage, _Storage) and all(type(number) is int for number in numbers):
            return _Tensor(storage, offset, tuple(shape), tuple(strides))
    if function == _Name(_MAPPING) and arguments == ():
        return {}
    if function == _Name(_MAPPING) and isinstance(arguments, tuple) and len(arguments) == 1:
        return _mapping([item for name, value in arguments[0] for item in (name, value)])
    raise ValueError("it calls what no tensor needs")


def _storage(place: object) -> _Storage:
    _, kind, key, _device, size, _view = place
    if not (isinstance(kind, _Name) and kind.name in _TYPES and isinstance(key, str) and type(size) is int):
        raise ValueError("it refers to a storage that is none")
    return _Storage(key, _TYPES[kind.name], size)
