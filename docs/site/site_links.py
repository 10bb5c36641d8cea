"""Links that work on a forge, in docs/ and in what it includes, turned to what they are on the site."""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# What has a page, although it is not in docs/.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "MODELS.md": "models.md",
    "SECURITY.md": "security.md",
    "params.yaml": "params.md",
    "src/brain_tumor": "api/index.md",
    "src/brain_tumor/audit/ATTRIBUTION.md": "attribution.md",
}
PAGES |= {f"src/brain_tumor/{page.stem}": f"api/{page.name}" for page in DOCS.glob("api/*.md") if page.stem != "index"}
_LINK = re.compile(r"(!?\[[^\]]*\])\((?!https?:|#)([^)\s#]+)(#[^)\s]*)?\)")


def links_of_the_site(text: str, written_in: Path, shown_in: Path) -> str:
    """Turn the links of a page.

    What has a page is linked to, another file becomes a download (of MyST), and of a folder only the text remains.
    What does not exist stays as it is, so that a strict build fails.

    Args:
        text: Markdown.
        written_in: the file that it is from.
        shown_in: the page in docs/ that shows it.
    """

    def turned(link: re.Match) -> str:
        said, written, anchor = link[1], link[2], link[3] or ""
        target = (written_in.parent / written).resolve()
        if not target.exists():
            return link[0]
        name = target.relative_to(ROOT).as_posix()
        if name in PAGES:
            target = DOCS / PAGES[name]
        if target == shown_in or target.is_dir():
            return said[1:-1]
        return f"{said}({Path(os.path.relpath(target, shown_in.parent)).as_posix()}{anchor})"

    return _LINK.sub(turned, text)


def _page_read(app: Sphinx, page: str, content: list[str]) -> None:
    path = DOCS / f"{page}.md"
    content[0] = links_of_the_site(content[0], path, path)


def _file_included(app: Sphinx, path: Path, page: str, content: list[str]) -> None:
    content[0] = links_of_the_site(content[0], (DOCS / path).resolve(), DOCS / f"{page}.md")


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.connect("source-read", _page_read)
    app.connect("include-read", _file_included)
    return {"parallel_read_safe": True}
