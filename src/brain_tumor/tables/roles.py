"""What each image is to the model of a fold: learned from, validated with, or tested on."""

import numpy as np
import pandas as pd

from brain_tumor.errors import PipelineError


def roles(table: pd.DataFrame, fold: int, strategy: str, on_leak: str) -> np.ndarray:
    """The role of each image for the model of fold `fold`.

    With fold k as the test set, fold k + 1 is the validation set and the others are the training set. Under the
    strategy "official" the test set is the published test folder, fold k is the validation set and the others are
    the training set. An image without a target is tested on, and neither learned from nor validated with.

    Args:
        table: what `split.folds.split_table` returns.
        fold: number of the fold.
        strategy: as for `split.folds.split_table`.
        on_leak: "drop" leaves out training images whose group is also validated with or tested on, and validation
            images whose group is also tested on; "report" and "fail" leave them where they are.

    Returns:
        (n,) str: "train", "validation", "test", "official_test" or "left_out".

    Raises:
        PipelineError: there is no such fold, or "drop" leaves a role without any image.

    Example:
        >>> table = pd.DataFrame({"fold": ["0", "1", "2", ""], "group": ["a", "b", "c", "d"], "target": "glioma"})
        >>> roles(table, 0, "patient", "fail").tolist()
        ['test', 'validation', 'train', 'official_test']
    """
    folds = sorted({int(f) for f in table["fold"] if f != ""})
    if fold not in folds:
        raise PipelineError(f"expected folds among {folds}, received run.folds with {fold}: change it or split.folds")
    validation = fold if strategy == "official" else (fold + 1) % len(folds)
    names = {"": "official_test"} | {str(k): "train" for k in folds}
    if strategy != "official":
        names[str(fold)] = "test"
    names[str(validation)] = "validation"
    role = table["fold"].map(names).to_numpy(dtype=str)
    role[(table["target"] == "").to_numpy() & (role != "test")] = "left_out"
    if on_leak == "drop":
        order = by_precedence(strategy)
        for place, name in enumerate(order):
            already_held_out = table["group"].isin(table["group"][np.isin(role, order[:place])])
            role[(role == name) & already_held_out.to_numpy()] = "left_out"
        for name in order:
            if not (role == name).any():
                raise PipelineError(
                    f"split.on_leak 'drop' leaves no {name} image in fold {fold}: bring a split that leaks less"
                )
    return role


def pool_roles(table: pd.DataFrame) -> np.ndarray:
    """(n,) str: "train" for what a network of all patients learns from, "left_out" for the others.

    That is every image of the training pool that has a target, unless its group touches the published test folder:
    that folder is what the network of all patients is tested on.

    Example:
        >>> table = pd.DataFrame({"fold": ["0", "1", "", "0"], "group": list("abbc"), "target": ["glioma"] * 3 + [""]})
        >>> pool_roles(table).tolist()
        ['train', 'left_out', 'left_out', 'left_out']
    """
    held_out = table["group"].isin(table["group"][(table["fold"] == "") & (table["target"] != "")])
    return np.where((table["fold"] != "") & (table["target"] != "") & ~held_out, "train", "left_out")


def test_role(strategy: str) -> str:
    """The role of the test set under a strategy; the published test folder has a role of its own."""
    return "official_test" if strategy == "official" else "test"


def by_precedence(strategy: str) -> list[str]:
    """The roles by who keeps a group that several of them have images of: the test set, validation, training."""
    return [test_role(strategy), "validation", "train"]
