"""The notebook: it runs in the folder of a run, and what is committed is what it gives.

`python tests/test_notebook.py .demo`, after `make demo`, writes notebooks/run.ipynb again with the outputs of that run.
"""

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbclient
import nbformat
import pytest

COMMITTED = Path(__file__).resolve().parents[1] / "notebooks/run.ipynb"


def executed(run: Path):
    """The notebook in the folder of a run, with the outputs of that run, and nothing about when and where it ran."""
    book = nbformat.read(COMMITTED, as_version=4)
    with TemporaryDirectory() as folder:
        where = {"metadata": {"path": str(run / "notebooks")}}
        client = nbclient.NotebookClient(book, timeout=60, record_timing=False, resources=where)
        client.execute(env=os.environ | {"IPYTHONDIR": folder})
    book.metadata.language_info = {"name": "python"}  # without the version of Python
    for cell in code_cells(book):
        # What LiteRT says about the processor.
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return book


def code_cells(book) -> list:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def structure(book) -> list:
    """What every run of the pipeline gives: kinds of outputs, what printed lines are about, headings of tables."""
    found = []
    for cell in code_cells(book):
        for output in cell.outputs:
            data = output.get("data", {})
            found.append((output.output_type, sorted(data)))
            found.append(re.findall(r"^[^:]+:", output.get("text", ""), re.MULTILINE))
            found.append(re.findall(r"<th>(.*?)</th>", data.get("text/html", "")))
    return found


@pytest.fixture
def committed():
    return nbformat.read(COMMITTED, as_version=4)


def test_what_is_committed_is_what_a_run_gives(small_run, committed):
    again = executed(small_run)
    assert structure(again) == structure(committed)
    # Both are of the same simulated sources.
    assert code_cells(again)[1].outputs == code_cells(committed)[1].outputs
    assert all(not cell.get("metadata") for cell in again.cells)


def test_it_shows_scores_tables_figures_and_images(committed):
    shown = [kind for cell in code_cells(committed) for output in cell.outputs for kind in output.get("data", {})]
    assert {kind: shown.count(kind) for kind in set(shown) - {"text/plain"}} == {
        "text/html": 5,
        "image/svg+xml": 3,
        "image/jpeg": 2,
    }
    assert re.search(r"0\.\d{3} \(0\.\d{3} to [01]\.\d{3}\)", str(code_cells(committed)[2].outputs))


def test_it_is_small_and_tells_nothing_about_where_and_when_it_ran(committed):
    nbformat.validate(committed)
    text = COMMITTED.read_text(encoding="utf-8")
    assert len(text) < 300_000
    assert committed.metadata.language_info == {"name": "python"}
    assert [cell.execution_count for cell in code_cells(committed)] == list(range(1, len(code_cells(committed)) + 1))
    assert {output.get("name", "stdout") for cell in code_cells(committed) for output in cell.outputs} == {"stdout"}
    for cell in code_cells(committed):
        for output in cell.outputs:
            output.get("data", {}).pop("image/jpeg", None)
    written = nbformat.writes(committed)
    assert not re.search(r"/(tmp|home|root|Users|usr|work)/|[A-Z]:\\\\|\b20\d\d-\d\d|\d\d:\d\d:\d\d|iopub", written)


if __name__ == "__main__":
    nbformat.write(executed(Path(sys.argv[1])), COMMITTED)
