"""Training and the model file, on scans whose class a tiny network can see."""

import dataclasses
import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from settings import augmentation

from brain_tumor.errors import PipelineError
from brain_tumor.networks import classifier, saving
from brain_tumor.prediction.predicting import predict
from brain_tumor.training import fitting, recipe
from brain_tumor.training.checkpoint import Checkpoint
from brain_tumor.training.examples import Examples, image_examples

pytestmark = pytest.mark.slow

SCHEDULE = fitting.Schedule(
    epochs=6,
    patience=6,
    batch_size=8,
    learning_rate=0.01,
    warmup_epochs=1,
    weight_decay=0.01,
    label_smoothing=0.0,
    mix=0.0,
    balance="weights",
    average=0.9,
)
TINY = {"width": 4, "stride": 16, "hidden": 0, "dropout": 0.1}
METADATA = {"classes": ["dark", "light"], "preprocessing": {"size": 32}}

NONE = {"scale": 1.0, "biases": [0.0]}


def squares(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a square that is darker (class 0) or lighter (class 1), somewhere."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 160, (count, 32, 32), np.uint8)
    labels = np.arange(count) % 2
    for image, label in zip(images, labels, strict=True):
        top, left = rng.integers(4, 18, 2)
        image[top : top + 10, left : left + 10] = 255 * label
    return images, labels


def learn(schedule=SCHEDULE, examples=None, **options) -> tuple[keras.Model, list[dict]]:
    """A tiny network trained on the squares."""
    keras.utils.set_random_seed(0)
    if examples is None:
        images, labels = squares()
        rows = np.arange(48), np.arange(48, 64)
        examples = image_examples(images, np.eye(2, dtype=bool)[labels], *rows, augmentation=augmentation())
    model = classifier.build("compact", 32, 2, **TINY)
    return model, fitting.fit(model, examples, schedule=schedule, seed=0, **options)


@pytest.fixture(scope="module")
def trained():
    heard = []
    model, history = learn(on_epoch=heard.append)
    return model, history, heard, *squares()


def test_it_learns_and_keeps_the_best_epoch(trained):
    model, history, heard, images, labels = trained
    assert history == heard and [row["epoch"] for row in history] == list(range(1, len(history) + 1))
    best = max(row["validation/macro_f1"] for row in history)
    assert best > 0.9
    probabilities = predict(model, images, np.arange(48, 64), batch_size=5, flips=False, calibration=NONE)[0]
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
    plain, _ = predict(model, images, rows, batch_size=8, flips=True, calibration=NONE)
    mirrored, _ = predict(model, images[:, :, ::-1], rows, batch_size=8, flips=True, calibration=NONE)
    np.testing.assert_allclose(plain, mirrored, atol=1e-6)


def test_early_stopping_waits_for_patience():
    images, _ = squares(16)
    rows = np.arange(16)
    hopeless = dataclasses.replace(SCHEDULE, epochs=50, patience=2, learning_rate=1e-9)
    labels = np.random.default_rng(1).integers(0, 2, 16)
    allowed = np.eye(2, dtype=bool)[labels]
    _, history = learn(hopeless, image_examples(images, allowed, rows, rows, augmentation=augmentation()))
    scores = [row["validation/macro_f1"] for row in history]
    assert len(history) == scores.index(max(scores)) + 1 + 2


class Killed(Exception):
    pass


def killed_after(epoch: int):
    def on_epoch(row):
        if row["epoch"] == epoch:
            raise Killed

    return on_epoch


@pytest.mark.parametrize("schedule", [SCHEDULE, dataclasses.replace(SCHEDULE, mix=0.3, balance="sampling", average=0)])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, schedule):
    whole, history = learn(schedule)
    for epoch in (1, 4):
        with Checkpoint(tmp_path, "run") as checkpoint, pytest.raises(Killed):
            learn(schedule, checkpoint=checkpoint, on_epoch=killed_after(epoch))
    heard = []
    with Checkpoint(tmp_path, "run") as checkpoint:
        resumed, again = learn(schedule, checkpoint=checkpoint, on_epoch=heard.append)
    assert again == heard == history
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_never_goes_on_from_another(tmp_path):
    with Checkpoint(tmp_path, {"seed": 0}) as checkpoint:
        checkpoint.save({"model": [np.ones(2)]}, {"epoch": 3})
        arrays, facts = checkpoint.load()
        np.testing.assert_array_equal(arrays["model"][0], np.ones(2))
        assert facts == {"epoch": 3}
    with Checkpoint(tmp_path, {"seed": 1}) as other:
        assert other.load() is None and other.folder != checkpoint.folder
    with Checkpoint(tmp_path, {"seed": 0}) as checkpoint:
        (checkpoint.folder / "state.npz").write_bytes((checkpoint.folder / "state.npz").read_bytes()[:100])
        assert checkpoint.load() is None  # half a file, as after a power failure
        checkpoint.remove()
    assert not checkpoint.folder.exists()


def test_two_trainers_never_share_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("brain_tumor.training.checkpoint._PATIENCE", 0.1)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(PipelineError, match="only training"), Checkpoint(tmp_path, "run"):
        pass
    holder.kill()
    holder.wait()
    with Checkpoint(tmp_path, "run"):
        pass


HOLD = """
import sys
sys.path.insert(0, "src")
from brain_tumor.training.checkpoint import Checkpoint
with Checkpoint(sys.argv[1], "run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def batches(schedule, labels, rows):
    """All (inputs, targets, weights) of epoch 1, for inputs that tell their row; a target is its one part."""
    allowed = np.eye(3, dtype=bool)[labels]
    examples = Examples(
        np.arange(len(labels), dtype=np.float32)[:, None], allowed, rows, rows, lambda row, rng: np.float32([row])
    )
    steps = len(rows) // schedule.batch_size
    parts = zip(*fitting._batches(examples, steps, schedule, 0, 1), strict=True)
    inputs, targets, weights = (np.concatenate(part) for part in parts)
    assert targets.shape[1] == 1
    return inputs, targets[:, 0], weights


def test_sampling_shows_every_class_equally_often():
    labels = np.repeat([0, 1, 2], [40, 8, 24])
    plain = dataclasses.replace(SCHEDULE, balance="none")
    inputs, targets, _ = batches(plain, labels, np.arange(72))
    assert sorted(inputs[:, 0]) == list(range(72)) and targets.sum(axis=0).tolist() == [40, 8, 24]
    inputs, targets, weights = batches(dataclasses.replace(plain, balance="sampling"), labels, np.arange(72))
    assert targets.sum(axis=0).tolist() == [24, 24, 24] and set(weights) == {1}
    assert set(inputs[targets[:, 1] == 1, 0]) == set(range(40, 48))
    _, targets, weights = batches(dataclasses.replace(plain, balance="weights"), labels, np.arange(72))
    np.testing.assert_allclose((targets * weights[:, None]).sum(axis=0), 24, rtol=1e-6)


def test_mixing_blends_inputs_and_targets_alike():
    labels = np.repeat([0, 1, 2], 24)
    values = np.array([0.0, 1.0, 10.0], np.float32)
    allowed = np.eye(3, dtype=bool)[labels]
    examples = Examples(labels, allowed, np.arange(72), labels, lambda row, rng: values[[labels[row]]])
    parts = list(fitting._batches(examples, 9, dataclasses.replace(SCHEDULE, mix=0.4, balance="none"), 0, 1))
    inputs, targets, _ = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert targets.shape[1:] == (2, 3)
    targets = targets.sum(axis=1)
    np.testing.assert_allclose(inputs[:, 0], targets @ values, rtol=1e-5)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    assert 0.2 < ((targets.max(axis=1) < 0.99) & (targets.max(axis=1) > 0.5)).mean() < 0.9


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
        from brain_tumor.networks import classifier, saving
        from brain_tumor.networks.determinism import make_deterministic
        make_deterministic(threads=1, seed=3)
        model = classifier.build("compact", 32, 3, width=4, stride=16, hidden=0, dropout=0.1)
        saving.save_model(sys.argv[1], model, {"classes": ["a", "b", "c"]})
    """
    for name in ("a.keras", "b.keras"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name], check=True, capture_output=True)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


def test_foreign_and_newer_files_are_refused(trained, tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(PipelineError, match="train stage"):
        saving.read_metadata(path)
    trained[0].save(path)
    with pytest.raises(PipelineError, match="train it again"):
        saving.read_metadata(path)
    path.write_bytes(b"not a model")
    with pytest.raises(PipelineError, match="train it again"):
        saving.load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"brain_tumor": {"format_version": 99}}))
    with pytest.raises(PipelineError, match="99"):
        saving.read_metadata(path)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_precision_is_of_the_training_and_not_of_the_model(tmp_path, precision):
    """Two trainings, one of them interrupted, give the same bytes; the model computes in float32."""
    images, labels = squares()
    role = np.array(["train"] * 48 + ["validation"] * 16)

    def train(**options):
        keras.utils.set_random_seed(0)
        model, *_ = recipe.train_network(
            images,
            np.eye(2, dtype=bool)[labels],
            role,
            role == "validation",
            network={"backbone": "compact", "frozen": 0.0, **TINY},
            weights=None,
            features=np.empty(0),
            schedule=dataclasses.replace(SCHEDULE, epochs=3),
            augmentation=augmentation(),
            precision=precision,
            backbone_rate=1.0,
            seed=0,
            **options,
        )
        return model

    whole = train()
    with Checkpoint(tmp_path, "run") as checkpoint, pytest.raises(Killed):
        train(checkpoint=checkpoint, on_epoch=killed_after(1))
    with Checkpoint(tmp_path, "run") as checkpoint:
        resumed = train(checkpoint=checkpoint)
    for name, model in (("a", whole), ("b", resumed)):
        saving.save_model(tmp_path / f"{name}.keras", model, METADATA)
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    assert np.isfinite(whole.predict_on_batch(images[:4, ..., None])).all()
