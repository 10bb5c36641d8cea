"""The exported file: the network's own answers, thresholds from images that it did not learn from, a format to keep."""

import hashlib
import io
import json
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import Barrier

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import run, with_params
from rewritten import giving, rewritten, two
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax
from settings import PARAMS
from sklearn.metrics import accuracy_score, f1_score

from brain_tumor.errors import PipelineError
from brain_tumor.exported import network as exported_network
from brain_tumor.exported.classifier_file import Exported, Metadata, read_exported, write_exported
from brain_tumor.exported.network import Network
from brain_tumor.exported.novelty import Novelty
from brain_tumor.networks import classifier
from brain_tumor.networks.calibration import fit_calibration
from brain_tumor.networks.saving import load_model
from brain_tumor.prediction.litert import in_float32, to_litert
from brain_tumor.prediction.maps import explained, outputs
from brain_tumor.serving.classifier import Classifier
from brain_tumor.serving.command.cli import main
from brain_tumor.tables.store import Store

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
FILE = "src/brain_tumor/serving/classifier.tflite"
TARGETS = {"target_error": PARAMS.evaluate.target_error, "target_miss": PARAMS.evaluate.target_miss}
LOOSE = {"target_error": 0.6, "target_miss": 0.05}
BACKBONES = ["compact", "mobilenet_v2", "efficientnet_lite0"]
OUTPUTS = {"probabilities", "maps", "features"}


# --- the network


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """All layers, those of networks within the network included."""
    return [part for layer in model.layers for part in (layers_of(layer) if hasattr(layer, "layers") else [layer])]


def in_half(values) -> np.ndarray:
    return np.asarray(values).astype(np.float16).astype(np.float32)


def settle(model: keras.Model, images: np.ndarray, *, exact: bool) -> None:
    """Give a network, in place, features of usual size: random ones of so many layers would all but vanish.

    Normalisation gets the statistics of these images, as in training. `exact`: and half precision holds every weight
    without rounding, also after the converter has merged it with the normalisation that follows, whose factors are
    powers of two.
    """
    random = np.random.default_rng(0)
    norms = [layer for layer in layers_of(model) if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(images[..., None], training=True)
    if not exact:
        return
    for layer in layers_of(model):
        if layer not in norms:
            layer.set_weights([in_half(weights) for weights in layer.get_weights()])
            continue
        _, _, mean, variance = layer.get_weights()
        factor = 2.0 ** np.round(-np.log2(np.sqrt(variance + layer.epsilon)))
        mean = np.round(mean * factor * 64) / 64 / factor
        beta = np.round(random.normal(0, 0.3, len(mean)) * 64) / 64
        layer.set_weights([factor * np.sqrt(variance + layer.epsilon), beta, mean, variance])
    scale = model.get_layer("scale")
    scale.scale, scale.offset = in_half(scale.scale).tolist(), in_half(scale.offset).tolist()
    # Logits that differ, so that every class is called, and clearly.
    logs = np.log(outputs(explained(model), images, 16)["probabilities"])
    classifier.recalibrate(model, 2 / logs.std(), -2 / logs.std() * logs.mean(axis=0))
    last = model.get_layer("probabilities")
    last.set_weights([in_half(weights) for weights in last.get_weights()])


def pictures(size: int = 64) -> np.ndarray:
    """(12, size, size) uint8 noise, brighter from one to the next."""
    noise = np.random.default_rng(0).integers(0, 256, (12, size, size))
    shares = np.linspace(0.1, 1, 12)[:, None, None]
    return np.clip(noise * shares + 20 * np.arange(12)[:, None, None], 0, 255).astype(np.uint8)


def built(backbone: str, hidden: int, precision: str = "float32") -> keras.Model:
    keras.utils.set_random_seed(2)
    keras.config.set_dtype_policy(precision)
    try:
        return classifier.build(backbone, 64, 3, width=8, stride=32, hidden=hidden, dropout=0.3)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("hidden", [0, 16])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_converted_network_answers_as_keras_does(backbone, hidden):
    images, model, half = pictures(), built(backbone, hidden), built(backbone, hidden, "mixed_bfloat16")
    settle(model, images, exact=True)
    half.get_layer("scale").scale = model.get_layer("scale").scale
    half.get_layer("scale").offset = model.get_layer("scale").offset
    half.set_weights(model.get_weights())
    single = in_float32(half)  # however it was trained
    expected = {flips: outputs(explained(single, flips), images, 16) for flips in (False, True)}
    for name, values in outputs(explained(model), images, 16).items():
        np.testing.assert_allclose(expected[False][name], values, atol=1e-6 * np.abs(values).max())

    network = {flips: Network(to_litert(single, flips)) for flips in (False, True)}
    for flips, part in ((False, slice(0, 12)), (True, slice(0, 12)), (True, slice(2, 3)), (True, slice(1, 4))):
        found = network[flips](images[part])  # any number of images at a time
        assert found.keys() == expected[flips].keys() == OUTPUTS
        for name, values in found.items():
            bound = 1e-4 * max(1, np.abs(expected[flips][name]).max())
            np.testing.assert_allclose(values, expected[flips][name][part], atol=bound)
        assert (found["probabilities"].argmax(axis=1) == expected[flips]["probabilities"][part].argmax(axis=1)).all()
    assert len(set(expected[True]["probabilities"].argmax(axis=1))) > 1

    # An image and its mirror image get the same answer, which is that of the averaged logits of the two views.
    both, mirrored = network[True](images), network[True](images[:, :, ::-1])
    views = network[False](images), network[False](images[:, :, ::-1])
    assert np.abs(views[0]["probabilities"] - views[1]["probabilities"]).max() > 0.01
    for name, other in (("probabilities", ...), ("features", ...), ("maps", np.s_[:, :, ::-1])):
        np.testing.assert_allclose(mirrored[name][other], both[name], atol=1e-5 * max(1, np.abs(both[name]).max()))
    logs = np.log([view["probabilities"] for view in views]).mean(axis=0)
    np.testing.assert_allclose(both["probabilities"], softmax(logs, axis=1), atol=1e-5)
    np.testing.assert_allclose(both["features"], (views[0]["features"] + views[1]["features"]) / 2, atol=1e-4)
    np.testing.assert_allclose(both["maps"], (views[0]["maps"] + views[1]["maps"][:, :, ::-1]) / 2, atol=1e-4)


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "efficientnet_lite0"])
def test_half_precision_costs_no_more_than_the_rounding_of_the_large_weights(backbone):
    images, model = pictures(), built(backbone, 0)
    settle(model, images, exact=False)
    content = to_litert(model, True)
    sizes = np.array([weights.size for weights in model.get_weights()])
    large = sizes > 20_000
    assert 0.4 < sizes[large].sum() / sizes.sum() < 1
    assert len(content) < 2 * sizes[large].sum() + 4 * sizes[~large].sum() + 60_000  # the graph itself
    exact, found = outputs(explained(model, True), images, 16), Network(content)(images)
    rounded = in_float32(model)
    for layer in layers_of(rounded):
        if not isinstance(layer, keras.layers.BatchNormalization):  # merged with the others, before these are rounded
            weights = layer.get_weights()
            layer.set_weights([in_half(values) if values.size > 20_000 else values for values in weights])
    own = outputs(explained(rounded, True), images, 16)
    for name in OUTPUTS:
        off, expected = (np.sqrt(np.square(values[name] - exact[name]).mean()) for values in (found, own))
        assert 0 < off < 2 * expected, (name, off, expected)


def test_small_tensors_keep_every_digit():
    """Those of this network are all small; with every weight halved it is a thousand times farther off."""
    keras.utils.set_random_seed(2)
    images, model = pictures(), classifier.build("compact", 64, 3, width=4, stride=32, hidden=0, dropout=0.3)
    assert max(weights.size for weights in model.get_weights()) <= 20_000
    settle(model, images, exact=False)
    exact, found = outputs(explained(model, True), images, 16), Network(to_litert(model, True))(images)
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], exact[name], rtol=1e-4, atol=1e-5 * np.abs(exact[name]).max())


def test_the_same_weights_give_the_same_bytes():
    contents = []
    for _ in range(2):
        keras.utils.clear_session()  # names count the layers that a process has made, and are in the file
        model = built("compact", 16)
        settle(model, pictures(), exact=False)
        contents.append(to_litert(in_float32(model), True))
    assert contents[0] == contents[1]


def test_threads_that_share_a_network_get_the_answers_of_one_alone(monkeypatch):
    made, own = [], exported_network.Interpreter
    monkeypatch.setattr(exported_network, "Interpreter", lambda **options: made.append(1) or own(**options))
    alone, shared = Classifier.load(), Classifier.load()
    size = alone.preprocessing.size
    images = np.random.default_rng(0).integers(0, 256, (40, size, size), dtype=np.uint8)
    expected = [alone.predict_prepared(images[i : i + 1])[0] for i in range(40)]
    assert len(made) == 2  # one each
    assert len({tuple(one.probabilities.values()) for one in expected}) == 40  # no answer passes for another
    start = Barrier(8)

    def work(k: int) -> list:
        start.wait()
        return [(i, shared.predict_prepared(images[i : i + 1])[0]) for i in range(k, 40, 8)]

    with ThreadPoolExecutor(8) as pool:
        found = dict(pair for part in pool.map(work, range(8)) for pair in part)
    assert len(made) <= 1 + 8
    for i, one in enumerate(expected):
        assert (found[i].probabilities, found[i].novelty) == (one.probabilities, one.novelty)
        assert all(np.array_equal(found[i].maps[name], one.maps[name]) for name in one.maps)


# --- what a run exports


@pytest.fixture(scope="module", params=["small_run", "whole_run"])
def loose(request, tmp_path_factory) -> Path:
    """A run of one fold, or of all, with such loose targets that even its networks give answers."""
    project = tmp_path_factory.mktemp("loose") / "project"
    shutil.copytree(request.getfixturevalue(request.param), project)
    with_params(project, evaluate=LOOSE)
    for stage in ("served", "evaluate", "export"):
        run(sys.executable, f"stages/{stage}.py", cwd=project)
    return project


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def folds_of(project: Path) -> list[int]:
    return sorted(int(path.stem.split("-")[1]) for path in (project / "models").glob("fold-*"))


def held_out(project: Path) -> pd.DataFrame:
    """The predictions that thresholds are to come from: of the test folds if every fold was run, else of validation."""
    split = pd.read_csv(project / "data/split/folds.csv", dtype=str, keep_default_na=False)
    part = "test" if len(folds_of(project)) == 3 else "validation"
    tables = [pd.read_csv(project / f"data/predictions/{part}/fold-{k}.csv").assign(of=k) for k in folds_of(project)]
    rows = pd.concat(tables).query("role == @part")
    rows = rows.merge(split[["path", "fold", "group", "copies", "target"]], on="path", validate="one_to_one")
    return rows[rows["target"] != ""].reset_index(drop=True)


def raw(rows: pd.DataFrame, classes: list[str]) -> np.ndarray:
    return rows[[f"raw_{name}" for name in classes]].to_numpy(np.float64)


def possible(labels: pd.Series, classes: list[str]) -> np.ndarray:
    """(n, classes) bool: the classes that each label leaves possible."""
    return np.array([[name in label.split("|") for name in classes] for label in labels])


def calibrated(probabilities: np.ndarray, scale: float, biases) -> np.ndarray:
    return softmax(scale * np.log(probabilities) + np.array(biases), axis=1)


def lowest_thresholds(
    p: np.ndarray, allowed: np.ndarray, source: np.ndarray, healthy: int, *, target_error: float, target_miss: float
) -> tuple[np.ndarray, dict[str, list[float]]]:
    """By trying them all: the thresholds of each class, and of the sets, as the documentation defines them."""
    called, most = p.argmax(axis=1), p.max(axis=1)
    wrong, tumour = ~allowed[np.arange(len(p)), called], ~allowed[:, healthy]
    everything = np.ones(len(p), bool)
    parts = [everything, *(source == name for name in set(source))]

    def misses_few(least: float) -> bool:
        # One further tumour counts as missed.
        missed = [(part & tumour & (called == healthy) & (most >= least)).sum() for part in parts]
        return all(
            n == 0 or n + 1 <= target_miss * ((part & tumour).sum() + 1) + 1e-9
            for n, part in zip(missed, parts, strict=True)
        )

    def errs_little(least: float) -> bool:
        judged = [part for part in parts if part is everything or part.sum() * target_error >= 1]
        answered = (most >= least) & ((called != healthy) | (most >= surest))
        return all((wrong & answered & part).sum() <= target_error * (answered & part).sum() for part in judged)

    steps = np.floor(most * 1e6) / 1e6
    surest = next(least for least in sorted({0.0, *steps + 1e-6}) if misses_few(least))
    given = steps[(called != healthy) | (most >= surest)]
    least = next((least for least in sorted(given) if errs_little(least)), np.inf)
    confidence = np.full(p.shape[1], least)
    confidence[healthy] = max(least, surest)
    single, sets = allowed.sum(axis=1) == 1, {}
    for level in (90, 95):
        sets[str(level)] = []
        for i in range(p.shape[1]):
            own = p[single & allowed[:, i], i]
            needed = -(-(len(own) + 1) * level // 100)
            kept = [value for value in own if (own >= value).sum() >= needed]
            sets[str(level)].append(max(kept, default=0.0))
    return confidence, sets


def test_calibration_and_thresholds_follow_from_images_that_no_scorer_learned_from(loose):
    stated = read_json(loose / "data/served/thresholds.json")
    about = asdict(read_exported(loose / FILE).metadata)
    assert stated.items() <= about.items() and stated.keys() == {"calibration", "confidence", "sets"}
    rows, split = held_out(loose), pd.read_csv(loose / "data/split/folds.csv", dtype=str, keep_default_na=False)
    pool = split[(split["fold"] != "") & (split["target"] != "")]
    if about["fold"] is None:  # every image that it learned from, scored by the network that did not
        assert sorted(rows["path"]) == sorted(pool["path"])
        assert (rows["fold"].astype(int) == rows["of"]).all()
    else:
        assert sorted(rows["path"]) == sorted(pool["path"][pool["fold"] == "1"])
    assert set(rows["source"]) == {"phantoms", "second"}

    classes = about["classes"]
    allowed = possible(rows["target"], classes)
    logs = np.log(raw(rows, classes))

    def loss(values: np.ndarray) -> float:
        own = log_softmax(np.exp(values[0]) * logs + values[1:], axis=1)
        return -logsumexp(np.where(allowed, own, -np.inf), axis=1).sum() + values @ values / 2

    best = minimize(loss, np.zeros(1 + len(classes))).x
    assert stated["calibration"]["scale"] == pytest.approx(np.exp(best[0]), abs=3e-4)
    assert stated["calibration"]["biases"] == pytest.approx(best[1:], abs=3e-4)

    p = calibrated(raw(rows, classes), **stated["calibration"])
    expected, sets = lowest_thresholds(p, allowed, rows["source"].to_numpy(), classes.index("no_tumor"), **LOOSE)
    assert np.isfinite(expected).all() and not (p.max(axis=1) >= expected[p.argmax(axis=1)]).all()
    assert stated["confidence"] == pytest.approx(expected, abs=1.1e-6)
    assert stated["sets"].keys() == sets.keys()
    for level, least in sets.items():
        assert stated["sets"][level] == pytest.approx(least, abs=1.1e-6)


def states_of(p: np.ndarray, least: list[float | None]) -> list[str]:
    """Answer, unsure or no answer, image by image."""
    bars, found = [np.inf if value is None else value for value in least], []
    for row in p:
        second, first = np.argsort(row)[-2:]
        either = row[first] + row[second] >= min(bars)
        found.append("answer" if row[first] >= bars[first] else "unsure" if either else "no answer")
    return found


def test_the_file_answers_as_the_network_that_learned_from_all_patients_or_from_those_of_the_first_fold(loose):
    exported, whole = read_exported(loose / FILE), len(folds_of(loose)) == 3
    about = exported.metadata
    assert about.fold is (None if whole else 0) and about.healthy_class == "no_tumor"
    assert about.expects == PARAMS.export.expects
    path = loose / ("data/final/model.keras" if whole else "models/fold-0/model.keras")
    trained, metadata = load_model(path)
    for name in ("classes", "preprocessing", "backbone", "data_fingerprint"):
        assert getattr(about, name) == metadata[name], name
    store = Store(loose / "data/prepared")
    keras_says = outputs(explained(trained, flips=True), store.images, 8)
    before = calibrated(  # the calibration that the network had is taken back
        keras_says["probabilities"].astype(np.float64),
        1 / metadata["calibration"]["scale"],
        -np.array(metadata["calibration"]["biases"]) / metadata["calibration"]["scale"],
    )
    expected = calibrated(before, **about.calibration)
    # Distance alone refuses no scan here.
    told = Classifier.load(rewritten(loose / FILE, loose / "near.tflite", novelty=np.inf)).predict_prepared(
        store.images
    )
    found = np.array([[one.probabilities[name] for name in about.classes] for one in told])
    np.testing.assert_allclose(found, expected, atol=0.01)
    slope = about.calibration["scale"] / metadata["calibration"]["scale"]
    maps = np.stack([np.stack(list(one.maps.values()), axis=-1) for one in told])
    np.testing.assert_allclose(maps, slope * keras_says["maps"], atol=0.01 * np.abs(maps).max())
    assert [one.state for one in told] == states_of(found, about.confidence)
    assert len({one.state for one in told}) > 1
    same = (found.argmax(axis=1) == expected.argmax(axis=1)) & (
        np.array(states_of(found, about.confidence)) == states_of(expected, about.confidence)
    )
    scores = read_json(loose / "metrics/export.json")
    assert scores["same_decisions"] == pytest.approx(same.mean(), abs=1e-6)
    assert scores["difference"] == pytest.approx(np.abs(found - expected).max(), abs=1e-3)
    assert scores["bytes"] == (loose / FILE).stat().st_size and scores["all_patients"] == int(whole)
    with np.load(loose / "data/novelty/served.npz") as arrays:
        for name, value in asdict(exported.novelty).items():
            np.testing.assert_array_equal(value, arrays[name])


def test_its_scores_are_those_on_images_that_it_did_not_learn_from(loose):
    scores, split = read_json(loose / "metrics/export.json"), Store(loose / "data/prepared").index
    folds = pd.read_csv(loose / "data/split/folds.csv", dtype=str, keep_default_na=False).set_index("path")
    parts = {"official_test": ""} | ({} if len(folds_of(loose)) == 3 else {"validation": "1", "test": "0"})
    assert scores.keys() == {"bytes", "all_patients", "same_decisions", "difference", *parts}
    served = Classifier.load(loose / FILE)
    for name, fold in parts.items():
        own = folds.loc[split["path"], "fold"].eq(fold).to_numpy() & split["source"].eq("phantoms").to_numpy()
        told, labels = served.predict_prepared(Store(loose / "data/prepared").images[own]), split["label"][own]
        called = np.array([one.label for one in told])
        answered = np.array([one.state == "answer" for one in told])
        assert scores[name]["n"] == own.sum() > 0
        assert scores[name]["accuracy"] == pytest.approx(accuracy_score(labels, called), abs=1e-6)
        macro_f1 = f1_score(labels, called, labels=served.metadata.classes, average="macro", zero_division=0)
        assert scores[name]["macro_f1"] == pytest.approx(macro_f1, abs=1e-6)
        assert scores[name]["answered"] == pytest.approx(answered.mean(), abs=1e-6)
        assert scores[name]["novel"] == pytest.approx(np.mean([one.novelty > 1 for one in told]), abs=1e-6)
        assert ("error" in scores[name]) == answered.any()
        if answered.any():
            assert scores[name]["error"] == pytest.approx(np.mean((called != labels)[answered]), abs=1e-6)


def test_what_it_says_its_answers_are_worth_was_measured(loose):
    test, measured = read_json(loose / "metrics/test.json"), read_exported(loose / FILE).metadata.measured
    published = "official_test" if len(folds_of(loose)) == 3 else "official_clean"
    cohorts = ["patient_test", "source_second_own", published]
    assert len(measured) == len(cohorts)
    for row, cohort in zip(measured, cohorts, strict=True):
        selective, sets = test[cohort]["selective"], test[cohort].get("conformal", {})
        expected = {"n": test[cohort]["n"], "answered": selective["coverage"]}
        expected |= {name: selective[name] for name in ("error", "missed") if name in selective}
        expected |= {level: sets[level]["coverage"] for level in sets}
        assert row == {"images": row["images"]} | expected
        assert row["images"].startswith("second: " if cohort.startswith("source") else "phantoms: ")
    assert {"error", "missed", "coverage_90", "coverage_95"} <= measured[0].keys()
    assert not {"coverage_90", "coverage_95"} & measured[1].keys()  # its labels are no single classes

    # The same from the predictions, with thresholds from other folds than the image's own.
    stated, rows = read_json(loose / "data/served/thresholds.json"), held_out(loose)
    classes, healthy = read_exported(loose / FILE).metadata.classes, "no_tumor"
    tables = {}
    if len(folds_of(loose)) == 3:
        for k in folds_of(loose):
            others = rows[rows["of"] != k]
            allowed, source = possible(others["target"], classes), others["source"].to_numpy()
            scale, biases = fit_calibration(raw(others, classes), allowed)
            p = calibrated(raw(others, classes), scale, biases)
            least, _ = lowest_thresholds(p, allowed, source, classes.index(healthy), **LOOSE)
            tables[k] = (scale, biases), least
    else:
        tables[0] = tuple(stated["calibration"].values()), stated["confidence"]
    parts = []
    for k, (calibration, least) in tables.items():
        part = pd.read_csv(loose / f"data/predictions/test/fold-{k}.csv").query("role == 'test'")
        p = calibrated(raw(part, classes), *calibration)
        parts.append(part.assign(state=states_of(p, least), called=np.array(classes)[p.argmax(axis=1)]))
    tested = pd.concat(parts).query("source == 'phantoms'")
    official = pd.read_csv(loose / "data/served/official_test.csv")
    p = calibrated(raw(official, classes), **stated["calibration"])
    official = official.assign(state=states_of(p, stated["confidence"]), called=np.array(classes)[p.argmax(axis=1)])
    for cohort, part in (("patient_test", tested), ("official_test", official)):
        found, answered = test[cohort]["selective"], part["state"] == "answer"
        assert test[cohort]["n"] == len(part)
        expected = {
            "coverage": answered.mean(),
            "unsure": (part["state"] == "unsure").mean(),
            "no_answer": (part["state"] == "no answer").mean(),
            "missed": (answered & (part["called"] == healthy))[part["label"] != healthy].mean(),
        }
        if answered.any():
            expected["error"] = (part["called"] != part["label"])[answered].mean()
        assert {name: found.get(name) for name in expected} == pytest.approx(expected, abs=1e-6), cohort
    assert test["patient_test"]["selective"]["coverage"] > 0


@pytest.mark.parametrize("name", ["small_run", "whole_run"])
def test_without_enough_right_answers_it_gives_none(name, request):
    project = request.getfixturevalue(name)
    about, stated = read_exported(project / FILE).metadata, read_json(project / "data/served/thresholds.json")
    assert (about.calibration, about.confidence, about.sets) == tuple(stated.values())
    rows = held_out(project)
    p = calibrated(raw(rows, about.classes), **about.calibration)
    source, healthy = rows["source"].to_numpy(), about.classes.index("no_tumor")
    expected, _ = lowest_thresholds(p, possible(rows["target"], about.classes), source, healthy, **TARGETS)
    told = [np.inf if value is None else value for value in about.confidence]
    assert told == pytest.approx(expected, abs=1.1e-6)


def test_a_scan_is_prepared_as_for_training(small_run):
    classifier, store = Classifier.load(small_run / FILE), Store(small_run / "data/prepared")
    assert set(store.index["source"]) == {"phantoms", "second"}
    for row, path in enumerate(store.index["path"]):
        prediction = classifier.predict(small_run / "data/raw" / path)
        assert prediction.pixels.tobytes() == store.images[row].tobytes()


# --- states


def test_the_states_and_the_reasons_not_to_answer(small_run, tmp_path):
    exported = read_exported(small_run / FILE)
    scan = next((small_run / "data/raw/phantoms").glob("*/glioma/*.jpg"))
    classes = exported.metadata.classes

    def predicted(novelty: float = np.inf, **changes):
        return Classifier.load(rewritten(small_run / FILE, tmp_path / "x.tflite", novelty=novelty, **changes)).predict(
            scan
        )

    sure = predicted(confidence=[0.0] * 4)
    ordered = sorted(classes, key=sure.probabilities.get, reverse=True)
    assert (sure.state, sure.label, sure.likely) == ("answer", ordered[0], ordered[:1])
    assert not sure.abstained and sure.reasons == [] and sure.map is sure.maps[sure.label]
    assert sum(sure.probabilities.values()) == pytest.approx(1, abs=1e-6)
    most, second = two(sure)
    place = classes.index(sure.label)

    def bars(own: float | None, others: float | None) -> list[float | None]:
        return [own if i == place else others for i in range(4)]

    # At the threshold itself it answers; what counts is that of the class that it would answer.
    assert predicted(confidence=bars(most, 0.0)).state == predicted(confidence=bars(most, None)).state == "answer"
    for least in (bars(0.999, most + second - 1e-5), bars(0.999, 0.0), bars(None, 0.0), bars(most + 1e-5, None)):
        said = predicted(confidence=least)
        assert (said.state, said.label, said.likely) == ("unsure", ordered[0], ordered[:2])
        assert said.abstained and len(said.reasons) == 1
        told = "no confidence kept" if least[place] is None else f"{least[place]:.3f} is needed"
        assert told in said.reasons[0]
        assert (ordered[0].replace("_", " ") in said.reasons[0]) == (least[place] is not None)
    for least in (bars(most + second + 1e-5, most + second + 1e-5), bars(None, None), bars(0.999, None)):
        said = predicted(confidence=least)
        assert (said.state, said.label, said.likely) == ("no answer", ordered[0], [])
        assert said.abstained and len(said.reasons) == 1

    odd = predicted(novelty=1e-9, confidence=[0.0] * 4)
    assert (odd.state, odd.likely, odd.abstained, len(odd.reasons)) == ("no answer", [], True, 1)
    assert odd.novelty > 1 and f"novelty {odd.novelty:.2f}" in odd.reasons[0]
    both = predicted(novelty=1e-9, confidence=[0.999] * 4)
    assert both.state == "no answer" and both.reasons[0] == odd.reasons[0] and "0.999 is needed" in both.reasons[1]
    least = [sure.probabilities[name] + (1e-6 if i else -1e-6) for i, name in enumerate(sure.probabilities)]
    assert predicted(sets={"90": least}).sets == {90: [classes[0]]}


@pytest.mark.parametrize("state", ["answer", "unsure", "no answer"])
def test_one_prediction_or_many_have_the_same_states(small_run, tmp_path, state):
    scans = sorted((small_run / "data/raw/phantoms").glob("*/*/*.jpg"))[:9]
    served = Classifier.load(giving(state, scans[0], small_run / FILE, tmp_path / "x.tflite"))
    alone = [served.predict(scan) for scan in scans]
    together = served.predict_prepared(np.stack([one.pixels for one in alone]))
    assert alone[0].state == state
    assert [one.state for one in together] == [one.state for one in alone]
    assert [one.likely for one in together] == [one.likely for one in alone]


# --- the format


def golden() -> Exported:
    """What `tests/golden/classifier-2.tflite` was written from: as small a network as the format can hold."""
    pixels = keras.Input((32, 32, 1), name="pixels")
    scaled = keras.layers.Rescaling(1 / 128, name="scale")(pixels)
    spots = keras.layers.Conv2D(2, 4, strides=16, activation="relu", name="spots")(scaled)
    model = classifier.classifier(keras.Model(pixels, spots), 3, hidden=0, dropout=0.0)
    random = np.random.default_rng(3)  # multiples of 1/16, which half precision holds
    model.set_weights([random.integers(-24, 25, weights.shape) / 16 for weights in model.get_weights()])
    metadata = Metadata(
        classes=["glioma", "no_tumor", "pituitary"],
        healthy_class="no_tumor",
        preprocessing={"size": 32, "crop": True, "clip": 0.5},
        calibration={"scale": 1.25, "biases": [0.25, 0.0, -0.5]},
        confidence=[0.9, None, 0.875],
        sets={"90": [0.375, 0.25, 0.0625], "95": [0.125, 0.0, 0.03125]},
        backbone="spots",
        fold=None,
        measured=[
            {"images": "first: new patients", "n": 120, "answered": 0.75, "error": 0.05, "missed": 0.0125}
            | {"coverage_90": 0.9, "coverage_95": 0.9625},
            {"images": "second: another hospital", "n": 8, "answered": 0.0},
        ],
        data_fingerprint="0123456789abcdef" * 4,
    )
    mean, scale = np.array([0.5, 0.25]), np.array([1.0, 2.0])
    centres = np.array([[0.0, 0.5], [1.0, 0.0], [-0.5, 0.25]])
    whitening = np.array([[1.0, 0.0], [0.5, 2.0]], np.float32)
    return Exported(to_litert(model, flips=True), Novelty(mean, scale, centres, whitening, 1.0), metadata)


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_each_format_is_still_read_and_says_the_same(version):
    expected = read_json(GOLDEN / f"answer-{version}.json")
    said = Classifier.load(GOLDEN / f"classifier-{version}.tflite").predict(GOLDEN / "scan.png")
    reasons = expected["reasons"]
    if version == 1:  # its threshold is the same for every class, so the reason named none
        old, new = "the network is not sure enough (", f"not sure enough for {expected['label']} ("
        assert [old in reason for reason in reasons] == [False, True]
        reasons = [reason.replace(old, new) for reason in reasons]
        assert (said.state, said.likely) == ("no answer", [])
    else:
        assert (said.state, said.likely) == (expected["state"], expected["likely"])
    assert (said.label, said.abstained, said.reasons) == (expected["label"], expected["abstained"], reasons)
    assert said.probabilities == pytest.approx(expected["probabilities"], abs=1e-5)
    assert said.novelty == pytest.approx(expected["novelty"], rel=1e-4)
    assert {str(level): names for level, names in said.sets.items()} == expected["prediction_sets"]
    assert said.maps.keys() == expected["map"].keys()
    for name, values in expected["map"].items():
        np.testing.assert_allclose(said.maps[name], values, atol=1e-3)


def test_the_metadata_of_each_format():
    about = read_exported(GOLDEN / "classifier-1.tflite").metadata
    assert (about.healthy_class, about.measured, about.fold) == ("", [], 0)
    assert len(about.confidence) == len(about.classes) and len(set(about.confidence)) == 1
    assert read_exported(GOLDEN / "classifier-2.tflite").metadata == golden().metadata
    assert about.expects == golden().metadata.expects == ""  # files of before that was stated


@pytest.mark.parametrize("version", [1, 2])
def test_a_classifier_knows_its_file(version, tmp_path):
    golden = GOLDEN / f"classifier-{version}.tflite"
    again = rewritten(golden, tmp_path / "again.tflite", expects="spots, ž")
    for path, number in ((golden, version), (again, 2)):
        digest = run("sha256sum", str(path), cwd=tmp_path).stdout.split()[0]
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
        for found in (read_exported(path), Classifier.load(path)):
            assert (found.format_version, found.sha256) == (number, digest)
    assert found.metadata.expects == "spots, ž"


def test_the_golden_file_is_what_it_would_be_today(tmp_path):
    """Not byte by byte, as another version of the converter may write the same network in another way."""
    write_exported(tmp_path / "today.tflite", golden())
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    now, then = (
        Classifier.load(path).predict_prepared(images)
        for path in (tmp_path / "today.tflite", GOLDEN / "classifier-2.tflite")
    )
    for today, before in zip(now, then, strict=True):
        assert (today.state, today.likely, today.sets) == (before.state, before.likely, before.sets)
        assert today.probabilities == pytest.approx(before.probabilities, abs=1e-5)
        assert today.novelty == pytest.approx(before.novelty, rel=1e-4)
    assert (GOLDEN / "classifier-2.tflite").stat().st_size < 14_000


def test_the_same_content_gives_the_same_bytes_and_is_read_back(small_run, tmp_path):
    # The golden file is older than `expects`, which is then written as not stated.
    write_exported(tmp_path / "with.tflite", read_exported(GOLDEN / "classifier-2.tflite"))
    older, newer = read_exported(GOLDEN / "classifier-2.tflite"), read_exported(tmp_path / "with.tflite")
    assert (newer.network, newer.metadata) == (older.network, older.metadata)
    for source in (small_run / FILE, tmp_path / "with.tflite"):
        write_exported(tmp_path / "again.tflite", read_exported(source))
        assert (tmp_path / "again.tflite").read_bytes() == source.read_bytes()
    # A file of format 1 is written as one of format 2, which says the same.
    write_exported(tmp_path / "new.tflite", read_exported(GOLDEN / "classifier-1.tflite"))
    old, new = (
        Classifier.load(path).predict(GOLDEN / "scan.png")
        for path in (GOLDEN / "classifier-1.tflite", tmp_path / "new.tflite")
    )
    assert (new.probabilities, new.novelty, new.reasons) == (old.probabilities, old.novelty, old.reasons)
    assert len((tmp_path / "new.tflite").read_bytes()) != len((GOLDEN / "classifier-1.tflite").read_bytes())


def test_any_zip_program_reads_it_and_the_digest_is_that_of_sha256sum(tmp_path):
    content = (GOLDEN / "classifier-2.tflite").read_bytes()
    with zipfile.ZipFile(GOLDEN / "classifier-2.tflite") as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["metadata.json", "novelty.npz"]
        assert json.loads(archive.read("metadata.json"))["format_version"] == 2
        digest = archive.comment.decode()
    (tmp_path / "body").write_bytes(content[:-64])
    shown = run("sha256sum", str(tmp_path / "body"), cwd=tmp_path).stdout
    assert content.endswith(digest.encode()) and shown.split()[0] == digest


def reheaded(source: Path, target: Path, **changes) -> Path:
    """A classifier with other values in metadata.json, and without a digest."""
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


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_another_format_is_refused_by_its_number(tmp_path, version):
    for other in (0, 3, 99):
        golden = GOLDEN / f"classifier-{version}.tflite"
        path = reheaded(golden, tmp_path / "other.tflite", format_version=other, extra=1)
        with pytest.raises(PipelineError, match=rf"format {other}, this version reads formats 1 and 2"):
            Classifier.load(path)


def refusal(path: Path) -> str:
    """Why a file is refused, in one line."""
    with pytest.raises(PipelineError) as caught:
        read_exported(path)
    assert str(path) in str(caught.value) and str(caught.value).isprintable()
    return str(caught.value)


def test_damage_anywhere_is_found(tmp_path):
    content, damaged = (GOLDEN / "classifier-2.tflite").read_bytes(), tmp_path / "damaged.tflite"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start, random = min(info.header_offset for info in archive.infolist()), np.random.default_rng(0)
        directory = archive.start_dir
    assert 0 < start < directory < len(content) - 64
    # A few hundred places of the network; every byte of the archive: entries, directory, and the digest.
    places = [*random.choice(start, 400, replace=False), *range(start, len(content))]
    found = set()
    for place in places:
        for change in (1, 8, int(random.integers(2, 256))):  # 1 and 8: entries that seem encrypted or compressed
            damaged.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
            found.add(refusal(damaged).split(": ")[-2][-30:])
    assert len(found) == 2  # not an archive any more, or another content than the digest says
    for length in [*range(0, len(content), 131), *range(directory, len(content))]:
        damaged.write_bytes(content[:length])
        assert "damaged" in refusal(damaged)
    for more in (b"\n", b"0", bytes(100), content):
        damaged.write_bytes(content + more)
        assert "damaged" in refusal(damaged)
    # A whole archive with other content, and the digest of another file.
    reheaded(GOLDEN / "classifier-2.tflite", damaged, fold=4)
    assert "SHA-256" in refusal(damaged)
    with zipfile.ZipFile(damaged, "a") as archive:
        archive.comment = content[-64:]
    assert "SHA-256" in refusal(damaged)


def test_the_command_refuses_a_damaged_file_in_one_line(tmp_path, capsys):
    content = bytearray((GOLDEN / "classifier-2.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "damaged.tflite").write_bytes(content)
    assert main(["predict", "--model", str(tmp_path / "damaged.tflite"), str(GOLDEN / "scan.png")]) == 2
    told = capsys.readouterr()
    assert told.out == "" and len(told.err.splitlines()) == 1
    assert told.err.startswith(f"error: {tmp_path / 'damaged.tflite'} is damaged")


def test_a_damaged_or_foreign_file_of_format_1_is_refused(tmp_path):
    content = (GOLDEN / "classifier-1.tflite").read_bytes()
    damaged = tmp_path / "damaged.tflite"
    for share in range(20):
        damaged.write_bytes(content[: len(content) * share // 20])
        assert "damaged" in refusal(damaged)
    damaged.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    assert "its content is not what its SHA-256 says" in refusal(damaged)
    for version in (1, 2):
        assert "damaged" in refusal(reheaded(GOLDEN / f"classifier-{version}.tflite", damaged, unknown="x"))
    assert "No such file" in refusal(tmp_path / "none.tflite")
    shutil.copy(GOLDEN / "scan.png", damaged)
    assert "damaged" in refusal(damaged)
