"""Typed, validated view of params.yaml. Read by the stages only; the library takes plain values."""

import re
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML

from brain_tumor.errors import PipelineError
from brain_tumor.params_messages import meant_data_set, one_line, shown, yaml_problem

Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _unique(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError("each value at most once")
    return values


# Kind of data set -> what data.sources.<name>.dataset looks like; the group is what names the data set.
_DATA_SETS = {
    "kaggle": r"([A-Za-z0-9_][A-Za-z0-9_-]*/[A-Za-z0-9_][A-Za-z0-9_-]*)",
    "folder": r"folder:\s*(.+)",
    "phantoms": r"phantoms(|:second)",
}


def _source(value: str) -> tuple[str, str]:
    for kind, pattern in _DATA_SETS.items():
        if match := re.fullmatch(pattern, value):
            return kind, match[1]
    raise ValueError(
        f"expected a Kaggle slug owner/name, folder:PATH, phantoms or phantoms:second{meant_data_set(value)}"
    )


def _label(value: object) -> str | list[str]:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError("expected a class, a list of classes among which the true one is, or drop")
    return value


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Source(_Section):
    dataset: Annotated[str, AfterValidator(lambda value: _source(value) and value)]
    role: Literal["learn", "external"] = "learn"
    labels: dict[str, Annotated[object, AfterValidator(_label)]] = {}

    @property
    def kind(self) -> tuple[str, str]:
        """Kind of the data set ("kaggle", "folder" or "phantoms"), and its slug, path or name."""
        return _source(self.dataset)


def _source_name(value: str) -> str:
    # Names of folders and stages; parts of the cohort of a source end in _own, _shared and _clean.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value) or value.endswith(("_own", "_shared", "_clean")):
        raise ValueError(
            "expected letters, digits, - and _ as the name of a source, and not _own, _shared or _clean last"
        )
    return value


SourceName = Annotated[str, AfterValidator(_source_name)]


class Data(_Section):
    main: str
    sources: dict[SourceName, Source]
    retries: Annotated[int, Field(ge=0, le=20)]
    stall_seconds: Annotated[float, Field(gt=0, le=3600)]

    @property
    def learned(self) -> list[str]:
        """The sources that are learned from: the main one, then the others by name."""
        others = sorted(name for name, source in self.sources.items() if source.role == "learn" and name != self.main)
        return [self.main, *others]

    @property
    def external(self) -> list[str]:
        """The sources that are only tested on, by name."""
        return sorted(name for name, source in self.sources.items() if source.role == "external")


class Phantoms(_Section):
    patients: Annotated[int, Field(ge=2, le=100_000)]
    slices: Annotated[int, Field(ge=1, le=100)]
    image_size: Annotated[int, Field(ge=64, le=1024)]
    test_share: Annotated[float, Field(ge=0, lt=1)]
    copies: Annotated[float, Field(ge=0, le=0.5)]
    wrong_labels: Annotated[float, Field(ge=0, le=0.5)]
    seed: Seed


class Preprocess(_Section):
    image_size: Annotated[int, Field(ge=32, le=1024, multiple_of=16)]
    crop: bool
    clip: Annotated[float, Field(ge=0, lt=50)]
    max_rejected: Share


def _expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"expected a regular expression ({error})") from None
    return value


class Audit(_Section):
    patients: Annotated[str, AfterValidator(_expression)] | None
    hash_distance: Annotated[int, Field(ge=0, le=128)]
    candidates: Annotated[int, Field(ge=1, le=10_000)]
    crops: bool
    similarity: Annotated[float, Field(ge=0, le=1)]
    max_group_share: Share


class Split(_Section):
    strategy: Literal["patient", "random", "official", "own"]
    folds: Annotated[int, Field(ge=3, le=100)]
    seed: Seed
    official_test: str
    on_leak: Literal["fail", "drop", "report"]


class Model(_Section):
    backbone: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]
    frozen: Share
    width: Annotated[int, Field(ge=4, le=512)]
    stride: Literal[8, 16, 32]
    hidden: Annotated[int, Field(ge=0, le=8192)]
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Augment(_Section):
    flip: bool
    rotate: Annotated[float, Field(ge=0, le=180)]
    zoom: Annotated[float, Field(ge=0, le=0.9)]
    stretch: Annotated[float, Field(ge=0, le=0.9)]
    shift: Share
    contrast: Share
    brightness: Share
    gamma: Annotated[float, Field(ge=0, le=10)]
    tone: Annotated[float, Field(ge=0, le=1)]
    sequence: Share
    bias: Share
    blur: Annotated[float, Field(ge=0, le=10)]
    noise: Share
    erase: Share


class Run(_Section):
    folds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_unique)]
    seed: Seed
    threads: Annotated[int, Field(ge=1, le=256)]


class Train(_Section):
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    patience: Annotated[int, Field(ge=0, le=10_000)]
    batch_size: Annotated[int, Field(ge=1, le=4096)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    warmup_epochs: Annotated[int, Field(ge=0, le=1000)]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    balance: Literal["none", "weights", "sampling"]
    mix: Annotated[float, Field(ge=0, le=10)]
    average: Annotated[float, Field(ge=0, lt=1)]
    backbone_rate: Annotated[float, Field(gt=0, le=1)]
    repeats: Annotated[int, Field(ge=1, le=100)]
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"]
    augment: Augment


class Predict(_Section):
    flips: bool
    controls: bool
    batch_size: Annotated[int, Field(ge=1, le=4096)]


class Evaluate(_Section):
    min_class_images: Annotated[int, Field(ge=1)]
    searched_folds: Annotated[list[Annotated[int, Field(ge=0)]], AfterValidator(_unique)]
    healthy_class: str
    target_error: Annotated[float, Field(gt=0, lt=1)]
    target_miss: Annotated[float, Field(gt=0, lt=1)]


class Robustness(_Section):
    images: Annotated[int, Field(ge=1, le=100_000)]
    seed: Seed


class Novelty(_Section):
    pictures: Annotated[int, Field(ge=1, le=10_000)]


class Export(_Section):
    expects: str


class Params(_Section):
    """All sections of params.yaml; the file says what each parameter does."""

    data: Data
    phantoms: Phantoms
    preprocess: Preprocess
    audit: Audit
    split: Split
    run: Run
    model: Model
    train: Train
    predict: Predict
    evaluate: Evaluate
    robustness: Robustness
    novelty: Novelty
    export: Export

    @property
    def runs_all_folds(self) -> bool:
        """Whether every patient is in the test fold of a network that is trained."""
        return len(self.run.folds) == self.split.folds

    @model_validator(mode="after")
    def _main_exists(self) -> "Params":
        if self.data.main not in self.data.sources:
            names = sorted(self.data.sources)
            raise ValueError(f"data.main received {self.data.main!r}; expected one of data.sources: {names}")
        if self.data.sources[self.data.main].role != "learn":
            raise ValueError(f"data.sources.{self.data.main}.role received 'external'; expected learn for data.main")
        return self

    @model_validator(mode="after")
    def _folds_exist(self) -> "Params":
        if (largest := max(self.run.folds)) >= self.split.folds:
            raise ValueError(f"run.folds received {largest}; expected folds below split.folds = {self.split.folds}")
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> "Params":
        if self.model.backbone == "compact" and self.model.weights != "none":
            raise ValueError(f"model.weights received {self.model.weights!r}; expected none for compact")
        if self.model.weights == "none" and self.model.frozen > 0:
            raise ValueError(f"model.frozen received {self.model.frozen}; expected 0 without pre-trained weights")
        return self


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and validate params.yaml.

    Raises:
        PipelineError: one line that names the first wrong key, the received value, what is accepted and, for an
            unknown key, the nearest known one.
    """
    path = Path(path)
    try:
        # YAML 1.2: `1e-05`, which `dvc exp run -S` writes for 1e-5, is a number.
        content = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError as error:
        raise PipelineError(f"expected {path} in this folder, found none: run from the root of the project") from error
    except OSError as error:
        raise PipelineError(f"cannot read {path} ({error.strerror}): check the file") from error
    except Exception as error:  # the parser itself fails on dates that do not exist, sections as names, deep lists
        raise PipelineError(f"{path} is not valid YAML{yaml_problem(error, path)}") from error
    if not isinstance(content, dict):
        received = "an empty file" if content is None else shown(content)
        raise PipelineError(f"expected sections such as 'train:' in {path}, received {received}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        # A misspelt key is also a missing one: report the cause and not the consequence.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise PipelineError(f"{path}: {one_line(errors[0], _known_keys(Params))}") from error


def _known_keys(section: type[BaseModel], above: str = "") -> list[str]:
    known = []
    for name, field in section.model_fields.items():
        known.append(above + name)
        # A mapping by name has sections as its values.
        section, place = (
            (field.annotation, "") if not get_args(field.annotation) else (get_args(field.annotation)[-1], "<name>.")
        )
        if isinstance(section, type) and issubclass(section, BaseModel):
            known += _known_keys(section, f"{above}{name}.{place}")
    return known
