"""The directive `{notebook} PATH`: a notebook with the outputs that are in its file, one heading level lower."""

import json
import re
from base64 import b64encode
from pathlib import Path

from docutils import nodes
from site_links import links_of_the_site
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Notebook(SphinxDirective):
    """The argument is the file, relative to docs/."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Sections with text, code and what it gave."""
        page = Path(self.env.doc2path(self.env.docname))
        path = (page.parent / self.arguments[0]).resolve()
        self.env.note_dependency(str(path))
        shown = top = nodes.Element()
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "code":
                shown += nodes.literal_block(text, text, language="python")
                for output in cell["outputs"]:
                    shown += _output(output)
                continue
            if heading := re.match(r"#+ (.*)\n*", text):
                shown = nodes.section("", nodes.title(heading[1], heading[1]), names=[heading[1].lower()])
                self.state.document.note_implicit_target(shown)
                top += shown
                text = text[heading.end() :]
            shown += self.parse_text_to_nodes(links_of_the_site(text, path, page))
        return top.children


def _output(output: dict) -> nodes.Node:
    data = {kind: "".join(content) for kind, content in output.get("data", {}).items()}
    if svg := data.get("image/svg+xml"):
        return _picture("image/svg+xml", b64encode(svg.encode()).decode())
    if jpeg := data.get("image/jpeg"):
        return _picture("image/jpeg", jpeg.strip())
    if html := data.get("text/html"):
        table = re.search(r"<table.*</table>", html, re.DOTALL)[0]
        table = re.sub(r"<table[^>]*>", '<table class="docutils">', table)
        return nodes.raw("", f'<div class="table-wrapper docutils container">{table}</div>', format="html")
    text = "".join(output["text"]).rstrip("\n")
    return nodes.literal_block(text, text, language="none", classes=["output"])


def _picture(kind: str, content: str) -> nodes.Node:
    return nodes.raw(
        "", f'<p><img alt="What the cell above shows" src="data:{kind};base64,{content}"></p>', format="html"
    )


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.add_directive("notebook", Notebook)
    return {"parallel_read_safe": True}
