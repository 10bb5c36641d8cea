"""A trained model in one `.keras` file that has the same bytes for the same weights.

Loading runs no code of a file: Keras makes only its own layers and those that this library registers, refuses functions
in Python's byte code, and follows no link from the weights to another file.
"""

import json
import zipfile
from pathlib import Path

import keras

from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_file

FORMAT_VERSION = 1
# Keras writes this entry for information and never reads it, so our own metadata can go there.
_METADATA = "metadata.json"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_OWN = "brain_tumor"


def save_model(path: Path | str, model: keras.Model, metadata: dict) -> None:
    """Save a model with the metadata that its use needs, atomically and without any date.

    Args:
        path: ends in ".keras"; `keras.saving.load_model` reads it too.
        model: a built model. Its optimizer is left out.
        metadata: JSON values, such as classes, preprocessing and fingerprint of the data.
    """
    bare = keras.Model(model.inputs, model.outputs, name=model.name)
    own = {"keras_version": keras.__version__, _OWN: {"format_version": FORMAT_VERSION, **metadata}}
    with replacing_file(path) as partial:
        keras.saving.save_model(bare, partial)
        with zipfile.ZipFile(partial) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        entries[_METADATA] = json.dumps(own, indent=2, sort_keys=True).encode()
        entries[_CONFIG] = json.dumps(_renumbered(json.loads(entries[_CONFIG]), {})).encode()
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(entries):
                # Without a date, ZipInfo has the first one that the format can hold, in 1980.
                archive.writestr(zipfile.ZipInfo(name), entries[name])


def read_metadata(path: Path | str) -> dict:
    """The metadata of a model file, without loading the network.

    Raises:
        PipelineError: there is no such file, this project did not write it, or its format version is another one.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ValueError("an entry that may unpack to any size")
            metadata = json.loads(archive.read(_METADATA))[_OWN]
            version = metadata["format_version"]
            if version == FORMAT_VERSION and sorted(archive.namelist()) != sorted([_CONFIG, _METADATA, _WEIGHTS]):
                raise ValueError("other entries")
    except FileNotFoundError as error:
        raise PipelineError(f"expected a model in {path}, there is none: run the train stage") from error
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, RuntimeError, EOFError) as error:
        raise PipelineError(f"expected a model that this project saved, {path} is not one: train it again") from error
    if version != FORMAT_VERSION:
        raise PipelineError(f"{path} has model format {version}, this version reads {FORMAT_VERSION}: train it again")
    return metadata


def load_model(path: Path | str) -> tuple[keras.Model, dict]:
    """The network, not compiled, and its metadata.

    Raises:
        PipelineError: see `read_metadata`; or the network is damaged, or holds what this project never saves, such as
            functions, classes from elsewhere, or links to other files.
    """
    metadata = read_metadata(path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True), metadata
    except Exception as error:  # Keras and HDF5 have a dozen kinds
        reason = " ".join(str(error).split())[:300]
        raise PipelineError(
            f"expected a model that this project saved, Keras does not load {path} ({reason}): train it again"
        ) from error


def _renumbered(config, numbers: dict[int, int]):
    """The config with the ids of shared objects, which are memory addresses, replaced by 0, 1, ... in order."""
    if isinstance(config, list):
        return [_renumbered(item, numbers) for item in config]
    if isinstance(config, dict):
        return {
            key: numbers.setdefault(value, len(numbers)) if key == "shared_object_id" else _renumbered(value, numbers)
            for key, value in config.items()
        }
    return config
