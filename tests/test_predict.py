"""The command line and the library as a user of predictions meets them."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from rewritten import giving, giving_all_states, rewritten

from brain_tumor import Classifier
from brain_tumor.imaging.decoding import UnreadableImage, decode

FILE = "src/brain_tumor/serving/classifier.tflite"
GOLDEN = Path(__file__).parent / "golden"
MEASURED = [
    {"images": "first: new patients", "n": 120, "answered": 0.754, "error": 0.0512, "missed": 0.0126}
    | {"coverage_90": 0.9, "coverage_95": 0.9617},
    {"images": "second: another hospital", "n": 8, "answered": 0.0, "missed": 0.0},
]


def predict(project: Path, *arguments: object, code: int = 0, **variables: str) -> subprocess.CompletedProcess:
    """Run the command in a project, with the code of this tree and the project's classifier."""
    command = [sys.executable, "-m", "brain_tumor", "predict", "--model", project / FILE, *arguments]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", **variables}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr and "TensorFlow" not in done.stderr
    return done


@pytest.fixture(scope="module")
def scans(small_run, tmp_path_factory) -> Path:
    """A folder of scans with folders, odd names, a broken file and one that is none."""
    folder = tmp_path_factory.mktemp("scans")
    sources = sorted((small_run / "data/raw/phantoms").glob("*/*/*.jpg"))[:12]
    for i, source in enumerate(sources):
        target = folder / ("a" if i % 2 else "b") / f"scan {i}.jpg"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(source, target)
    (folder / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (folder / "notes.txt").write_text("no scan")
    (folder / ".hidden.jpg").write_bytes(b"")
    return folder


def test_one_file(small_run, scans):
    scan = scans / "b/scan 0.jpg"
    done = predict(small_run, scan)
    said = Classifier.load(small_run / FILE).predict(scan)
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{scan}: ") and f"{said.label} {said.probabilities[said.label]:.3f}" in line
    assert ("no answer" in line) == (said.state == "no answer") and all(reason in line for reason in said.reasons)
    assert "Research use only" in done.stderr and "slices" not in done.stderr


def test_the_three_states_of_one_file(small_run, scans, tmp_path):
    scan, model = scans / "b/scan 0.jpg", tmp_path / "model.tflite"
    for state in ("answer", "unsure", "no answer"):
        said = Classifier.load(giving(state, scan, small_run / FILE, model)).predict(scan)
        first, second, *_ = sorted(said.probabilities, key=said.probabilities.get, reverse=True)
        assert (said.state, said.likely) == (state, {"answer": [first], "unsure": [first, second]}.get(state, []))
        (line,) = predict(small_run, "--model", model, scan).stdout.splitlines()
        named = {name: f"{name} {said.probabilities[name]:.3f}" for name in said.probabilities}
        reason = "; ".join(said.reasons)
        start = {
            "answer": f"{named[first]} (",
            "unsure": f"unsure, {named[first]} or {named[second]}: {reason} (",
            "no answer": f"no answer, {reason}; nearest: {named[first]} (",
        }
        assert line.startswith(f"{scan}: {start[state]}")
        shown = [name for name, text in named.items() if text in line]
        assert sorted(shown) == sorted([first, second] if state == "unsure" else [first])
        assert line.count("is needed") == len(said.reasons) == (state != "answer")

        told = json.loads(predict(small_run, "--model", model, scan, "--json").stdout)
        (row,) = csv.DictReader(io.StringIO(predict(small_run, "--model", model, scan, "--csv").stdout))
        assert told["state"] == row["state"] == state and told["label"] == row["label"] == first
        assert told["likely"] == [name for name in row["likely"].split("; ") if name] == said.likely
        assert told["abstained"] == (row["abstained"] == "true") == (state != "answer")
        assert told["reasons"] == [reason for reason in row["reasons"].split("; ") if reason] == said.reasons


def test_a_novel_picture_gets_no_answer_however_sure_the_network_is(small_run, scans, tmp_path):
    scan, model = scans / "b/scan 0.jpg", tmp_path / "model.tflite"
    rewritten(small_run / FILE, model, novelty=1e-6, confidence=[0.0] * 4)
    (line,) = predict(small_run, "--model", model, scan).stdout.splitlines()
    assert line.startswith(f"{scan}: no answer, it looks like no scan the network has learned from (novelty ")
    assert "is needed" not in line and "; nearest: " in line


def test_the_summary_counts_the_states_and_says_what_answers_are_worth(small_run, scans, tmp_path):
    files = sorted(path for path in scans.rglob("scan *.jpg"))
    model = giving_all_states(files, small_run / FILE, tmp_path / "model.tflite", measured=MEASURED)
    counts = Counter(Classifier.load(model).predict(file).state for file in files)
    assert counts.total() == 12 and len(counts) == 3
    expected = [
        f"slices: 12, answered: {counts['answer']}, unsure: {counts['unsure']}, no answer: {counts['no answer']}; "
        "unreadable files: 1. Research use only: not a medical device, not for diagnosis.",
        "Measured on first: new patients (120 images): 75% answered, 5.1% of the answers wrong, "
        "1.3% of the tumours answered as healthy, 90 % set right in 90.0%, 95 % set right in 96.2%.",
        "Measured on second: another hospital (8 images): 0% answered, 0.0% of the tumours answered as healthy.",
    ]
    for form in ("--json", "--csv", None):
        done = predict(small_run, "--model", model, scans, *([form] if form else []), code=1)
        assert done.stderr.splitlines()[-3:] == expected
        if form == "--json":
            states = [json.loads(line).get("state", "error") for line in done.stdout.splitlines()]
        elif form == "--csv":
            states = [row["state"] or "error" for row in csv.DictReader(io.StringIO(done.stdout))]
        else:
            texts, others = (
                [line.split(": ", 1)[1] for line in done.stdout.splitlines()],
                ("unsure", "no answer", "error"),
            )
            states = [next((name for name in others if text.startswith(name)), "answer") for text in texts]
        assert Counter(states) == counts + Counter(error=1)


def test_what_was_not_measured_is_not_stated(scans):
    for version, stated in ((1, 0), (2, 2)):
        model = GOLDEN / f"classifier-{version}.tflite"
        done = predict(GOLDEN, "--model", model, GOLDEN / "scan.png")
        assert sum(line.startswith("Measured on ") for line in done.stderr.splitlines()) == stated


def test_a_folder_goes_on_past_a_broken_file(small_run, scans):
    done = predict(small_run, scans, code=1)
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == sorted(str(p) for p in scans.rglob("*.*g") if p.name[0] != ".")
    assert sum(": error: " in line for line in lines) == 1
    assert "slices: 12, answered: " in done.stderr and "unreadable files: 1" in done.stderr


def test_json_and_csv_say_the_same_as_the_library(small_run, scans):
    classifier = Classifier.load(small_run / FILE)
    objects = [json.loads(line) for line in predict(small_run, scans, "--json", code=1).stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(predict(small_run, scans, "--csv", code=1).stdout)))
    assert len(objects) == len(rows) == 13
    for told, row in zip(objects, rows, strict=True):
        assert told["name"] == row["file"]
        if "error" in told:
            assert told.keys() == {"name", "error"} and row["error"] == told["error"]
            assert not any(value for name, value in row.items() if name not in ("file", "error"))
            continue
        said = classifier.predict(told["name"])
        assert list(row) == [
            *("file", "slice", "state", "label", "likely", "abstained", "reasons", "novelty"),
            *(f"p_{name}" for name in said.probabilities),
            *("set_90", "set_95", "error"),
        ]
        assert told["state"] == row["state"] == said.state and told["label"] == row["label"] == said.label
        assert told["likely"] == said.likely and row["likely"] == "; ".join(said.likely)
        assert told["reasons"] == said.reasons and row["reasons"] == "; ".join(said.reasons)
        assert told["abstained"] == (row["abstained"] == "true") == said.abstained
        for name, value in said.probabilities.items():
            assert told["probabilities"][name] == float(row[f"p_{name}"]) == pytest.approx(value, abs=1e-6)
        assert told["prediction_sets"] == {str(level): names for level, names in said.sets.items()}
        assert row["set_95"] == "; ".join(said.sets[95])
        assert told["novelty"] == float(row["novelty"]) == pytest.approx(said.novelty, abs=1e-4)


def test_explain_draws_the_map_where_the_network_looked(small_run, scans, tmp_path):
    predict(small_run, scans / "b", "--explain", tmp_path / "maps")
    pictures = sorted((tmp_path / "maps").rglob("*.png"))
    assert len(pictures) == 6
    source = scans / "b" / pictures[0].name.removesuffix(".png")
    grey, drawn = decode(source.read_bytes()), cv2.imread(str(pictures[0]))
    height, width = grey.shape
    assert drawn.shape == (height, 2 * width, 3)
    np.testing.assert_array_equal(drawn[:, :width], np.repeat(grey[..., None], 3, axis=2))
    said = Classifier.load(small_run / FILE).predict(source)
    changed = np.abs(drawn[:, width:].astype(int) - drawn[:, :width]).sum(axis=2)
    assert (changed.max() > 100) == (said.map.max() > 0)


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (2000, 900)])
def test_pictures_of_any_shape_are_explained(small_run, tmp_path, shape):
    picture = np.zeros(shape, np.uint8)
    picture[shape[0] // 4 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = 200
    cv2.imwrite(str(tmp_path / "scan.png"), picture)
    predict(small_run, tmp_path / "scan.png", "--explain", tmp_path / "maps")
    (drawn,) = (tmp_path / "maps").rglob("*.png")
    height, width, _ = cv2.imread(str(drawn)).shape
    assert max(height, width / 2) <= 512 and width / 2 / height == pytest.approx(shape[1] / shape[0], rel=0.02)


def test_names_lead_nowhere_and_hide_nothing(small_run, scans, tmp_path):
    odd = tmp_path / "in" / "\x1b[31mred\n.jpg"
    odd.parent.mkdir()
    shutil.copy(scans / "b/scan 0.jpg", odd)
    done = predict(small_run, tmp_path / "in/../in", "--explain", tmp_path / "out")
    assert len(done.stdout.splitlines()) == 1 and "\x1b" not in done.stdout
    (drawn,) = tmp_path.rglob("*.png")
    assert (tmp_path / "out") in drawn.parents


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/file.jpg"], None),
        ([], "the following arguments are required"),
        (["--model", "README.md", "x.jpg"], "expected an exported classifier in README.md"),
        (["--json", "--csv", "x.jpg"], "not allowed with"),
        (["--slice", "some", "x.jpg"], "--slice"),
        (["empty"], "expected scans in empty, found none"),
    ],
)
def test_exit_codes(small_run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "README.md").write_text("text")
    done = predict(small_run, *arguments, code=2 if message else 1)
    if message:
        assert message in done.stderr and done.stdout == ""
    else:
        assert done.stdout == "/no/such/file.jpg: error: No such file or directory\n"


def test_a_reader_that_has_seen_enough_is_no_error(small_run, scans):
    command = f"{sys.executable} -m brain_tumor predict --model {small_run / FILE} {scans / 'b'} | head -n 1"
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, timeout=120)
    assert len(done.stdout.splitlines()) == 1 and "Error" not in done.stderr


@pytest.mark.parametrize("module", ["brain_tumor.serving.command.cli", "brain_tumor.serving.server"])
def test_predicting_and_serving_need_nothing_of_the_pipeline(small_run, scans, tmp_path, module):
    for name in ("tensorflow", "keras", "pandas", "sklearn", "matplotlib", "seaborn", "dvc", "scipy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported')")
    path = f"{tmp_path}:{ROOT / 'src'}"
    predict(small_run, scans / "b", "--json", "--explain", tmp_path / "maps", PYTHONPATH=path)
    code = f"import {module}, brain_tumor.serving.readers.formats, brain_tumor.serving.output"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path}, timeout=120)


def test_the_library_takes_paths_bytes_and_arrays(small_run, scans):
    classifier, path = Classifier.load(small_run / FILE), scans / "b/scan 0.jpg"
    answers = [classifier.predict(scan) for scan in (path, str(path), path.read_bytes(), decode(path.read_bytes()))]
    assert len({(a.label, tuple(a.probabilities.values()), a.novelty) for a in answers}) == 1
    for array in (np.zeros((8, 8)), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8), np.uint8)):
        with pytest.raises(UnreadableImage, match="expected"):
            classifier.predict(array)
    with pytest.raises(UnreadableImage):
        classifier.predict(b"none")
