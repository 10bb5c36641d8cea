"""The network that is served as one file that needs no TensorFlow, and its scores: metrics/export.json.

Its scores are those on images that it did not learn from: the published test folder, and the validation and test
images of the first fold where its network is the one that is served.
"""

import json
from pathlib import Path

import numpy as np
from _stage import run

from brain_tumor.evaluation.cohorts import in_words
from brain_tumor.evaluation.deployed import deployed_scores, measured
from brain_tumor.exported.classifier_file import Exported, Metadata, write_exported
from brain_tumor.exported.novelty import Novelty
from brain_tumor.exported.states import states
from brain_tumor.files import write_json
from brain_tumor.metrics.rounding import rounded
from brain_tumor.networks.determinism import make_deterministic
from brain_tumor.networks.saving import load_model
from brain_tumor.prediction.litert import convert
from brain_tumor.tables.csv_tables import read_table
from brain_tumor.tables.roles import roles, test_role
from brain_tumor.tables.store import Store

TARGET = Path("src/brain_tumor/serving/classifier.tflite")
SHARED = ("classes", "preprocessing", "calibration", "backbone", "fold", "data_fingerprint")  # with the model's file


def main(params, arguments):
    make_deterministic(params.run.threads)
    model, metadata = load_model("data/served/model.keras")
    thresholds = json.loads(Path("data/served/thresholds.json").read_text(encoding="utf-8"))
    test = json.loads(Path("metrics/test.json").read_text(encoding="utf-8"))
    with np.load("data/novelty/served.npz") as arrays:
        novelty = Novelty(**{name: arrays[name] for name in arrays.files})
    images, table = Store("data/prepared").images, read_table("data/split/folds.csv")
    classes, options = metadata["classes"], params.predict

    network, answers, keras_says = convert(model, images, options.batch_size, options.flips)
    described = in_words(params.data.main, params.data.learned[1:], next(iter(test)), metadata["fold"] is None)
    about = {name: metadata[name] for name in SHARED} | {
        "healthy_class": params.evaluate.healthy_class,
        "measured": measured(test, described),
        "expects": params.export.expects,
    }
    write_exported(TARGET, Exported(network, novelty, Metadata(**about | thresholds)))

    p, novel = answers["probabilities"], novelty.score(answers["features"]) > 1
    least = [np.inf if value is None else value for value in thresholds["confidence"]]
    same = (p.argmax(axis=1) == keras_says.argmax(axis=1)) & (states(p, least) == states(keras_says, least))
    scores = {
        "bytes": TARGET.stat().st_size,
        "all_patients": int(metadata["fold"] is None),
        "same_decisions": rounded(same.mean()),
        "difference": round(float(np.abs(p - keras_says).max()), 3),
    }
    role = roles(table, params.run.folds[0], params.split.strategy, params.split.on_leak)
    parts = {"official_test": "official_test"}
    if metadata["fold"] is not None:
        parts |= {"validation": "validation", "test": test_role(params.split.strategy)}
    for part, name in parts.items():
        rows = (role == name) & (table["source"] == params.data.main).to_numpy()
        if rows.any():
            shown = table[rows], p[rows], novel[rows]
            scores[part] = deployed_scores(*shown, classes, least, params.evaluate.min_class_images)
    write_json("metrics/export.json", scores)
    print(f"{TARGET.name}: {scores['bytes'] / 1e6:.1f} MB, {scores['same_decisions']:.2%} of the decisions as in Keras")


if __name__ == "__main__":
    run(main)
