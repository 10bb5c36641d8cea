"""The report in a real browser, and its figures from the metrics files."""

import json
import sys

import pytest
from conftest import run

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", WIDTHS)
def test_it_opens_without_an_error_or_a_request(small_run, browser, device, scheme):
    width, height = WIDTHS[device]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    trouble, requests = [], []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    address = (small_run / "report/index.html").as_uri()
    page.goto(address)
    page.wait_for_load_state("networkidle")
    assert trouble == []
    assert [url for url in requests if not url.startswith("data:")] == [address]
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width  # no sideways scrolling of the page
    images = page.evaluate("[...document.images].map(i => [i.naturalWidth > 0, i.alt.length > 0])")
    assert len(images) >= 12 and all(loaded and described for loaded, described in images)
    targets = page.evaluate("[...document.querySelectorAll('nav a')].map(a => !!document.querySelector(a.hash))")
    assert len(targets) == 10 and all(targets)
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    brightness = [sum(map(int, color[4:-1].split(","))) for color in (ink, paper)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")
    page.close()


def test_its_numbers_are_those_of_the_metrics_files(small_clone, browser):
    path = small_clone / "metrics/test.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    page = browser.new_page()

    def shown() -> str:
        page.goto((small_clone / "report/index.html").as_uri())
        return page.inner_text("#headline ~ .headline")

    assert f"{metrics['patient_test']['macro_f1']:.3f}" in shown()
    metrics["patient_test"] |= {"macro_f1": 0.123456, "macro_f1_ci_low": 0.098765}
    path.write_text(json.dumps(metrics), encoding="utf-8")
    run(sys.executable, "stages/report.py", cwd=small_clone)
    assert "0.123" in shown() and "0.099" in shown()


def test_it_speaks_of_every_source(small_run, browser):
    audit, test = (
        json.loads((small_run / "metrics" / name).read_text(encoding="utf-8")) for name in ("audit.json", "test.json")
    )
    page = browser.new_page()
    page.goto((small_run / "report/index.html").as_uri())
    table = [row.split("\t") for row in page.locator("#audit + div tr").all_inner_texts()]
    found = {title: dict(zip(audit, values, strict=True)) for title, *values in table}
    assert found["source"] == {"phantoms": "phantoms", "second": "second"}
    for source, figures in audit.items():
        assert found["images"][source] == str(figures["n"])
        assert found["images that show a picture which others show, too"][source] == str(figures["copies"]["images"])
        for other, shared in figures["shared"].items():
            assert found[f"images that show a picture of {other}"][source] == str(shared["images"]) > "0"
    rows = [row.split("\t") for row in page.locator("h3:has-text('Tumour') + div tr").all_inner_texts()][1:]
    expected = {name: figures["tumour"] for name, figures in test.items() if "tumour" in figures}
    assert {"patient_test", "source_second"} <= expected.keys()
    assert [row[0] for row in rows] == list(expected)
    assert "missed" in expected["source_second"]
    for (_, tumours, healthy, *scores), figures in zip(rows, expected.values(), strict=True):
        assert (int(tumours), int(healthy)) == (figures["n"], figures["n_healthy"])
        for shown, name in zip(scores, ("sensitivity", "specificity", "roc_auc", "missed"), strict=True):
            assert shown.startswith(f"{figures[name]:.3f}" if name in figures else "–"), name
    # Which data sets these are, and what each of them is for.
    said = page.locator("dt:text-is('Data') + dd").inner_text()
    assert "phantoms: phantoms (learn)" in said and "second: phantoms:second (learn)" in said
    page.close()


def leaves(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    else:
        yield value


def refused(name: str):
    raise ValueError(f"{name} in a metrics file")


def test_metrics_files_hold_only_numbers(small_run):
    for path in sorted((small_run / "metrics").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refused)
        assert all(type(value) in (int, float) for value in leaves(content)), path
