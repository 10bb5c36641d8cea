"""params.yaml is checked before anything runs; what is wrong is said in one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from brain_tumor.errors import PipelineError
from brain_tumor.params import load_params

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = (ROOT / "params.yaml").read_text(encoding="utf-8")


def edited(folder: Path, key: str, yaml_value: str | None, rename: str | None = None) -> Path:
    """The committed file with one key changed (None: removed, `rename`: called otherwise), as a user would."""
    *sections, name = key.split(".")
    lines, start = COMMITTED.splitlines(), 0
    for depth, section in enumerate([*sections, name]):
        start = next(i for i in range(start, len(lines)) if lines[i].startswith(f"{'  ' * depth}{section}:"))
    if rename is None:
        while lines[start + 1 :] and lines[start + 1].lstrip().startswith("- "):  # the items of a list go with it
            del lines[start + 1]
    if rename is not None:
        lines[start] = lines[start].replace(f"{name}:", f"{rename}:", 1)
    elif yaml_value is None:
        del lines[start]
    else:
        lines[start] = f"{'  ' * len(sections)}{name}: {yaml_value}"
    path = folder / "params.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def complaint(path: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        load_params(path)
    text = str(caught.value)
    assert text.strip()
    assert len(text.splitlines()) == 1
    return text


def test_the_committed_file_is_valid_and_read_as_it_stands():
    params = load_params(ROOT / "params.yaml")
    assert params.model_dump() == YAML(typ="safe", pure=True).load(COMMITTED)


def test_every_knob_has_a_comment():
    def leaves(value, path=()):
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from leaves(inner, (*path, name))
        else:
            yield path

    commented, path = set(), []
    for line in COMMITTED.splitlines():
        if match := re.match(r"( *)(\w+):", line):
            path = [*path[: len(match[1]) // 2], match[2]]
            if re.search(r" # *\w", line[match.end() :]):
                commented.add(tuple(path))
    assert set(leaves(YAML(typ="safe", pure=True).load(COMMITTED))) - commented == set()


@pytest.mark.parametrize("text", ["1e-05", "1e-5", "1E-5", "0.00001", "1.0e-5"])
def test_a_small_number_is_a_number_however_it_is_written(tmp_path, text):
    assert load_params(edited(tmp_path, "train.learning_rate", text)).train.learning_rate == 1e-5


def test_a_whole_number_does_where_a_fraction_is_meant(tmp_path):
    assert load_params(edited(tmp_path, "train.augment.rotate", "10")).train.augment.rotate == 10.0


@pytest.mark.parametrize(
    "key, misspelt, nearest",
    [
        ("evaluate", "evalute", "evaluate"),
        ("train.epochs", "epohcs", "train.epochs"),
        ("train.augment.rotate", "rotation", "train.augment.rotate"),
        ("preprocess.image_size", "size", "preprocess.image_size"),  # its name in former versions
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest_known_one(tmp_path, key, misspelt, nearest):
    text = complaint(edited(tmp_path, key, None, rename=misspelt))
    assert repr(".".join([*key.split(".")[:-1], misspelt])) in text
    assert repr(nearest) in text


@pytest.mark.parametrize(
    "addition, wrong, received, nearest",
    [
        ("tran:\n  epochs: 3\n", "tran", "{'epochs': 3}", "train"),
        ("7: 2\n", "7", "7", None),
        ("model:\n", None, None, None),  # a section twice
    ],
)
def test_a_key_too_many_is_refused(tmp_path, addition, wrong, received, nearest):
    path = tmp_path / "params.yaml"
    path.write_text(COMMITTED + addition, encoding="utf-8")
    text = complaint(path)
    for part in (wrong, received, nearest):
        assert part is None or part in text


@pytest.mark.parametrize("name", ["folds", "seed", "threads"])
def test_a_key_that_moved_is_found_in_its_section(tmp_path, name):
    path = tmp_path / "params.yaml"
    path.write_text(COMMITTED.replace("\ntrain:", f"\ntrain:\n  {name}: 1 #", 1), encoding="utf-8")
    assert repr(f"run.{name}") in complaint(path)


@pytest.mark.parametrize(
    ("value", "source"),
    [
        ("owner-1/some_set", ("kaggle", "owner-1/some_set")),
        ("folder:~/my scans/a:b", ("folder", "~/my scans/a:b")),
        ("phantoms", ("phantoms", "phantoms")),
    ],
)
def test_the_kinds_of_data_sets(tmp_path, value, source):
    assert load_params(edited(tmp_path, "data.dataset", value)).data.source == source


def test_a_nested_key_too_many_is_refused(tmp_path):
    """What `dvc exp run -S train.epoch=3` makes of the file."""
    path = tmp_path / "params.yaml"
    path.write_text(COMMITTED.replace("  epochs:", "  epoch: 31\n  epochs:", 1), encoding="utf-8")
    text = complaint(path)
    assert "'train.epoch'" in text
    assert "31" in text
    assert "'train.epochs'" in text


@pytest.mark.parametrize(
    "key, value, received",
    [
        ("train.epochs", "'30'", "'30'"),
        ("train.epochs", "30.5", "30.5"),
        ("train.epochs", "true", "True"),
        ("train.learning_rate", "fast", "'fast'"),
        ("train.learning_rate", "null", "None"),
        ("preprocess.crop", "1", "1"),
        ("preprocess.crop", "yes", "'yes'"),
        ("audit.patients", "5", "5"),
        ("model", "3", "3"),
        ("run.folds", "0", "0"),
    ],
)
def test_a_wrong_type_is_refused_and_never_guessed_at(tmp_path, key, value, received):
    path = edited(tmp_path, key, value)
    if key == "model":
        path.write_text(re.sub(r"^model: 3\n(  .*\n)+", "model: 3\n", path.read_text(), flags=re.M))
    text = complaint(path)
    assert key in text
    assert received in text


@pytest.mark.parametrize(
    "key, value",
    [
        ("data.dataset", "no-owner"),
        ("data.dataset", "a/b/c"),
        ("data.dataset", "../b"),
        ("data.dataset", "a/--unzip"),
        ("data.dataset", "-a/b"),
        ("data.dataset", "https://example.org/a.zip"),
        ("data.dataset", "'folder:'"),
        ("data.retries", "-1"),
        ("phantoms.patients", "1"),
        ("preprocess.image_size", "100"),  # no multiple of 16
        ("preprocess.image_size", "0"),
        ("preprocess.clip", "50"),
        ("preprocess.max_rejected", "1.5"),
        ("split.strategy", "patients"),
        ("audit.similarity", "1.1"),
        ("audit.hash_distance", "200"),
        ("audit.max_group_share", "-0.1"),
        ("split.on_leak", "ignore"),
        ("split.folds", "2"),
        ("split.seed", "-1"),
        ("split.seed", str(2**32)),
        ("model.dropout", "1.0"),
        ("train.learning_rate", "0"),
        ("train.learning_rate", ".nan"),
        ("train.learning_rate", ".inf"),
        ("train.balance", "auto"),
        ("train.augment.zoom", "-0.1"),
        ("predict.batch_size", "0"),
        ("evaluate.min_class_images", "0"),
    ],
)
def test_an_impossible_value_is_refused(tmp_path, key, value):
    text = complaint(edited(tmp_path, key, value))
    assert key in text
    assert value.strip("'").lstrip(".") in text


@pytest.mark.parametrize(
    "value, said",
    [("[5]", "5"), ("[0, 7, 1]", "7"), ("[1, 0, 1]", "[1, 0, 1]"), ("[]", "[]"), ("[-1]", "-1"), ("['0']", "'0'")],
)
def test_folds_to_train_exist_and_stand_once(tmp_path, value, said):
    text = complaint(edited(tmp_path, "run.folds", value))
    assert "run.folds" in text
    assert said in text


@pytest.mark.parametrize(
    "key, value, said", [("model.weights", "imagenet", "compact"), ("model.frozen", "0.5", "pre-trained")]
)
def test_compact_has_no_weights_to_keep(tmp_path, key, value, said):
    text = complaint(edited(tmp_path, key, value))
    assert key in text and value in text and said in text


def test_the_last_fold_exists(tmp_path):
    assert load_params(edited(tmp_path, "run.folds", "[4, 0]")).run.folds == [4, 0]
    text = complaint(edited(tmp_path, "run.folds", "[5]"))
    assert "split.folds = 5" in text


@pytest.mark.parametrize("key", ["phantoms.patients", "run.folds", "train.augment.erase"])
def test_a_missing_key_is_named(tmp_path, key):
    text = complaint(edited(tmp_path, key, None))
    assert "missing" in text
    assert repr(key) in text


@pytest.mark.parametrize("text", ["", "# nothing\n", "- data\n", "data\n", "3\n"])
def test_a_file_without_sections_is_refused(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert "sections" in complaint(path)


@pytest.mark.parametrize(
    "content",
    [
        b"train: [\n",
        b"a: b: c\n",
        b"a: 1\n\tb: 2\n",
        b"a: 1\na: 2\n",
        b"a: !!python/object:os.system x\n",
        b"\x00\xff",
    ],
)
def test_what_is_no_yaml_is_refused(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    assert "not valid YAML" in complaint(path)


def test_a_missing_file_is_named(tmp_path):
    assert "params.yaml" in complaint(tmp_path / "params.yaml")


def run_split(folder: Path) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, ROOT / "stages" / "split.py"], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("content, said", [("split.folds: 2", "received 2"), (None, "params.yaml")])
def test_a_stage_prints_one_line_and_fails(tmp_path, content, said):
    """The real script; params.yaml is the one of the folder it runs in, here broken or absent."""
    if content:
        edited(tmp_path, *content.split(": "))
    done = run_split(tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert not (tmp_path / "data").exists()
