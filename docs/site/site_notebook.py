"""`{include} NAME.ipynb`: a notebook as Markdown, with the outputs that are in its file."""

import html
import json
import re
from base64 import b64encode
from pathlib import Path

from sphinx.application import Sphinx


def _as_markdown(app: Sphinx, path: Path, page: str, content: list[str]) -> None:
    if path.suffix != ".ipynb":
        return
    parts = []
    for cell in json.loads(content[0])["cells"]:
        text = "".join(cell["source"])
        code = cell["cell_type"] == "code"
        parts.append(f"```python\n{text}\n```" if code else text)
        parts += [_output(output, of=text) for output in cell.get("outputs", ())]
    content[0] = "\n\n".join(parts)


def _output(output: dict, of: str) -> str:
    """Markdown of an output; what runs last in its cell names a picture for those who do not see it."""
    data = {kind: "".join(content) for kind, content in output.get("data", {}).items()}
    alt = html.escape(of.splitlines()[-1])
    if svg := data.get("image/svg+xml"):
        return f'<p><img alt="{alt}" src="data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"></p>'
    if jpeg := data.get("image/jpeg"):
        return f'<p><img alt="{alt}" src="data:image/jpeg;base64,{jpeg.strip()}"></p>'
    if table := re.search(r"<table[^>]*>(.*</table>)", data.get("text/html", ""), re.DOTALL):
        return f'<div class="table-wrapper docutils container"><table class="docutils">{table[1]}</div>'
    return f"```none\n{''.join(output['text']).rstrip()}\n```"


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.connect("include-read", _as_markdown, priority=400)  # before the links are turned
    return {"parallel_read_safe": True}
