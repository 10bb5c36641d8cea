"""Classifiers and arrays from elsewhere: no code of theirs is run, and damage or nonsense is refused in one line."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from rewritten import rewritten

from brain_tumor.errors import PipelineError
from brain_tumor.exported.classifier_file import read_exported, write_exported
from brain_tumor.serving.classifier import DEFAULT, Classifier

GOLDEN = Path(__file__).parent / "golden"
FILE = GOLDEN / "classifier-2.tflite"


def refusal(path: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        Classifier.load(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


# Reading the committed file, of 7.6 MB, 1000 times takes 40 s: `LONG=1 pytest tests/test_untrusted_models.py`.
@pytest.mark.parametrize("source", [FILE, *([DEFAULT] if os.environ.get("LONG") else [])], ids=lambda path: path.name)
def test_a_changed_bit_at_each_of_1000_places_is_found(source, tmp_path):
    content, path = bytearray(source.read_bytes()), tmp_path / "damaged.tflite"
    with zipfile.ZipFile(source) as archive:
        start = min(info.header_offset for info in archive.infolist())
    # The network, and as many places in metadata, thresholds, novelty score, directory and digest.
    places = {int(place) for part in ((0, start), (start, len(content))) for place in np.linspace(*part, 500, False)}
    assert len(places) == 1000
    for place in sorted(places):
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        assert "damaged" in refusal(path)
        content[place] ^= 1 << place % 8
    path.write_bytes(content)
    Classifier.load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": []},
        {"classes": ["a", "a", "b"]},
        {"classes": ["a", "b\x1b[2J", "c"]},
        {"classes": "abc"},
        {"classes": ["a", "b"]},
        {"healthy_class": None},
        {"preprocessing": {"size": 10**9, "crop": True, "clip": 0.5}},
        {"preprocessing": {"size": 64, "crop": True, "clip": 0.5}},
        {"preprocessing": {"size": 32, "crop": 1, "clip": 0.5}},
        {"preprocessing": {"size": 32, "crop": True}},
        {"confidence": [0.9, 0.9]},
        {"confidence": [0.9, "x", 0.9]},
        {"confidence": 0.5},
        {"sets": {"ninety": [0.1, 0.1, 0.1]}},
        {"sets": {"90": [0.1, 0.1]}},
        {"measured": [{"images": "x"}]},
        {"measured": [5]},
        {"expects": ["x"]},
        {"fold": "first"},
    ],
    ids=lambda changes: "-".join(f"{key}={value!a}"[:30] for key, value in changes.items()),
)
def test_a_file_with_the_right_digest_and_senseless_metadata_is_refused(changes, tmp_path):
    """Anybody can write a digest: without this the error would come at the first scan and say nothing."""
    assert "export it again" in refusal(rewritten(FILE, tmp_path / "odd.tflite", **changes))


def test_a_network_that_is_none_is_refused(tmp_path):
    from dataclasses import replace

    exported = read_exported(FILE)
    for network in (b"", b"\0" * 5000, exported.network[:5000]):
        write_exported(tmp_path / "odd.tflite", replace(exported, network=network))
        assert "export it again" in refusal(tmp_path / "odd.tflite")


class Touching:
    """What a pickle of it does when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_array_file_runs_code(tmp_path):
    from brain_tumor.networks.backbone import read_backbone
    from brain_tumor.tables.store import Store

    marker = tmp_path / "was_run"
    array = np.array([Touching(marker)], dtype=object)
    np.save(tmp_path / "images.npy", array, allow_pickle=True)
    np.savez(tmp_path / "weights.npz", array)
    (tmp_path / "about.json").write_text('{"arrays": 1, "sha256": ""}')
    (tmp_path / "index.csv").write_text("row,path\n0,a\n")
    for read in (Store, read_backbone):
        with pytest.raises(ValueError, match=r"allow_pickle|Python objects"):
            read(tmp_path)
    with zipfile.ZipFile(FILE) as archive:
        start = min(info.header_offset for info in archive.infolist())
        metadata = archive.read("metadata.json")
    (tmp_path / "c.tflite").write_bytes(FILE.read_bytes()[:start])
    buffer = io.BytesIO()
    np.savez(buffer, mean=array)
    with zipfile.ZipFile(tmp_path / "c.tflite", "a") as archive:
        archive.writestr("metadata.json", metadata)
        archive.writestr("novelty.npz", buffer.getvalue())
    assert "damaged" in refusal(tmp_path / "c.tflite")
    assert not marker.exists()
    pickle.loads(pickle.dumps(array))  # the same bytes, read by those who trust them
    assert marker.exists()


def test_an_entry_that_unpacks_to_any_size_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(FILE) as archive:
        start = min(info.header_offset for info in archive.infolist())
    (tmp_path / "bomb.tflite").write_bytes(FILE.read_bytes()[:start])
    with zipfile.ZipFile(tmp_path / "bomb.tflite", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", b'{"format_version": 99, "x": "' + bytes(10_000_000) + b'"}')
        archive.writestr("novelty.npz", b"")
    # Had it been read, the version would be what is said.
    text = refusal(tmp_path / "bomb.tflite")
    assert "damaged" in text and "format 99" not in text
