"""The groups of images that scores are stated for."""

from collections.abc import Sequence

import pandas as pd

from brain_tumor.prediction.tables import SERVED

DESCRIPTIONS = {
    "patient_test": "training pool; every image scored by the model that never saw its patient or a copy",
    "random_test": "training pool, split by image: patients are on both sides, so the score is too high",
    "own_test": "test folds as given in data/folds.csv",
    "patient_known": "the part of the test folds whose patient is known",
    "official_test": "published test folder, by the served network; one of all patients saw none of it",
    "official_leaked": "of official_test: same patient or picture as an image of the training pool",
    "official_clean": "of official_test: shares no known patient and no picture with the pool",
}
"""Cohort of the main source -> its description in one line."""


def description(cohort: str) -> str:
    """The description of any cohort in one line."""
    if cohort.startswith("source_"):
        if cohort.endswith("_own"):
            return "of it: pictures that the main source does not have"
        return "pictures of another source, each scored by the model of its test fold"
    if cohort.startswith("external_"):
        return {
            "shared": "of the external source: a picture or a patient is shared with training",
            "clean": "of the external source: no picture and no patient is shared with training",
        }.get(cohort.rsplit("_", 1)[1], "a source that is only tested on, by the network that is served")
    return DESCRIPTIONS[cohort]


def in_words(main: str, further: Sequence[str], headline: str, all_patients: bool) -> dict[str, str]:
    """The cohorts whose figures the exported file states -> what their images are, for people who know no cohorts.

    Args:
        main: name of the main source.
        further: names of the other sources that are learned from.
        headline: the cohort of the main source's test folds.
        all_patients: whether the network that is served is that of all patients, see `tables.roles.pool_roles`.
    """
    said = {headline: f"{main}: patients that the networks of this recipe had not learned from"}
    for name in further:
        said[f"source_{name}_own"] = f"{name}: pictures of a second kind that these networks had not learned from"
    if all_patients and headline != "official_test":
        return said | {"official_test": f"{main}: its published test folder, of whose patients it learned nothing"}
    return said | {"official_clean": f"{main}: pictures of its published test folder that share nothing with training"}


def cohorts(frame: pd.DataFrame, strategy: str) -> dict[str, pd.DataFrame]:
    """The cohorts that scores are stated for; a cohort without any image is absent.

    Args:
        frame: what `prediction.tables.load_predictions` returns.
        strategy: how the folds were drawn ("patient", "random", "official", "own").

    Returns:
        Name -> rows of `frame`, in this order:
        `<strategy>_test`: the test folds of all models, pooled; each image is in one of them. The headline.
        `patient_known`: those of them with a known patient.
        `official_test`: the published test folder, scored by the network that is served, if `frame` has its
            predictions, otherwise by the model of the first fold.
        `official_leaked`, `official_clean`: its images whose group is, or is not, in the training pool.
    """
    test = frame[frame["role"] == "test"]
    official = frame[frame["role"] == "official_test"]
    scorer = SERVED if (official["model_fold"] == SERVED).any() else frame["model_fold"].iloc[0]
    official = official[official["model_fold"] == scorer]
    found = {
        f"{strategy}_test": test,
        "patient_known": test[test["patient"] != ""],
        "official_test": official,
        "official_leaked": official[official["group_in_training"]],
        "official_clean": official[~official["group_in_training"]],
    }
    return {name: part.reset_index(drop=True) for name, part in found.items() if len(part)}
