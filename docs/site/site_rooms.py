"""The directive `{room} audit`: the docstrings of all modules of a room, each module below a heading.

Docstrings are plain text in Google style: what stands in backticks is code, lines with aligned columns are shown as
they are, and a name of the library, from its room on or from its module on, becomes a link.
"""

import importlib
import inspect
import re
import sys
from itertools import groupby
from pathlib import Path
from types import ModuleType

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LIBRARY = Path(__file__).resolve().parents[2] / "src" / "brain_tumor"
_LOGGER = logging.getLogger(__name__)
_LONG = 60  # characters
_COLUMNS = re.compile(r"\S {3,}\S")
_ITEM = re.compile(r"(\s*)((?:`[^`]+`|\w+)(?:, (?:`[^`]+`|\w+))*: .*)")


class Room(SphinxDirective):
    """The argument is a folder of the library, or `.` for the modules beside the rooms."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """What the page shows: the room's own docstring, then a section per module."""
        room = LIBRARY / self.arguments[0]
        shown = []
        for path in sorted(room.glob("*.py") if room == LIBRARY else room.rglob("*.py")):
            parts = path.relative_to(LIBRARY).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            if name in ("", "__main__"):
                continue
            self.env.note_dependency(str(path))
            text = f"```{{eval-rst}}\n.. automodule:: brain_tumor.{name}\n```"
            if path == room / "__init__.py":
                shown += self.parse_text_to_nodes(text)
            else:
                section = nodes.section("", nodes.title(name, name), names=[nodes.fully_normalize_name(name)])
                self.state.document.note_implicit_target(section)
                section += self.parse_text_to_nodes(text)
                shown.append(section)
        return shown


def _docstring(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    if lines:
        lines[:] = _as_rst(list(lines), name, inspect.getmodule(thing))


def _as_rst(lines: list[str], name: str, module: ModuleType | None) -> list[str]:
    """A docstring in reStructuredText, as napoleon expects it."""
    if lines[0] == "Attributes:":  # which begins the docstring, so that nothing below it is indented
        lines = [lines[0], *(f"    {line}" if line else line for line in lines[1:])]
    written, returns = [], False
    for blank, group in groupby(lines, lambda line: not line.strip()):
        paragraph = list(group)
        if blank:
            written += paragraph
            continue
        if returns := paragraph[0] == "Returns:":
            # A field, because napoleon takes what comes before a colon for the type.
            written += [":returns:", ""]
            paragraph = paragraph[1:]
        if any(">>>" in line for line in paragraph):
            written += paragraph
        elif any(_COLUMNS.search(line) for line in paragraph):
            indent = re.match(" *", paragraph[0])[0]
            written += [f"{indent}::", "", *(f"    {line}" for line in paragraph)]
        else:
            paragraph = _single_names(paragraph)
            marked = [_marked(line, name, module) for line in paragraph]
            written += _items(marked, paragraph) if returns or not re.match(r"[A-Z]\w+:$", paragraph[0]) else marked
    return written


def _single_names(section: list[str]) -> list[str]:
    """A section of arguments or attributes, where `a, b: text` becomes `a: text` and `b: text`."""
    if section[0] not in ("Args:", "Attributes:"):
        return section
    written, first = section[:1], 1
    for end in range(2, len(section) + 1):
        if end == len(section) or not section[end].startswith(" " * 5):
            names, _, text = section[first].partition(": ")
            several = re.fullmatch(r" +\w+(, \w+)+", names)
            for each in names.split(", ") if several else ():
                written += [f"    {each.strip()}: {text}", *section[first + 1 : end]]
            written += [] if several else section[first:end]
            first = end
    return written


def _items(marked: list[str], plain: list[str]) -> list[str]:
    """A paragraph whose lines after one with a colon at its end are `name: text` gets them as list."""
    starts = [place for place, line in enumerate(plain) if line.endswith(":")]
    if not starts or not any(_ITEM.fullmatch(line) for line in plain[starts[0] + 1 :]):
        return marked
    written, inside = [], False
    indent = re.match(" *", plain[0])[0]
    for place, line in enumerate(marked):
        deeper = plain[place].startswith(indent + "    ")
        if place > starts[0] and _ITEM.fullmatch(plain[place]) and not deeper:
            written += [] if inside else [""]
            written.append(f"{indent}- {line.strip()}")
            inside = True
        elif inside and deeper:
            written.append(f"{indent}  {line.strip()}")
        else:
            written += ["", line] if inside else [line]
            inside = False
    return written


def _marked(line: str, name: str, module: ModuleType | None) -> str:
    parts = re.split(r"(`[^`]+`)", line)
    return "".join(_code(part[1:-1], name, module) if part[:1] == "`" else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    return re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", text)


def _code(text: str, name: str, module: ModuleType | None) -> str:
    """What stands in backticks; a link where the library has it."""
    if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", text):
        own = module.__name__ if module else "brain_tumor"
        room = ".".join(own.split(".")[:2])
        for full in (f"{own}.{text}", f"{room}.{text}", f"brain_tumor.{text}"):
            home = _home(full)
            if home == name or (home and "." not in text and isinstance(sys.modules.get(home), ModuleType)):
                break  # itself; or a word that happens to be the name of a module
            if home:
                return f":py:obj:`{text} <{home}>`"
        if "." in text and (LIBRARY / text.split(".")[0] / "__init__.py").exists() and not (LIBRARY / text).exists():
            _LOGGER.warning("%s: expected `%s` in the library, found nothing of this name", name, text)
    return f"``{text}``"


def _home(full: str) -> str:
    """The full name of a part of the library where it is defined; "" if there is no such part."""
    parts = full.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        rest = parts[cut:]
        if not rest:
            return full
        for part in rest:
            if part in getattr(found, "__dataclass_fields__", ()):
                return full
            if not hasattr(found, part):
                return ""
            found = getattr(found, part)
        home = getattr(found, "__module__", None)
        if not callable(found) or not home:
            return full if home is None else ""
        return f"{home}.{found.__qualname__}" if home.startswith("brain_tumor") else ""
    return ""


def _without_long_value(app: Sphinx, domain: str, kind: str, content: nodes.Element) -> None:
    """A constant is shown with its value if that is short."""
    for part in list(content.parent.findall(addnodes.desc_annotation)):
        if kind == "data" and part.astext().lstrip().startswith("=") and len(part.astext()) > _LONG:
            part.parent.remove(part)


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.add_directive("room", Room)
    for field in PythonDomain.directives["class"].doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # as the docstrings say
    app.connect("object-description-transform", _without_long_value)
    app.connect("autodoc-process-docstring", _docstring, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
