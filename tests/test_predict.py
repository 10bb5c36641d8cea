"""The answers of the command and the library as a user of predictions meets them; test_command.py has the rest."""

import base64
import csv
import hashlib
import io
import json
import re
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
from brain_tumor.serving.answers import File, answer
from brain_tumor.serving.classifier import Prediction
from brain_tumor.serving.output import as_json

FILE = "src/brain_tumor/serving/classifier.tflite"
GOLDEN = Path(__file__).parent / "golden"
RESEARCH = "Research use only: not a medical device, not for diagnosis."
MEASURED = [
    {"images": "first: new patients", "n": 120, "answered": 0.754, "error": 0.0512, "missed": 0.0126}
    | {"coverage_90": 0.9, "coverage_95": 0.9617},
    {"images": "second: another hospital", "n": 8, "answered": 0.0, "missed": 0.0},
]


def predict(
    project: Path, *arguments: object, code: int = 0, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess:
    """Run the command with the code of this tree and a project's classifier."""
    command = list(map(str, [sys.executable, "-m", "brain_tumor", "predict", "--model", project / FILE, *arguments]))
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", **variables}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=120)
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


def columns(line: str) -> list[str]:
    """Name, verdict and what supports it."""
    return re.split(" {2,}", line, maxsplit=2)


def expected(said: Prediction) -> list[str]:
    """Verdict and what supports it, as a line of text has them."""
    first, second, *_ = sorted(said.probabilities, key=said.probabilities.get, reverse=True)
    named = {name: name.replace("_", " ") for name in said.probabilities}
    near = {name: f"{named[name]} {p:.3f}" for name, p in said.probabilities.items()}
    inside = ", ".join(named[name] for name in said.sets[95]) or "none"
    end, reasons = f"  (95 % set: {inside}; novelty {said.novelty:.2f})", "; ".join(said.reasons)
    return {
        "answer": [named[first], f"{said.probabilities[first]:.3f}{end}"],
        "unsure": ["unsure", f"{near[first]} or {near[second]}: {reasons}{end}"],
        "no answer": ["no answer", f"{reasons}; nearest: {near[first]}{end}"],
    }[said.state]


def test_one_file(small_run, scans):
    scan = scans / "b/scan 0.jpg"
    done = predict(small_run, scan)
    (line,) = done.stdout.splitlines()
    assert columns(line) == [str(scan), *expected(Classifier.load(small_run / FILE).predict(scan))]
    first, *others = done.stderr.splitlines()  # a summary of one answer would only say it again
    assert first == RESEARCH and all(each.startswith("Measured on ") for each in others)


def test_the_three_states_of_one_file(small_run, scans, tmp_path):
    scan, model = scans / "b/scan 0.jpg", tmp_path / "model.tflite"
    for state in ("answer", "unsure", "no answer"):
        said = Classifier.load(giving(state, scan, small_run / FILE, model)).predict(scan)
        first, second, *_ = sorted(said.probabilities, key=said.probabilities.get, reverse=True)
        assert (said.state, said.likely) == (state, {"answer": [first], "unsure": [first, second]}.get(state, []))
        (line,) = predict(small_run, "--model", model, scan).stdout.splitlines()
        assert columns(line) == [str(scan), *expected(said)]
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
    name, verdict, support = columns(line)
    assert (name, verdict) == (str(scan), "no answer")
    assert support.startswith("it looks like no scan the network has learned from (novelty ")
    assert "is needed" not in line and "; nearest: " in line


@pytest.fixture(scope="module")
def mixed(small_run, scans, tmp_path_factory) -> Path:
    """A classifier that gives the scans all three states."""
    files, model = sorted(scans.rglob("scan *.jpg")), tmp_path_factory.mktemp("mixed") / "model.tflite"
    return giving_all_states(files, small_run / FILE, model, measured=MEASURED)


def test_the_summary_counts_answers_and_states_and_says_what_answers_are_worth(small_run, scans, mixed):
    told = [Classifier.load(mixed).predict(file) for file in sorted(scans.rglob("scan *.jpg"))]
    states = Counter(said.state for said in told)
    assert states.total() == 12 and len(states) == 3
    answered = Counter(said.label for said in told if said.state == "answer")
    shares = [f"{answered[name]} {name.replace('_', ' ')}" for name in Classifier.load(mixed).metadata.classes]
    end = [
        f"12 slices: {', '.join(shares)}; {states['unsure']} unsure, {states['no answer']} no answer; "
        "1 file could not be read.",
        RESEARCH,
        "Measured on first: new patients (120 images): 75.4 % answered, 5.1 % of the answers wrong, "
        "1.3 % of the tumours answered as healthy, 90 % set right in 90.0 %, 95 % set right in 96.2 %.",
        "Measured on second: another hospital (8 images): 0.0 % answered, 0.0 % of the tumours answered as healthy.",
    ]
    broken = scans / "a" / "broken.png"
    for form in ("--json", "--csv", None):
        done = predict(small_run, "--model", mixed, scans, *([form] if form else []), code=1)
        errors = done.stderr.splitlines()
        assert errors[-4:] == end and RESEARCH not in done.stdout
        # In a table or beside objects nobody would look for it.
        assert [line.split(": ")[0] for line in errors[:-4]] == ([str(broken)] if form else [])
        if form == "--json":
            found = [json.loads(line).get("state", "error") for line in done.stdout.splitlines()]
        elif form == "--csv":
            found = [row["state"] or "error" for row in csv.DictReader(io.StringIO(done.stdout))]
        else:
            verdicts = [columns(line)[1] for line in done.stdout.splitlines()]
            found = [each if each in ("unsure", "no answer", "error") else "answer" for each in verdicts]
        assert Counter(found) == states + Counter(error=1)


def test_the_columns_of_all_lines_stand_below_each_other(small_run, scans, mixed):
    lines = predict(small_run, "--model", mixed, "a", "b/scan 0.jpg", "b", cwd=scans, code=1).stdout.splitlines()
    verdicts, starts = set(), set()
    for line in lines:
        name, verdict, support = columns(line)
        verdicts.add(verdict)
        starts.add((line.index(verdict, len(name)), line.index(support, line.index(verdict, len(name)) + len(verdict))))
    assert len(lines) == 14 and len({len(columns(line)[0]) for line in lines}) > 1
    assert {"unsure", "no answer", "error"} < verdicts and len(starts) == 1


def test_what_was_not_measured_is_not_stated(scans):
    for version, stated in ((1, 0), (2, 2)):
        model = GOLDEN / f"classifier-{version}.tflite"
        done = predict(GOLDEN, "--model", model, GOLDEN / "scan.png")
        assert sum(line.startswith("Measured on ") for line in done.stderr.splitlines()) == stated


def test_a_folder_goes_on_past_a_broken_file(small_run, scans):
    done = predict(small_run, scans, code=1)
    lines = [columns(line) for line in done.stdout.splitlines()]
    assert [name for name, *_ in lines] == sorted(str(p) for p in scans.rglob("*.*g") if p.name[0] != ".")
    assert [support for _, verdict, support in lines if verdict == "error"] == [
        "not an image, truncated, or in a format that OpenCV does not read"
    ]
    assert done.stderr.startswith("12 slices: ") and "; 1 file could not be read.\n" in done.stderr


def test_json_and_csv_say_the_same_as_the_library(small_run, scans):
    classifier = Classifier.load(small_run / FILE)
    objects = [json.loads(line) for line in predict(small_run, scans, "--json", code=1).stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(predict(small_run, scans, "--csv", code=1).stdout)))
    assert len(objects) == len(rows) == 13
    for told, row in zip(objects, rows, strict=True):
        assert (
            told["name"] == row["file"] and row["model"] == hashlib.sha256((small_run / FILE).read_bytes()).hexdigest()
        )
        if "error" in told:
            assert told.keys() == {"name", "error"} and row["error"] == told["error"]
            assert not any(value for name, value in row.items() if name not in ("file", "error", "model"))
            continue
        said = classifier.predict(told["name"])
        assert list(row) == [
            *("file", "slice", "state", "label", "likely", "abstained", "reasons", "novelty"),
            *(f"p_{name}" for name in said.probabilities),
            *("set_90", "set_95", "error", "model"),
        ]
        assert told["state"] == row["state"] == said.state and told["label"] == row["label"] == said.label
        assert told["likely"] == said.likely and row["likely"] == "; ".join(said.likely)
        assert told["reasons"] == said.reasons and row["reasons"] == "; ".join(said.reasons)
        assert told["abstained"] == (row["abstained"] == "true") == said.abstained
        for name, value in said.probabilities.items():
            assert told["probabilities"][name] == float(row[f"p_{name}"]) == pytest.approx(value, abs=1e-6)
        assert told["prediction_sets"] == {str(level): names for level, names in said.sets.items()}
        assert row["set_95"] == "; ".join(said.sets[95])
        assert told["novelty"] == float(row["novelty"]) == pytest.approx(said.novelty, abs=1e-6)


def shown_in(drawn: np.ndarray, classifier: Classifier, scan: bytes) -> tuple[int, int]:
    """Height and width of both pictures side by side, after a look that they are those that the server sends."""
    (found,) = answer(classifier, [File("scan", lambda: scan)])
    told = as_json(found, classifier.preprocessing, explain=True)
    picture, layer = (
        cv2.imdecode(np.frombuffer(base64.b64decode(told[name].split(",")[1]), np.uint8), cv2.IMREAD_UNCHANGED)
        for name in ("picture", "overlay")
    )
    height, width = picture.shape
    plain = np.repeat(picture[..., None], 3, axis=2)
    np.testing.assert_array_equal(drawn[:height, :width], plain)
    share = layer[..., 3:] / 255
    over = np.rint(plain * (1 - share) + layer[..., :3] * share)
    np.testing.assert_array_equal(drawn[:height, width : 2 * width], over)
    assert not drawn[:height, 2 * width :].any()
    return height, 2 * width


def assert_told(strip: np.ndarray, lines: int) -> None:
    """Lines of text and a scale of colours, which have room enough."""
    *texts, scale = np.split(strip[-(22 * lines + 30) :], [22 * k for k in range(1, lines + 1)])
    for text in texts:
        rows, columns = np.nonzero(text.max(axis=2) > 150)
        assert np.ptp(rows) >= 8 and np.ptp(columns) >= 100  # not only a speck
    assert not strip[:, -4:].any()
    colours = scale[8:20, 30:150].astype(int)
    assert (colours == colours[:1]).all()
    brightness = colours[0].sum(axis=1)
    assert (np.diff(brightness) >= -3).all() and brightness[0] == 0 and brightness[-1] > 300
    assert colours[0, 60, 2] > 2 * colours[0, 60, 0]  # red rather than blue
    assert (scale[:, :30].max(), scale[:, 150:].max()) > (150, 150)  # the numbers at its ends


def test_explain_draws_the_map_where_the_network_looked(small_run, scans, tmp_path):
    predict(small_run, scans / "b", "--explain", tmp_path / "maps")
    pictures = sorted((tmp_path / "maps").rglob("*.png"))
    assert [path.name for path in pictures] == [f"scan {i}.jpg.png" for i in (0, 10, 2, 4, 6, 8)]
    classifier = Classifier.load(small_run / FILE)
    for path in pictures:
        source = scans / "b" / path.name.removesuffix(".png")
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
        drawn = cv2.imread(str(path))
        height, width = shown_in(drawn, classifier, source.read_bytes())
        assert (height, width / 2) == decode(source.read_bytes()).shape
        assert_told(drawn[height:], 2)
        changed = np.abs(drawn[:height, width // 2 : width].astype(int) - drawn[:height, : width // 2]).sum(axis=2)
        assert (changed.max() > 100) == (classifier.predict(source).map.max() > 0)


def test_pictures_of_any_shape_are_explained(small_run, tmp_path):
    shapes = [(40, 300), (300, 40), (2000, 900), (2, 2)]
    for height, width in shapes:
        picture = np.zeros((height, width), np.uint8)
        picture[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = 200
        cv2.imwrite(str(tmp_path / f"{height}.png"), picture)
    # Names of classes that are no ASCII, and longer than the pictures are wide.
    long = [f"{name}_é_{'of_the_long_name_' * 4}" for name in Classifier.load(small_run / FILE).metadata.classes]
    model = rewritten(small_run / FILE, tmp_path / "model.tflite", classes=long)
    for path in (small_run / FILE, model):
        classifier, maps = Classifier.load(path), tmp_path / path.stem
        predict(small_run, "--model", path, *tmp_path.glob("*.png"), "--explain", maps)
        for height, width in shapes:
            (drawn,) = (cv2.imread(str(found)) for found in maps.rglob(f"{height}.png.png"))
            shown = shown_in(drawn, classifier, (tmp_path / f"{height}.png").read_bytes())
            assert max(shown[0], shown[1] / 2) == min(max(height, width), 512)
            assert shown[1] / 2 / shown[0] == pytest.approx(width / height, rel=0.02)
            assert_told(drawn[shown[0] :], 2)
        assert (drawn.shape[1] > 600) == (path == model)


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
        ([], "the following arguments are required"),
        (["--model", "README.md", "x.jpg"], "expected an exported classifier in README.md"),
        (["--json", "--csv", "x.jpg"], "not allowed with"),
        (["--slice", "some", "x.jpg"], "--slice"),
        (["empty"], "expected scans in empty, found none"),
    ],
)
def test_wrong_arguments(small_run, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "README.md").write_text("text")
    done = predict(small_run, *arguments, code=2, cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and message in line and done.stdout == ""


def test_exit_codes_of_files(small_run, scans):
    scan, broken = scans / "b/scan 0.jpg", scans / "a/broken.png"
    for files, code in ([scan], 0), ([scan, "/no/file.jpg"], 1), (["/no/file.jpg"], 2), (["/no/1", broken, "/no/2"], 2):
        lines = [columns(line) for line in predict(small_run, *files, code=code).stdout.splitlines()]
        assert [name for name, *_ in lines] == list(map(str, files))
        missing = [support for name, verdict, support in lines if name.startswith("/no") and verdict == "error"]
        assert missing == ["No such file or directory"] * sum(str(file).startswith("/no") for file in files)


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
    code = f"import {module}, brain_tumor.serving.readers.formats, brain_tumor.serving.pictures"
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
