"""The documentation as a site: whole, from this folder alone, and in step with the library."""

import ast
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import ROOT, run

LIBRARY = ROOT / "src/brain_tumor"
ROOMS = sorted(path.parent.name for path in LIBRARY.glob("*/__init__.py"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
# Methods that Keras, asyncio and httptools call; these describe them.
CALLED_BACK = {
    *("PartialCrossentropy.call", "LayerwiseAdamW.update_step"),
    *("Connection.connection_made", "Connection.connection_lost", "Connection.data_received"),
    *("Connection.pause_writing", "Connection.resume_writing"),
    *("Connection.on_message_begin", "Connection.on_header", "Connection.on_headers_complete"),
    *("Connection.on_message_complete", "Connection.on_response_complete"),
}
BUILD = (sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-d")


class Elements(HTMLParser):
    """What a page is made of: (tag, attributes) of every element."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as by `make docs`."""
    folder = tmp_path_factory.mktemp("docs")
    run(*BUILD, str(folder / "doctrees"), "docs", str(folder / "site"), cwd=ROOT)
    return folder / "site"


def page(site: Path, name: str) -> str:
    return (site / f"{name}.html").read_text(encoding="utf-8")


# --- what it holds


@pytest.mark.slow
def test_it_begins_with_the_readme_and_has_every_page(site):
    title = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    assert f"<h1>{title}<" in page(site, "index")
    assert "Unreleased" in page(site, "changelog") and "provenance.csv" in page(site, "attribution")
    assert (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()[0].split("`")[0] in page(site, "params")
    for path in ROOT.glob("docs/**/*.md"):
        assert (site / path.relative_to(ROOT / "docs").with_suffix(".html")).exists()
    # Links to files outside docs/ lead to their pages.
    assert 'href="contributing.html"' in page(site, "index") and 'href="api/index.html"' in page(site, "index")
    assert 'href="attribution.html"' in page(site, "evaluation")
    assert page(site, "notebook").count('src="data:image/') == 5


@pytest.mark.slow
@pytest.mark.parametrize("room", [*ROOMS, "plumbing"])
def test_every_module_of_a_room_is_on_its_page(site, room):
    folder = LIBRARY if room == "plumbing" else LIBRARY / room
    files = folder.glob("*.py") if room == "plumbing" else folder.rglob("*.py")
    parts = [path.relative_to(LIBRARY).with_suffix("").parts for path in files]
    names = {".".join(part) for part in parts if part[-1] not in ("__init__", "__main__")}
    text = page(site, f"api/{room}")
    assert {name for name in names if f'id="module-brain_tumor.{name}"' not in text} == set()
    documented = {name for name, item in public(folder) if ast.get_docstring(item)} if room != "plumbing" else set()
    assert {name for name in documented if f'id="{name}"' not in text} == set()


@pytest.mark.slow
def test_docstrings_are_laid_out(site):
    shown = page(site, "api/evaluation")
    # A list after a colon, links to what is named, and the example that is run as a test.
    assert re.search(r"<li><p><code[^>]*><span class=\"pre\">official_leaked</span></code>", shown)
    assert 'href="prediction.html#brain_tumor.prediction.tables.load_predictions"' in shown
    assert "miss_threshold" in shown and "&gt;&gt;&gt;" in shown
    # Aligned columns stay aligned; `a, b: text` is one item.
    assert re.search(r"<pre>.*images\.npy {3,}", page(site, "api/tables"))
    assert "<li><p><strong>mean, scale</strong> –" in page(site, "api/exported")


# --- what it does not hold


@pytest.mark.slow
def test_nothing_is_asked_for_from_elsewhere(site):
    asked = [
        (path.name, attributes)
        for path in sorted(site.rglob("*.html"))
        for tag, attributes in Elements(path).found
        for name in ("src", "href", "srcset", "poster")
        if tag != "a" and re.match(r"(https?:)?//", attributes.get(name) or "")
    ]
    assert asked == []
    for path in [*site.rglob("*.css"), *site.rglob("*.html")]:
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", path.read_text(encoding="utf-8")), path


@pytest.mark.slow
def test_nothing_tells_where_and_when_it_was_built(site):
    for path in site.rglob("*"):
        if path.suffix in (".html", ".js", ".txt", ""):
            text = path.read_bytes().decode("latin-1") if path.is_file() else ""
            for own in (str(ROOT), str(site.parent), sys.prefix, str(Path.home()) + "/"):
                assert own not in text, path
            assert not re.search(r"Last updated|\bat 0x[0-9a-f]{6,}", text), path


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_from_the_folder_and_can_be_searched(site, browser, width):
    asked, wide = [], {}
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: asked.append(str(error)))
    for name in ("index", "serving", "recipe", "params", "notebook", "api/index", "api/source"):
        opened.goto((site / f"{name}.html").as_uri())
        wide[name] = opened.evaluate("document.documentElement.scrollWidth")
    assert wide == dict.fromkeys(wide, width)
    opened.goto((site / "search.html").as_uri() + "?q=find_copies")
    opened.wait_for_selector("#search-results li a")
    assert "api/audit.html" in opened.locator("#search-results").inner_html()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    opened.close()


@pytest.mark.docs
def test_a_second_build_has_the_same_bytes(site, tmp_path):
    """Also with another order of sets."""
    run(*BUILD, str(tmp_path / "doctrees"), "docs", str(tmp_path / "site"), cwd=ROOT, PYTHONHASHSEED="7")
    files = {path.relative_to(site): path for path in site.rglob("*") if path.is_file()}
    assert len(files) > 40 and len(files) == sum(path.is_file() for path in (tmp_path / "site").rglob("*"))
    assert [name for name, path in files.items() if path.read_bytes() != (tmp_path / "site" / name).read_bytes()] == []


# --- what fails


def test_broken_links_and_names_fail(project):
    """In one build: of a page, an anchor, a picture, a file outside docs/, and of names in a docstring; a lost page."""
    for path in (project / "docs/api").glob("*.md"):
        if path.stem not in ("index", "split"):  # the others import TensorFlow
            path.write_text(f"# {path.stem}\n", encoding="utf-8")
    faults = {
        "docs/data.md": (
            "[a](no-such-page.md) [b](audit.md#no-such-heading) ![c](images/no-such-picture.png) [d](#no-such-place) "
            "[e](../README.md#no-such-start) [f](api/split.md#no-such-module)"
        ),
        "README.md": "[g](docs/no-such-page-either.md) [h](no_such_file.yaml) [i](docs/audit.md#no-such-finding)",
        "docs/lonely.md": "# In no list of pages",
    }
    for name, text in faults.items():
        with open(project / name, "a", encoding="utf-8") as stream:
            stream.write(f"\n{text}\n")
    names = ["audit.no_such_name", "brain_tumor.no_such_room", "brain_tumor.audit.copies.no_such", "folds.no_such_one"]
    leaks = project / "src/brain_tumor/split/leaks.py"
    with leaks.open("a", encoding="utf-8") as stream:
        stream.write(f'\n\ndef planted():\n    """`{"`, `".join(names)}`."""\n')

    done = run(*BUILD, "doctrees", "docs", "site", cwd=project, fails=True)
    broken = re.findall(r"no.such[\w.-]+", "".join(faults.values()))
    assert len(broken) == 9
    assert {said for said in [*broken, *names, "lonely"] if said not in done.stderr} == set()
    # Nothing else, so that each is what failed.
    assert done.stderr.count("WARNING") == len(broken) + len(names) + 1, done.stderr


def test_links_work_on_a_forge_too():
    """There they lead to files and folders of the repository."""
    broken = [
        (path.relative_to(ROOT).as_posix(), link)
        for path in PAGES
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text(encoding="utf-8"))
        if not (path.parent / link).exists()
    ]
    assert broken == []


def public(folder: Path):
    """The public functions, classes and methods of a folder: full name and node."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        todo = [(module, node) for node in ast.parse(path.read_text(encoding="utf-8")).body]
        while todo:
            inside, node = todo.pop(0)
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            yield f"{inside}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                todo += [(f"{inside}.{node.name}", child) for child in node.body]


def test_everything_public_has_a_docstring():
    """Except what another library describes, and the sections of the params, which params.yaml describes."""
    missing = [
        name
        for name, node in public(LIBRARY)
        if ast.get_docstring(node) is None
        and ".".join(name.split(".")[-2:]) not in CALLED_BACK
        and "_Section" not in [getattr(base, "id", "") for base in getattr(node, "bases", ())]
    ]
    assert missing == []
