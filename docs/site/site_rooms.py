"""What `{room} audit` in a page stands for: the docstrings of all modules of a room, each module below a heading.

Docstrings are plain text in Google style: what stands in backticks is code, lines with aligned columns are shown as
they are, and a name of the library, from its room on or from its module on, becomes a link.
"""

import inspect
import pydoc
import re
import textwrap
from functools import cache
from pathlib import Path
from types import ModuleType

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

LIBRARY = Path(__file__).resolve().parents[2] / "src" / "brain_tumor"
_LOGGER = logging.getLogger(__name__)
_locate = cache(pydoc.locate)
_LONG = 60  # characters
_NAME = r"[A-Za-z_]\w*(?:\.\w+)*"
_FILE = r".*\.(csv|html|json|keras|md|np[yz]|png|svg|tflite|yaml)"
_ITEM = r"(?:`[^`]+`|\w+)(?:, (?:`[^`]+`|\w+))*: "


def _page_read(app: Sphinx, page: str, content: list[str]) -> None:
    content[0] = re.sub(r"(?m)^```\{room\} (\S+)\n```$", lambda m: _modules(LIBRARY / m[1]), content[0])


def _modules(room: Path) -> str:
    """Markdown: the room's own docstring, then a section per module; of the library itself the modules beside rooms."""
    shown = []
    for path in sorted(room.glob("*.py") if room == LIBRARY else room.rglob("*.py")):
        parts = path.relative_to(LIBRARY).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name not in ("", "__main__"):
            heading = "" if path == room / "__init__.py" else f"## {name}\n\n"
            shown.append(f"{heading}```{{eval-rst}}\n.. automodule:: brain_tumor.{name}\n```\n")
    return "\n".join(shown)


def _docstring(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Turn a docstring into reStructuredText, as napoleon expects it."""
    if lines and lines[0] == "Attributes:":  # which begins the docstring, so that nothing below it is indented
        lines[1:] = [f"    {line}" for line in lines[1:]]
    module = getattr(inspect.getmodule(thing), "__name__", "brain_tumor")
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines))
    lines[:] = "\n\n".join(_paragraph(text, name, module) for text in paragraphs).split("\n")


def _paragraph(text: str, name: str, module: str) -> str:
    section, _, rest = text.partition("\n")
    if section == "Returns:":  # a field, because napoleon takes what comes before a colon for the type
        return f":returns:\n\n{_paragraph(rest, name, module)}"
    if ">>>" in text:
        return text
    if re.search(r"\S {3,}\S", text):
        return re.match(" *", text)[0] + "::\n\n" + textwrap.indent(text, "    ")
    if not re.fullmatch(r"[A-Z]\w+:", section):
        text = _with_list(text)
    return re.sub(r"`([^`]+)`|[*|\\]|_(?=\W|$)", lambda m: _code(m[1], name, module) if m[1] else f"\\{m[0]}", text)


def _with_list(text: str) -> str:
    """Lines `name: text`, after one with a colon at its end, become a list."""
    indent = re.match(" *", text)[0]
    item = re.compile(rf"^{indent}(?={_ITEM})", re.MULTILINE)
    before, _, listed = text.partition(":\n")
    if not item.search(listed):
        return text
    listed = re.sub(rf"(?m)^{indent}(?=\S)(?!{_ITEM})", f"\n{indent}", listed)  # text below the list
    listed = re.sub(rf"(?m)^{indent} +", f"{indent}  ", listed)
    return f"{before}:\n\n" + item.sub(f"{indent}- ", listed)


def _code(text: str, name: str, module: str) -> str:
    """What stands in backticks; a link where the library has it, a warning where the library should have it."""
    if re.fullmatch(_NAME, text) and not re.fullmatch(_FILE, text):
        first, *others = text.split(".")
        scopes = [f"{module}.", ".".join(module.split(".")[:2]) + ".", "brain_tumor."]
        scopes = [""] if first == "brain_tumor" else scopes  # other first words could import a foreign package
        for scope in scopes:
            home = _home(scope + text)
            if home == name or (home and "." not in text and isinstance(_locate(home), ModuleType)):
                break  # itself; or a word that happens to be the name of a module
            if home:
                return f":py:obj:`{text} <{home}>`"
        places = {getattr(_locate(scope + first), "__name__", "") for scope in scopes}
        if others and any(place.startswith("brain_tumor") for place in places):
            _LOGGER.warning("%s: expected `%s` in the library, found nothing of this name", name, text)
    return f"``{text}``"


def _home(full: str) -> str:
    """The full name of a part of the library where it is defined; "" if there is no such part."""
    found = _locate(full)
    if found is None:
        parent, _, field = full.rpartition(".")
        return full if field in getattr(_locate(parent), "__dataclass_fields__", ()) else ""
    if not callable(found):
        return full
    module = getattr(found, "__module__", None) or ""
    return f"{module}.{found.__qualname__}" if module.startswith("brain_tumor") else ""


def _without_long_value(app: Sphinx, domain: str, kind: str, content: nodes.Element) -> None:
    """A constant is shown with its value if that is short."""
    for part in list(content.parent.findall(addnodes.desc_annotation)):
        if kind == "data" and part.astext().lstrip().startswith("=") and len(part.astext()) > _LONG:
            part.parent.remove(part)


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.connect("source-read", _page_read)
    app.connect("object-description-transform", _without_long_value)
    app.connect("autodoc-process-docstring", _docstring, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
