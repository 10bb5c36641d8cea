"""The model of the first fold as one file that needs no TensorFlow, and metrics/export.json: what that file answers.

Thresholds are learned from validation images as the file itself answers them: from one view of each image, where the
stage `predict` may average two.
"""

import numpy as np
from _stage import quiet_tensorflow, run

quiet_tensorflow("export")

from brain_tumor.data.roles import roles  # noqa: E402
from brain_tumor.data.store import Store  # noqa: E402
from brain_tumor.errors import PipelineError  # noqa: E402
from brain_tumor.evaluation.decisions import fit_thresholds  # noqa: E402
from brain_tumor.evaluation.inputs import as_arrays  # noqa: E402
from brain_tumor.evaluation.mahalanobis import Novelty  # noqa: E402
from brain_tumor.evaluation.served import served_figures  # noqa: E402
from brain_tumor.files import write_json  # noqa: E402
from brain_tumor.model.determinism import make_deterministic  # noqa: E402
from brain_tumor.model.exporting import in_float32, to_litert  # noqa: E402
from brain_tumor.model.maps import explained, outputs  # noqa: E402
from brain_tumor.model.saving import load_model  # noqa: E402
from brain_tumor.progress import bar  # noqa: E402
from brain_tumor.serving.exported import DEFAULT, Exported, Metadata, write_exported  # noqa: E402
from brain_tumor.serving.network import Network  # noqa: E402
from brain_tumor.tables import read_table  # noqa: E402

TOLERANCE = 1e-4  # of probabilities, between Keras and the exported file
SHARED = ("classes", "preprocessing", "calibration", "backbone", "data_fingerprint")  # with models/fold-<k>


def answers(network, images, batch_size):
    """Probabilities and features of (n, size, size) images."""
    starts = bar(range(0, len(images), batch_size), desc="exported", unit="batch")
    parts = [network(images[start : start + batch_size]) for start in starts]
    return (np.concatenate([part[name] for part in parts]) for name in ("probabilities", "features"))


def main(params, arguments):
    make_deterministic(params.train.threads)
    fold, batch_size = params.train.folds[0], params.predict.batch_size
    model, metadata = load_model(f"models/fold-{fold}/model.keras")
    model = in_float32(model)
    with np.load(f"data/novelty/fold-{fold}.npz") as arrays:
        novelty = Novelty(**{name: arrays[name] for name in arrays.files})
    images, table = Store("data/prepared").images, read_table("data/split/folds.csv")
    role = roles(table, fold, params.split.strategy, params.split.on_leak)
    network = to_litert(model)

    probabilities, features = answers(Network(network), images, batch_size)
    difference = np.abs(probabilities - outputs(explained(model), images, batch_size)["probabilities"]).max()
    if difference > TOLERANCE:
        raise PipelineError(f"the exported file differs from Keras by {difference:.1e}, expected at most {TOLERANCE}")
    classes = metadata["classes"]
    actual, _, probabilities = as_arrays(table["label"], probabilities, classes)
    seen = role == "validation"
    thresholds = fit_thresholds(probabilities[seen], actual[seen], params.evaluate.target_error)
    about = {name: metadata[name] for name in SHARED} | {
        "confidence": thresholds.confidence if np.isfinite(thresholds.confidence) else None,
        "sets": {str(level): least.tolist() for level, least in thresholds.sets.items()},
        "fold": fold,
    }
    write_exported(DEFAULT, Exported(network, novelty, Metadata(**about)))

    figures = {"bytes": DEFAULT.stat().st_size}
    novel = novelty.score(features) > 1
    tested = "official_test" if params.split.strategy == "official" else "test"
    for part, own in (("validation", seen), ("test", role == tested)):
        figures[part] = served_figures(
            table[own], probabilities[own], novel[own], classes, thresholds.confidence, params.evaluate.min_class_images
        )
    write_json("metrics/export.json", figures)
    print(f"{DEFAULT.name}: {figures['bytes'] / 1e6:.1f} MB, at most {difference:.1e} from Keras")


if __name__ == "__main__":
    run(main)
