"""Is the difference of two models larger than chance? A paired bootstrap over patient groups."""

import numpy as np
import pandas as pd

from brain_tumor.metrics.bootstrap import confusion_scores, resampled_confusions
from brain_tumor.prediction.tables import class_names, probabilities


def paired_differences(former: pd.DataFrame, latter: pd.DataFrame) -> tuple[int, dict[str, dict[str, float]]]:
    """Differences of the scores of `metrics.bootstrap.interval` on the images that two sets of predictions share.

    Both are resampled by the same draws of groups, so that images that are hard for both do not widen the interval.

    Args:
        former, latter: rows of what `prediction.tables.load_predictions` returns, of one cohort each; the groups are
            those of `latter`.

    Returns:
        Number of shared images, and score -> former, latter, difference (latter - former), low, high (95 %).

    Raises:
        ValueError: the classes differ, or no image is shared.
    """
    names = class_names(latter)
    if class_names(former) != names:
        raise ValueError(f"expected the same classes, got {class_names(former)} and {names}")
    columns = ["path", "label", "called"]
    tables = [
        frame.assign(called=np.array(names)[probabilities(frame).argmax(axis=1)])[[*columns, *extra]]
        for frame, extra in ((former, []), (latter, ["group"]))
    ]
    shared = tables[0].merge(tables[1], on=["path", "label"], suffixes=("_former", "_latter"))
    if shared.empty:
        raise ValueError("expected images that both have predictions for under one label, got none")
    actual, *calls = (
        pd.Categorical(shared[column], categories=names).codes.astype(int)
        for column in ("label", "called_former", "called_latter")
    )
    point, drawn = [], []
    for called in calls:
        single = np.zeros((len(names), len(names)))
        np.add.at(single, (actual, called), 1)
        point.append(confusion_scores(single))
        drawn.append(confusion_scores(resampled_confusions(actual, called, shared["group"].to_numpy(), len(names))))
    results = {}
    for score in point[0]:
        low, high = np.percentile(drawn[1][score] - drawn[0][score], [2.5, 97.5])
        former_score, latter_score = float(point[0][score]), float(point[1][score])
        results[score] = {"former": former_score, "latter": latter_score, "difference": latter_score - former_score}
        results[score] |= {"low": float(low), "high": float(high)}
    return len(shared), results
