"""Leakage of each fold, suspicious labels and shortcuts: data/audit_model/ and metrics/audit_model.json."""

import numpy as np
import pandas as pd
from _stage import run

from brain_tumor.audit_model.galleries import label_gallery
from brain_tumor.audit_model.labels import out_of_sample, suspicious_labels
from brain_tumor.audit_model.leakage import leakage_metrics
from brain_tumor.audit_model.shortcuts import network_controls, predict_from_traits, shortcut_rows
from brain_tumor.audit_model.sources import source_probe
from brain_tumor.drawing.probes import shortcuts_svg
from brain_tumor.files import replacing_folder, write_json
from brain_tumor.prediction.tables import class_names, load_controls, load_predictions
from brain_tumor.tables.csv_tables import read_table, write_table
from brain_tumor.tables.roles import roles

SPLIT = "data/split/folds.csv"
PARTS = ["data/predictions/validation", "data/predictions/test"]


def main(params, arguments):
    folds, strategy, main = params.run.folds, params.split.strategy, params.data.main
    table = read_table(SPLIT)
    frame = pd.concat([load_predictions(part, SPLIT, folds, main) for part in PARTS])
    leakage = {f"fold_{k}": leakage_metrics(table, roles(table, k, strategy, params.split.on_leak)) for k in folds}

    labels = suspicious_labels(out_of_sample(frame))
    suspects = labels[labels["issue"] == 1]
    with replacing_folder("data/audit_model") as folder:
        write_table(folder / "labels.csv", labels)
        label_gallery(folder / "labels.html", "data/raw", suspects)

    from_traits = predict_from_traits(read_table("data/audit/traits.csv"), table[table["source"] == main])
    network = network_controls(load_controls(PARTS[1], frame, folds), frame)
    shortcuts = shortcut_rows(from_traits, network, params.evaluate.min_class_images)
    write_table("plots/shortcuts.csv", shortcuts)
    shortcuts_svg("plots/shortcuts.svg", shortcuts, 1 / len(class_names(frame)))
    tested, features = [], []
    for k in folds:
        rows = read_table(f"{PARTS[1]}/fold-{k}.csv").merge(table[["path", "copies", "group"]], on="path", how="left")
        own = (rows["role"] == "test").to_numpy()
        tested.append(rows[own])
        features.append(np.load(f"{PARTS[1]}/features-{k}.npy")[own])
    probe = source_probe(tested, features, main, params.evaluate.healthy_class)
    write_json(
        "metrics/audit_model.json",
        {
            "leakage": leakage,
            "labels": {"judged": len(labels), "suspicious": len(suspects)}
            | {"per_class": suspects.groupby("label").size().to_dict()},
            "shortcuts": {
                source: {row["control"]: row.drop(["source", "control"]).to_dict() for _, row in part.iterrows()}
                for source, part in shortcuts.groupby("source")
            },
            "source_probe": probe,
        },
    )
    for name, parts in leakage.items():
        counts = ", ".join(f"{part['leaking']} of {part['n']} in {role}" for role, part in parts.items())
        print(f"{name}: images with a copy or their patient in training: {counts}")
    print(f"{len(suspects)} of {len(labels)} labels are contradicted by models that never saw the image")
    print(shortcuts.to_string(index=False, float_format="{:.3f}".format))
    for source, sides in probe.items():
        shown = ", ".join(f"{side} {found['balanced_accuracy']:.3f}" for side, found in sides.items())
        print(f"{source} told from {main} by the features, balanced accuracy: {shown}")


if __name__ == "__main__":
    run(main)
