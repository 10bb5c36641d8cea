"""What is wrong with params.yaml, in the words of the person who wrote it and not in those of the libraries."""

import difflib
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml.error import YAMLError

_EXPECTED = {
    "int_type": "expected a whole number, without quotes or unit",
    "float_type": "expected a number with a decimal point, without quotes or unit",
    "bool_type": "expected true or false",
    "string_type": "expected a string: put it in quotes, '' for none",
    "list_type": "expected a list such as [0, 1]",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected {ge} or more",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected {le} or less",
    "too_short": "expected {min_length} value or more",
    "string_too_short": "expected a string that is not empty",
}
"""By the type of an error of pydantic; of the others its own words are used."""

_YAML_HELP = {
    "cannot start any token": "expected spaces before the key, not tabs, and special characters in quotes",
    "could not find expected ':'": "expected `key: value`, with a colon and a space",
    "expected <block end>": "expected the keys of a section below one another, and text that begins with [ in quotes",
    "mapping values are not allowed": "expected text that contains a colon and a space in quotes, and no second value",
    "unknown escape": "expected text with backslashes in single quotes",
    "undefined alias": "expected text that begins with * in quotes",
}
"""By what the reader of YAML says."""

_SHOWN = reprlib.Repr()
_SHOWN.maxstring = 120  # an address or a path is no use without its end


def shown(value: object) -> str:
    """A received value as Python writes it, shortened."""
    return _SHOWN.repr(value)


def one_line(error: dict, known: Sequence[str]) -> str:
    """The first wrong key, the received value and what is accepted.

    Args:
        error: one of `pydantic.ValidationError.errors()`.
        known: all keys, with dots between the sections.
    """
    if not error["loc"]:
        return str(error["ctx"]["error"])
    key = ".".join(str(part) if str(part).isprintable() else repr(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
        return f"unknown key {key!r}, received {shown(error['input'])}; the nearest known key is {nearest!r}"
    if error["type"] == "missing":
        return f"missing key {key!r}: add it"
    if error["type"] in ("model_type", "dict_type"):
        of_any = re.sub(r"^data\.sources\.[^.]+$", "data.sources.<name>", key)
        below = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == of_any]
        accepted = f"expected the keys {', '.join(below)} below it" if below else "expected `name: value` below it"
    else:
        own = _EXPECTED.get(error["type"])
        accepted = own.format(**error.get("ctx", {})) if own else error["msg"]  # which may repeat what was received
        accepted = accepted.removeprefix("Value error, ").replace("Input should be", "expected", 1)
    return f"{key} received {shown(error['input'])}; {accepted[0].lower()}{accepted[1:]}"


def yaml_problem(error: Exception, path: Path) -> str:
    """Where a file is no YAML and what to do, as the end of a sentence."""
    if not isinstance(error, YAMLError | UnicodeError):
        return f": a value or name cannot be read ({error}): correct it, or put it in quotes"
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None or mark is None:  # not even characters
        return f" ({' '.join(str(error).split())}): expected text in UTF-8, save it as such"
    if error.context == "while scanning a simple key":  # shown is where the key began, not where it should have ended
        mark = error.context_mark
    line = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()[mark.line : mark.line + 1]
    if twice := re.match("found duplicate key (.+?) with value", problem):
        advice = f"expected each key once, found {twice[1]} again: remove one"
    else:
        known = [text for words, text in _YAML_HELP.items() if words in problem]
        advice = f"{known[0]}: correct it" if known else f"{' '.join(problem.split())}: correct it"
    return f" in line {mark.line + 1}, {shown(line[0].partition(' #')[0].rstrip() if line else '')}: {advice}"


def meant_data_set(value: str) -> str:
    """What a wrong `dataset` was probably meant to be, as the end of a sentence; "" if nothing comes to mind.

    Example:
        >>> meant_data_set("https://www.kaggle.com/datasets/owner/name?select=x"), meant_data_set("./scans")
        ('; did you mean owner/name?', '; did you mean folder:./scans?')
    """
    if page := re.match(r"(?:.*kaggle\.com/(?:datasets/)?|datasets/)([\w-]+/[\w-]+)", value):
        return f"; did you mean {page[1]}?"
    if value.lower().endswith(".zip") and "://" not in value:
        return f"; give the slug here, and the archive that you have by DATASET_ARCHIVE={value}"
    return f"; did you mean folder:{value}?" if re.match(r"[/~.]|[A-Za-z]:[/\\]", value) else ""
