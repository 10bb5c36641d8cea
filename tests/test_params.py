"""params.yaml is checked before anything runs; what is wrong is said in one line."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from brain_tumor.errors import PipelineError
from brain_tumor.params import Source, load_params

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


def with_sources(folder: Path, sources: object, main: object = "a") -> Path:
    """The committed file with other sources."""
    yaml, written = YAML(typ="safe", pure=True), io.StringIO()
    content = yaml.load(COMMITTED)
    content["data"] |= {"main": main, "sources": sources}
    yaml.dump(content, written)
    path = folder / "params.yaml"
    path.write_text(written.getvalue(), encoding="utf-8")
    return path


def with_values(folder: Path, **sections: dict) -> Path:
    """The committed file with other values in some sections."""
    yaml, written = YAML(typ="safe", pure=True), io.StringIO()
    content = yaml.load(COMMITTED)
    for section, values in sections.items():
        assert values.keys() <= content[section].keys()
        content[section] |= values
    yaml.dump(content, written)
    path = folder / "params.yaml"
    path.write_text(written.getvalue(), encoding="utf-8")
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
    assert params.model_dump(exclude_unset=True) == YAML(typ="safe", pure=True).load(COMMITTED)
    # Nothing is left to a default but what a source may leave out.
    for name, source in params.data.sources.items():
        assert Source.model_fields.keys() - source.model_fields_set <= {"role", "labels"}, name
        default = {"role": "learn", "labels": {}}
        assert source.model_dump() == default | source.model_dump(exclude_unset=True)
    dumped = params.model_dump(exclude={"data": {"sources"}})
    assert dumped == params.model_dump(exclude={"data": {"sources"}}, exclude_unset=True)


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
    content = YAML(typ="safe", pure=True).load(COMMITTED)
    assert {knob(path) for path in leaves(content)} - {knob(path) for path in commented} == set()
    assert {("data", "sources", "<name>", field) for field in Source.model_fields} <= {knob(p) for p in commented}


def knob(path: tuple[str, ...]) -> tuple[str, ...]:
    """The knob of a value: names of sources and of class folders are the user's own."""
    return ("data", "sources", "<name>", *path[3:4]) if path[:2] == ("data", "sources") else path


@pytest.mark.parametrize("change", ["evaluate.searched_folds=[]", "run.folds=[1]", "train.epochs=3"])
def test_dvc_can_set_a_list(tmp_path, change):
    """As `dvc exp run -S` does. A list of several lines with a comment beside its key would lose its line end."""
    path = tmp_path / "params.yaml"
    path.write_text(COMMITTED, encoding="utf-8")
    apply_overrides(path, [change])
    now, before = (YAML(typ="safe", pure=True).load(text) for text in (path, COMMITTED))
    (section, key), value = change.partition("=")[0].split("."), json.loads(change.partition("=")[2])
    assert now == before | {section: before[section] | {key: value}}


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
        ("train.augment.sequence", "sequences", "train.augment.sequence"),
        ("train.repeats", "repeat", "train.repeats"),
        ("evaluate.target_miss", "target_misses", "evaluate.target_miss"),
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
        ("phantoms", ("phantoms", "")),
        ("phantoms:second", ("phantoms", ":second")),
    ],
)
def test_the_kinds_of_data_sets(tmp_path, value, source):
    assert load_params(edited(tmp_path, "data.sources.sartaj.dataset", value)).data.sources["sartaj"].kind == source


def test_the_main_source_is_learned_from_first_then_the_others_by_name(tmp_path):
    learn, external = {"dataset": "phantoms"}, {"dataset": "phantoms:second", "role": "external"}
    sources = {"z": learn, "x": external, "m": learn, "b": learn | {"role": "learn"}, "k": external, "B-1": learn}
    data = load_params(with_sources(tmp_path, sources, main="m")).data
    assert data.learned == ["m", "B-1", "b", "z"]
    assert data.external == ["k", "x"]
    single = load_params(with_sources(tmp_path, {"a": learn})).data
    assert (single.learned, single.external) == (["a"], [])


def test_a_class_folder_is_a_class_several_classes_or_dropped(tmp_path):
    labels = {"yes": ["glioma", "meningioma"], "no": "no_tumor", "other": "drop"}
    sources = {"a": {"dataset": "phantoms"}, "b": {"dataset": "phantoms:second", "labels": labels}}
    params = load_params(with_sources(tmp_path, sources))
    assert params.data.sources["b"].labels == labels
    assert (params.data.sources["b"].role, params.data.sources["a"].labels) == ("learn", {})


@pytest.mark.parametrize("name", ["a", "a-longer-name-than-any-key"])
@pytest.mark.parametrize(
    "wrong, nearest",
    [("datset", "dataset"), ("data_set", "dataset"), ("rol", "role"), ("roles", "role"), ("label", "labels")],
)
def test_an_unknown_key_of_a_source_is_named_with_the_nearest_one(tmp_path, name, wrong, nearest):
    text = complaint(with_sources(tmp_path, {name: {"dataset": "phantoms", wrong: "odd"}}, main=name))
    assert f"'data.sources.{name}.{wrong}'" in text and "'odd'" in text
    assert f"'data.sources.<name>.{nearest}'" in text


@pytest.mark.parametrize(
    "line, key, received",
    [
        ("data:\n  dataset: phantoms", "data.dataset", "'phantoms'"),
        ("evaluate:\n  external: [scans/hospital]", "evaluate.external", "['scans/hospital']"),
        ("evaluate:\n  external: []", "evaluate.external", "[]"),
    ],
)
def test_a_key_of_former_versions_is_refused(tmp_path, line, key, received):
    path = tmp_path / "params.yaml"
    section = line.partition("\n")[0]
    path.write_text(re.sub(rf"^{section}( .*)?$", line, COMMITTED, count=1, flags=re.M), encoding="utf-8")
    text = complaint(path)
    assert f"unknown key {key!r}" in text and received in text


def test_a_file_of_a_former_version_is_refused_by_its_first_former_key(tmp_path):
    """Neither the sources nor the main one are there; what is wrong is the key that took their place."""
    path = tmp_path / "params.yaml"
    data = "data:\n  dataset: phantoms\n  retries: 3\n  stall_seconds: 60.0\n"
    path.write_text(re.sub(r"^data:.*\n( .*\n)+", data, COMMITTED, flags=re.M), encoding="utf-8")
    text = complaint(path)
    assert "unknown key 'data.dataset'" in text
    assert "'data.sources.<name>.dataset'" in text


@pytest.mark.parametrize(
    "sources, main, said",
    [
        ({"a": {}, "b": {}}, "c", ["data.main", "'c'", "data.sources", "['a', 'b']"]),
        ({"a": {}}, "A", ["data.main", "'A'", "['a']"]),
        ({}, "a", ["data.main", "'a'", "[]"]),
        ({"a": {"role": "external"}, "b": {}}, "a", ["data.sources.a.role", "'external'", "data.main"]),
        ({"a": {}}, ["a"], ["data.main", "['a']"]),
        ({"a": {}}, None, ["data.main", "None"]),
    ],
)
def test_the_main_source_is_one_that_is_learned_from(tmp_path, sources, main, said):
    sources = {name: {"dataset": "phantoms"} | source for name, source in sources.items()}
    text = complaint(with_sources(tmp_path, sources, main))
    for part in said:
        assert part in text


@pytest.mark.parametrize(
    "name",
    [
        "my scans",
        "a.b",
        "-x",
        "_x",
        ".x",
        "../x",
        "a/b",
        "a|b",
        "",
        "schädel",
        "x\n",
        "'x'",
        "x_shared",
        "x_clean",
        7,
        True,
    ],
)
def test_a_name_that_is_none_for_a_folder_or_a_stage_is_refused(tmp_path, name):
    text = complaint(with_sources(tmp_path, {"a": {"dataset": "phantoms"}, name: {"dataset": "phantoms:second"}}))
    assert "data.sources" in text and repr(name) in text


@pytest.mark.parametrize(
    "source, key, received",
    [
        ("phantoms", "data.sources.b", "'phantoms'"),
        (None, "data.sources.b", "None"),
        ({"dataset": "phantoms", "role": "test"}, "data.sources.b.role", "'test'"),
        ({"dataset": "phantoms", "role": "Learn"}, "data.sources.b.role", "'Learn'"),
        ({"dataset": "phantoms", "role": True}, "data.sources.b.role", "True"),
        ({"dataset": "phantoms", "role": ["learn"]}, "data.sources.b.role", "['learn']"),
        ({"dataset": ["phantoms"]}, "data.sources.b.dataset", "['phantoms']"),
        ({"dataset": "../{gt}}"}, "data.sources.b.dataset", "'../{gt}}'"),
        ({"role": "learn"}, "data.sources.b.dataset", "missing"),
        ({"dataset": "phantoms", "labels": []}, "data.sources.b.labels", "[]"),
        ({"dataset": "phantoms", "labels": None}, "data.sources.b.labels", "None"),
        ({"dataset": "phantoms", "labels": "no_tumor"}, "data.sources.b.labels", "'no_tumor'"),
    ],
)
def test_a_source_of_a_wrong_type_is_refused(tmp_path, source, key, received):
    text = complaint(with_sources(tmp_path, {"a": {"dataset": "phantoms"}, "b": source}))
    assert key in text and received in text


@pytest.mark.parametrize(
    "value", [True, False, None, 3, 0.5, [], [True], [1, 2], ["glioma", None], [["glioma"]], {"glioma": "meningioma"}]
)
def test_labels_of_a_wrong_type_are_refused(tmp_path, value):
    source = {"dataset": "phantoms:second", "labels": {"no": "no_tumor", "yes": value}}
    text = complaint(with_sources(tmp_path, {"a": {"dataset": "phantoms"}, "b": source}))
    assert "data.sources.b.labels.yes" in text and repr(value) in text
    assert "class" in text and "list of classes" in text and "drop" in text


@pytest.mark.parametrize("folder", [1, True])
def test_a_class_folder_that_yaml_takes_for_something_else_is_refused(tmp_path, folder):
    """`1: glioma` names the number, and not the folder."""
    source = {"dataset": "phantoms:second", "labels": {folder: "glioma"}}
    text = complaint(with_sources(tmp_path, {"a": {"dataset": "phantoms"}, "b": source}))
    assert "data.sources.b.labels" in text and repr(folder) in text and "string" in text


@pytest.mark.parametrize("value", ["", [""], ["glioma", ""]])
def test_an_empty_class_is_refused(tmp_path, value):
    source = {"dataset": "phantoms:second", "labels": {"no": "no_tumor", "yes": value}}
    text = complaint(with_sources(tmp_path, {"a": {"dataset": "phantoms"}, "b": source}))
    assert "data.sources.b.labels.yes" in text and repr(value) in text


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
        ("train.repeats", "1.5", "1.5"),
        ("train.repeats", "true", "True"),
        ("train.patience", "null", "None"),
        ("train.patience", "false", "False"),
        ("train.augment.sequence", "true", "True"),
        ("evaluate.target_miss", "'0.02'", "'0.02'"),
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
        ("data.sources.sartaj.dataset", "no-owner"),
        ("data.sources.sartaj.dataset", "a/b/c"),
        ("data.sources.sartaj.dataset", "../b"),
        ("data.sources.sartaj.dataset", "a/--unzip"),
        ("data.sources.sartaj.dataset", "-a/b"),
        ("data.sources.sartaj.dataset", "https://example.org/a.zip"),
        ("data.sources.sartaj.dataset", "'folder:'"),
        ("data.sources.sartaj.dataset", "phantoms:third"),
        ("data.sources.sartaj.dataset", "'phantoms:'"),
        ("data.sources.navoneel.dataset", "https://example.org/a.zip"),
        ("data.sources.navoneel.role", "test"),
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
        ("train.augment.sequence", "1.01"),
        ("train.augment.sequence", "-0.1"),
        ("train.patience", "-1"),
        ("train.repeats", "0"),
        ("train.repeats", "101"),
        ("predict.batch_size", "0"),
        ("evaluate.min_class_images", "0"),
        ("evaluate.target_miss", "0"),
        ("evaluate.target_miss", "1.0"),
        ("evaluate.target_miss", "-0.02"),
        ("evaluate.target_error", "0"),
        ("model.stride", "4"),
        ("model.stride", "64"),
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
    "key, value",
    [
        ("train.patience", "0"),
        ("train.repeats", "100"),
        ("train.augment.sequence", "0"),
        ("train.augment.sequence", "1.0"),
        ("evaluate.target_miss", "0.999"),
    ],
)
def test_the_ends_of_a_range_belong_to_it(tmp_path, key, value):
    found = load_params(edited(tmp_path, key, value)).model_dump()
    for name in key.split("."):
        found = found[name]
    assert found == float(value)


@pytest.mark.parametrize(
    "changes, key, said",
    [
        ({"weights": "imagenet"}, "model.weights", "compact"),
        ({"weights": "my/weights.h5"}, "model.weights", "compact"),
        ({"frozen": 0.5}, "model.frozen", "pre-trained"),
    ],
)
def test_compact_has_no_weights_to_keep(tmp_path, changes, key, said):
    model = {"backbone": "compact", "weights": "none", "frozen": 0.0} | changes
    text = complaint(with_values(tmp_path, model=model))
    assert key in text and str(*changes.values()) in text and said in text


def test_a_pre_trained_backbone_may_be_frozen_and_one_from_scratch_may_not(tmp_path):
    for backbone in ("efficientnet_lite0", "mobilenet_v2"):
        for weights, frozen in (("imagenet", 0.0), ("imagenet", 0.5), ("a/file.pth", 1.0), ("none", 0.0)):
            model = {"backbone": backbone, "weights": weights, "frozen": frozen}
            found = load_params(with_values(tmp_path, model=model)).model
            assert (found.backbone, found.weights, found.frozen) == (backbone, weights, frozen)
        model = {"backbone": backbone, "weights": "none", "frozen": 0.1}
        text = complaint(with_values(tmp_path, model=model))
        assert "model.frozen" in text and "0.1" in text and "pre-trained" in text


@pytest.mark.parametrize(
    "folds, every", [([0, 1, 2, 3, 4], True), ([4, 1, 0, 3, 2], True), ([0], False), ([0, 1, 2, 4], False)]
)
def test_whether_every_fold_is_run(tmp_path, folds, every):
    assert load_params(with_values(tmp_path, run={"folds": folds}, split={"folds": 5})).runs_all_folds is every


def test_the_last_fold_exists(tmp_path):
    assert load_params(edited(tmp_path, "run.folds", "[4, 0]")).run.folds == [4, 0]
    text = complaint(edited(tmp_path, "run.folds", "[5]"))
    assert "split.folds = 5" in text


@pytest.mark.parametrize(
    "key", ["phantoms.patients", "run.folds", "train.augment.erase", "data.main", "data.sources.navoneel.dataset"]
)
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
        b"a: 2001-01-32\n",
        b"a: !!float \n",
        b"a: {b, {[c : d]}}\n",
        b"a: " + b"9" * 5000,
        b"[" * 3000,
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
