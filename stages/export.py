"""The model of the first fold as one file that needs no TensorFlow, and its own scores: metrics/export.json.

Its thresholds are fitted on the validation images as the file itself predicts them: from a single view of each image,
whereas the stage `predict` may average two.
"""

from pathlib import Path

import numpy as np
from _stage import run

from brain_tumor.evaluation.decisions import fit_thresholds
from brain_tumor.evaluation.deployed import deployed_scores
from brain_tumor.exported.classifier_file import Exported, Metadata, write_exported
from brain_tumor.exported.novelty import Novelty
from brain_tumor.files import write_json
from brain_tumor.metrics.arrays import as_arrays
from brain_tumor.networks.determinism import make_deterministic
from brain_tumor.networks.saving import load_model
from brain_tumor.prediction.litert import convert
from brain_tumor.tables.csv_tables import read_table
from brain_tumor.tables.roles import roles, test_role
from brain_tumor.tables.store import Store

TARGET = Path("src/brain_tumor/serving/classifier.tflite")
SHARED = ("classes", "preprocessing", "calibration", "backbone", "data_fingerprint")  # with models/fold-<k>


def main(params, arguments):
    make_deterministic(params.run.threads)
    fold, least = params.run.folds[0], params.evaluate.min_class_images
    model, metadata = load_model(f"models/fold-{fold}/model.keras")
    with np.load(f"data/novelty/fold-{fold}.npz") as arrays:
        novelty = Novelty(**{name: arrays[name] for name in arrays.files})
    images, table = Store("data/prepared").images, read_table("data/split/folds.csv")
    role = roles(table, fold, params.split.strategy, params.split.on_leak)
    # Thresholds need single classes, and hold for the source that they come from: the first rows.
    own = int((table["source"] == params.data.main).sum())
    images, table, role = images[:own], table[:own], role[:own]

    network, answers, difference = convert(model, images, params.predict.batch_size)
    classes, novel = metadata["classes"], novelty.score(answers["features"]) > 1
    actual, _, probabilities = as_arrays(table["label"], answers["probabilities"], classes)
    seen = role == "validation"
    thresholds = fit_thresholds(probabilities[seen], actual[seen], params.evaluate.target_error)
    about = {name: metadata[name] for name in SHARED} | {
        "confidence": thresholds.confidence if np.isfinite(thresholds.confidence) else None,
        "sets": {str(level): smallest.tolist() for level, smallest in thresholds.sets.items()},
        "fold": fold,
    }
    write_exported(TARGET, Exported(network, novelty, Metadata(**about)))

    scores = {"bytes": TARGET.stat().st_size}
    for part, rows in (("validation", seen), ("test", role == test_role(params.split.strategy))):
        shown = table[rows], probabilities[rows], novel[rows]
        scores[part] = deployed_scores(*shown, classes, thresholds.confidence, least)
    write_json("metrics/export.json", scores)
    print(f"{TARGET.name}: {scores['bytes'] / 1e6:.1f} MB, probabilities within {difference:.1e} of Keras")


if __name__ == "__main__":
    run(main)
