"""How each model tells what is no scan: data/novelty/fold-<k>.npz and metrics/novelty.json.

Fitted on training images; the threshold comes from validation images. Kinds of pictures that the method was chosen
with are judged against validation scans, the others against test scans.
"""

from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from _stage import quiet_tensorflow, run

quiet_tensorflow("novelty")

from brain_tumor.data.roles import roles  # noqa: E402
from brain_tumor.data.store import Store  # noqa: E402
from brain_tumor.evaluation.galleries import odd_page  # noqa: E402
from brain_tumor.evaluation.novelty import fit_novelty, novelty_figures  # noqa: E402
from brain_tumor.evaluation.odd_pictures import DEVELOPMENT, HELD_OUT, odd_picture  # noqa: E402
from brain_tumor.files import replacing_folder, write_json  # noqa: E402
from brain_tumor.imaging import Preprocessing, decode, prepare  # noqa: E402
from brain_tumor.model.determinism import make_deterministic  # noqa: E402
from brain_tumor.model.maps import explained, outputs  # noqa: E402
from brain_tumor.model.saving import load_model  # noqa: E402
from brain_tumor.progress import bar  # noqa: E402
from brain_tumor.tables import read_table  # noqa: E402

PARTS = {"development": ("validation", DEVELOPMENT), "held_out": ("test", HELD_OUT)}


def drawn(kind, paths, preprocessing):
    """A prepared picture of the kind for each scan."""
    scans = (decode((Path("data/raw") / path).read_bytes()) for path in paths)
    pictures = (odd_picture(kind, seed, scan) for seed, scan in enumerate(scans))
    return np.stack([prepare(cv2.imencode(".bmp", p)[1].tobytes(), preprocessing).pixels for p in pictures])


def main(params, arguments):
    make_deterministic(params.train.threads)
    store, table = Store("data/prepared"), read_table("data/split/folds.csv")
    scans, odd, shown = {part: [] for part in PARTS}, {part: [] for part in PARTS}, {}
    with replacing_folder("data/novelty") as folder:
        for fold in bar(params.train.folds, desc="novelty", unit="fold"):
            model, metadata = load_model(f"models/fold-{fold}/model.keras")
            role = roles(table, fold, params.split.strategy, params.split.on_leak)
            role[role == "official_test"] = "test" if params.split.strategy == "official" else "exhibit"
            seeing = explained(model)

            def features(images, seeing=seeing):
                return outputs(seeing, images, params.predict.batch_size)["features"]

            seen = {name: features(store.images[role == name]) for name in ("train", "validation", "test")}
            novelty = fit_novelty(seen["train"], table["label"][role == "train"].to_numpy(), seen["validation"])
            np.savez(folder / f"fold-{fold}.npz", **asdict(novelty))
            for part, (judged, kinds) in PARTS.items():
                scans[part].append(novelty.score(seen[judged]))
                sources = table["path"][role == judged].sample(frac=1, random_state=0)[: params.novelty.pictures]
                for kind in kinds:
                    pictures = drawn(kind, sources, Preprocessing(**metadata["preprocessing"]))
                    shown.setdefault(kind, pictures)
                    odd[part].append(pd.DataFrame({"kind": kind, "score": novelty.score(features(pictures))}))
        odd_page(folder / "odd_pictures.png", shown)
    figures = {part: novelty_figures(np.concatenate(scans[part]), pd.concat(odd[part])) for part in PARTS}
    write_json("metrics/novelty.json", figures)
    for part, found in figures.items():
        print(f"{part}: ROC-AUC {found['roc_auc']:.4f}, false alarms at 95 % detection {found['false_alarms']:.4f}")


if __name__ == "__main__":
    run(main)
