"""A trained model in one `.keras` file that has the same bytes for the same weights."""

import json
import zipfile
from pathlib import Path

import keras

from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_file

FORMAT_VERSION = 1
# Keras writes this entry for people and never reads it: the place for our own facts.
_METADATA = "metadata.json"
_CONFIG = "config.json"
_OWN = "brain_tumor"


def save_model(path: Path | str, model: keras.Model, metadata: dict) -> None:
    """Save a model with what is needed to use it, atomically and without any date.

    Args:
        path: ends in ".keras"; `keras.saving.load_model` reads it too.
        model: a built model. Its optimizer is left out.
        metadata: JSON values: classes, preprocessing, fingerprint of the data.
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
                # ZipInfo without a date stands at 1980, the first that the format knows.
                archive.writestr(zipfile.ZipInfo(name), entries[name])


def read_metadata(path: Path | str) -> dict:
    """The facts stored beside the weights; loads no network.

    Raises:
        PipelineError: no such file, none of ours, or of another format version.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read(_METADATA))[_OWN]
    except FileNotFoundError as error:
        raise PipelineError(f"expected a model in {path}, there is none: run the train stage") from error
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise PipelineError(f"expected a model that this project saved, {path} is none: train it anew") from error
    if metadata["format_version"] != FORMAT_VERSION:
        raise PipelineError(
            f"{path} has model format {metadata['format_version']}, this version reads {FORMAT_VERSION}: train it anew"
        )
    return metadata


def load_model(path: Path | str) -> tuple[keras.Model, dict]:
    """The network, uncompiled, and its metadata; see `read_metadata` for the errors."""
    metadata = read_metadata(path)
    return keras.saving.load_model(path, compile=False), metadata


def _renumbered(config, numbers: dict[int, int]):
    """The config with the ids of shared objects, memory addresses, replaced by 0, 1, ... as they appear."""
    if isinstance(config, list):
        return [_renumbered(item, numbers) for item in config]
    if isinstance(config, dict):
        return {
            key: numbers.setdefault(value, len(numbers)) if key == "shared_object_id" else _renumbered(value, numbers)
            for key, value in config.items()
        }
    return config
