"""The web page in a real browser, with the real server behind it."""

import base64
import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import ROOT
from playwright.sync_api import expect
from rewritten import giving, rewritten
from scratch import environment

from brain_tumor.imaging.decoding import decode

DATA = """([base64, name]) => {
  const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0)), data = new DataTransfer();
  data.items.add(new File([bytes], name, {type: 'image/png'}));
  return data;
}"""
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def scans(small_run):
    return sorted((small_run / "data/raw/phantoms").rglob("*.jpg"))


FILE = "src/brain_tumor/serving/classifier.tflite"
SETS = {"90": [1.01] * 4, "95": [0.0] * 4}
MEASURED = [
    {"images": "first: new patients", "n": 120, "answered": 0.754, "error": 0.0512, "missed": 0.0126}
    | {"coverage_90": 0.9, "coverage_95": 0.9617},
    {"images": "second: another hospital", "n": 8, "answered": 0.0},
]


@contextmanager
def served(model):
    """Address of a server with this classifier."""
    command = [sys.executable, "-m", "brain_tumor", "serve", "--port", "0", "--model", str(model)]
    log = model.with_name("log.txt")
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment() | {"PYTHONPATH": str(ROOT / "src")}, stderr=file)
    try:
        while not (ready := re.search(r"running on (http://\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield f"{ready[1]}/"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def answering(small_run, tmp_path_factory):
    model = tmp_path_factory.mktemp("answering") / "model.tflite"
    options = {"confidence": [0.0] * 4, "sets": SETS, "measured": MEASURED}
    with served(rewritten(small_run / FILE, model, novelty=1e9, **options)) as address:
        yield address


@pytest.fixture(scope="module")
def hesitating(small_run, scans, tmp_path_factory):
    """Unsure of the first scan."""
    model = tmp_path_factory.mktemp("hesitating") / "model.tflite"
    with served(giving("unsure", scans[0], small_run / FILE, model, sets=SETS)) as address:
        yield address


@pytest.fixture(scope="module")
def refusing(small_run, tmp_path_factory):
    model = tmp_path_factory.mktemp("refusing") / "model.tflite"
    options = {"confidence": [None] * 4, "sets": SETS, "measured": []}
    with served(rewritten(small_run / FILE, model, novelty=1e-9, **options)) as address:
        yield address


@contextmanager
def opened(browser, address, *, width=1280, scheme="light", refused=()):
    """The page; at the end the console held nothing but what is `refused`, and there was no foreign request."""
    page = browser.new_page(base_url=address, viewport={"width": width, "height": 900}, color_scheme=scheme)
    trouble, requests = [], []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    yield page
    assert [text for text in trouble if not any(known in text for known in refused)] == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


def asked(page, path) -> dict:
    """What the API says of a file."""
    file = {"name": path.name, "mimeType": "image/jpeg", "buffer": path.read_bytes()}
    return page.request.post("v1/predict?explain=true", multipart={"files": file}).json()["results"][0]


def words(name: str) -> str:
    return name.replace("_", " ")


TITLES = {"unsure": "Unsure", "no answer": "No answer"}


def assert_shows(card, said):
    expect(card.locator(".answer")).to_have_text(TITLES.get(said["state"], words(said["label"])))
    assert card.locator(".reasons li").all_text_contents() == said["reasons"]
    assert card.locator("h2").text_content() == said["name"]
    assert card.locator("th").all_text_contents() == list(map(words, said["probabilities"]))
    assert card.locator("td").all_text_contents() == [f"{p:.3f}" for p in said["probabilities"].values()]
    shares = card.locator("td").evaluate_all("cells => cells.map(c => Number(c.style.getPropertyValue('--share')))")
    assert shares == list(said["probabilities"].values())
    none, among, novelty = card.locator(".facts p").all_text_contents()
    assert said["prediction_sets"]["90"] == [] and none == "90 % set: empty, none of the classes is typical."
    assert among == f"95 % set: {', '.join(map(words, said['prediction_sets']['95']))}."
    assert novelty.startswith(f"Novelty {said['novelty']:.2f}; above 1 it is likely no scan")
    picture, overlay = card.locator("img").all()
    assert [picture.get_attribute("src"), overlay.get_attribute("src")] == [said["picture"], said["overlay"]]
    assert picture.evaluate("i => i.decode().then(() => i.naturalWidth > 0)")
    assert picture.bounding_box() == overlay.bounding_box()
    assert card.locator("figcaption").text_content() == f"Bright: speaks for {words(said['label'])}"


def test_an_upload_is_answered_as_the_api_says_and_the_slider_fades_its_map(browser, answering, scans):
    with opened(browser, answering) as page:
        page.set_input_files("#files", scans[0])
        assert_shows(page.locator("#cards > .answered"), said := asked(page, scans[0]))
        assert said["state"] == "answer" and page.locator(".reasons, .answer.none").count() == 0
        expect(page.get_by_role("status")).to_have_text("1 of 1 done")
        slider, overlay = page.get_by_label("Map"), page.locator(".scan img").nth(1)
        expect(overlay).to_have_css("opacity", "0.6")
        slider.fill("25")
        expect(overlay).to_have_css("opacity", "0.25")
        expect(page.locator(".map")).to_contain_text("25 %")


def test_drop_anywhere(browser, answering, scans):
    with opened(browser, answering) as page:
        data = page.evaluate_handle(DATA, [base64.b64encode(scans[1].read_bytes()).decode(), scans[1].name])
        page.dispatch_event("h1", "dragover", {"dataTransfer": data})
        expect(page.locator("body")).to_have_class("dragging")
        page.dispatch_event("h1", "drop", {"dataTransfer": data})
        assert_shows(page.locator("#cards > .answered"), asked(page, scans[1]))
        expect(page.locator("body")).not_to_have_class("dragging")


def test_paste(browser, answering, scans):
    with opened(browser, answering) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        said = asked(page, scans[2])
        data = page.evaluate_handle(DATA, [said["picture"].split(",")[1], "copied.png"])
        page.evaluate("data => navigator.clipboard.write([new ClipboardItem({'image/png': data.files[0]})])", data)
        page.keyboard.press("Control+V")
        expect(page.locator("#cards h2")).to_have_text("image.png")
        expect(page.locator("#cards > .answered img").first).to_have_attribute("src", said["picture"])


def test_the_keyboard_alone(browser, answering, scans):
    with opened(browser, answering) as page:
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Choose scans")).to_have_css("outline-style", "solid")
        with page.expect_file_chooser() as chooser:
            page.evaluate("0")  # back only after the browser has been told to hand the chooser over
            page.keyboard.press("Enter")
        assert chooser.value.is_multiple()
        chooser.value.set_files(scans[:2])
        expect(page.locator("#cards > .answered")).to_have_count(2)
        page.keyboard.press("Tab")
        expect(page.locator("summary")).to_be_focused()
        expect(page.locator("summary")).to_have_css("outline-style", "solid")
        page.keyboard.press("Enter")
        expect(page.locator("#measured")).to_be_visible()
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        expect(page.locator(".scan img").nth(1)).to_have_css("opacity", "0.61")


def test_many_files_come_in_order_two_at_a_time(browser, answering, scans):
    held, files = [], scans[11::-1]
    with opened(browser, answering) as page:
        page.route("**/v1/predict*", lambda route: held.append(route))
        page.set_input_files("#files", files)
        expect(page.get_by_text("being read")).to_have_count(2)
        expect(page.get_by_text("waiting for its turn")).to_have_count(10)
        while len(held) < 2:
            page.wait_for_timeout(20)
        page.route("**/v1/predict*", lambda route: route.continue_())
        for route in held:
            route.continue_()
        expect(page.get_by_role("status")).to_have_text("12 of 12 done")
        assert page.locator("#cards > .answered h2").all_text_contents() == [path.name for path in files]
    assert len(held) == 2


def test_a_volume_gives_several_cards(browser, answering, scans, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volume = np.repeat(decode(scans[0].read_bytes())[:, :, None], 20, axis=2)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / "head.nii.gz")
    with opened(browser, answering) as page:
        page.set_input_files("#files", [tmp_path / "head.nii.gz", scans[1]])
        expect(page.get_by_role("status")).to_have_text("2 of 2 done")
        names = page.locator("#cards > .answered h2").all_text_contents()
        assert names[3:] == [scans[1].name]
        assert all(re.fullmatch(r"head\.nii\.gz, slice \d+", name) for name in names[:3])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_a_broken_file_beside_good_ones_on_any_screen(browser, answering, scans, tmp_path, width, scheme):
    broken = tmp_path / f"{'long_name_' * 12}.png"
    broken.write_bytes(scans[0].read_bytes()[:100])
    with opened(browser, answering, width=width, scheme=scheme, refused=["status of 422"]) as page:
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        page.set_input_files("#files", [scans[0], broken, scans[1]])
        expect(page.get_by_role("status")).to_have_text("3 of 3 done, 1 failed")
        kinds = page.locator("#cards > li").evaluate_all("cards => cards.map(card => card.className)")
        assert kinds == ["answered", "failed", "answered"]
        failed = page.locator("#cards > .failed")
        assert failed.locator("h2").text_content() == broken.name
        expect(failed.locator("p")).to_contain_text("What is read: JPEG")
        assert failed.get_by_role("button").count() == 0  # it would fail again
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        page.mouse.wheel(0, 100_000)
        expect(page.get_by_role("link", name="API")).to_be_in_viewport()
        expect(page.get_by_text("Research use only")).to_be_in_viewport(ratio=1)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(","))) < 300) == (scheme == "dark")


def test_names_are_text(browser, answering, scans):
    name = '<img src=x onerror=alert(1)> & "x".png'
    with opened(browser, answering, refused=["status of 422"]) as page:
        contents = scans[0].read_bytes(), b"no scan"
        files = [{"name": name, "mimeType": "image/png", "buffer": content} for content in contents]
        page.set_input_files("#files", files)
        expect(page.get_by_role("status")).to_have_text("2 of 2 done, 1 failed")
        assert page.locator("#cards h2").all_text_contents() == [name, name]
        assert page.locator("#cards img").count() == 2  # picture and map


def test_a_refusal_gives_its_reasons(browser, refusing, scans):
    with opened(browser, refusing) as page:
        page.set_input_files("#files", scans[0])
        card, said = page.locator("#cards > .answered"), asked(page, scans[0])
        assert_shows(card, said)
        assert (said["state"], said["likely"], len(said["reasons"])) == ("no answer", [], 2)
        nearest = f"Nearest class: {words(said['label'])} ({said['probabilities'][said['label']]:.3f})"
        assert nearest in card.inner_text() and " or " not in card.locator(".answer + *").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_where_it_is_unsure_it_names_two_classes_and_says_why(browser, hesitating, scans, width, scheme):
    with opened(browser, hesitating, width=width, scheme=scheme) as page:
        page.set_input_files("#files", scans[0])
        card, said = page.locator("#cards > .answered"), asked(page, scans[0])
        assert_shows(card, said)
        assert (said["state"], len(said["likely"]), len(said["reasons"])) == ("unsure", 2, 1)
        ordered = sorted(said["probabilities"], key=said["probabilities"].get, reverse=True)
        either = " or ".join(f"{words(name)} ({said['probabilities'][name]:.3f})" for name in ordered[:2])
        assert card.locator(".answer + p").inner_text() == either
        assert "Nearest class" not in card.inner_text()
        # It does not look like an answer.
        assert card.locator(".answer").get_attribute("class") == "answer none"
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def told_worth(rows: list[dict]) -> list[str]:
    """What the page is to say about what was measured."""
    texts = []
    for row in rows:
        share = {name: f"{100 * value:.1f} %" for name, value in row.items() if name not in ("images", "n")}
        parts = [
            f"{share['answered']} answered",
            *([f"{share['error']} of the answers wrong"] if "error" in row else []),
            *([f"{share['missed']} of the tumours answered as healthy"] if "missed" in row else []),
            *([f"the 90 % set held the true class in {share['coverage_90']}"] if "coverage_90" in row else []),
            *([f"the 95 % set in {share['coverage_95']}"] if "coverage_95" in row else []),
        ]
        texts.append(f"{row['images']} ({row['n']} images): {', '.join(parts)}.")
    return texts


@pytest.mark.parametrize("width", [320, 1280])
def test_it_says_what_answers_are_worth_as_the_classifier_states_it(browser, answering, hesitating, width):
    for address, rows in ((answering, MEASURED), (hesitating, None)):
        with opened(browser, address, width=width) as page:
            measured = page.request.get("v1/model").json()["measured"]
            assert measured == rows or (rows is None and len(measured) == 3)
            section = page.locator("#worth")
            expect(section).to_be_visible()
            expect(page.locator("#measured")).to_be_hidden()  # until it is asked for
            page.get_by_text("What these answers are worth").click()
            expect(page.locator("#measured li")).to_have_text(told_worth(measured))
            expect(section).to_contain_text("had not learned from")
            expect(section).to_contain_text("nothing is promised")
            assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_where_nothing_was_measured_nothing_is_said(browser, refusing):
    with opened(browser, refusing) as page:
        page.wait_for_load_state("networkidle")
        assert page.request.get("v1/model").json()["measured"] == []
        expect(page.locator("#worth")).to_be_hidden()
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="API")).to_be_focused()


def test_what_was_measured_is_text(browser, small_run, tmp_path):
    rows = [{"images": "<img src=x onerror=alert(1)> & so on", "n": 3, "answered": 1.0}]
    with (
        served(rewritten(small_run / FILE, tmp_path / "model.tflite", measured=rows)) as address,
        opened(browser, address) as page,
    ):
        expect(page.locator("#measured li")).to_have_text(told_worth(rows))
        assert page.locator("#measured img").count() == 0


def test_a_busy_server_is_asked_again_and_a_lost_one_on_demand(browser, answering, scans):
    told = json.dumps({"title": "busy", "status": 503, "detail": "full: try again later"})
    busy = {"status": 503, "headers": {"Retry-After": "0"}, "content_type": "application/problem+json", "body": told}
    with opened(browser, answering, refused=["status of 503", "ERR_FAILED"]) as page:
        card = page.locator("#cards > li")
        page.route("**/v1/predict*", lambda route: route.fulfill(**busy), times=6)
        page.set_input_files("#files", scans[0])
        expect(card).to_contain_text("Full: try again later.", use_inner_text=True)
        page.route("**/v1/predict*", lambda route: route.abort(), times=1)
        page.get_by_role("button", name="Try again").click()
        expect(card).to_contain_text("Could not be sent")
        page.route("**/v1/predict*", lambda route: route.fulfill(**busy), times=5)
        page.get_by_role("button", name="Try again").click()
        assert_shows(card, asked(page, scans[0]))
        expect(page.get_by_role("status")).to_have_text("1 of 1 done")


def test_the_download_holds_the_answers_without_pictures(browser, answering, scans, tmp_path):
    with opened(browser, answering, refused=["status of 422"]) as page:
        button = page.get_by_role("button", name="Download")
        expect(button).to_be_disabled()
        (tmp_path / "broken.png").write_bytes(b"none")
        page.set_input_files("#files", [scans[0], tmp_path / "broken.png"])
        expect(page.get_by_role("status")).to_have_text("2 of 2 done, 1 failed")
        with page.expect_download() as download:
            button.click()
        answer, broken = json.loads(download.value.path().read_text(encoding="utf-8"))["results"]
        bulky = {"map", "picture", "overlay"}
        assert answer == {key: value for key, value in asked(page, scans[0]).items() if key not in bulky}
        assert broken["name"] == "broken.png" and "What is read" in broken["error"]
