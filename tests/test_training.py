"""Training and the model file, on scans whose class a tiny network can see."""

import dataclasses
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from settings import augmentation
from sklearn.metrics import f1_score, log_loss

from brain_tumor.errors import PipelineError
from brain_tumor.networks import classifier, saving
from brain_tumor.prediction.predicting import Predictor
from brain_tumor.training import fitting, recipe
from brain_tumor.training.checkpoint import Checkpoint
from brain_tumor.training.examples import Examples, image_examples
from brain_tumor.training.optimizing import Average

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
METADATA = {
    "classes": ["dark", "light"],
    "preprocessing": {"size": 32},
    "calibration": {"scale": 1.0, "biases": [0.0, 0.0]},
}


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


def predict(folder: Path, model: keras.Model, images: np.ndarray, **options) -> np.ndarray:
    """Probabilities from the file of a model."""
    saving.save_model(folder / "predicting.keras", model, METADATA)
    return Predictor(folder / "predicting.keras", **options).predict(images)[0]


@pytest.fixture(scope="module")
def trained():
    heard = []
    model, history = learn(on_epoch=heard.append)
    return model, history, heard, *squares()


def test_it_learns_and_keeps_the_best_epoch(trained, tmp_path):
    model, history, heard, images, labels = trained
    assert history == heard and [row["epoch"] for row in history] == list(range(1, len(history) + 1))
    best = max(row["validation/macro_f1"] for row in history)
    assert best > 0.9
    probabilities = predict(tmp_path, model, images[48:], batch_size=5, flips=False)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    accuracy = (probabilities.argmax(axis=1) == labels[48:]).mean()
    chosen = next(row for row in history if row["validation/macro_f1"] == best)
    assert accuracy == pytest.approx(chosen["validation/accuracy"])


def test_learning_rate_rises_and_falls(trained):
    rates = [row["learning_rate"] for row in trained[1]]
    assert rates[0] < rates[1] == pytest.approx(SCHEDULE.learning_rate, rel=0.05)
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_flips_make_prediction_blind_to_mirroring(trained, tmp_path):
    model, _, _, images, _ = trained
    plain, mirrored = (
        predict(tmp_path, model, views, batch_size=8, flips=True) for views in (images[:8], images[:8, :, ::-1])
    )
    np.testing.assert_allclose(plain, mirrored, atol=1e-6)
    single = predict(tmp_path, model, images[:8], batch_size=8, flips=False)
    assert np.abs(single - plain).max() > 1e-4


def test_early_stopping_waits_for_patience():
    images, _ = squares(16)
    rows = np.arange(16)
    hopeless = dataclasses.replace(SCHEDULE, epochs=50, patience=2, learning_rate=1e-9)
    labels = np.random.default_rng(1).integers(0, 2, 16)
    allowed = np.eye(2, dtype=bool)[labels]
    _, history = learn(hopeless, image_examples(images, allowed, rows, rows, augmentation=augmentation()))
    scores = [row["validation/macro_f1"] for row in history]
    assert len(history) == scores.index(max(scores)) + 1 + 2


HOPELESS = dataclasses.replace(SCHEDULE, epochs=8, patience=0, learning_rate=1e-9)


def noise_examples(validated: int = 16) -> Examples:
    """Images without a pattern, of which so many are validated with."""
    labels = np.random.default_rng(1).integers(0, 2, 16)
    rows = np.arange(16), np.arange(validated)
    return image_examples(squares(16)[0], np.eye(2, dtype=bool)[labels], *rows, augmentation=augmentation())


def test_without_patience_it_never_stops_and_keeps_the_last_epoch():
    """Where nothing is learned the first epoch is the best one, and patience would end the training."""
    model, history = learn(HOPELESS, noise_examples())
    assert len(history) == HOPELESS.epochs
    assert fitting.kept_epoch(history, 0) is history[-1] and fitting.kept_epoch(history, 3) is not history[-1]
    waited = learn(dataclasses.replace(HOPELESS, patience=3), noise_examples())[1]
    assert len(waited) < len(history) and waited == history[: len(waited)]

    examples = noise_examples()
    truth = examples.allowed.argmax(axis=1)
    for schedule in (HOPELESS, dataclasses.replace(HOPELESS, learning_rate=0.03)):
        model, history = learn(schedule, examples)
        p = model.predict(examples.originals, verbose=0)
        assert history[-1]["validation/loss"] == pytest.approx(log_loss(truth, p), rel=1e-4)
        assert history[-1]["validation/macro_f1"] == pytest.approx(f1_score(truth, p.argmax(axis=1), average="macro"))
    losses = [row["validation/loss"] for row in history]
    assert len(set(losses)) == len(losses), "each epoch has other weights"


def test_validation_images_choose_and_teach_nothing():
    """Without them the same weights are learned, and nothing is said about them."""
    schedule = dataclasses.replace(SCHEDULE, patience=0)
    with_them, history = learn(schedule, noise_examples())
    heard = []
    without, silent = learn(schedule, noise_examples(validated=0), on_epoch=heard.append)
    for one, other in zip(with_them.get_weights(), without.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert silent == heard and len(silent) == len(history)
    for row, other in zip(silent, history, strict=True):
        assert row == {name: value for name, value in other.items() if not name.startswith("validation/")}
        assert set(row) == {"epoch", "learning_rate", "train/loss", "train/accuracy"}


class Killed(Exception):
    pass


def killed_after(epoch: int):
    def on_epoch(row):
        if row["epoch"] == epoch:
            raise Killed

    return on_epoch


@pytest.mark.parametrize(
    ("changes", "validated"),
    [
        ({}, 16),
        ({"mix": 0.3, "balance": "sampling", "average": 0}, 16),
        ({"patience": 0}, 16),
        ({"patience": 0, "average": 0.999}, 0),
    ],
)
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, changes, validated):
    schedule = dataclasses.replace(SCHEDULE, **changes)
    images, labels = squares()
    rows = np.repeat(np.arange(48), 1 + np.arange(48) % 2), np.arange(48, 48 + validated)
    examples = image_examples(images, np.eye(2, dtype=bool)[labels], *rows, augmentation=augmentation())
    whole, history = learn(schedule, examples)
    for epoch in (1, 4):
        with Checkpoint(tmp_path, "run") as checkpoint, pytest.raises(Killed):
            learn(schedule, examples, checkpoint=checkpoint, on_epoch=killed_after(epoch))
    heard = []
    with Checkpoint(tmp_path, "run") as checkpoint:
        resumed, again = learn(schedule, examples, checkpoint=checkpoint, on_epoch=heard.append)
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


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_an_epoch_shows_each_image_so_often_and_never_the_same_variant(balance):
    """A variant here is the row and what its generator draws first."""
    rng = np.random.default_rng(0)
    labels, times = rng.integers(0, 3, 24), rng.permutation(np.repeat([1, 2, 5], 8))
    schedule = dataclasses.replace(SCHEDULE, balance=balance)

    def shown(rows: np.ndarray, epoch: int) -> np.ndarray:
        examples = Examples(
            labels, np.eye(3, dtype=bool)[labels], rows, rows[:0], lambda row, rng: np.array([row, rng.random()])
        )
        parts = fitting._batches(examples, len(rows) // schedule.batch_size, schedule, 0, epoch)
        return np.concatenate([inputs for inputs, *_ in parts])

    repeated = np.repeat(np.arange(24), times)
    assert len(repeated) % schedule.batch_size == 0, "no image falls off the end of the epoch"
    every = [shown(repeated, epoch) for epoch in (1, 2)]
    for views in every:
        assert np.bincount(views[:, 0].astype(int), minlength=24).tolist() == times.tolist()
    draws = np.concatenate(every)[:, 1]
    assert len(set(draws)) == len(draws) == 2 * times.sum()
    once = {tuple(view) for view in shown(np.arange(24), 1)}
    assert once < {tuple(view) for view in every[0]}, "what is not repeated stays as it is"


@pytest.mark.parametrize("momentum", [0, 0.5, 0.97, 0.999])
def test_the_average_of_the_weights_is_its_formula(momentum):
    """In NumPy and double precision: a momentum that rises from nothing to its value."""
    rng = np.random.default_rng(0)
    series = [[rng.normal(size=(3, 2)), rng.normal(size=4)] for _ in range(60)]
    variables = [keras.Variable(value.astype(np.float32)) for value in series[0]]
    average, resumed = Average(variables, momentum), Average(variables, momentum)
    expected = [np.full((3, 2), np.nan), np.full(4, np.nan)]
    for k, values in enumerate(series):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value.astype(np.float32))
        average.update()
        share = 0 if k == 0 else min(momentum, (1 + k) / (10 + k))
        # The first share is 0, of what is no number yet.
        pairs = zip(expected, values, strict=True)
        expected = [value if k == 0 else share * old + (1 - share) * value for old, value in pairs]
        for found, value in zip(average.values, expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6)
        if k == 30:
            resumed.restore(average.values, average.updates)
        elif k > 30:
            resumed.update()
    assert resumed.updates == average.updates == len(series)
    for one, other in zip(resumed.values, average.values, strict=True):
        np.testing.assert_array_equal(one, other)
    if momentum == 0:
        np.testing.assert_array_equal(average.values[0], series[-1][0].astype(np.float32))


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


def train(role: np.ndarray, times=1, precision="float32", images=None, changes=None, **options):
    """The whole recipe on the squares, or other pixels with their labels: network, history and calibration."""
    own, labels = squares()
    keras.utils.set_random_seed(0)
    return recipe.train_network(
        own if images is None else images,
        np.eye(2, dtype=bool)[labels],
        role,
        role == "validation",
        np.broadcast_to(times, len(role)),
        network={"backbone": "compact", "frozen": 0.0, **TINY},
        weights=None,
        features=np.empty(0),
        schedule=dataclasses.replace(SCHEDULE, **changes or {}),
        augmentation=augmentation(),
        precision=precision,
        backbone_rate=1.0,
        seed=0,
        **options,
    )


ROLES = np.array(["train"] * 48 + ["validation"] * 16)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_precision_is_of_the_training_and_not_of_the_model(tmp_path, precision):
    """Two trainings, one of them interrupted, give the same bytes; the model computes in float32."""
    options = {"precision": precision, "changes": {"epochs": 3}}
    whole = train(ROLES, **options)[0]
    with Checkpoint(tmp_path, "run") as checkpoint, pytest.raises(Killed):
        train(ROLES, **options, checkpoint=checkpoint, on_epoch=killed_after(1))
    with Checkpoint(tmp_path, "run") as checkpoint:
        resumed = train(ROLES, **options, checkpoint=checkpoint)[0]
    for name, model in (("a", whole), ("b", resumed)):
        saving.save_model(tmp_path / f"{name}.keras", model, METADATA)
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    assert np.isfinite(whole.predict_on_batch(squares()[0][:4, ..., None])).all()


def test_all_images_can_be_learned_from():
    """Nobody is left to validate with: no calibration, and the last epoch is kept."""
    images, labels = squares()
    model, history, (scale, biases) = train(np.full(64, "train"), changes={"patience": 0, "epochs": 10})
    assert len(history) == 10 and not any(name.startswith("validation/") for row in history for name in row)
    assert scale == 1 and biases.tolist() == [0, 0]
    p = model.predict(images[..., None], verbose=0)
    assert np.mean(p.argmax(axis=1) == labels) > 0.9


def test_what_has_no_role_is_not_used_and_repeats_are_of_training_images(capsys):
    """The pixels of images left out may be anything; how often an image is shown matters in training only."""
    role = ROLES.copy()
    role[:8] = "left_out"
    options = {"changes": {"epochs": 2}}
    times = np.where(np.arange(64) % 3 == 0, 3, 1)
    model = train(role, times, **options)[0]
    assert f" {times[role == 'train'].sum()} training images an epoch" in capsys.readouterr().out

    pixels = squares()[0]
    pixels[role == "left_out"] = 0
    same = train(role, np.where(role == "train", times, 7), images=pixels, **options)[0]
    for one, other in zip(same.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

    capsys.readouterr()
    once = train(role, 1, **options)[0]
    assert f" {(role == 'train').sum()} training images an epoch" in capsys.readouterr().out
    assert any((one != other).any() for one, other in zip(once.get_weights(), model.get_weights(), strict=True))
