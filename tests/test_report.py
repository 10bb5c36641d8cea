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
        return page.inner_text(".headlines > .headline")

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
    for (_, tumours, healthy, *scores), figures in zip(rows, expected.values(), strict=True):
        assert (int(tumours), int(healthy)) == (figures["n"], figures["n_healthy"])
        for shown, name in zip(scores, ("sensitivity", "specificity", "roc_auc"), strict=True):
            assert shown.startswith(f"{figures[name]:.3f}"), name
    # Which data sets these are, and what each of them is for.
    said = page.locator("dt:text-is('Data') + dd").inner_text()
    assert "phantoms: phantoms (learn)" in said and "second: phantoms:second (learn)" in said
    page.close()


DECISIONS = ("coverage", "error", "missed", "unsure", "unsure_likely", "no_answer")


def test_it_tells_of_every_cohort_what_is_answered_and_how_often_that_is_right(small_clone, browser):
    path = small_clone / "metrics/test.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    page = browser.new_page()

    def shown() -> dict[str, list[str]]:
        page.goto((small_clone / "report/index.html").as_uri())
        table = page.locator("#abstaining ~ .scroll").first
        rows = [[cell.split("\n") for cell in row.split("\t")] for row in table.locator("tr").all_inner_texts()]
        (titles, *found), names = rows, [row[0][0] for row in rows]
        assert [title for (title,) in titles] == [
            *("cohort", "images", "answered", "of these wrong", "tumours answered no_tumor", "unsure"),
            *("true class among the two", "no answer"),
        ]
        assert names[1:] == list(metrics)  # every cohort, in the order of the file
        return {row[0][0]: row[1:] for row in found}

    def assert_states(found: dict[str, list[str]]) -> None:
        for cohort, (images, *cells) in found.items():
            figures = metrics[cohort]["selective"]
            assert images == [str(metrics[cohort]["n"])]
            for (value, *interval), name in zip(cells, DECISIONS, strict=True):
                assert value == (f"{figures[name]:.3f}" if name in figures else "–"), (cohort, name)
                low, high = (figures.get(f"{name}_ci_{end}") for end in ("low", "high"))
                stated = [f"{low:.3f} to {high:.3f}"] if name in figures and low is not None else []
                assert [line for line in interval if line] == stated, (cohort, name)

    assert_states(shown())
    # Figures that are all different, and one that lacks: each is in its own cell.
    for i, figures in enumerate(metrics.values()):
        planted = {name: round(0.1 * i + 0.013 * k + 0.007, 3) for k, name in enumerate(DECISIONS)}
        ends = {f"{name}_ci_{end}": planted[name] + 0.001 for name in ("error", "missed") for end in ("low", "high")}
        figures["selective"] |= planted | ends
        if i == 1:
            del figures["selective"]["error"]
    path.write_text(json.dumps(metrics), encoding="utf-8")
    run(sys.executable, "stages/report.py", cwd=small_clone)
    assert_states(found := shown())
    values = [cell[0] for row in found.values() for cell in row[1:]]
    assert len(set(values)) == len(values) and values.count("–") == 1
    page.close()


def test_the_other_source_stands_beside_the_headline(small_clone, browser):
    """By the pictures that the main source does not have, where they are enough for a score."""
    path = small_clone / "metrics/test.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    whole, own = metrics["source_second"], metrics["source_second_own"]
    page = browser.new_page()

    def boxes() -> list[str]:
        path.write_text(json.dumps(metrics), encoding="utf-8")
        run(sys.executable, "stages/report.py", cwd=small_clone)
        page.goto((small_clone / "report/index.html").as_uri())
        places = [box.bounding_box() for box in page.locator(".headlines > .headline").all()]
        assert len({place["y"] for place in places}) == 1
        return page.locator(".headlines > .headline").all_inner_texts()

    own["tumour"] = whole["tumour"] | {"roc_auc": 0.654321, "roc_auc_ci_low": 0.543, "sensitivity": 0.4321}
    for shown, lacking in ((own, ", which the main source does not have"), (whole, "")):
        main, other = boxes()
        stated = {name: f"{value:.3f}" for name, value in shown["tumour"].items()}
        assert main.split("\n")[0] == f"{metrics['patient_test']['macro_f1']:.3f}"
        assert other.split("\n")[0] == stated["roc_auc"]
        assert f"on {shown['n']} pictures of another source, second{lacking};" in other
        assert f"95\u00a0% interval {stated['roc_auc_ci_low']} to {stated['roc_auc_ci_high']}" in other
        assert f"sensitivity {stated['sensitivity']}, specificity {stated['specificity']}." in other
        del shown["tumour"]
    # With too few images of one side there is nothing to state.
    assert len(boxes()) == 1
    page.close()


@pytest.mark.parametrize("name", ["small_run", "whole_run"])
def test_it_says_which_network_is_served_and_where_its_thresholds_come_from(name, request, browser):
    project = request.getfixturevalue(name)
    export = json.loads((project / "metrics/export.json").read_text(encoding="utf-8"))
    page = browser.new_page()
    page.goto((project / "report/index.html").as_uri())
    thresholds = page.locator("#abstaining + p").inner_text()
    card = page.locator("dt:text-is('Exported file') + dd").inner_text()
    assert "within 5\u00a0% and the tumours that are answered no_tumor within 2\u00a0% of all tumours" in thresholds
    assert ("validation images of each network" in thresholds) == (name == "small_run")
    assert ("the test images of the other folds" in thresholds) == (name == "whole_run")
    assert ("The network of the first fold" in card) == (name == "small_run")
    assert ("learned from all patients" in card) == (name == "whole_run")
    assert f"{100 * export['same_decisions']:.1f}\u00a0% of its decisions" in card
    # No score on images that it learned from.
    assert ("its own" in card) == ("test" in export) == (name == "small_run")
    for part in ("test", "official_test"):
        if part in export:
            assert f"{export[part]['n']} test images: accuracy {export[part]['accuracy']:.3f}" in card
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
