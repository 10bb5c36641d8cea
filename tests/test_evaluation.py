"""Cohorts, figures, plots and the table of the evaluate stage, against scikit-learn and planted truth."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scored import scored

import brain_tumor
from brain_tumor.drawing import classification
from brain_tumor.drawing.training import training_png
from brain_tumor.errors import PipelineError
from brain_tumor.evaluation import cohorts
from brain_tumor.evaluation.summary import metrics_table
from brain_tumor.metrics.scores import cohort_metrics
from brain_tumor.prediction.tables import class_names, load_predictions, probabilities

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
    frame = load_predictions(*written(), folds=[2, 0])
    assert frame["model_fold"].unique().tolist() == [2, 0]
    assert class_names(frame) == ["NA", "sick"]
    row = frame[(frame["path"] == "Testing/sick/6.jpg") & (frame["model_fold"] == 0)].iloc[0]
    assert (row["label"], row["patient"], row["group"], row["p_sick"]) == ("sick", "p4", "g4", 0.1)
    assert probabilities(frame).sum(axis=1) == pytest.approx(1)
    unknown = frame[frame["path"] == "Testing/NA/5.jpg"].iloc[0]
    assert (unknown["label"], unknown["patient"]) == ("NA", "")  # not taken for missing values


def test_cohorts_of_patient_folds(written):
    frame = load_predictions(*written(), folds=[0, 1, 2])
    found = members(frame, "patient")
    assert list(found) == ["patient_test", "patient_known", "official_test", "official_leaked", "official_clean"]
    assert list(found.values()) == [["1", "2", "3", "4"], ["1", "3", "4"], ["5", "6", "7"], ["6"], ["5", "7"]]


def test_official_test_is_scored_by_the_first_fold_named(written):
    frame = load_predictions(*written(), folds=[2, 0, 1])
    official = cohorts.cohorts(frame, "patient")["official_test"]
    assert official["p_sick"].tolist() == pytest.approx([0.3] * 3)


def test_leakage_is_judged_by_the_whole_training_pool(written):
    # The patient of image 6 stands in fold 2 alone: not among the predictions of the first, unseen by the model
    # of the second, and leaked all the same.
    for folds in ([0], [2]):
        found = members(load_predictions(*written(), folds=folds), "patient")
        assert (found["official_leaked"], found["official_clean"]) == (["6"], ["5", "7"])


def test_exactly_the_folds_named_are_read(written):
    folder, split = written()
    (folder / "fold-9.csv").write_text((folder / "fold-0.csv").read_text())
    (folder / "fold-2.csv").unlink()
    found = members(load_predictions(folder, split, folds=[0, 1]), "patient")
    assert found["patient_test"] == ["1", "2", "3"]


def test_cohorts_of_other_strategies(written):
    frame = load_predictions(*written(), folds=[0, 1, 2])
    assert list(members(frame, "random"))[:2] == ["random_test", "patient_known"]
    frame = load_predictions(*written(roles=("validation", "official_test")), folds=[0])
    assert list(members(frame, "official")) == ["official_test", "official_leaked", "official_clean"]


def test_empty_cohorts_are_absent(written):
    anonymous = SPLIT.replace("p1", "").replace("007", "").replace("p4", "").replace("Testing,,g4", "Testing,,g8")
    frame = load_predictions(*written(split=anonymous), folds=[0, 1, 2])
    assert list(members(frame, "patient")) == ["patient_test", "official_test", "official_clean"]
    frame = load_predictions(*written(roles=("validation", "test")), folds=[0, 1, 2])
    assert list(members(frame, "patient")) == ["patient_test", "patient_known"]


def test_missing_files_are_named(written):
    folder, split = written()
    with pytest.raises(PipelineError, match=r"fold-7\.csv.*dvc repro"):
        load_predictions(folder, split, folds=[0, 7])
    with pytest.raises(PipelineError, match=r"no\.csv.*dvc repro"):
        load_predictions(folder, split.with_name("no.csv"), folds=[0])


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
        load_predictions(folder, split, folds=[0, 1, 2])
    assert "\n" not in str(raised.value)


# --- plots

DRAW = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from brain_tumor.drawing import classification
from brain_tumor.drawing.training import training_png
from brain_tumor.metrics import curves
folder = Path(sys.argv[1])
for c in (2, 4, 10):
    classes = [f"class_with_a_long_name_{i:02}" for i in range(c)]
    random = np.random.default_rng(c)
    values = random.dirichlet(np.ones(c), 200)
    labels = [classes[i] for i in random.integers(c, size=200)]
    counts = curves.confusion_counts(labels, values, classes)
    classification.confusion_png(folder / f"confusion{c}.png", counts, "title")
    areas = curves.roc_areas(labels, values, classes)
    classification.roc_png(folder / f"roc{c}.png", curves.roc_curves(labels, values, classes), areas, "title")
columns = ["train_loss", "validation_loss", "validation_macro_f1"]
histories = {k: pd.DataFrame(random.random((5, 3)), columns=columns).assign(epoch=range(1, 6)) for k in range(3)}
training_png(folder / "training.png", histories)
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
    classification.confusion_png(tmp_path / "plot.png", counts, "title")
    with Image.open(tmp_path / "plot.png") as image:
        area = {color: number for number, color in image.convert("RGB").getcolors(1 << 24)}
    blues = matplotlib.colormaps["Blues"]
    full, none, half = (area[tuple(np.rint(255 * np.array(blues(share)[:3])))] for share in (1.0, 0.0, 0.5))
    assert full == pytest.approx(none, rel=0.1)
    assert half == pytest.approx(2 * full, rel=0.1)


def test_plots_leave_no_global_state(tmp_path):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    classification.roc_png(tmp_path / "plot.png", pd.DataFrame({"fpr": [0, 1], "_$a$": [0, 1]}), {"_$a$": 0.5}, "title")
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


def test_failed_plot_leaves_the_former_file(tmp_path):
    (tmp_path / "plot.png").write_bytes(b"former")
    with pytest.raises(KeyError):
        training_png(tmp_path / "plot.png", {0: pd.DataFrame({"epoch": [1]})})
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]
    assert (tmp_path / "plot.png").read_bytes() == b"former"


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
    assert "same patient or same picture as a training image" in legend["official_leaked"]


def test_every_cohort_there_can_be_is_described(written):
    frame = load_predictions(*written(), folds=[0, 1, 2])
    found = {name for strategy in ("patient", "random", "own") for name in cohorts.cohorts(frame, strategy)}
    assert found == set(cohorts.DESCRIPTIONS)
