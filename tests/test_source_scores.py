"""Scores of further sources: a picture counts once, labels may be partial; and how well sources can be told apart."""

import numpy as np
import pandas as pd
import pytest
from scored import scored
from sklearn.metrics import recall_score, roc_auc_score

from brain_tumor.audit_model.sources import source_probe
from brain_tumor.evaluation.sources import external_cohorts, one_per_picture, partial_scores, source_cohorts
from brain_tumor.evaluation.thresholds import HeldOut, Targets
from brain_tumor.networks.calibration import calibrated

NAMES = ["glioma", "healthy", "meningioma", "pituitary"]
TUMOUR = "glioma|meningioma|pituitary"

# --- pictures


def files(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["path", "copies", "label"])


def test_a_picture_counts_once_with_the_label_that_its_files_agree_on():
    frame = files(
        ("1.png", "x", TUMOUR),
        ("2.png", "", "healthy"),
        ("3.png", "x", "glioma"),
        ("4.png", "", "healthy"),
        ("5.png", "y", "glioma|meningioma"),
        ("6.png", "y", "meningioma|pituitary|healthy"),
        ("7.png", "y", "glioma|meningioma"),
        ("8.png", "z", TUMOUR),
    ).assign(p_glioma=np.arange(8) / 10)
    found = one_per_picture(frame)
    assert found["path"].tolist() == ["1.png", "2.png", "4.png", "5.png", "8.png"]
    assert found["label"].tolist() == ["glioma", "healthy", "healthy", "meningioma", TUMOUR]
    assert found["p_glioma"].tolist() == [0, 0.1, 0.3, 0.4, 0.7]  # what was predicted for the first file
    assert found.index.tolist() == list(range(5))
    assert one_per_picture(found).equals(found)


def test_a_picture_whose_files_contradict_each_other_is_left_out():
    in_pairs_only = [("1.png", "x", "a|b"), ("2.png", "x", "b|c"), ("3.png", "x", "a|c")]
    assert one_per_picture(files(*in_pairs_only)).empty
    frame = files(*in_pairs_only, ("4.png", "y", "a"), ("5.png", "", "c"), ("6.png", "y", "b"))
    assert one_per_picture(frame)["path"].tolist() == ["5.png"]


@pytest.mark.parametrize("seed", range(5))
def test_pictures_agree_with_a_plain_count(seed):
    random = np.random.default_rng(seed)
    rows, plain = [], {}
    for k in range(200):
        copies = f"picture {random.integers(60)}" if random.random() < 0.7 else ""
        classes = {name for name in NAMES if random.random() < 0.6} or {"healthy"}
        rows.append((f"{k:03}.png", copies, "|".join(sorted(classes))))
        picture = plain.setdefault(copies or f"{k:03}.png", [f"{k:03}.png", classes])
        picture[1] = picture[1] & classes
    found = one_per_picture(files(*rows))
    expected = [(path, "|".join(sorted(classes))) for path, classes in plain.values() if classes]
    assert list(zip(found["path"], found["label"], strict=True)) == expected
    assert 0 < len(expected) < len(plain) < 200


# --- further sources


def test_the_own_pictures_of_a_further_source_are_those_that_the_main_one_does_not_have():
    first = files(("a.png", "", "glioma"), ("b.png", "b.png", "glioma"), ("c.png", "b.png", "glioma"))
    tested = files(
        ("1.png", "a.png", "glioma"),  # a picture of the main source, which has it once
        ("2.png", "b.png", TUMOUR),  # and one that it has twice
        ("3.png", "", "healthy"),
        ("4.png", "4.png", TUMOUR),  # in two files of the further source alone
        ("5.png", "4.png", "glioma"),
        ("6.png", "6.png", "healthy"),  # which contradict each other
        ("7.png", "6.png", "glioma"),
    )
    found = source_cohorts("ward", tested, first)
    assert stems(found) == {"source_ward": ["1.png", "2.png", "3.png", "4.png"], "source_ward_own": ["3.png", "4.png"]}
    assert found["source_ward_own"]["label"].tolist() == ["healthy", "glioma"]
    assert all(part.index.tolist() == list(range(len(part))) for part in found.values())
    assert list(source_cohorts("ward", tested[:2], first)) == ["source_ward"]
    assert source_cohorts("ward", tested[5:], first) == {}


# --- external sources


def strangers(*rows: tuple[str, str, str, bool]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["path", "copies", "group", "group_in_training"])
    return frame.assign(label=["healthy", "glioma", TUMOUR][len(rows) % 3])


def stems(cohorts: dict[str, pd.DataFrame]) -> dict[str, list[str]]:
    return {name: list(part["path"]) for name, part in cohorts.items()}


def test_an_external_source_is_parted_by_what_it_shares_with_training():
    frame = strangers(("1", "", "g", True), ("2", "", "h", False), ("3", "", "i", True), ("4", "", "j", False))
    cohorts = external_cohorts("clinic", frame)
    expected = {"": ["1", "2", "3", "4"], "_shared": ["1", "3"], "_clean": ["2", "4"]}
    assert stems(cohorts) == {f"external_clinic{part}": paths for part, paths in expected.items()}
    assert all(part.index.tolist() == list(range(len(part))) for part in cohorts.values())


def test_a_part_without_pictures_is_absent():
    frame = strangers(("1", "", "g", True), ("2", "", "h", True))
    assert list(external_cohorts("clinic", frame)) == ["external_clinic", "external_clinic_shared"]
    frame = strangers(("1", "", "g", False))
    assert list(external_cohorts("clinic", frame)) == ["external_clinic", "external_clinic_clean"]


@pytest.mark.parametrize("shared", [(True, True), (True, False), (False, True)])
def test_a_copy_of_a_shared_picture_is_shared_too(shared):
    """Whichever of its files was found to be; and it counts once."""
    frame = strangers(("1", "x", "g", shared[0]), ("2", "", "h", False), ("3", "x", "g", shared[1]))
    assert stems(external_cohorts("clinic", frame)) == {
        "external_clinic": ["1", "2"],
        "external_clinic_shared": ["1"],
        "external_clinic_clean": ["2"],
    }


def test_all_pictures_of_a_patient_are_shared_if_one_is():
    frame = strangers(("1", "", "g", False), ("2", "", "g", True), ("3", "", "h", False), ("4", "", "g", False))
    found = stems(external_cohorts("clinic", frame))
    assert (found["external_clinic_shared"], found["external_clinic_clean"]) == (["1", "2", "4"], ["3"])


@pytest.mark.parametrize("seed", range(3))
def test_the_two_parts_are_the_whole_and_share_no_picture_and_no_patient(seed):
    random = np.random.default_rng(seed)
    group = random.integers(0, 60, 200)
    pictures = group * 3 + random.integers(0, 3, 200)  # up to three of each patient
    seen = random.random(60) < 0.4
    rows = [(f"{k}", f"p{p}", f"g{g}", bool(seen[g])) for k, (p, g) in enumerate(zip(pictures, group, strict=True))]
    whole, shared, clean = external_cohorts("clinic", strangers(*rows)).values()
    assert len(whole) == len(set(pictures)) == len(shared) + len(clean)
    assert sorted([*shared["path"], *clean["path"]]) == sorted(whole["path"])
    assert not set(shared["group"]) & set(clean["group"])
    assert set(shared["group"]) == {f"g{g}" for g in set(group) if seen[g]}


# --- scores where labels are partial


def predictions(seed: int, n: int = 400) -> pd.DataFrame:
    """Predictions of two models, the second of which is too sure of itself."""
    parts = []
    for fold in (0, 1):
        labels, values = scored(seed + fold, n=n // 2, classes=tuple(NAMES))
        values = values.astype(np.float64) ** (1 + fold)
        values /= values.sum(axis=1, keepdims=True)
        part = pd.DataFrame(values, columns=[f"raw_{name}" for name in NAMES])
        part[[f"p_{name}" for name in NAMES]] = calibrated(values, 1.3, np.array([0.2, -0.3, 0, 0.1]))
        parts.append(part.assign(label=labels, target=labels, source="scans", model_fold=fold))
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(group=[f"g{k // 3}" for k in range(n)], path=[f"{k}.png" for k in range(n)])


def held_out_by(validation: pd.DataFrame, error: float, miss: float = 0.2, healthy: str = "healthy") -> HeldOut:
    return HeldOut(validation, False, Targets(error, miss, healthy))


def with_partial_labels(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Most tumours are of any kind, some of two; of some images not even that is known."""
    random, labels = np.random.default_rng(seed), []
    for label in frame["label"]:
        kinds = TUMOUR if label != "healthy" else label
        some = "|".join(sorted({label, "glioma"} if label != "healthy" else {label}))
        doubt = "|".join(sorted({label, "healthy", "glioma"}))
        labels.append(random.choice([kinds, some, doubt], p=[0.6, 0.3, 0.1]))
    return frame.assign(label=labels)


@pytest.mark.parametrize("seed", range(3))
def test_partial_scores_agree_with_a_plain_count(seed):
    frame, held_out = with_partial_labels(predictions(seed), seed), held_out_by(predictions(seed + 50), 0.3)
    got = partial_scores(frame, held_out, 20)

    replied = wrong = missed = unsure = likely = 0
    truth, called, score, tumours = [], [], [], 0
    for row in frame.to_dict("records"):
        # What is answered comes from the other images of the network, how tumours are told from its own calibration.
        thresholds = held_out.of(row["model_fold"])
        raw = np.array([[row[f"raw_{name}"] for name in NAMES]])
        values = calibrated(raw, thresholds.scale, thresholds.biases)[0].tolist()
        first, second = sorted(range(4), key=lambda k: -values[k])[:2]
        possible = row["label"].split("|")
        reply = values[first] >= thresholds.confidence[first]
        replied += reply
        wrong += reply and NAMES[first] not in possible
        if not reply and values[first] + values[second] >= min(thresholds.confidence):
            unsure += 1
            likely += NAMES[first] in possible or NAMES[second] in possible
        if row["label"] == "healthy" or "healthy" not in row["label"]:
            ill = row["label"] != "healthy"
            tumours += ill
            missed += ill and reply and NAMES[first] == "healthy"
            own = [row[f"p_{name}"] for name in NAMES]
            truth.append(ill), called.append(own.index(max(own)) != 1), score.append(1 - own[1])
    assert got["n"] == 400
    counts = frame["label"].value_counts()
    assert {name: value for name, value in got.items() if name.startswith("n_")} == {
        f"n_{label}": int(counts[label]) for label in sorted(counts.index)
    }
    selective = got["selective"]
    assert (selective["target_error"], selective["target_miss"]) == (0.3, 0.2)
    expected = {"coverage": replied / 400, "error": wrong / replied, "missed": missed / tumours}
    expected |= {"unsure": unsure / 400, "no_answer": 1 - (replied + unsure) / 400, "unsure_likely": likely / unsure}
    assert {name: selective[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert 0 < replied < 400 and missed > 0 and unsure > likely > 0
    assert selective["missed_ci_low"] < selective["missed"] < selective["missed_ci_high"]
    assert selective["error_ci_low"] < selective["error"] < selective["error_ci_high"]
    tumour = got["tumour"]
    assert (tumour["n"], tumour["n_healthy"]) == (tumours, len(truth) - tumours)
    assert tumour["sensitivity"] == pytest.approx(recall_score(truth, called), abs=1e-6)
    assert tumour["specificity"] == pytest.approx(recall_score(np.logical_not(truth), np.logical_not(called)), abs=1e-6)
    assert tumour["roc_auc"] == pytest.approx(roc_auc_score(truth, score), abs=1e-6)
    assert tumour["sensitivity_ci_low"] < tumour["sensitivity"] < tumour["sensitivity_ci_high"]
    assert not {"accuracy", "macro_f1", "per_class", "confusion", "conformal"} & set(
        got
    )  # which need to know the class


def test_what_cannot_be_stated_of_partial_labels_is_absent():
    frame, validation = with_partial_labels(predictions(1), 1), predictions(51)
    held_out = held_out_by(validation, 0.3)
    whole = partial_scores(frame, held_out, 20)
    without = {name: value for name, value in whole.items() if name != "tumour"}
    fewest = min(whole["tumour"]["n"], whole["tumour"]["n_healthy"])
    assert "tumour" in partial_scores(frame, held_out, fewest)
    assert partial_scores(frame, held_out, fewest + 1) == without
    ill = frame[frame["label"].map(lambda label: "healthy" not in label)]
    only = partial_scores(ill, held_out, 1)
    assert "tumour" not in only and "missed" in only["selective"]
    well = partial_scores(frame[frame["label"] == "healthy"], held_out, 1)
    assert "tumour" not in well and "missed" not in well["selective"]
    # Without a healthy class there are neither tumours nor missed ones.
    plain = partial_scores(frame, held_out_by(validation, 0.3, healthy=""), 20)
    assert "tumour" not in plain and not {"missed", "target_miss"} & set(plain["selective"])
    assert plain["selective"]["coverage"] >= whole["selective"]["coverage"]


def test_models_that_never_answer_miss_nothing():
    frame, validation = with_partial_labels(predictions(2), 2), predictions(52)
    raw = validation[[f"raw_{name}" for name in NAMES]].to_numpy()
    validation["target"] = np.array(NAMES)[raw.argmin(axis=1)]  # wrong everywhere
    got = partial_scores(frame, held_out_by(validation, 1e-6), 20)
    assert (got["selective"]["coverage"], got["selective"]["no_answer"], got["selective"]["missed"]) == (0, 1, 0)
    assert "error" not in got["selective"] and got["tumour"]["sensitivity"] > 0


# --- telling sources apart


def of_network(seed: int, groups: int = 120) -> pd.DataFrame:
    """Images of patients, two thirds of the main source; those of the other have partial labels."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(groups), random.integers(1, 6, groups))
    further, ill = (random.random(groups) < 1 / 3)[patient], (random.random(groups) < 0.6)[patient]
    kinds = np.array(["glioma", "meningioma", "pituitary"])[random.integers(0, 3, groups)][patient]
    label = np.where(ill, np.where(further, TUMOUR, kinds), "healthy")
    source = np.where(further, "ward", "scans")
    table = pd.DataFrame({"source": source, "label": label, "group": [f"{seed} {k}" for k in patient], "copies": ""})
    return table.assign(path=[f"{s}/{seed}/{k}.png" for k, s in enumerate(source)])


def features(frame: pd.DataFrame, seed: int, shift: float = 0.0, width: int = 12) -> np.ndarray:
    """Noise, in which the source stands if `shift` is not 0; as a network gives them."""
    values = np.random.default_rng(seed + 1000).normal(size=(len(frame), width))
    values[:, 3] += shift * (frame["source"] == "ward")
    return values.astype(np.float32)


def counted(frames: list[pd.DataFrame], ill: bool) -> dict[str, int]:
    whole = pd.concat(frames)
    side = whole[(whole["label"] != "healthy") == ill]
    return {"n": int((side["source"] == "ward").sum()), "n_main": int((side["source"] == "scans").sum())}


def test_a_source_that_stands_in_the_features_is_told():
    frames = [of_network(0), of_network(1)]
    found = source_probe(frames, [features(f, k, shift=8) for k, f in enumerate(frames)], "scans", "healthy")
    assert list(found) == ["ward"] and list(found["ward"]) == ["healthy", "tumour"]
    for side, figures in found["ward"].items():
        assert figures["balanced_accuracy"] > 0.98
        low, high = figures["balanced_accuracy_ci_low"], figures["balanced_accuracy_ci_high"]
        assert low <= figures["balanced_accuracy"] <= high <= 1
        assert {name: figures[name] for name in ("n", "n_main")} == counted(frames, side == "tumour")


def test_noise_tells_nothing():
    """Of twelve intervals of 95 % nearly all contain one half, and the scores scatter around it."""
    found = []
    for seed in range(0, 12, 2):
        frames = [of_network(seed, groups=80), of_network(seed + 1, groups=80)]
        values = [features(frame, seed + k) for k, frame in enumerate(frames)]
        found += source_probe(frames, values, "scans", "healthy")["ward"].values()
    scores = np.array([figures["balanced_accuracy"] for figures in found])
    assert len(scores) == 12 and scores == pytest.approx([0.5] * 12, abs=0.1)
    assert scores.mean() == pytest.approx(0.5, abs=0.02)
    assert sum(f["balanced_accuracy_ci_low"] < 0.5 < f["balanced_accuracy_ci_high"] for f in found) >= 11


def test_the_diagnosis_does_not_give_the_source_away():
    """Of the further source nearly all images show a tumour, and the features say who has one."""
    frame = of_network(3, groups=400)
    ward = (frame["source"] == "ward").to_numpy()
    patient = pd.factorize(frame["group"])[0]
    frame = frame[~ward | (frame["label"] != "healthy") | (patient % 4 == 0)]
    values = features(frame, 3)
    values[:, 5] += 8 * (frame["label"] != "healthy")
    found = source_probe([frame], [values], "scans", "healthy")["ward"]
    for figures in found.values():
        assert figures["balanced_accuracy_ci_low"] < 0.5 < figures["balanced_accuracy_ci_high"]


def test_patients_are_not_recognised_instead_of_their_source():
    """Images of a patient are all but the same: seen in fitting, any of them would give the others away."""
    frame = of_network(4, groups=160)
    patient = pd.factorize(frame["group"])[0]
    values = np.random.default_rng(0).normal(size=(160, 100))[patient] + features(frame, 4, width=100) / 100
    for figures in source_probe([frame], [values], "scans", "healthy")["ward"].values():
        assert figures["balanced_accuracy"] == pytest.approx(0.5, abs=0.15)


def test_a_figure_repeats():
    frame = of_network(5)
    first, again = (source_probe([frame], [features(frame, 5)], "scans", "healthy") for _ in range(2))
    assert first == again


@pytest.mark.parametrize("held_together_by", ["group", "copies"])
def test_pictures_that_stand_in_both_sources_are_left_out(held_together_by):
    """A picture of both would be called by either name; a group of the one may join several of the other."""
    frame = of_network(6)
    shown = frame[(frame["source"] == "scans") & (frame["label"] == "healthy")].head(12)
    again = shown.assign(source="ward", path=shown["path"].str.replace("scans", "ward"))
    if held_together_by == "copies":
        again = again.assign(group="ward " + again["group"], copies=shown["path"])
    values = features(frame, 6, shift=8)
    both = pd.concat([frame, again], ignore_index=True)
    found = source_probe([both], [np.concatenate([values, values[shown.index]])], "scans", "healthy")["ward"]
    left = shown["path"] if held_together_by == "copies" else frame["path"][frame["group"].isin(shown["group"])]
    kept = ~frame["path"].isin(left)
    assert kept.sum() < len(frame) - 5
    assert found == source_probe([frame[kept]], [values[kept]], "scans", "healthy")["ward"]


def test_images_of_neither_side_and_of_other_sources_do_not_count():
    frame = of_network(7)
    values = features(frame, 7, shift=8)
    expected = source_probe([frame], [values], "scans", "healthy")
    doubted = frame.assign(label="glioma|healthy", group="doubted " + frame["group"])
    both = pd.concat([frame, doubted], ignore_index=True)
    assert source_probe([both], [np.concatenate([values, values])], "scans", "healthy") == expected
    third = frame.replace({"source": {"ward": "clinic"}})
    third = third[third["source"] == "clinic"].assign(group="third " + third["group"])
    three = pd.concat([frame, third], ignore_index=True)
    found = source_probe([three], [np.concatenate([values, values[third.index]])], "scans", "healthy")
    assert list(found) == ["clinic", "ward"]
    assert found["ward"] == expected["ward"]
    assert found["clinic"]["tumour"]["n"] == expected["ward"]["tumour"]["n"]


def test_too_few_patients_give_no_figures():
    frame = of_network(8)
    further = frame["source"] == "ward"
    healthy, ill = (
        set(frame["group"][further & ((frame["label"] == "healthy") == side)].unique()[:3]) for side in (True, False)
    )
    values = features(frame, 8)
    for kept, sides in ((healthy, ["tumour"]), (ill, ["healthy"])):
        same = (frame["label"] == "healthy") == (sides == ["tumour"])
        rows = ~further | ~same | frame["group"].isin(kept)
        assert list(source_probe([frame[rows]], [values[rows]], "scans", "healthy")["ward"]) == sides
    rows = ~further | frame["group"].isin(healthy | ill)
    assert source_probe([frame[rows]], [values[rows]], "scans", "healthy") == {}
    assert source_probe([frame[~further]], [values[~further]], "scans", "healthy") == {}
    # A network with enough images counts beside one with too few.
    other = of_network(9)
    together = source_probe([frame[rows], other], [values[rows], features(other, 9)], "scans", "healthy")
    assert together == source_probe([other], [features(other, 9)], "scans", "healthy")
