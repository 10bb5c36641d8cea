"""The exported file: the network's own answers, the thresholds of the validation images, and a format that is kept."""

import io
import json
import shutil
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pytest

from brain_tumor.errors import PipelineError
from brain_tumor.exported.classifier_file import read_exported, write_exported
from brain_tumor.exported.network import Network
from brain_tumor.networks import classifier
from brain_tumor.networks.saving import load_model
from brain_tumor.prediction.litert import in_float32, to_litert
from brain_tumor.prediction.maps import explained, outputs
from brain_tumor.serving.classifier import Classifier
from brain_tumor.tables.csv_tables import read_table
from brain_tumor.tables.roles import roles
from brain_tumor.tables.store import Store

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
FILE = "src/brain_tumor/serving/classifier.tflite"


@pytest.mark.parametrize("backbone", ["compact", "mobilenet_v2"])
@pytest.mark.parametrize("hidden", [0, 16])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_converted_network_answers_as_keras_does(backbone, hidden, precision):
    keras.utils.set_random_seed(2)
    keras.config.set_dtype_policy(precision)
    try:
        model = classifier.build(backbone, 64, 3, width=8, stride=32, hidden=hidden, dropout=0.3)
    finally:
        keras.config.set_dtype_policy("float32")
    single = in_float32(model)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)
    expected, network = outputs(explained(single), images, 8), Network(to_litert(single))
    for part in (slice(0, 5), slice(2, 3), slice(1, 4)):  # any number of images at a time
        found = network(images[part])
        assert found.keys() == expected.keys() == {"probabilities", "maps", "features"}
        for name, values in found.items():
            np.testing.assert_allclose(values, expected[name][part], atol=1e-4)
    half = outputs(explained(model), images, 8)["probabilities"]
    np.testing.assert_allclose(expected["probabilities"], half, atol=1e-6 if precision == "float32" else 0.02)


def test_the_file_holds_what_the_model_and_its_validation_images_say(small_run):
    exported = read_exported(small_run / FILE)
    model, metadata = load_model(small_run / "models/fold-0/model.keras")
    about = asdict(exported.metadata)
    for name in ("classes", "preprocessing", "calibration", "backbone", "data_fingerprint"):
        assert about[name] == metadata[name], name
    store, table = Store(small_run / "data/prepared"), read_table(small_run / "data/split/folds.csv")
    keras_says = outputs(explained(model), store.images, 8)
    answers = Classifier(exported).predict_prepared(store.images)
    probabilities = np.array([[answer.probabilities[name] for name in about["classes"]] for answer in answers])
    np.testing.assert_allclose(probabilities, keras_says["probabilities"], atol=1e-4)
    np.testing.assert_allclose([a.maps["glioma"] for a in answers], keras_says["maps"][..., 0], atol=1e-3)

    # Those of the main source: other labels need not be single classes, and the thresholds hold for one source.
    seen = (roles(table, 0, "patient", "fail") == "validation") & (table["source"] == "phantoms").to_numpy()
    labels = table["label"].to_numpy()
    for level, least in about["sets"].items():
        for i, name in enumerate(about["classes"]):
            own = probabilities[seen & (labels == name), i]
            held = np.mean(own >= least[i])
            # As few as keep the promise: without the least of those inside it would be broken.
            assert held >= int(level) / 100 and (
                least[i] == 0 or np.sum(own > least[i]) / (len(own) + 1) < int(level) / 100
            )
    if about["confidence"] is not None:
        answered = seen & (probabilities.max(axis=1) >= about["confidence"])
        wrong = np.array(about["classes"])[probabilities.argmax(axis=1)] != labels
        assert wrong[answered].mean() <= 0.05

    with np.load(small_run / "data/novelty/fold-0.npz") as arrays:
        for name, value in asdict(exported.novelty).items():
            np.testing.assert_array_equal(value, arrays[name])


def test_a_scan_is_prepared_as_for_training(small_run):
    classifier, store = Classifier.load(small_run / FILE), Store(small_run / "data/prepared")
    assert set(store.index["source"]) == {"phantoms", "second"}
    for row, path in enumerate(store.index["path"]):
        prediction = classifier.predict(small_run / "data/raw" / path)
        assert prediction.pixels.tobytes() == store.images[row].tobytes()


def test_the_reasons_not_to_answer(small_run, tmp_path):
    exported = read_exported(small_run / FILE)
    scan = next((small_run / "data/raw/phantoms").glob("*/glioma/*.jpg"))

    def predicted(novelty_threshold: float = np.inf, **changes):
        novelty = replace(exported.novelty, threshold=novelty_threshold)
        changed = replace(exported, novelty=novelty, metadata=replace(exported.metadata, **changes))
        write_exported(tmp_path / "changed.tflite", changed)
        return Classifier.load(tmp_path / "changed.tflite").predict(scan)

    sure = predicted(confidence=0.0)
    assert not sure.abstained and sure.reasons == [] and sure.map is sure.maps[sure.label]
    assert sure.label == max(sure.probabilities, key=sure.probabilities.get)
    assert sum(sure.probabilities.values()) == pytest.approx(1, abs=1e-6)
    unsure = predicted(confidence=0.999)
    assert unsure.abstained and len(unsure.reasons) == 1 and "0.999 is needed" in unsure.reasons[0]
    assert predicted(confidence=None).abstained
    odd = predicted(novelty_threshold=1e-9, confidence=0.0)
    assert odd.abstained and odd.novelty > 1 and "novelty" in odd.reasons[0]
    least = [sure.probabilities[name] + (1e-6 if i else -1e-6) for i, name in enumerate(sure.probabilities)]
    assert predicted(sets={"90": least}).sets == {90: [exported.metadata.classes[0]]}


def test_the_same_content_gives_the_same_bytes_and_is_read_back(small_run, tmp_path):
    write_exported(tmp_path / "again.tflite", read_exported(small_run / FILE))
    assert (tmp_path / "again.tflite").read_bytes() == (small_run / FILE).read_bytes()


def test_a_file_of_format_1_is_still_read_and_says_the_same():
    expected = json.loads((GOLDEN / "answer-1.json").read_text(encoding="utf-8"))
    said = Classifier.load(GOLDEN / "classifier-1.tflite").predict(GOLDEN / "scan.png")
    assert said.label == expected["label"] and said.reasons == expected["reasons"]
    assert said.probabilities == pytest.approx(expected["probabilities"], abs=1e-5)
    assert said.novelty == pytest.approx(expected["novelty"], rel=1e-4)
    assert {str(level): names for level, names in said.sets.items()} == expected["prediction_sets"]
    for name, values in expected["map"].items():
        np.testing.assert_allclose(said.maps[name], values, atol=1e-3)


def rewritten(source: Path, target: Path, **changes) -> Path:
    """A classifier with other metadata."""
    content = source.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
        start = min(info.header_offset for info in archive.infolist())
    entries["metadata.json"] = json.dumps(json.loads(entries["metadata.json"]) | changes).encode()
    target.write_bytes(content[:start])
    with zipfile.ZipFile(target, "a") as archive:
        for name, value in entries.items():
            archive.writestr(name, value)
    return target


def test_a_file_of_another_format_is_refused_by_its_number(tmp_path):
    for version in (0, 2, 99):
        path = rewritten(GOLDEN / "classifier-1.tflite", tmp_path / "other.tflite", format_version=version, extra=1)
        with pytest.raises(PipelineError, match=rf"format {version}, this version reads format 1"):
            Classifier.load(path)


def test_a_damaged_or_foreign_file_is_refused(tmp_path):
    content = (GOLDEN / "classifier-1.tflite").read_bytes()
    damaged = tmp_path / "damaged.tflite"
    for share in range(20):
        damaged.write_bytes(content[: len(content) * share // 20])
        with pytest.raises(PipelineError, match="damaged"):
            Classifier.load(damaged)
    damaged.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    with pytest.raises(PipelineError, match="not the one its metadata names"):
        Classifier.load(damaged)
    with pytest.raises(PipelineError, match="damaged"):
        Classifier.load(rewritten(GOLDEN / "classifier-1.tflite", damaged, unknown="x"))
    with pytest.raises(PipelineError, match="No such file"):
        Classifier.load(tmp_path / "none.tflite")
    shutil.copy(GOLDEN / "scan.png", damaged)
    with pytest.raises(PipelineError, match="damaged"):
        Classifier.load(damaged)
