"""The report in a real browser, and its figures from the metrics files."""

import copy
import hashlib
import io
import json
import re
import shutil
import sys

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import run, with_params
from PIL import Image
from playwright.sync_api import expect

import brain_tumor
from brain_tumor.report.identity import code_fingerprint
from brain_tumor.report.weaknesses import weaknesses

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
    targets = page.evaluate("[...document.querySelectorAll('nav a')].map(a => document.querySelector(a.hash)?.tagName)")
    assert targets == ["H2"] * page.locator("h2").count() and len(targets) == 12
    assert Axe().run(page).response["violations"] == []
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
            *("cohort", "images", "answered", "of these wrong", "tumours answered no tumor", "unsure"),
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
    assert "within 5\u00a0% and the tumours that are answered no tumor within 2\u00a0% of all tumours" in thresholds
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


def opened(browser, project, device="desktop", scheme="light"):
    width, height = WIDTHS[device]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto((project / "report/index.html").as_uri())
    return page


def test_it_says_what_it_is_about_and_that_the_scans_are_simulated(small_clone, browser):
    page = opened(browser, small_clone)
    banner = page.get_by_text("Simulated scans: no number on this page is one of real scans.")
    expect(banner).to_be_in_viewport(ratio=1)
    page.locator("#terms").scroll_into_view_if_needed()
    expect(banner).to_be_in_viewport(ratio=1)
    assert "simulated" in page.title()

    def stated() -> dict[str, str]:
        rows = page.locator("dt:has-text('Fingerprint of')").all()
        told = {row.inner_text().split()[-1]: row.locator("+ dd").inner_text() for row in rows}
        short = page.locator("header").inner_text()
        assert all(f"{name} {sha256[:12]}" in short for name, sha256 in told.items())
        assert f"Version {brain_tumor.__version__};" in short
        return told

    first = stated()
    assert first["params"] == hashlib.sha256((small_clone / "params.yaml").read_bytes()).hexdigest()
    assert first["data"] == json_of(small_clone / "models/fold-0/model.keras")["data_fingerprint"]
    # Data sets of other kinds are real ones; code is what stages depend on.
    sources = {name: {"dataset": f"someone/{name}"} for name in ("phantoms", "second")}
    with_params(small_clone, data={"sources": sources})
    with (small_clone / "src/brain_tumor/split/folds.py").open("a") as file:
        file.write("# changed\n")
    with (small_clone / "src/brain_tumor/serving/answers.py").open("a") as file:
        file.write("# what serves is no part of it\n")
    run(sys.executable, "stages/report.py", cwd=small_clone)
    page.goto((small_clone / "report/index.html").as_uri())
    expect(banner).to_have_count(0)
    assert "simulated" not in page.title() and page.locator(".simulated").count() == 0
    second = stated()
    assert second["data"] == first["data"] and second["params"] != first["params"]
    assert second["code"] != first["code"]
    page.close()


def json_of(model):
    """The metadata within a model's file."""
    from brain_tumor.networks.saving import read_metadata

    return read_metadata(model)


def test_the_fingerprint_of_code_is_that_of_paths_and_contents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.py", "a/deep/y.html", "b/z.csv", "b/__pycache__/z.pyc", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    names = sorted(["a/x.py", "a/deep/y.html", "b/z.csv"])
    lines = "".join(f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n" for name in names)
    assert code_fingerprint(["b", "a"]) == hashlib.sha256(lines.encode()).hexdigest()
    shutil.move("a/x.py", "a/w.py")
    assert code_fingerprint(["b", "a"]) != hashlib.sha256(lines.encode()).hexdigest()


GOOD = {
    "test": {
        "main": {
            "accuracy": 0.9,
            "accuracy_ci_low": 0.88,
            "log_loss": 0.3,
            "brier": 0.1,
            "ece": 0.01,
            "uncalibrated": {"log_loss": 0.3, "brier": 0.2, "ece": 0.02},
            "per_class": {"sick": {}, "NA": {}},
            "tumour": {"roc_auc": 0.95, "roc_auc_ci_low": 0.93},
            "selective": {"error": 0.05, "missed": 0.02},
            "conformal": {"coverage_90": {"coverage": 0.88, "coverage_ci_high": 0.91}},
        },
        "other": {"accuracy": 0.89, "tumour": {"roc_auc": 0.94}, "selective": {}},
    },
    "audit_model": {
        "shortcuts": {
            "file": {"all": {"balanced_accuracy": 0.55, "balanced_accuracy_ci_low": 0.5}},
            "network": {"brain_masked": {"balanced_accuracy": 0.6, "balanced_accuracy_ci_low": 0.5}},
        }
    },
    "maps": {"peak_in_brain": 0.9, "peak_in_brain_by_chance": 0.5, "randomised_similarity": 0.1},
}


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("test main log_loss", 0.31, "Calibration made log loss worse: 0.310 after it, 0.300 before."),
        ("test main brier", 0.25, "Calibration made the Brier score worse: 0.250 after it, 0.200 before."),
        ("test main ece", 0.03, "Calibration made the calibration error worse: 0.030 after it, 0.020 before."),
        ("test other accuracy", 0.87, "other: accuracy 0.870, against 0.900 of main."),
        ("test other tumour roc_auc", 0.9, "other: ROC-AUC of tumour vs. no tumour 0.900, against 0.950 of main."),
        ("test main selective error", 0.0612, "main: 6.1 % of the answers are wrong (aimed at: 5.0 %)."),
        ("test other selective missed", 0.3, "other: 30.0 % of the tumours are answered no tumor (aimed at: 2.0 %)."),
        (
            "test main conformal coverage_90 coverage_ci_high",
            0.89,
            "main: the 90 % prediction sets hold the true class in 88.0 %.",
        ),
        (
            "audit_model shortcuts file all balanced_accuracy_ci_low",
            0.51,
            "The class can be told without seeing the disease, by the traits of the file alone, with a balanced "
            "accuracy of 0.550 (chance: 0.50).",
        ),
        (
            "audit_model shortcuts network brain_masked balanced_accuracy_ci_low",
            0.51,
            "The class can be told without seeing the disease, by the network, from images without their brain, with "
            "a balanced accuracy of 0.600 (chance: 0.50).",
        ),
        ("maps peak_in_brain", 0.5, "The maps peak in the brain no more often than by chance."),
        (
            "maps randomised_similarity",
            0.6,
            "The maps hardly change when the weights are made random: they do not show what was learned.",
        ),
    ],
)
def test_bad_news_is_said(place, value, said):
    assert weaknesses(GOOD, "main", "no_tumor", 0.05, 0.02) == []
    metrics = copy.deepcopy(GOOD)
    *folders, name = place.split()
    part = metrics
    for folder in folders:
        part = part[folder]
    part[name] = value
    assert weaknesses(metrics, "main", "no_tumor", 0.05, 0.02) == [said]


def test_bad_news_stands_below_the_headline(small_clone, browser):
    path = small_clone / "metrics/test.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["patient_test"] |= {"log_loss": 1.5}
    metrics["patient_test"]["uncalibrated"]["log_loss"] = 1.25
    path.write_text(json.dumps(metrics), encoding="utf-8")
    run(sys.executable, "stages/report.py", cwd=small_clone)
    page = opened(browser, small_clone)
    told = page.locator("#weaknesses + ul li").all_inner_texts()
    assert told[0] == "Calibration made log loss worse: 1.500 after it, 1.250 before."
    assert page.locator("h2").all_inner_texts()[:2] == ["Headline", "What speaks against it"]
    page.close()


def test_metrics_are_explained_and_classes_are_written_as_words(small_run, browser):
    page = opened(browser, small_run)
    links = page.locator("th a")
    assert links.count() > 15
    for address in {link.get_attribute("href") for link in links.all()}:
        assert page.locator(f"dt{address} + dd").inner_text().endswith("."), address
    assert not re.search("[a-z]_tumor", "".join(page.locator("table, p").all_inner_texts()))
    page.close()


@pytest.mark.parametrize("device", WIDTHS)
def test_evidence_can_be_read_and_opens_large(small_run, browser, device):
    page = opened(browser, small_run, device)
    width = WIDTHS[device][0]
    galleries = page.locator("figure:has(.gallery)")
    titles = galleries.locator("figcaption").all_inner_texts()
    assert len(titles) == len(set(titles)) >= 4  # no list twice
    wrong = page.locator("figure:has-text('Wrong answers') img").evaluate_all("images => images.map(i => i.src)")
    assert len(wrong) == len(set(wrong)) > 0
    sizes = page.locator(".gallery li").evaluate_all(
        "cells => cells.map(c => parseFloat(getComputedStyle(c).fontSize))"
    )
    assert min(sizes) >= 13
    for figure in (galleries.filter(has_text="Copies"), page.locator("figure:has-text('Confusion')")):
        picture, close = figure.locator("img").first, figure.get_by_role("checkbox")
        before, kept = picture.bounding_box()["width"], figure.locator("li:visible").count()
        close.press("Space")
        box = figure.bounding_box()
        assert (box["x"], box["y"], box["width"]) == (0, 0, width)
        assert picture.bounding_box()["width"] > before
        assert figure.locator("li:visible").count() == figure.locator("li").count() >= kept
        expect(close).to_be_in_viewport()
        close.press("Space")
        assert picture.bounding_box()["width"] == before
    page.close()


def test_figures_are_lines_and_fit_a_dark_screen(small_run, browser):
    shades = {}
    for scheme in ("light", "dark"):
        page = opened(browser, small_run, scheme=scheme)
        figures = page.locator("figure > img")
        assert figures.count() == len(list((small_run / "plots").glob("*.svg"))) == 8
        for source in figures.evaluate_all("images => images.map(i => i.src.slice(0, 19))"):
            assert source == "data:image/svg+xml;"
        shown = Image.open(io.BytesIO(page.locator("figure:has-text('ROC curves') > img").screenshot())).convert("L")
        shades[scheme] = np.asarray(shown)
        page.close()
    for scheme, paper, ink in (("light", 254, 60), ("dark", 22, 200)):
        values = shades[scheme]
        assert np.median(values) == pytest.approx(paper, abs=4)
        assert (values.min() < ink) if scheme == "light" else (values.max() > ink)


def test_wide_tables_scroll_by_keyboard_and_keep_their_first_column(small_run, browser):
    page = opened(browser, small_run, "phone")
    assert page.locator("nav").bounding_box()["y"] > page.locator("h1").bounding_box()["y"]
    for region in page.locator(".scroll").all():
        assert region.get_attribute("aria-label") and region.get_attribute("tabindex") == "0"
    region = page.get_by_role("region", name="Scores of each cohort")
    cell, left = region.locator("tbody th").first, region.bounding_box()["x"]
    region.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("region => region.scrollLeft > 50", arg=region.element_handle())
    assert cell.bounding_box()["x"] == left
    page.close()


def test_it_prints_on_few_pages_with_nothing_cut(small_run, browser, tmp_path):
    page = opened(browser, small_run)
    page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True, print_background=True)
    content = (tmp_path / "report.pdf").read_bytes()
    pages, (box,) = len(re.findall(rb"/Type\s*/Page\b", content)), set(re.findall(rb"/MediaBox\s*\[([^]]*)\]", content))
    assert pages <= 12
    assert [round(float(x)) for x in box.split()] == [0, 0, 595, 842]  # A4 in points
    page.set_viewport_size({"width": round((210 - 26) / 25.4 * 96), "height": 1000})  # between the margins
    page.emulate_media(media="print")
    cut = "blocks => blocks.filter(b => b.scrollWidth > b.clientWidth + 1).map(b => b.textContent.slice(0, 60))"
    assert page.locator("main, .scroll, td, th, pre, dd, .gallery li").evaluate_all(cut) == []
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 700
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
