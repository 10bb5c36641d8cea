"""Training and the model file, on scans whose class a tiny network can see."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from brain_tumor.errors import PipelineError
from brain_tumor.model import networks, saving, training
from brain_tumor.model.augment import Augmentation
from brain_tumor.model.predicting import predict

SCHEDULE = training.Schedule(
    epochs=6,
    patience=6,
    batch_size=8,
    learning_rate=0.01,
    warmup_epochs=1,
    weight_decay=0.01,
    label_smoothing=0.0,
    class_weights="balanced",
    average=0.9,
)
METADATA = {"classes": ["dark", "light"], "preprocessing": {"size": 32}}


def squares(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a square that is darker (class 0) or lighter (class 1), somewhere."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 160, (count, 32, 32), np.uint8)
    labels = np.arange(count) % 2
    for image, label in zip(images, labels, strict=True):
        top, left = rng.integers(4, 18, 2)
        image[top : top + 10, left : left + 10] = 255 * label
    return images, labels


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    images, labels = squares()
    model = networks.compact(32, 2, width=4, dropout=0.1)
    rows, heard = np.arange(64), []
    history = training.fit(
        model,
        images,
        labels,
        rows[:48],
        rows[48:],
        schedule=SCHEDULE,
        augmentation=Augmentation(),
        seed=0,
        on_epoch=heard.append,
    )
    return model, history, heard, images, labels


def test_it_learns_and_keeps_the_best_epoch(trained):
    model, history, heard, images, labels = trained
    assert history == heard and [row["epoch"] for row in history] == list(range(1, len(history) + 1))
    best = max(row["validation/macro_f1"] for row in history)
    assert best > 0.9
    probabilities = predict(model, images, np.arange(48, 64), batch_size=5, flips=False)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    accuracy = (probabilities.argmax(axis=1) == labels[48:]).mean()
    chosen = next(row for row in history if row["validation/macro_f1"] == best)
    assert accuracy == pytest.approx(chosen["validation/accuracy"])


def test_learning_rate_rises_and_falls(trained):
    rates = [row["learning_rate"] for row in trained[1]]
    assert rates[0] < rates[1] == pytest.approx(SCHEDULE.learning_rate, rel=0.05)
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_flips_make_prediction_blind_to_mirroring(trained):
    model, _, _, images, _ = trained
    rows = np.arange(8)
    plain = predict(model, images, rows, batch_size=8, flips=True)
    mirrored = predict(model, images[:, :, ::-1], rows, batch_size=8, flips=True)
    np.testing.assert_allclose(plain, mirrored, atol=1e-6)


def test_early_stopping_waits_for_patience():
    keras.utils.set_random_seed(0)
    images, _ = squares(16)
    rows = np.arange(16)
    hopeless = SCHEDULE.__class__(**{**SCHEDULE.__dict__, "epochs": 50, "patience": 2, "learning_rate": 1e-9})
    labels = np.random.default_rng(1).integers(0, 2, 16)
    model = networks.compact(32, 2, width=4)
    history = training.fit(model, images, labels, rows, rows, schedule=hopeless, augmentation=Augmentation(), seed=0)
    scores = [row["validation/macro_f1"] for row in history]
    assert len(history) == scores.index(max(scores)) + 1 + 2


def test_model_file_is_enough_to_predict(trained, tmp_path):
    model, _, _, images, _ = trained
    saving.save_model(tmp_path / "model.keras", model, METADATA)
    loaded, metadata = saving.load_model(tmp_path / "model.keras")
    assert metadata["classes"] == ["dark", "light"]
    expected = model.predict_on_batch(images[:4, ..., None])
    np.testing.assert_array_equal(loaded.predict_on_batch(images[:4, ..., None]), expected)
    plain = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(plain.predict_on_batch(images[:4, ..., None]), expected)


def test_model_file_is_the_same_bytes_in_two_processes(tmp_path):
    code = """if True:
        import sys
        sys.path.insert(0, "src")
        from brain_tumor.model import networks, saving
        from brain_tumor.model.determinism import make_deterministic
        make_deterministic(threads=1, seed=3)
        saving.save_model(sys.argv[1], networks.compact(32, 3, width=4), {"classes": ["a", "b", "c"]})
    """
    for name in ("a.keras", "b.keras"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name], check=True, capture_output=True)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


def test_foreign_and_newer_files_are_refused(trained, tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(PipelineError, match="train stage"):
        saving.read_metadata(path)
    trained[0].save(path)
    with pytest.raises(PipelineError, match="train it anew"):
        saving.read_metadata(path)
    path.write_bytes(b"not a model")
    with pytest.raises(PipelineError, match="train it anew"):
        saving.load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"brain_tumor": {"format_version": 99}}))
    with pytest.raises(PipelineError, match="99"):
        saving.read_metadata(path)
