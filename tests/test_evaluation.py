"""Cohorts, figures, plots and the table of the evaluate stage, against scikit-learn and planted truth."""

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from PIL import Image

import brain_tumor
from brain_tumor.errors import PipelineError
from brain_tumor.evaluation import cohorts, metrics, plots, table

CLASSES = ["ant", "bee", "cat", "dog"]


def scored(seed: int, n: int = 300, classes=tuple(CLASSES)) -> tuple[list[str], np.ndarray]:
    """Imbalanced labels and fairly good float32 probabilities, with ties."""
    random = np.random.default_rng(seed)
    index = random.choice(len(classes), n, p=random.dirichlet(np.full(len(classes), 5.0)))
    logits = random.normal(size=(n, len(classes))).round(1)
    logits[np.arange(n), index] += 1.0
    exponentials = np.exp(logits)
    values = exponentials / exponentials.sum(axis=1, keepdims=True)
    return [classes[i] for i in index], values.astype(np.float32)


def one_hot(labels: list[str]) -> np.ndarray:
    return (np.array(labels)[:, None] == np.array(CLASSES)).astype(np.float32)


def leaves(value, prefix=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            assert type(key) is str
            yield from leaves(inner, (*prefix, key))
    else:
        yield prefix, value


# --- metrics


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn(seed):
    labels, values = scored(seed)
    got = metrics.cohort_metrics(labels, values, CLASSES, min_class_images=1)

    predicted = np.array(CLASSES)[values.argmax(axis=1)]
    macro = {"average": "macro", "zero_division": 0}
    normalised = values.astype(np.float64) / values.astype(np.float64).sum(axis=1, keepdims=True)
    expected = {
        "n": len(labels),
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "macro_precision": sk.precision_score(labels, predicted, **macro),
        "macro_recall": sk.recall_score(labels, predicted, **macro),
        "macro_f1": sk.f1_score(labels, predicted, **macro),
        "log_loss": sk.log_loss(labels, normalised, labels=CLASSES),
    }
    report = sk.classification_report(labels, predicted, output_dict=True, zero_division=0)
    for name in CLASSES:
        expected[f"n_{name}"] = labels.count(name)
        figures = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
        assert got["per_class"][name] == pytest.approx({k: report[name][r] for k, r in figures.items()}, abs=1e-6)
    confusion = got["confusion"]
    del got["per_class"], got["confusion"]
    assert got == pytest.approx(expected, abs=1e-6)
    for actual in CLASSES:
        for guess in CLASSES:
            pairs = sum(a == actual and p == guess for a, p in zip(labels, predicted, strict=True))
            assert confusion[actual][guess] == pairs


def test_class_absent_from_cohort_has_no_key_but_its_predictions_count_as_errors():
    labels = ["ant", "ant", "ant", "bee"]
    values = one_hot(["ant", "ant", "dog", "bee"])
    got = metrics.cohort_metrics(labels, values, CLASSES, min_class_images=1)

    assert not {key for path, _ in leaves(got) for key in path} & {"cat", "dog", "n_cat", "n_dog"}
    assert not {"balanced_accuracy", "macro_precision", "macro_recall", "macro_f1"} & set(got)
    assert (got["accuracy"], got["per_class"]["ant"]["recall"]) == (0.75, pytest.approx(2 / 3, abs=1e-6))
    assert got["confusion"] == {"ant": {"ant": 2, "bee": 0}, "bee": {"ant": 0, "bee": 1}}
    counts = metrics.confusion_counts(labels, values, CLASSES)
    assert counts.index.tolist() == ["ant", "bee"]
    assert counts.loc["ant"].to_dict() == {"ant": 2, "bee": 0, "cat": 0, "dog": 1}


def test_averages_over_classes_need_enough_images_of_every_class():
    labels = [name for name in CLASSES for _ in range(20)]
    averages = {"balanced_accuracy", "macro_precision", "macro_recall", "macro_f1"}
    assert averages <= set(metrics.cohort_metrics(labels, one_hot(labels), CLASSES))
    assert averages.isdisjoint(metrics.cohort_metrics(labels[1:], one_hot(labels[1:]), CLASSES))


def test_perfect_predictions():
    labels = [name for name in CLASSES for _ in range(25)]
    got = metrics.cohort_metrics(labels, one_hot(labels), CLASSES)
    assert got["accuracy"] == got["macro_f1"] == got["per_class"]["cat"]["precision"] == 1.0
    assert json.dumps(got["log_loss"]) == "0.0"  # not "-0.0"


def test_constant_prediction_has_zero_precision_for_the_others_and_a_bounded_log_loss():
    labels = ["ant"] * 3 + ["bee"]
    got = metrics.cohort_metrics(labels, one_hot(["ant"] * 4), CLASSES)
    assert got["per_class"]["bee"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert got["per_class"]["ant"]["precision"] == 0.75
    assert got["log_loss"] == pytest.approx(-np.log(2.0**-52) / 4, abs=1e-6)


def test_one_image():
    got = metrics.cohort_metrics(["bee"], np.array([[0.2, 0.5, 0.2, 0.1]]), CLASSES)
    assert got == {
        "n": 1,
        "n_bee": 1,
        "accuracy": 1.0,
        "log_loss": round(np.log(2), 6),
        "per_class": {"bee": {"precision": 1.0, "recall": 1.0, "f1": 1.0}},
        "confusion": {"bee": {"bee": 1}},
    }


@pytest.mark.parametrize("labels", [scored(0)[0], ["ant"] * 5, ["cat", "dog"]])
def test_metrics_are_nested_numbers_that_json_takes(labels):
    _, values = scored(1, n=len(labels))
    got = metrics.cohort_metrics(np.array(labels), values, CLASSES)
    assert all(type(value) in (int, float) for _, value in leaves(got))
    assert json.loads(json.dumps(got, allow_nan=False)) == got


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ([], np.empty((0, 4))),
        (["ant"], np.full((1, 3), 0.25)),
        (["ant", "bee"], np.full((1, 4), 0.25)),
        (["wasp"], np.full((1, 4), 0.25)),
        (["ant"], np.full((1, 4), np.nan)),
    ],
)
def test_inputs_that_do_not_fit_are_refused(labels, values):
    with pytest.raises(ValueError, match="expected"):
        metrics.cohort_metrics(labels, values, CLASSES)


def test_confusion_rows_name_the_most_probable_class_of_every_image():
    rows = metrics.confusion_rows(["dog", "ant"], np.array([[0.1, 0.2, 0.6, 0.1], [0.7, 0.1, 0.1, 0.1]]), CLASSES)
    assert rows.to_csv(index=False, lineterminator="\n") == "actual,predicted\ndog,cat\nant,ant\n"


@pytest.mark.parametrize("seed", range(3))
def test_roc_curves_and_areas(seed):
    labels, values = scored(seed)
    curves = metrics.roc_curves(labels, values, CLASSES, points=201)
    areas = metrics.roc_areas(labels, values, CLASSES)
    assert curves.columns.tolist() == ["fpr", *CLASSES]
    assert curves["fpr"].tolist() == pytest.approx(np.linspace(0, 1, 201))
    for i, name in enumerate(CLASSES):
        positive = np.array(labels) == name
        fpr, tpr, _ = sk.roc_curve(positive, values[:, i], drop_intermediate=False)
        assert curves[name].to_numpy() == pytest.approx(np.interp(np.linspace(0, 1, 201), fpr, tpr), abs=1e-6)
        # The probability that an image of the class is scored above another (Mann-Whitney), ties by half.
        above = values[positive, i][:, None] - values[~positive, i][None]
        assert areas[name] == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean(), abs=1e-6)
        assert areas[name] == pytest.approx(np.trapezoid(curves[name], curves["fpr"]), abs=0.01)


def test_roc_leaves_out_classes_without_images_or_without_others():
    _, values = scored(0, n=4)
    assert metrics.roc_curves(["ant", "bee", "bee", "ant"], values, CLASSES).columns.tolist() == ["fpr", "ant", "bee"]
    assert metrics.roc_areas(["ant"] * 4, values, CLASSES) == {}


# --- cohorts

SPLIT = """\
path,sha256,label,folder,patient,group,fold
Training/NA/1.jpg,a,NA,Training,p1,g1,0
Training/NA/2.jpg,b,NA,Training,,g2,1
Training/sick/3.jpg,c,sick,Training,007,g3,1
Training/sick/4.jpg,d,sick,Training,p4,g4,2
Testing/NA/5.jpg,e,NA,Testing,,g5,
Testing/sick/6.jpg,f,sick,Testing,p4,g4,
Testing/sick/7.jpg,g,sick,Testing,p7,g7,
"""
TRAINING = {"0": ["Training/NA/1.jpg"], "1": ["Training/NA/2.jpg", "Training/sick/3.jpg"], "2": ["Training/sick/4.jpg"]}
OFFICIAL = ["Testing/NA/5.jpg", "Testing/sick/6.jpg", "Testing/sick/7.jpg"]


@pytest.fixture
def written(tmp_path: Path):
    """Writes a split and predictions, fold k as test and the next as validation, p_sick telling the model."""

    def write(roles=("validation", "test", "official_test"), split: str = SPLIT) -> tuple[Path, Path]:
        (tmp_path / "folds.csv").write_text(split)
        folder = tmp_path / "predictions"
        folder.mkdir(exist_ok=True)
        for k in range(3):
            images = {"test": TRAINING[str(k)], "validation": TRAINING[str((k + 1) % 3)], "official_test": OFFICIAL}
            sick = 0.1 + k / 10
            lines = [
                f"{path},{path.split('/')[1]},{role},{1 - sick},{sick}\n" for role in roles for path in images[role]
            ]
            (folder / f"fold-{k}.csv").write_text("path,label,role,p_NA,p_sick\n" + "".join(lines))
        return folder, tmp_path / "folds.csv"

    return write


def members(frame: pd.DataFrame, strategy: str) -> dict[str, list[str]]:
    return {name: [Path(p).stem for p in part["path"]] for name, part in cohorts.cohorts(frame, strategy).items()}


def test_predictions_are_joined_with_the_split(written):
    frame = cohorts.load_predictions(*written(), folds=[2, 0])
    assert frame["model_fold"].unique().tolist() == [2, 0]
    assert cohorts.class_names(frame) == ["NA", "sick"]
    row = frame[(frame["path"] == "Testing/sick/6.jpg") & (frame["model_fold"] == 0)].iloc[0]
    assert (row["label"], row["patient"], row["group"], row["p_sick"]) == ("sick", "p4", "g4", 0.1)
    assert cohorts.probabilities(frame).sum(axis=1) == pytest.approx(1)
    unknown = frame[frame["path"] == "Testing/NA/5.jpg"].iloc[0]
    assert (unknown["label"], unknown["patient"]) == ("NA", "")  # not taken for missing values


def test_cohorts_of_patient_folds(written):
    frame = cohorts.load_predictions(*written(), folds=[0, 1, 2])
    found = members(frame, "patient")
    assert list(found) == ["patient_test", "patient_known", "official_test", "official_leaked", "official_clean"]
    assert list(found.values()) == [["1", "2", "3", "4"], ["1", "3", "4"], ["5", "6", "7"], ["6"], ["5", "7"]]


def test_official_test_is_scored_by_the_first_fold_named(written):
    frame = cohorts.load_predictions(*written(), folds=[2, 0, 1])
    official = cohorts.cohorts(frame, "patient")["official_test"]
    assert official["p_sick"].tolist() == pytest.approx([0.3] * 3)


def test_leakage_is_judged_by_the_whole_training_pool(written):
    # The patient of image 6 stands in fold 2 alone: not among the predictions of the first, unseen by the model
    # of the second, and leaked all the same.
    for folds in ([0], [2]):
        found = members(cohorts.load_predictions(*written(), folds=folds), "patient")
        assert (found["official_leaked"], found["official_clean"]) == (["6"], ["5", "7"])


def test_exactly_the_folds_named_are_read(written):
    folder, split = written()
    (folder / "fold-9.csv").write_text((folder / "fold-0.csv").read_text())
    (folder / "fold-2.csv").unlink()
    found = members(cohorts.load_predictions(folder, split, folds=[0, 1]), "patient")
    assert found["patient_test"] == ["1", "2", "3"]


def test_cohorts_of_other_strategies(written):
    frame = cohorts.load_predictions(*written(), folds=[0, 1, 2])
    assert list(members(frame, "random"))[:2] == ["random_test", "patient_known"]
    frame = cohorts.load_predictions(*written(roles=("validation", "official_test")), folds=[0])
    assert list(members(frame, "official")) == ["official_test", "official_leaked", "official_clean"]


def test_empty_cohorts_are_absent(written):
    anonymous = SPLIT.replace("p1", "").replace("007", "").replace("p4", "").replace("Testing,,g4", "Testing,,g8")
    frame = cohorts.load_predictions(*written(split=anonymous), folds=[0, 1, 2])
    assert list(members(frame, "patient")) == ["patient_test", "official_test", "official_clean"]
    frame = cohorts.load_predictions(*written(roles=("validation", "test")), folds=[0, 1, 2])
    assert list(members(frame, "patient")) == ["patient_test", "patient_known"]


def test_missing_files_are_named(written):
    folder, split = written()
    with pytest.raises(PipelineError, match=r"fold-7\.csv.*dvc repro"):
        cohorts.load_predictions(folder, split, folds=[0, 7])
    with pytest.raises(PipelineError, match=r"no\.csv.*dvc repro"):
        cohorts.load_predictions(folder, split.with_name("no.csv"), folds=[0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Training/NA/1.jpg", "Training/NA/gone.jpg", "gone.jpg"),
        ("Training/NA/1.jpg,NA", "Training/NA/1.jpg,sick", "same label"),
        ("p_sick", "p_ill", "classes"),
        ("0.8,0.2", ",", "between 0 and 1"),
        ("0.8,0.2", "8,-7", "between 0 and 1"),
        ("validation", "test", "one model only"),
    ],
)
def test_predictions_that_contradict_the_split_or_each_other_are_refused(written, old, new, message):
    folder, split = written()
    for k in (0, 1) if old.startswith("Training") else (1,):
        path = folder / f"fold-{k}.csv"
        path.write_text(path.read_text().replace(old, new))
    with pytest.raises(PipelineError, match=message) as raised:
        cohorts.load_predictions(folder, split, folds=[0, 1, 2])
    assert "\n" not in str(raised.value)


# --- plots

DRAW = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from brain_tumor.evaluation import metrics, plots
folder = Path(sys.argv[1])
for c in (2, 4, 10):
    classes = [f"class_with_a_long_name_{i:02}" for i in range(c)]
    random = np.random.default_rng(c)
    values = random.dirichlet(np.ones(c), 200)
    labels = [classes[i] for i in random.integers(c, size=200)]
    plots.confusion_png(folder / f"confusion{c}.png", metrics.confusion_counts(labels, values, classes), "title")
    curves, areas = metrics.roc_curves(labels, values, classes), metrics.roc_areas(labels, values, classes)
    plots.roc_png(folder / f"roc{c}.png", curves, areas, "title")
columns = ["train_loss", "validation_loss", "validation_macro_f1"]
histories = {k: pd.DataFrame(random.random((5, 3)), columns=columns).assign(epoch=range(1, 6)) for k in range(3)}
plots.training_png(folder / "training.png", histories)
"""


def test_png_bytes_repeat_in_another_process_with_other_settings(tmp_path):
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
        with Image.open(tmp_path / "plain" / name) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) > 600
            assert set(image.info) <= {"dpi"}
            assert len(image.convert("RGB").getcolors(1 << 24)) > 100


def test_confusion_colours_show_row_shares(tmp_path):
    """Row shares 1, 0 and 0.5 take up the areas of the colour map they should, whatever the counts."""
    counts = pd.DataFrame([[500, 0], [3, 3]], index=["ant", "bee"], columns=["ant", "bee"])
    plots.confusion_png(tmp_path / "plot.png", counts, "title")
    with Image.open(tmp_path / "plot.png") as image:
        area = {color: number for number, color in image.convert("RGB").getcolors(1 << 24)}
    blues = matplotlib.colormaps["Blues"]
    full, none, half = (area[tuple(np.rint(255 * np.array(blues(share)[:3])))] for share in (1.0, 0.0, 0.5))
    assert full == pytest.approx(none, rel=0.1)
    assert half == pytest.approx(2 * full, rel=0.1)


def test_plots_leave_no_global_state(tmp_path):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    plots.roc_png(tmp_path / "plot.png", pd.DataFrame({"fpr": [0, 1], "_$a$": [0, 1]}), {"_$a$": 0.5}, "title")
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


def test_failed_plot_leaves_the_former_file(tmp_path):
    (tmp_path / "plot.png").write_bytes(b"former")
    with pytest.raises(KeyError):
        plots.training_png(tmp_path / "plot.png", {0: pd.DataFrame({"epoch": [1]})})
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]
    assert (tmp_path / "plot.png").read_bytes() == b"former"


# --- table


def test_table_shows_every_cohort_within_100_columns():
    classes = ["glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor"]
    labels, values = scored(0, n=2870, classes=classes)
    lacking = [i for i, label in enumerate(labels) if label != "no_tumor"]
    whole = metrics.cohort_metrics(labels, values, classes)
    part = metrics.cohort_metrics([labels[i] for i in lacking], values[lacking], classes)
    names = ["patient_test", "patient_known", "official_test", "official_leaked", "official_clean"]
    lines = table.metrics_table(dict.fromkeys(names, whole) | {"official_clean": part}).splitlines()

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
    assert rows["official_test"] == [str(whole["n_no_tumor"]), *(f"{figures[k]:.3f}" for k in figures)]
    assert rows["official_clean"] == ["0", "-", "-", "-"]
    legend = {line.split("  ", 1)[0]: line for line in lines[-5:]}
    assert list(legend) == names
    assert "same patient or same picture as a training image" in legend["official_leaked"]


def test_every_cohort_there_can_be_is_described(written):
    frame = cohorts.load_predictions(*written(), folds=[0, 1, 2])
    found = {name for strategy in ("patient", "random", "own") for name in cohorts.cohorts(frame, strategy)}
    assert found == set(cohorts.DESCRIPTIONS)


def test_intervals_stand_beside_their_scores():
    random = np.random.default_rng(5)
    labels = np.repeat(["a", "b"], 60)
    values = random.dirichlet([1, 1], 120)
    groups = [f"p{k // 6}" for k in range(120)]
    figures = metrics.cohort_metrics(labels, values, ["a", "b"], groups=groups)
    for score in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert figures[f"{score}_ci_low"] < figures[score] < figures[f"{score}_ci_high"]
    few = metrics.cohort_metrics(labels[:70], values[:70], ["a", "b"], groups=groups[:70])
    assert "accuracy_ci_low" in few and "macro_f1_ci_low" not in few
