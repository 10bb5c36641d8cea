"""A `.keras` file from elsewhere runs no code, reads no other file, and is refused in one line."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from brain_tumor.errors import PipelineError
from brain_tumor.networks.saving import load_model, save_model

WEIGHTS, PLACE, SHAPE = "model.weights.h5", "layers/conv2d/vars/0", (3, 3, 1, 2)


@pytest.fixture(scope="module")
def entries(tmp_path_factory) -> dict[str, bytes]:
    """What a saved model consists of."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    pixels = keras.Input((4, 4, 1))
    found = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(pixels))
    save_model(path, keras.Model(pixels, found), {"classes": ["a", "b"]})
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        load_model(path)
    assert str(caught.value).isprintable() and str(path) in str(caught.value)
    return str(caught.value)


def with_layer(entries: dict[str, bytes], **changes) -> dict[str, bytes]:
    config = json.loads(entries["config.json"])
    config["config"]["layers"][1] |= changes
    return entries | {"config.json": json.dumps(config).encode()}


def test_what_the_attacks_begin_with_is_loaded(entries, tmp_path):
    model, metadata = load_model(packed(tmp_path / "model.keras", entries))
    assert metadata["classes"] == ["a", "b"] and model.count_params() == 20


def test_a_lambda_layer_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "was_run"
    pixels = keras.Input((4, 4, 1))
    evil = keras.layers.Lambda(eval(f"lambda x: [x, open({str(marker)!r}, 'w')][0]"))
    save_model(tmp_path / "evil.keras", keras.Model(pixels, evil(pixels)), {})
    marker.unlink()
    assert "Lambda" in refusal(tmp_path / "evil.keras")
    assert not marker.exists()
    model = keras.saving.load_model(tmp_path / "evil.keras", safe_mode=False)
    model(np.zeros((1, 4, 4, 1)))
    assert marker.exists()  # the same file, read by those who trust it


@pytest.mark.parametrize(
    ("module", "name", "config"),
    [
        ("os", "system", {"command": "touch was_run"}),
        ("subprocess", "Popen", {"args": ["touch", "was_run"]}),
        ("builtins", "eval", {"source": "open('was_run', 'w')"}),
        ("brain_tumor.files", "write_text", {"target": "was_run", "text": ""}),
        ("keras.utils", "get_file", {"fname": "was_run", "origin": "file:///etc/passwd"}),
        (None, "own>Evil", {}),
    ],
)
def test_functions_and_classes_from_elsewhere_are_refused(entries, tmp_path, monkeypatch, module, name, config):
    monkeypatch.chdir(tmp_path)
    changed = with_layer(entries, module=module, class_name=name, registered_name=name, config=config)
    refusal(packed(tmp_path / "evil.keras", changed))
    assert not (tmp_path / "was_run").exists()


def linked(kind: str, secret: Path) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[PLACE]
        if kind == "external link":
            file[PLACE] = h5py.ExternalLink(secret, "x")
        elif kind == "soft link":
            file[PLACE] = h5py.SoftLink("/layers/conv2d/vars/1")
        elif kind == "external data":
            file.create_dataset(PLACE, shape=SHAPE, dtype="f4", external=[(secret.with_suffix(".raw"), 0, 72)])
        else:
            layout = h5py.VirtualLayout(SHAPE, "f4")
            layout[:] = h5py.VirtualSource(secret, "x", SHAPE)
            file.create_virtual_dataset(PLACE, layout)

    return change


@pytest.mark.parametrize("kind", ["external link", "soft link", "external data", "virtual data"])
def test_weights_that_lie_in_another_file_are_refused(entries, tmp_path, kind):
    secret = tmp_path / "secret.h5"
    values = np.full(SHAPE, 7, "f4")
    with h5py.File(secret, "w") as file:
        file["x"] = values
    values.tofile(secret.with_suffix(".raw"))
    buffer = io.BytesIO(entries[WEIGHTS])
    with h5py.File(buffer, "r+") as file:
        linked(kind, secret)(file)
    assert "Not allowed" in refusal(packed(tmp_path / "evil.keras", entries | {WEIGHTS: buffer.getvalue()}))


@pytest.mark.parametrize("name", ["../../evil.txt", "/evil.txt", "assets/../../evil.txt", "more.txt"])
def test_other_entries_are_refused_and_not_unpacked(entries, tmp_path, name):
    refusal(packed(tmp_path / "evil.keras", entries | {name: b"harm"}))
    assert [path.name for path in tmp_path.iterdir()] == ["evil.keras"]


def test_packed_entries_which_may_be_bombs_are_refused(entries, tmp_path):
    refusal(packed(tmp_path / "evil.keras", entries, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    ("name", "content"), [("config.json", b"{"), ("config.json", b"[]"), (WEIGHTS, b"x"), ("metadata.json", b"[]")]
)
def test_damaged_entries_are_refused(entries, tmp_path, name, content):
    refusal(packed(tmp_path / "damaged.keras", entries | {name: content}))
