"""What is wrong with params.yaml is said in the words of the person who wrote it: expected, received, what to do."""

import re
from pathlib import Path

import pytest

from brain_tumor.errors import PipelineError
from brain_tumor.params import load_params

COMMITTED = (Path(__file__).resolve().parents[1] / "params.yaml").read_text(encoding="utf-8")
SLUG = "sartajbhuvaji/brain-tumor-classification-mri"
# Words of the libraries that read the file.
INNER = re.compile(
    r"input should|valid (integer|number|string|list|boolean|dictionary)|instance of|Errno|NoneType|ruamel|scalar|"
    r"while (scanning|parsing|constructing)|token|mapping|block|yaml\.dev|function-|literal",
    re.IGNORECASE,
)


def complaint(folder: Path, content: str | bytes) -> str:
    path = folder / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PipelineError) as caught:
        load_params(path)
    text = str(caught.value).replace(str(path), "params.yaml")
    assert len(text.splitlines()) == 1 and "params.yaml" in text
    assert not INNER.search(text), text
    return text


def place_of(key: str) -> int:
    """The index of the line of `section.key`, or of a section, in the committed file."""
    lines, at = COMMITTED.splitlines(), -1
    for depth, name in enumerate(key.split(".")):
        at = next(k for k in range(at + 1, len(lines)) if lines[k].startswith(f"{'  ' * depth}{name}:"))
    return at


def with_line(key: str, line: str) -> str:
    """The committed file with the line of a key written otherwise."""
    lines = COMMITTED.splitlines()
    lines[place_of(key)] = line
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("key", "line", "said"),
    [
        ("preprocess.image_size", "  imagesize: 192", ["'preprocess.imagesize'", "192", "'preprocess.image_size'"]),
        ("preprocess.clip", "  clip: half", ["preprocess.clip received 'half'", "expected a number"]),
        ("preprocess.max_rejected", "  max_rejected: 0,5", ["preprocess.max_rejected received '0,5'", "decimal point"]),
        ("preprocess.max_rejected", "  max_rejected: 5%", ["'5%'", "expected a number", "without quotes or unit"]),
        (
            "preprocess.max_rejected",
            "  max_rejected: [0.1]",
            ["preprocess.max_rejected received [0.1]", "expected a number"],
        ),
        ("train.epochs", "  epochs: '8'", ["train.epochs received '8'", "expected a whole number, without quotes"]),
        ("preprocess.crop", "  crop: yes", ["preprocess.crop received 'yes'", "expected true or false"]),
        ("novelty.pictures", "  # pictures: 100", ["novelty received None", "expected the keys pictures"]),
        (
            "    sartaj",
            "    sartaj: folder\n    x:",
            ["data.sources.sartaj received", "the keys dataset, role, labels"],
        ),
        (
            "  main",
            "  main: mine",
            ["data.main received 'mine'", "expected one of data.sources: ['navoneel', 'sartaj']"],
        ),
        ("data.main", "  main:", ["data.main received None", "expected a string"]),
        ("split.official_test", "  official_test:", ["split.official_test received None", "'' for none"]),
        (
            "split.strategy",
            "  strategy: patients",
            ["split.strategy received 'patients'", "expected 'patient', 'random'"],
        ),
        ("split.folds", "  folds: 2", ["split.folds received 2", "expected 3 or more"]),
        (
            "evaluate.target_error",
            "  target_error: 1.0",
            ["evaluate.target_error received 1.0", "expected less than 1"],
        ),
        ("train.learning_rate", "  learning_rate: 0", ["train.learning_rate received 0", "expected more than 0"]),
        (
            "audit.patients",
            "  patients: (p[0-9+_",
            ["audit.patients received '(p[0-9+_'", "expected a regular expression"],
        ),
        (
            'data.sources.navoneel.labels."no"',
            "        no: false",
            ["data.sources.navoneel.labels.no received False", "expected a class"],
        ),
        (
            'data.sources.navoneel.labels."no"',
            "        0: no_tumor",
            ["data.sources.navoneel.labels.0 received 0", "put it in quotes"],
        ),
        ("novelty", "novelties:", ["unknown key 'novelties'", "'novelty'"]),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(tmp_path, key, line, said):
    text = complaint(tmp_path, with_line(key, line))
    assert [part for part in said if part not in text] == [], text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (f"https://www.kaggle.com/datasets/{SLUG}", f"did you mean {SLUG}?"),
        (f"https://www.kaggle.com/datasets/{SLUG}/data?select=Training", f"did you mean {SLUG}?"),
        (f"kaggle.com/{SLUG}", f"did you mean {SLUG}?"),
        (f"datasets/{SLUG}", f"did you mean {SLUG}?"),
        ("/data/scans", "did you mean folder:/data/scans?"),
        ("./scans", "did you mean folder:./scans?"),
        ("~/scans", "did you mean folder:~/scans?"),
        ("'D:\\scans'", "did you mean folder:D:\\scans?"),
        ("downloads/archive.zip", "DATASET_ARCHIVE=downloads/archive.zip"),
    ],
)
def test_an_address_or_a_path_is_told_from_a_data_set(tmp_path, value, said):
    text = complaint(tmp_path, COMMITTED.replace(f"dataset: {SLUG}", f"dataset: {value}"))
    assert "data.sources.sartaj.dataset" in text and "Kaggle slug owner/name, folder:PATH" in text
    assert text.endswith(said)


def test_a_blank_before_the_path_of_a_folder_does_not_count(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(COMMITTED.replace(f"dataset: {SLUG}", "dataset: 'folder: /data/my scans'"), encoding="utf-8")
    assert load_params(path).data.sources["sartaj"].kind == ("folder", "/data/my scans")


@pytest.mark.parametrize(
    ("key", "line", "said"),
    [
        ("preprocess.crop", "\tcrop: true", ["line {}", "crop: true", "not tabs"]),
        (
            "preprocess.crop",
            "  crop: true\n  crop: false",
            ["line {+1}", "'  crop: false'", 'found "crop" again', "remove one"],
        ),
        ("novelty", "split:\n  seed: 1\nnovelty:", ["line {}", "'split:'", "remove one"]),
        ("preprocess.crop", "  crop true", ["line {}", "'  crop true'", "`key: value`"]),
        ("preprocess.crop", "  crop:true", ["line {}", "'  crop:true'", "`key: value`"]),
        ("preprocess.crop", "   crop: true", ["line {}", "'   crop: true'", "below one another"]),
        ("split.strategy", "  strategy: a: b", ["line {}", "'  strategy: a: b'", "in quotes"]),
        ("split.strategy", '  strategy: "\\d"', ["line {}", "in single quotes"]),
        ("split.strategy", "  strategy: *a", ["line {}", "in quotes"]),
        ("split.strategy", "  strategy: [a]+_", ["line {}", "in quotes"]),
    ],
)
def test_a_line_that_is_no_yaml_is_shown_with_what_to_do(tmp_path, key, line, said):
    number = place_of(key) + 1
    text = complaint(tmp_path, with_line(key, line))
    for part in said:
        assert part.replace("{+1}", str(number + 1)).replace("{}", str(number)) in text, text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "received an empty file"),
        (b"train\n", "received 'train'"),
        (COMMITTED.replace("strategy: patient", "strategy: gr\u00f6\u00dfe").encode("latin-1"), "UTF-8"),
    ],
)
def test_a_file_that_holds_no_sections_says_what_it_holds(tmp_path, content, said):
    assert said in complaint(tmp_path, content)


def test_a_folder_in_place_of_the_file_is_said(tmp_path):
    with pytest.raises(PipelineError, match=r"cannot read .*\(Is a directory\)"):
        load_params(tmp_path)
