"""What `make bench` writes: rows that stand beside a limit or a rival, and a page that shows what was measured."""

import json
import sys

import pytest
from bench import BENCHMARKS, RESULTS, page
from conftest import ROOT, run
from memory import peak_memory
from rows import Row, in_words


@pytest.mark.parametrize(
    "ours, other, target, met, verdict",
    [
        (80.0, 100.0, {"least": 0.8}, True, "met"),
        (79.9, 100.0, {"least": 0.8}, False, "**missed**"),
        (1.5, 1.0, {"most": 1.5}, True, "met"),
        (1.51, 1.0, {"most": 1.5}, False, "**missed**"),
        (3.0, None, {"most": 1}, True, "met"),  # the rival never got there
        (None, 5.0, {"most": 1}, False, "**missed**"),  # we never got there
        (3.0, 2.0, {}, None, ""),
    ],
)
def test_a_target_is_a_bound_of_the_ratio(ours, other, target, met, verdict):
    row = Row("what", ours, "s", "rival", other, **target)
    assert row.met is met
    assert in_words(row)[-1] == verdict


def test_the_page_shows_the_results():
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert list(results) == [name for name in BENCHMARKS if name in results]
    assert RESULTS.with_suffix(".md").read_text(encoding="utf-8") == page(results)
    for command in BENCHMARKS.values():
        assert (ROOT / "benchmarks" / command[0]).is_file()


def test_the_memory_of_a_process_is_its_own():
    child = "from memory import peak_memory; print(peak_memory())"
    parent = f"large = b'x' * 300_000_000; {child}; import subprocess, sys; "
    parent += f"subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    large, small = map(int, run(sys.executable, "-u", "-c", parent, cwd=ROOT / "tools").stdout.split())
    assert small < 100_000_000 < 300_000_000 < large < 400_000_000
    assert peak_memory() > small  # of this process, which has loaded pytest and more


@pytest.mark.slow
def test_a_benchmark_hands_in_its_rows(small_run, tmp_path):
    target = tmp_path / "rows.json"
    run(sys.executable, "benchmarks/evaluation.py", "--json", str(target), cwd=small_run)
    found = json.loads(target.read_text(encoding="utf-8"))
    assert "cores" in found["processor"]
    (row,) = found["rows"]
    assert row["ours"] > 0 and row["other"] > 0 and row["unit"] == "s" and row["most"] == 1
