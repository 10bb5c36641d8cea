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
