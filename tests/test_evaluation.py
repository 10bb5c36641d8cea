"""Cohorts, figures, plots and the table of the evaluate stage, against scikit-learn and planted truth."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from scored import scored

import brain_tumor
from brain_tumor.drawing import classification, decisions
from brain_tumor.drawing.training import training_svg
from brain_tumor.errors import PipelineError
from brain_tumor.evaluation import cohorts
from brain_tumor.evaluation.deployed import deployed_scores, measured
from brain_tumor.evaluation.summary import metrics_table
from brain_tumor.metrics.scores import cohort_metrics, tumour_scores
from brain_tumor.prediction.tables import (
    SERVED,
    class_names,
    held_out_part,
    held_out_predictions,
    load_external,
    load_predictions,
    load_served,
    probabilities,
)

# --- cohorts

MAIN, FURTHER = "scans", "others"
# 8 is a copy of 3, and 9 of the patient of 7: neither is learned from. 10 has nothing in common with the others.
SPLIT = """\
path,sha256,source,label,folder,patient,copies,group,fold,target
scans/Training/NA/1.jpg,a,scans,NA,Training,p1,,g1,0,NA
scans/Training/NA/2.jpg,b,scans,NA,Training,,,g2,1,NA
scans/Training/sick/3.jpg,c,scans,sick,Training,007,,g3,1,sick
scans/Training/sick/4.jpg,d,scans,sick,Training,p4,,g4,2,sick
scans/Testing/NA/5.jpg,e,scans,NA,Testing,,,g5,,NA
scans/Testing/sick/6.jpg,f,scans,sick,Testing,p4,,g4,,sick
scans/Testing/sick/7.jpg,g,scans,sick,Testing,p7,,g7,,sick
others/odd/8.jpg,h,others,NA|sick,,,scans/Training/sick/3.jpg,g3,1,
others/odd/9.jpg,i,others,NA|sick,,p7,,g7,0,
others/sick/10.jpg,j,others,sick,,,,g10,2,sick
"""
TABLE = pd.read_csv(io.StringIO(SPLIT), dtype=str, keep_default_na=False).set_index("path")


@pytest.fixture
def written(tmp_path: Path):
    """Writes a split and predictions, fold k as test and the next as validation, p_sick telling the model."""

    def write(roles=("validation", "test", "official_test"), split: str = SPLIT) -> tuple[Path, Path]:
        (tmp_path / "folds.csv").write_text(split)
        folder = tmp_path / "predictions"
        folder.mkdir(exist_ok=True)
        learned = TABLE["target"] != ""
        for k in range(3):
            chosen = {
                "test": TABLE["fold"] == str(k),
                "validation": (TABLE["fold"] == str((k + 1) % 3)) & learned,
                "official_test": (TABLE["fold"] == "") & learned,
            }
            sick = 0.1 + k / 10
            lines = [
                f"{row.Index},{row.source},{row.label},{role},{1 - sick},{sick}\n"
                for role in roles
                for row in TABLE[chosen[role]].itertuples()
            ]
            (folder / f"fold-{k}.csv").write_text("path,source,label,role,p_NA,p_sick\n" + "".join(lines))
        return folder, tmp_path / "folds.csv"

    return write


def members(frame: pd.DataFrame, strategy: str) -> dict[str, list[str]]:
    return {name: [Path(p).stem for p in part["path"]] for name, part in cohorts.cohorts(frame, strategy).items()}


def test_predictions_are_joined_with_the_split(written):
    frame = load_predictions(*written(), folds=[2, 0], source=MAIN)
    assert frame["model_fold"].unique().tolist() == [2, 0]
    assert class_names(frame) == ["NA", "sick"]
    row = frame[(frame["path"] == "scans/Testing/sick/6.jpg") & (frame["model_fold"] == 0)].iloc[0]
    assert (row["label"], row["patient"], row["group"], row["p_sick"]) == ("sick", "p4", "g4", 0.1)
    assert probabilities(frame).sum(axis=1) == pytest.approx(1)
    unknown = frame[frame["path"] == "scans/Testing/NA/5.jpg"].iloc[0]
    assert (unknown["label"], unknown["patient"]) == ("NA", "")  # not taken for missing values
    assert frame["target"].tolist() == TABLE.loc[frame["path"], "target"].tolist()


def test_the_rows_of_one_source_are_read(written):
    whole = written()
    frame = load_predictions(*whole, folds=[0, 1, 2], source=FURTHER)
    test = frame[frame["role"] == "test"]
    assert test["path"].tolist() == ["others/odd/9.jpg", "others/odd/8.jpg", "others/sick/10.jpg"]
    assert test["label"].tolist() == ["NA|sick", "NA|sick", "sick"]
    assert test["copies"].tolist() == ["", "scans/Training/sick/3.jpg", ""]
    assert test["target"].tolist() == ["", "", "sick"]
    # What shares a group with a learned image: 9 is not learned from, and the patient it shares is not either.
    assert test["group_in_training"].tolist() == [False, True, True]
    assert set(load_predictions(*whole, folds=[0, 1, 2], source=MAIN)["source"]) == {MAIN}
    assert load_predictions(*whole, folds=[0], source="no such source").empty


def test_what_is_never_learned_from_leaks_nothing(written):
    """Image 9 of the further source shows the patient of the official image 7: a leak only if it is learned from."""
    for target, leaked in (("", ["6"]), ("sick", ["6", "7"])):
        split = SPLIT.replace("p7,,g7,0,\n", f"p7,,g7,0,{target}\n")
        frame = load_predictions(*written(split=split), folds=[0, 1, 2], source=MAIN)
        assert members(frame, "patient")["official_leaked"] == leaked


SHARED = """\
path,source,label,copies,group,joined
clinic/sick/1.jpg,clinic,sick,scans/Training/sick/3.jpg,g3,g3
clinic/sick/2.jpg,clinic,sick,clinic/sick/2.jpg,g7,g7
clinic/sick/3.jpg,clinic,sick,clinic/sick/3.jpg,g5,g5
clinic/NA/4.jpg,clinic,NA,clinic/NA/4.jpg,clinic/NA/4.jpg,g5
clinic/NA/4.jpg,clinic,NA,clinic/NA/4.jpg,clinic/NA/4.jpg,g10
clinic/NA/5.jpg,clinic,NA,clinic/NA/5.jpg,clinic/NA/5.jpg,
clinic/odd/6.jpg,clinic,NA|sick,clinic/NA/5.jpg,clinic/NA/5.jpg,
ward/sick/1.jpg,ward,sick,ward/sick/1.jpg,ward/sick/1.jpg,
"""


@pytest.fixture
def strangers(written, tmp_path: Path):
    """Writes what the audit found of two external sources, and predictions; reads those of one."""

    def read(source: str, split: str = SPLIT) -> pd.DataFrame:
        folder, folds = written(split=split)
        (tmp_path / "external.csv").write_text(SHARED)
        table = pd.read_csv(io.StringIO(SHARED), dtype=str, keep_default_na=False).drop_duplicates("path")
        for name, part in table.groupby("source"):
            rows = part[["path", "source", "label"]].assign(role="external", p_NA=0.25, p_sick=0.75)
            rows.to_csv(folder / f"{name}.csv", index=False)
        return load_external(folder, tmp_path / "external.csv", folds, source)

    return read


def test_an_external_image_is_shared_if_what_it_joins_is_learned_from(strangers):
    """Joined: a learned group; one of the official test, without a target or a fold; two groups; none at all."""
    frame = strangers("clinic")
    assert [Path(path).stem for path in frame["path"]] == list("123456")
    assert frame["group_in_training"].tolist() == [True, False, False, True, False, False]
    assert frame["copies"].tolist()[4:] == ["clinic/NA/5.jpg"] * 2 and frame["group"][0] == "g3"
    assert frame["label"][5] == "NA|sick" and class_names(frame) == ["NA", "sick"]
    assert (frame["model_fold"] == SERVED).all()
    assert strangers("ward")["group_in_training"].tolist() == [False]


@pytest.mark.parametrize(("fold", "target", "shared"), [("0", "sick", True), ("0", "", False), ("", "sick", False)])
def test_learned_from_is_what_has_a_target_and_a_fold(strangers, fold, target, shared):
    split = SPLIT.replace("p7,,g7,0,\n", f"p7,,g7,{fold},{target}\n")
    assert strangers("clinic", split)["group_in_training"][1] == shared


def test_cohorts_of_patient_folds(written):
    frame = load_predictions(*written(), folds=[0, 1, 2], source=MAIN)
    found = members(frame, "patient")
    assert list(found) == ["patient_test", "patient_known", "official_test", "official_leaked", "official_clean"]
    assert list(found.values()) == [["1", "2", "3", "4"], ["1", "3", "4"], ["5", "6", "7"], ["6"], ["5", "7"]]


def test_official_test_is_scored_by_the_first_fold_named(written):
    frame = load_predictions(*written(), folds=[2, 0, 1], source=MAIN)
    official = cohorts.cohorts(frame, "patient")["official_test"]
    assert official["p_sick"].tolist() == pytest.approx([0.3] * 3)


@pytest.fixture
def served(written, tmp_path: Path):
    """Writes a split and what the network that is served predicts for the published test folder; reads the latter."""

    def read(split: str = SPLIT, sick: str = "0.9", path: str = "") -> pd.DataFrame:
        _, folds = written(split=split)
        rows = TABLE[(TABLE["fold"] == "") & (TABLE["source"] == MAIN)]
        lines = [f"{path or row.Index},{MAIN},{row.label},official_test,0.1,{sick}\n" for row in rows.itertuples()]
        (tmp_path / "official.csv").write_text(
            "path,source,label,role,p_NA,p_sick\n" + "".join(lines[:1] if path else lines)
        )
        return load_served(tmp_path / "official.csv", folds)

    return read


def test_what_the_served_network_predicts_is_joined_with_the_split(served):
    frame = served()
    assert [Path(path).stem for path in frame["path"]] == ["5", "6", "7"]
    assert (frame["model_fold"] == SERVED).all()
    assert frame["patient"].tolist() == ["", "p4", "p7"] and frame["group"].tolist() == ["g5", "g4", "g7"]
    assert frame["group_in_training"].tolist() == [False, True, False]
    for wrong, message in (({"sick": "7"}, "between 0 and 1"), ({"path": "scans/Testing/NA/gone.jpg"}, "gone.jpg")):
        with pytest.raises(PipelineError, match=message) as raised:
            served(**wrong)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
@pytest.mark.parametrize("served_first", [True, False])
def test_official_test_is_scored_by_the_served_network_where_it_is_known(written, served, order, served_first):
    frame, official = load_predictions(*written(), folds=order, source=MAIN), served()
    both = [official, frame] if served_first else [frame, official]
    found = cohorts.cohorts(pd.concat(both, ignore_index=True), "patient")
    alone = cohorts.cohorts(frame, "patient")
    assert list(found) == list(alone)
    for name, part in found.items():
        assert part["path"].tolist() == alone[name]["path"].tolist(), name
        if name.startswith("official"):
            assert (part["model_fold"] == SERVED).all() and part["p_sick"].tolist() == [0.9] * len(part)
        else:
            pd.testing.assert_frame_equal(part, alone[name])


@pytest.mark.parametrize(
    ("strategy", "all_folds", "part"),
    [
        ("patient", True, "test"),
        ("own", True, "test"),
        ("random", True, "test"),
        ("patient", False, "validation"),
        ("own", False, "validation"),
        ("official", False, "validation"),
        ("official", True, "validation"),  # there the test set of all networks is the published one
    ],
)
def test_thresholds_come_from_images_of_the_pool_that_a_network_did_not_learn_from(written, strategy, all_folds, part):
    assert held_out_part(strategy, all_folds) == part
    folder, split = written()
    frame = held_out_predictions(folder, split, [2, 0, 1], [MAIN, FURTHER], part)
    assert set(frame["role"]) == {part} and frame.index.tolist() == list(range(len(frame)))
    chosen = {k: TABLE["fold"] == str(k if part == "test" else (k + 1) % 3) for k in range(3)}
    learned = (TABLE["target"] != "") | (part == "test")
    expected = [
        (k, path)
        for source in (MAIN, FURTHER)
        for k in (2, 0, 1)
        for path in TABLE.index[chosen[k] & learned & (TABLE["source"] == source)]
    ]
    assert list(zip(frame["model_fold"], frame["path"], strict=True)) == expected
    assert frame["target"].tolist() == TABLE.loc[frame["path"], "target"].tolist()
    # The published test folder chooses nothing, and a source that is not named neither.
    assert "Testing" not in "".join(frame["path"])
    assert set(held_out_predictions(folder, split, [0, 1, 2], [MAIN], part)["source"]) == {MAIN}


def test_leakage_is_judged_by_the_whole_training_pool(written):
    # The patient of image 6 stands in fold 2 alone: not among the predictions of the first, unseen by the model
    # of the second, and leaked all the same.
    for folds in ([0], [2]):
        found = members(load_predictions(*written(), folds=folds, source=MAIN), "patient")
        assert (found["official_leaked"], found["official_clean"]) == (["6"], ["5", "7"])


def test_exactly_the_folds_named_are_read(written):
    folder, split = written()
    (folder / "fold-9.csv").write_text((folder / "fold-0.csv").read_text())
    (folder / "fold-2.csv").unlink()
    found = members(load_predictions(folder, split, folds=[0, 1], source=MAIN), "patient")
    assert found["patient_test"] == ["1", "2", "3"]


def test_cohorts_of_other_strategies(written):
    frame = load_predictions(*written(), folds=[0, 1, 2], source=MAIN)
    assert list(members(frame, "random"))[:2] == ["random_test", "patient_known"]
    frame = load_predictions(*written(roles=("validation", "official_test")), folds=[0], source=MAIN)
    assert list(members(frame, "official")) == ["official_test", "official_leaked", "official_clean"]


def test_empty_cohorts_are_absent(written):
    anonymous = SPLIT.replace("p1", "").replace("007", "").replace("p4", "").replace("Testing,,,g4", "Testing,,,g8")
    frame = load_predictions(*written(split=anonymous), folds=[0, 1, 2], source=MAIN)
    assert list(members(frame, "patient")) == ["patient_test", "official_test", "official_clean"]
    frame = load_predictions(*written(roles=("validation", "test")), folds=[0, 1, 2], source=MAIN)
    assert list(members(frame, "patient")) == ["patient_test", "patient_known"]


def test_missing_files_are_named(written):
    folder, split = written()
    with pytest.raises(PipelineError, match=r"fold-7\.csv.*dvc repro"):
        load_predictions(folder, split, folds=[0, 7], source=MAIN)
    with pytest.raises(PipelineError, match=r"no\.csv.*dvc repro"):
        load_predictions(folder, split.with_name("no.csv"), folds=[0], source=MAIN)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scans/Training/NA/1.jpg", "scans/Training/NA/gone.jpg", "gone.jpg"),
        ("NA/1.jpg,scans,NA", "NA/1.jpg,scans,sick", "same label"),
        ("p_sick", "p_ill", "classes"),
        ("0.8,0.2", ",", "between 0 and 1"),
        ("0.8,0.2", "8,-7", "between 0 and 1"),
        ("validation", "test", "one model only"),
    ],
)
def test_predictions_that_contradict_the_split_or_each_other_are_refused(written, old, new, message):
    folder, split = written()
    for k in (0, 1) if ".jpg" in old else (1,):
        path = folder / f"fold-{k}.csv"
        path.write_text(path.read_text().replace(old, new))
    with pytest.raises(PipelineError, match=message) as raised:
        load_predictions(folder, split, folds=[0, 1, 2], source=MAIN)
    assert "\n" not in str(raised.value)


# --- what the exported file states


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_the_file_as_it_answers_agree_with_a_plain_count(seed):
    classes, least = ["ant", "bee", "cat", "dog"], [0.6, 0.5, float("inf"), 0.8]
    labels, values = scored(seed, n=400, classes=classes)
    novel = np.random.default_rng(seed).random(400) < 0.2
    table = pd.DataFrame({"label": labels, "group": [f"g{k // 3}" for k in range(400)]})
    found = deployed_scores(table, values, novel, classes, least, 1)
    answers = [
        label == classes[row.argmax()]
        for label, row, odd in zip(labels, values, novel, strict=True)
        if not odd and row.max() >= least[row.argmax()]
    ]
    assert found["n"] == 400 and 0 < len(answers) < 400
    assert found["answered"] == pytest.approx(len(answers) / 400, abs=1e-6)
    assert found["error"] == pytest.approx(1 - sum(answers) / len(answers), abs=1e-6)
    assert found["novel"] == pytest.approx(novel.mean(), abs=1e-6)
    whole = cohort_metrics(labels, values, classes, 1, table["group"])
    for name in ("accuracy", "macro_f1"):
        assert [found[name], found[f"{name}_ci_low"]] == [whole[name], whole[f"{name}_ci_low"]]
    assert "macro_f1" not in deployed_scores(table, values, novel, classes, least, 400)
    silent = deployed_scores(table, values, novel | True, classes, least, 1)
    assert (silent["answered"], silent["novel"]) == (0, 1) and "error" not in silent


def test_what_answers_are_worth_is_stated_for_the_cohorts_that_are_asked_for():
    selective = {"coverage": 0.9, "error": 0.04, "missed": 0.01, "unsure": 0.07}
    sets = {f"coverage_{level}": {"coverage": level / 100, "mean_size": 1.2} for level in (90, 95)}
    test = {
        "patient_test": {"n": 200, "accuracy": 0.95, "selective": selective, "conformal": sets},
        "official_test": {"n": 9, "selective": selective},
        "source_ward_own": {"n": 30, "selective": {"coverage": 0.0, "missed": 0.0}},
    }
    described = cohorts.in_words("scans", ["clinic", "ward"], "patient_test", False)
    assert list(described) == ["patient_test", "source_clinic_own", "source_ward_own", "official_clean"]
    assert len(set(described.values())) == 4 and not any("\n" in words for words in described.values())
    for words, name in zip(described.values(), ("scans", "clinic", "ward", "scans"), strict=True):
        assert words.startswith(f"{name}: ")
    found = measured(test, described)  # what was not tested is not stated: there is no official_clean here
    figures = {"n": 200, "answered": 0.9, "error": 0.04, "missed": 0.01, "coverage_90": 0.9, "coverage_95": 0.95}
    assert found == [
        {"images": described["patient_test"]} | figures,
        {"images": described["source_ward_own"], "n": 30, "answered": 0.0, "missed": 0.0},
    ]
    assert measured(test, dict(reversed(described.items()))) == found[::-1]
    assert measured({}, described) == []
    # A network of all patients knows none of the published test folder, so all of it tells what it is worth.
    whole = cohorts.in_words("scans", [], "patient_test", True)
    assert list(whole) == ["patient_test", "official_test"] and measured(test, whole)[1]["n"] == 9
    assert list(cohorts.in_words("scans", [], "official_test", True)) == ["official_test", "official_clean"]


# --- plots

DRAW = """
import sys
from pathlib import Path
from xml.etree import ElementTree
import numpy as np, pandas as pd
from brain_tumor.drawing import classification, decisions
from brain_tumor.drawing.training import training_svg
from brain_tumor.metrics import curves
folder = Path(sys.argv[1])
for c in (2, 4, 10):
    classes = [f"class_with_a_long_name_{i:02}" for i in range(c)]
    random = np.random.default_rng(c)
    values = random.dirichlet(np.ones(c), 200)
    labels = [classes[i] for i in random.integers(c, size=200)]
    counts = curves.confusion_counts(labels, values, classes)
    classification.confusion_svg(folder / f"confusion{c}.svg", counts, "title")
    areas = curves.roc_areas(labels, values, classes)
    classification.roc_svg(folder / f"roc{c}.svg", curves.roc_curves(labels, values, classes), areas, "title")
columns = ["train_loss", "validation_loss", "validation_macro_f1"]
histories = {k: pd.DataFrame(random.random((5, 3)), columns=columns).assign(epoch=range(1, 6)) for k in range(3)}
training_svg(folder / "training.svg", histories, best=True)
"""

SVG = "{http://www.w3.org/2000/svg}"


def test_figure_bytes_repeat_in_another_process_with_other_settings(tmp_path):
    settings = tmp_path / "matplotlibrc"
    settings.write_text("font.size: 17\nsavefig.dpi: 50\nsavefig.facecolor: red\nxtick.labelsize: 20\n")
    source = str(Path(brain_tumor.__file__).parents[1])
    runs = {"plain": {"PYTHONHASHSEED": "1"}, "other": {"PYTHONHASHSEED": "2", "MATPLOTLIBRC": str(settings)}}
    for name, extra in runs.items():
        environment = os.environ | {"PYTHONPATH": source} | extra
        subprocess.run([sys.executable, "-W", "error", "-c", DRAW, str(tmp_path / name)], env=environment, check=True)

    files = sorted(path.name for path in (tmp_path / "plain").iterdir())
    assert len(files) == 7
    assert files == sorted(path.name for path in (tmp_path / "other").iterdir())
    for name in files:
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name
        text = (tmp_path / "plain" / name).read_text(encoding="utf-8")
        figure = ElementTree.fromstring(text)
        assert figure.tag == f"{SVG}svg"
        assert min(float(figure.get(side).removesuffix("pt")) for side in ("width", "height")) > 200
        assert not re.search("dc:date|dc:creator|matplotlib v", text, re.IGNORECASE)
        assert len(figure.findall(f".//{SVG}path")) > 20


def test_confusion_colours_show_row_shares(tmp_path):
    """Row shares 1, 0 and 0.5 take up the areas of the colour map they should, whatever the counts."""
    counts = pd.DataFrame([[500, 0], [3, 3]], index=["ant", "bee"], columns=["ant", "bee"])
    classification.confusion_svg(tmp_path / "plot.svg", counts, "title")
    cells = ElementTree.parse(tmp_path / "plot.svg").find(f".//{SVG}g[@id='QuadMesh_1']").findall(f"{SVG}path")
    shown = [re.search("fill: (#[0-9a-f]{6})", cell.get("style"))[1] for cell in cells]
    assert shown == [to_hex(matplotlib.colormaps["Blues"](share)) for share in (1.0, 0.0, 0.5, 0.5)]


@pytest.mark.parametrize(("best", "epoch"), [(True, 2), (False, 4)])
def test_the_epoch_that_was_kept_is_marked(tmp_path, best, epoch):
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "validation_macro_f1": [0.2, 0.9, 0.6, 0.7]})
    history[["train_loss", "validation_loss"]] = 0.3
    training_svg(tmp_path / "plot.svg", {0: history}, best=best)
    axes = ElementTree.parse(tmp_path / "plot.svg").find(f".//{SVG}g[@id='axes_2']")
    (points, (kept,)) = ([float(u.get("x")) for u in line.iter(f"{SVG}use")] for line in lines_with_points(axes))
    assert kept == points[epoch - 1] and len(points) == 4


@pytest.mark.parametrize("counts", [[1, 3, 900], [60, 70, 90], [3, 5, 8]])
def test_axes_of_powers_of_ten_are_written_as_numbers(tmp_path, counts):
    rows = pd.DataFrame(
        {"calibration": "none", "confidence": [0.3, 0.6, 0.9], "accuracy": [0.3, 0.6, 0.9], "n": counts}
    )
    decisions.reliability_svg(tmp_path / "plot.svg", rows, {"none": 0.1}, "title")
    # The texts of a figure stand in its comments, their letters are drawn.
    texts = re.findall("<!-- (.*?) -->", (tmp_path / "plot.svg").read_text(encoding="utf-8"))
    assert "images" in texts and not [text for text in texts if "$" in text]


def lines_with_points(axes):
    lines = [group for group in axes.findall(f"{SVG}g") if group.get("id").startswith("line2d")]
    return [line for line in lines if line.find(f".//{SVG}use") is not None]


def test_plots_leave_no_global_state(tmp_path):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    classification.roc_svg(tmp_path / "plot.svg", pd.DataFrame({"fpr": [0, 1], "_$a$": [0, 1]}), {"_$a$": 0.5}, "title")
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


def test_failed_plot_leaves_the_former_file(tmp_path):
    (tmp_path / "plot.svg").write_bytes(b"former")
    with pytest.raises(KeyError):
        training_svg(tmp_path / "plot.svg", {0: pd.DataFrame({"epoch": [1]})}, best=True)
    assert [path.name for path in tmp_path.iterdir()] == ["plot.svg"]
    assert (tmp_path / "plot.svg").read_bytes() == b"former"


# --- table


def test_table_shows_every_cohort_within_100_columns():
    classes = ["glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor"]
    labels, values = scored(0, n=2870, classes=classes)
    lacking = [i for i, label in enumerate(labels) if label != "no_tumor"]
    whole = cohort_metrics(labels, values, classes)
    part = cohort_metrics([labels[i] for i in lacking], values[lacking], classes)
    names = ["patient_test", "patient_known", "official_test", "official_leaked", "official_clean"]
    lines = metrics_table(dict.fromkeys(names, whole) | {"official_clean": part}).splitlines()

    assert max(map(len, lines)) <= 100
    overall = {cells[0]: cells[1:] for cells in map(str.split, lines[1:6])}
    assert list(overall) == names
    scores = ["accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "log_loss"]
    assert overall["patient_test"] == ["2870", *(f"{whole[key]:.3f}" for key in scores)]
    accuracy, log_loss = f"{part['accuracy']:.3f}", f"{part['log_loss']:.3f}"
    assert overall["official_clean"] == [str(len(lacking)), accuracy, "-", "-", "-", "-", log_loss]

    start = lines.index("no_tumor")
    rows = {cells[0]: cells[1:] for cells in map(str.split, lines[start + 1 : start + 6])}
    figures = whole["per_class"]["no_tumor"]
    assert rows["official_test"] == [
        str(whole["n_no_tumor"]),
        *(f"{figures[k]:.3f}" for k in ("precision", "recall", "f1")),
    ]
    assert rows["official_clean"] == ["0", "-", "-", "-"]
    legend = {line.split("  ", 1)[0]: line for line in lines[-5:]}
    assert list(legend) == names
    assert "same patient or picture as an image of the training pool" in legend["official_leaked"]


def test_cohorts_whose_labels_are_partial_are_in_the_table_without_what_they_lack():
    classes = ["glioma", "healthy", "pituitary"]
    labels, values = scored(4, n=400, classes=classes)
    whole = cohort_metrics(labels, values, classes, healthy="healthy")
    groups = [f"g{k // 3}" for k in range(400)]
    partial = [label if label == "healthy" else "glioma|pituitary" for label in labels]
    tumour = tumour_scores(partial, values, classes, "healthy", 20, groups)
    stranger = {"n": 400, "n_glioma|pituitary": tumour["n"], "selective": {"coverage": 0.9}, "tumour": tumour}
    metrics = {
        "patient_test": whole,
        "source_other": stranger,
        "external_few": {"n": 3, "selective": {"coverage": 1.0}},
    }
    lines = metrics_table(metrics).splitlines()

    overall = {cells[0]: cells[1:] for cells in map(str.split, lines[1:4])}
    assert overall["source_other"] == ["400", *"------"] and overall["external_few"] == ["3", *"------"]
    assert overall["patient_test"][:2] == ["400", f"{whole['accuracy']:.3f}"]
    for name in classes:  # a class is stated for the cohorts that know it
        start = lines.index(name)
        assert lines[start + 1].split()[0] == "patient_test"
        assert not lines[start + 2].startswith("  ")
    start = next(i for i, line in enumerate(lines) if line.startswith("tumour vs. no tumour"))
    assert lines[start].split()[4:] == ["tumours", "healthy", "sensitivity", "specificity", "ROC-AUC"]
    rows = {cells[0]: cells[1:] for cells in map(str.split, lines[start + 1 : start + 3])}
    scores = [f"{tumour[key]:.3f}" for key in ("sensitivity", "specificity", "roc_auc")]
    # Both know which images show a tumour, and nothing more is asked here.
    assert rows["source_other"] == rows["patient_test"] == [str(tumour["n"]), str(tumour["n_healthy"]), *scores]
    assert lines[start + 3] == ""
    assert [line.split("  ", 1)[0] for line in lines[start + 4 :]] == list(metrics)


def test_every_cohort_there_can_be_is_described(written):
    frame = load_predictions(*written(), folds=[0, 1, 2], source=MAIN)
    found = {name for strategy in ("patient", "random", "own") for name in cohorts.cohorts(frame, strategy)}
    assert found == set(cohorts.DESCRIPTIONS)


def test_cohorts_of_other_sources_are_described_each_in_its_own_words():
    names = ["source_ward", "external_ward", "external_ward_shared", "external_ward_clean", "patient_test"]
    said = [cohorts.description(name) for name in names]
    assert len(set(said)) == 5 and not any("\n" in line for line in said)
    assert said == [cohorts.description(name.replace("ward", "clinic")) for name in names]
    assert said[-1] == cohorts.DESCRIPTIONS["patient_test"]


def test_descriptions_of_other_sources_are_no_longer_than_those_of_the_main_one():
    """The table has room for these."""
    names = ["source_ward", "external_ward", "external_ward_shared", "external_ward_clean"]
    longest = max(map(len, cohorts.DESCRIPTIONS.values()))
    assert [name for name in names if len(cohorts.description(name)) > longest] == []
