"""Pre-trained backbones: any of keras.applications by name, its own scaling and weights, what of it learns."""

import hashlib
import json
import shutil

import keras
import numpy as np
import pytest
from conftest import run
from test_pipeline import change, stages_run

from brain_tumor.errors import PipelineError
from brain_tumor.networks import applications, backbone, classifier, trunks
from brain_tumor.networks.saving import read_metadata
from brain_tumor.training.optimizing import LayerwiseAdamW, layer_rates

pytestmark = pytest.mark.slow

SIZE = 32
CLASSES = 3


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """A file as Keras would download it, of a MobileNetV2 that nobody trained."""
    keras.utils.set_random_seed(5)
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    network = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(None, None, 3))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # one batch settles the statistics, so that signals pass all layers
    network(np.random.default_rng(5).normal(size=(64, SIZE, SIZE, 3)), training=True)
    network.save_weights(path)
    return path


@pytest.fixture(scope="module")
def weights(weights_file):
    return applications.application_weights("mobilenet_v2", str(weights_file))[0]


def build(weights, frozen=0.0, stride=32, hidden=0):
    return classifier.build(
        "mobilenet_v2",
        SIZE,
        CLASSES,
        width=4,
        stride=stride,
        hidden=hidden,
        dropout=0.2,
        weights=weights,
        frozen=frozen,
    )


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("mobilenet_v2", keras.applications.mobilenet_v2),
        ("MobileNetV3Small", keras.applications.mobilenet_v3),
        ("efficientnet_b0", keras.applications.efficientnet),
        ("resnet50", keras.applications.resnet50),
        ("VGG16", keras.applications.vgg16),
    ],
)
def test_grey_pixels_reach_the_backbone_as_its_own_preprocessing_gives_them(name, module):
    trunk = applications.application_trunk(name, SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 1), np.uint8)
    expected = module.preprocess_input(np.repeat(pixels, 3, axis=-1).astype(np.float32))
    scaled = keras.Model(trunk.input, trunk.get_layer("scale").output).predict_on_batch(pixels)
    if name in ("resnet50", "VGG16"):  # trained on blue, green, red; the subtracted means tell the channels apart
        expected = np.sort(expected, axis=-1)
        scaled = np.sort(scaled, axis=-1)
    np.testing.assert_allclose(scaled, expected, atol=1e-4)
    assert trunk.output.shape[-1] > 100


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(PipelineError, match=r"'alexnet'.*MobileNetV2"):
        applications.application_trunk("alexnet", SIZE)


def test_weights_arrive_whatever_the_size(weights, weights_file):
    network = keras.applications.MobileNetV2(include_top=False, weights=str(weights_file), input_shape=(64, 64, 3))
    rgb = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    trunk = applications.application_trunk("mobilenet_v2", 64)
    trunk.set_weights(weights)
    body = next(layer for layer in trunk.layers if isinstance(layer, keras.Model))
    np.testing.assert_array_equal(body.predict_on_batch(rgb), network.predict_on_batch(rgb))


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50", "efficientnet_b0"])
def test_a_trunk_that_ends_early_is_the_beginning_of_the_whole(name):
    whole, early = (applications.application_trunk(name, 64, stride) for stride in (32, 16))
    keras.utils.set_random_seed(1)
    values = [np.random.default_rng(k).uniform(0.5, 1, v.shape) * 0.1 for k, v in enumerate(whole.weights)]
    whole.set_weights(values)
    early.set_weights(values[: len(early.weights)])
    assert early.output.shape[1:3] == (4, 4) and len(early.weights) < len(whole.weights)
    bodies = [next(layer for layer in model.layers if isinstance(layer, keras.Model)) for model in (whole, early)]
    cut = keras.Model(bodies[0].input, bodies[0].get_layer(bodies[1].layers[-1].name).output)
    rgb = np.random.default_rng(1).uniform(0, 1, (1, 64, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(bodies[1].predict_on_batch(rgb), cut.predict_on_batch(rgb))
    with pytest.raises(PipelineError, match="stride of 5"):
        applications.application_trunk(name, 64, 5)


def test_the_sha_tells_the_values_and_the_origin_is_kept(weights, weights_file, tmp_path):
    origin = applications.application_weights("mobilenet_v2", str(weights_file))[1]
    assert origin == {"file_sha256": hashlib.sha256(weights_file.read_bytes()).hexdigest()}
    about = backbone.write_backbone(tmp_path, weights, origin)
    assert about == json.loads((tmp_path / "about.json").read_text(encoding="utf-8"))
    assert about == origin | {"arrays": len(weights), "sha256": about["sha256"]}
    again, digest = backbone.read_backbone(tmp_path)
    values = b"".join(array.tobytes() for array in weights)
    assert digest == about["sha256"] == hashlib.sha256(values).hexdigest()
    for one, other in zip(weights, again, strict=True):
        np.testing.assert_array_equal(one, other)
    changed = [weights[0] + 1e-3, *weights[1:]]
    other = backbone.write_backbone(tmp_path, changed, {"package": "own", "version": "1"})
    assert other["sha256"] != digest and other["package"] == "own" and "file_sha256" not in other
    assert backbone.write_backbone(tmp_path, None, {}) == {"arrays": 0, "sha256": ""}
    assert backbone.read_backbone(tmp_path) == (None, "")


@pytest.mark.parametrize("frozen", [0.0, 0.5, 1.0])
def test_what_is_frozen_stays_and_normalisation_always_does(weights, frozen):
    model = build(weights, frozen)
    before = {variable.path: variable.numpy() for variable in model.weights}
    model.compile("sgd", "categorical_crossentropy")
    pixels = np.random.default_rng(2).integers(0, 256, (8, SIZE, SIZE, 1), np.uint8)
    for _ in range(2):
        model.train_on_batch(pixels, np.eye(CLASSES, dtype=np.float32)[np.arange(8) % CLASSES])
    moved = {path for variable in model.weights if (variable.numpy() != before[path := variable.path]).any()}
    assert not any("bn" in path.lower() for path in moved)
    kernels = [path for path in before if "kernel" in path and "probabilities" not in path]
    kept = [path not in moved for path in kernels]
    assert sum(kept) == pytest.approx(frozen * len(kept), abs=4)
    assert kept == sorted(kept, reverse=True), "frozen from the input on"
    assert any("probabilities" in path for path in moved)


def test_early_layers_learn_more_slowly(weights):
    """One step of Adam moves every weight by its rate, whatever the gradient."""
    model = build(weights)
    rates = layer_rates(model, 0.01)
    assert rates[0] == pytest.approx(0.01) and rates[-2:] == [1, 1] and rates == sorted(rates)
    before = [variable.numpy() for variable in model.trainable_variables]
    model.compile(LayerwiseAdamW(1e-3, weight_decay=0.0, rates=rates), "categorical_crossentropy")
    pixels = np.random.default_rng(3).integers(0, 256, (16, SIZE, SIZE, 1), np.uint8)
    model.train_on_batch(pixels, np.eye(CLASSES, dtype=np.float32)[np.arange(16) % CLASSES])
    steps = [np.abs(v.numpy() - old).max() for v, old in zip(model.trainable_variables, before, strict=True)]
    for step, rate in zip(steps, rates, strict=True):
        assert step <= 1.01e-3 * rate
    assert steps[0] == pytest.approx(1e-5, rel=0.1) and steps[-1] == pytest.approx(1e-3, rel=0.1)


@pytest.mark.parametrize(("stride", "hidden"), [(32, 0), (16, 8)])
def test_the_head_on_features_is_the_whole_network(weights, stride, hidden):
    model = build(weights, 1.0, stride, hidden)
    trunk = trunks.trunk("mobilenet_v2", SIZE, width=4, stride=stride, weights=weights)
    images = np.random.default_rng(4).integers(0, 256, (6, SIZE, SIZE), np.uint8)
    features = trunks.pooled_features(trunk, images, batch_size=4)
    head = classifier.head(model)
    assert head.count_params() == model.count_params() - trunk.count_params()
    for view, pixels in enumerate((images, images[:, :, ::-1])):
        np.testing.assert_allclose(
            head.predict_on_batch(features[:, view]), model.predict_on_batch(pixels[..., None]), atol=1e-5
        )


# A proxy that nobody listens on: no download, wherever this runs.
OFFLINE = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


@pytest.mark.timeout(600)  # two whole pipelines, the one of the fixture included
@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            {"backbone": "mobilenet_v2", "weights": "my.weights.h5", "frozen": 1.0, "stride": 16, "hidden": 8},
            "576 feat",
        ),
        ({"backbone": "efficientnet_lite0", "weights": "imagenet", "frozen": 0.5}, "the backbone is trained"),
    ],
    ids=["frozen", "fine-tuned"],
)
def test_the_pipeline_on_a_pre_trained_backbone(small_clone, weights_file, model, said):
    shutil.copy(weights_file, small_clone / "my.weights.h5")
    for key, value in model.items():
        change(small_clone, f"model.{key}", value)
    done = run("dvc", "repro", cwd=small_clone, **OFFLINE)
    assert {"backbone", "train@0", "predict@test", "evaluate", "export"} <= set(stages_run(done.stdout))
    assert "features" in stages_run(done.stdout) and said in done.stdout
    assert stages_run(run("dvc", "repro", cwd=small_clone).stdout) == []
    about = json.loads((small_clone / "data/backbone/about.json").read_text(encoding="utf-8"))
    for path in ("models/fold-0", "data/served"):
        metadata = read_metadata(small_clone / path / "model.keras")
        assert (metadata["backbone"], metadata["backbone_sha256"]) == (model["backbone"], about["sha256"])


def test_missing_weights_say_where_they_belong(small_clone):
    change(small_clone, "model.backbone", "mobilenet_v2")
    for value, said in (("imagenet", ".keras/models"), ("there/are/none.h5", "none.h5")):
        change(small_clone, "model.weights", value)
        home = {"KERAS_HOME": str(small_clone / "keras")}
        done = run("python", "stages/backbone.py", cwd=small_clone, fails=True, **home, **OFFLINE)
        assert done.stderr.startswith("error: expected weights") and said in done.stderr
        assert len(done.stderr.splitlines()) == 1
