"""The web page in a real browser, with the real server behind it: one scan, and what stands around it.

`test_page_picture.py` is about the picture and about volumes, `test_page_many.py` about many scans.
"""

import json
import re

import pytest
from conftest import ROOT
from pages import (
    DESK,
    FILE,
    PHONE,
    SETS,
    asked,
    assert_accessible,
    assert_shows,
    drop,
    opened,
    progress,
    seen_or_heard,
    served,
    sideways,
    words,
)
from playwright.sync_api import expect
from rewritten import giving, rewritten

SAMPLES = ROOT / "src/brain_tumor/serving/web/samples"
MEASURED = [
    {"images": "first: new patients", "n": 120, "answered": 0.754, "error": 0.0512, "missed": 0.0126}
    | {"coverage_90": 0.9, "coverage_95": 0.9617},
    {"images": "second: another hospital", "n": 8, "answered": 0.0},
]
SIZES = pytest.mark.parametrize("size", [DESK, PHONE])


@pytest.fixture(scope="module")
def scans(small_run):
    return sorted((small_run / "data/raw/phantoms").rglob("*.jpg"))


@pytest.fixture(scope="module")
def answering(small_run, tmp_path_factory):
    """Answers always, and has a report."""
    model = tmp_path_factory.mktemp("answering") / "model.tflite"
    options = {"confidence": [0.0] * 4, "sets": SETS, "measured": MEASURED}
    rewritten(small_run / FILE, model, novelty=1e9, **options)
    with served(model, "--report", small_run / "report/index.html") as server:
        yield server


@pytest.fixture(scope="module")
def hesitating(small_run, scans, tmp_path_factory):
    """Unsure of the first scan."""
    model = tmp_path_factory.mktemp("hesitating") / "model.tflite"
    with served(giving("unsure", scans[0], small_run / FILE, model, sets=SETS)) as server:
        yield server


@pytest.fixture(scope="module")
def refusing(small_run, tmp_path_factory):
    """Never answers, and says nothing of itself."""
    model = tmp_path_factory.mktemp("refusing") / "model.tflite"
    options = {"confidence": [None] * 4, "sets": SETS, "measured": [], "expects": ""}
    with served(rewritten(small_run / FILE, model, novelty=1e-9, **options)) as server:
        yield server


def assert_in_view(page) -> None:
    """The answer is on the screen, below nothing, and on a phone above the picture."""
    answer, picture = page.locator(".answer"), page.locator(".scan")
    expect(answer).to_be_in_viewport(ratio=1)
    assert answer.evaluate("""element => {
      const {left, top, right, bottom} = element.getBoundingClientRect();
      return [top + 1, (top + bottom) / 2, bottom - 1].every(
        y => element.contains(document.elementFromPoint((left + right) / 2, y)));
    }""")
    above = answer.bounding_box()["y"] + answer.bounding_box()["height"] <= picture.bounding_box()["y"]
    assert above == (page.viewport_size["width"] == PHONE[0])
    assert not sideways(page)


def assert_copies(page, said, verdict, sha256) -> None:
    """`Copy answer` puts the answer into the clipboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy answer").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").split("\n") == [
        said["name"],
        verdict,
        *said["reasons"],
        f"90 % set: empty; 95 % set: {', '.join(map(words, said['probabilities']))}; novelty {said['novelty']:.2f}",
        f"Classifier {sha256}. Research use only, no diagnosis may rest on it.",
    ]


def probable(said, name) -> str:
    return f"{words(name)} {said['probabilities'][name]:.3f}"


# --- the three states


@SIZES
def test_an_upload_is_answered_as_the_api_says_and_the_slider_fades_its_map(browser, answering, scans, size):
    with opened(browser, answering, size=size) as page:
        page.set_input_files("#files", scans[0])
        expect(page.locator(".answer")).to_be_visible()
        assert_in_view(page)
        (said,) = asked(page.request, scans[0])
        assert_shows(page.locator("#cards > .is-answer"), said)
        assert said["state"] == "answer" and page.locator(".reasons, .answer.none").count() == 0
        assert page.locator(".answer").evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 32
        for fact in page.locator(".facts p").all():
            expect(fact).to_be_visible()
        progress(page, "1 of 1 done")
        slider, (picture, overlay) = page.get_by_label("Map"), page.locator(".scan img").all()
        assert picture.bounding_box() == overlay.bounding_box()
        expect(overlay).to_have_css("opacity", "0.6")
        slider.fill("25")
        expect(overlay).to_have_css("opacity", "0.25")
        expect(page.locator(".knob", has=slider)).to_contain_text("25 %")
        assert slider.get_attribute("aria-valuetext") == "25 %"
        assert_copies(page, said, probable(said, said["label"]), answering.sha256)


@SIZES
def test_where_it_is_unsure_it_names_two_classes_and_says_why(browser, hesitating, scans, size):
    with opened(browser, hesitating, size=size) as page:
        page.set_input_files("#files", scans[0])
        expect(page.locator(".answer")).to_be_visible()
        assert_in_view(page)
        card, (said,) = page.locator("#cards > .is-unsure"), asked(page.request, scans[0])
        assert_shows(card, said)
        assert (said["state"], len(said["likely"]), len(said["reasons"])) == ("unsure", 2, 1)
        ordered = sorted(said["probabilities"], key=said["probabilities"].get, reverse=True)
        either = " or ".join(f"{words(name)} ({said['probabilities'][name]:.3f})" for name in ordered[:2])
        assert card.locator(".answer + p").inner_text() == either
        expect(card.locator(".reasons")).to_be_visible()
        # It does not look like an answer: no class is large or bold, not even beside the name of the file.
        sizes = card.evaluate(
            """(card, names) => [...card.querySelectorAll("*")].filter(e => e.checkVisibility() &&
              [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && names.some(name => n.data.includes(name)))
            ).map(e => [parseFloat(getComputedStyle(e).fontSize), Number(getComputedStyle(e).fontWeight)])""",
            list(map(words, said["probabilities"])),
        )
        assert len(sizes) >= 5 and max(size for size, _ in sizes) < 20 and max(weight for _, weight in sizes) < 600
        # The sets are there for those who ask.
        expect(card.locator(".facts")).to_be_hidden()
        page.get_by_text("Further figures").click()
        expect(card.locator(".facts")).to_be_visible()
        expect(page.get_by_label("Map")).to_be_visible()
        assert_copies(page, said, f"unsure: {' or '.join(probable(said, n) for n in ordered[:2])}", hesitating.sha256)


@SIZES
def test_without_an_answer_it_names_no_class_until_it_is_asked_to(browser, refusing, scans, size):
    with opened(browser, refusing, size=size) as page:
        page.set_input_files("#files", scans[0])
        expect(page.locator(".answer")).to_be_visible()
        assert_in_view(page)
        card, (said,) = page.locator("#cards > .is-no-answer"), asked(page.request, scans[0])
        assert_shows(card, said)
        assert (said["state"], said["likely"], len(said["reasons"])) == ("no answer", [], 2)
        (picture, overlay), nevertheless = card.locator(".scan img").all(), page.get_by_text("nevertheless")
        assert nevertheless.text_content() == "What the network computed nevertheless"
        named = re.compile("|".join(map(words, said["probabilities"])), re.IGNORECASE)
        for asked_to in (False, True, False):
            expect(overlay).to_be_visible(visible=asked_to)
            expect(page.get_by_label("Map")).to_be_visible(visible=asked_to)
            expect(card.get_by_text(f"Bright: speaks for {words(said['label'])}")).to_be_visible(visible=asked_to)
            expect(card.locator("table")).to_be_visible(visible=asked_to)
            expect(card.locator(".facts")).to_be_visible(visible=asked_to)
            expect(picture).to_be_visible()
            expect(card.locator(".reasons li")).to_have_text(said["reasons"])
            assert bool(named.findall(seen_or_heard(page))) == asked_to
            nevertheless.click()
        assert_copies(page, said, "no answer", refusing.sha256)


# --- ways in


def test_drop_anywhere(browser, answering, scans):
    with opened(browser, answering) as page:
        drop(page, scans[1])
        assert_shows(page.locator("#cards > .is-answer"), asked(page.request, scans[1])[0])


def test_paste(browser, answering, scans):
    with opened(browser, answering) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        (said,) = asked(page.request, scans[2])
        page.evaluate(
            """base64 => {
              const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0));
              const picture = new Blob([bytes], {type: "image/png"});
              return navigator.clipboard.write([new ClipboardItem({[picture.type]: picture})]);
            }""",
            said["picture"].split(",")[1],
        )
        page.keyboard.press("Control+V")
        expect(page.locator("#cards .name")).to_have_text("image.png")
        expect(page.locator(".scan img").first).to_have_attribute("src", said["picture"])


def test_the_keyboard_alone(browser, answering, scans):
    with opened(browser, answering) as page:

        def tab(*names: str) -> None:
            """Each press of the key gets on by one, to what is seen to have the focus."""
            for name in names:
                page.keyboard.press("Tab")
                here = page.locator(":focus")
                label = here.evaluate("e => e.ariaLabel || e.labels?.[0]?.firstChild.data || e.innerText")
                assert label.startswith(name), f"{label}, expected {name}"
                expect(here).to_have_css("outline-style", "solid")
                expect(here).to_be_in_viewport()

        expect(page.locator("#worth")).to_be_visible()
        tab("Report of all scores", "What these answers are worth")
        page.keyboard.press("Enter")
        expect(page.locator("#measured")).to_be_visible()
        tab("Choose scans")
        with page.expect_file_chooser() as chooser:
            page.evaluate("0")  # back only after the browser has been told to hand the chooser over
            page.keyboard.press("Enter")
        assert chooser.value.is_multiple()
        chooser.value.set_files(scans[0])
        expect(page.locator(".answer")).to_be_visible()
        tab(
            "Choose a folder", scans[0].name, f"Remove {scans[0].name}", "Copy answer", "Save picture", "Picture", "Map"
        )
        page.keyboard.press("ArrowRight")
        expect(page.locator(".layer")).to_have_css("opacity", "0.61")
        tab("Zoom, window and level")
        page.keyboard.press("Enter")
        tab("Zoom", "Window", "Level", "Reset", "Download CSV", "Download JSON", "Clear all", "API")


def test_samples(browser, answering):
    with opened(browser, answering) as page:
        section = page.get_by_role("region", name="Samples")
        names = ["Glioma", "Meningioma", "Pituitary tumour"]
        expect(section.get_by_role("button")).to_have_text(names)
        assert section.locator("img").evaluate_all("images => images.every(image => image.naturalWidth > 0)")
        expect(section).to_contain_text("The network has learned from these: they show the page, not its score.")
        expect(section).to_contain_text(
            "Slices by J. Cheng, Brain tumor dataset, figshare, CC BY 4.0, converted to JPEG."
        )
        links = section.get_by_role("link")
        addresses = links.evaluate_all("links => links.map(link => link.href)")
        assert dict(zip(links.all_inner_texts(), addresses, strict=True)) == {
            "Brain tumor dataset": "https://doi.org/10.6084/m9.figshare.1512427",
            "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
        }
        for name, file in zip(names, ("glioma.jpg", "meningioma.jpg", "pituitary.jpg"), strict=True):
            section.get_by_role("button", name=name).click()
            expect(page.locator("#cards .name")).to_have_text(file)
            assert_shows(page.locator("#cards > .is-answer"), asked(page.request, SAMPLES / file)[0])
            expect(section).to_be_hidden()  # until there is room for it again
            page.get_by_role("button", name="Clear all").click()


def test_a_sample_chosen_by_keyboard_leaves_the_focus_on_the_page(browser, answering):
    with opened(browser, answering) as page:
        page.get_by_role("button", name="Glioma").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".answer")).to_be_visible()
        assert page.evaluate("document.activeElement !== document.body")


# --- what stands around answers


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


def told_first(facts: dict) -> str:
    """What the page is to say before anything is chosen."""
    first = facts["measured"][0]
    wrong = f", and {100 * first['error']:.1f} % of these answers were wrong" if "error" in first else ""
    return (
        f"It is meant for {facts['expects']}. Measured on {first['images']} ({first['n']} images): "
        f"{100 * first['answered']:.1f} % were answered{wrong}. "
    )


@pytest.mark.parametrize("width", [320, 1280])
def test_it_says_what_answers_are_worth_as_the_classifier_states_it(browser, answering, hesitating, width):
    for server, rows in ((answering, MEASURED), (hesitating, None)):
        with opened(browser, server, size=(width, 900)) as page:
            facts = page.request.get("v1/model").json()
            assert facts["measured"] == rows or (rows is None and len(facts["measured"]) == 3)
            assert facts["expects"] and facts["sha256"] == server.sha256
            section, link = page.locator("#worth"), "Report of all scores" if facts["report"] else ""
            expect(section).to_be_visible()
            expect(page.locator("#expects")).to_have_text(told_first(facts) + link)
            expect(page.locator("#measured")).to_be_hidden()  # until it is asked for
            page.get_by_text("What these answers are worth").click()
            expect(page.locator("#measured li")).to_have_text(told_worth(facts["measured"]))
            expect(section).to_contain_text("had not learned from")
            expect(section).to_contain_text("nothing is promised")
            expect(page.locator("footer")).to_contain_text(f"Classifier {server.sha256[:12]}.")
            assert not sideways(page)


def test_where_nothing_is_stated_nothing_is_said(browser, refusing):
    with opened(browser, refusing) as page:
        expect(page.locator("#model")).to_contain_text("Classifier")
        assert page.request.get("v1/model").json()["measured"] == []
        expect(page.locator("#worth")).to_be_hidden()
        expect(page.locator("#expects")).to_be_empty()


def test_what_was_measured_is_text(browser, small_run, tmp_path):
    markup = "<img src=x onerror=alert(1)> & so on"
    rows = [{"images": markup, "n": 3, "answered": 1.0}]
    model = rewritten(small_run / FILE, tmp_path / "model.tflite", measured=rows, expects=markup)
    with served(model) as server, opened(browser, server) as page:
        expect(page.locator("#measured li")).to_have_text(told_worth(rows))
        expect(page.locator("#expects")).to_have_text(told_first({"measured": rows, "expects": markup}))
        assert page.locator("#measured img, #expects img").count() == 0


def test_the_report_is_there_if_the_server_has_one(browser, answering, hesitating, small_run):
    with opened(browser, answering) as page:
        assert page.request.get("v1/model").json()["report"] is True
        with page.expect_response("**/report") as response:
            page.get_by_role("link", name="Report of all scores").click()
        assert response.value.status == 200
        assert page.request.get("report").body() == (small_run / "report/index.html").read_bytes()
        page.wait_for_load_state("networkidle")
        # Its own policy lets its pictures and its style sheet through.
        assert page.locator("img").evaluate_all("images => images.every(image => image.naturalWidth > 0)")
        expect(page.locator("body")).not_to_have_css("margin", "8px")
    with opened(browser, hesitating) as page:
        assert page.request.get("v1/model").json()["report"] is False
        expect(page.locator("#worth")).to_be_visible()
        assert page.get_by_role("link", name="Report").count() == 0
        assert page.request.get("report").status == 404


def test_the_server_says_its_address(answering):
    assert answering.address.rstrip("/") in answering.log


def test_icon_unknown_addresses_and_documentation(browser, answering):
    with opened(browser, answering, "no/such.page", refused=["status of 404"]) as page:
        for address in ("favicon.ico", page.locator("link[rel=icon]").evaluate("link => link.href")):
            icon = page.request.get(address)
            assert (icon.status, icon.headers["content-type"].split(";")[0]) == (200, "image/svg+xml")
        for accept, kind in (("text/html,*/*;q=0.8", "text/html"), ("*/*", "application/problem+json")):
            missing = page.request.get("no/such.page", headers={"Accept": accept})
            assert (missing.status, missing.headers["content-type"].split(";")[0]) == (404, kind)
        assert {"title", "detail"} <= missing.json().keys() and missing.json()["status"] == 404
        expect(page.get_by_role("heading")).to_have_text("There is no such page")
        expect(page.locator("main")).not_to_have_css("margin-left", "0px")  # it has its style sheet
        page.get_by_role("link", name="page for scans").click()
        page.get_by_role("link", name="API").click()
        expect(page.locator("pre").first).to_contain_text(f"curl -F files=@scan.jpg {answering.address}v1/predict")
        expect(page.locator(".opblock")).to_have_count(4)
        groups = {
            group.locator(".opblock-tag").inner_text(): group.locator(".opblock-summary-path").all_inner_texts()
            for group in page.locator(".opblock-tag-section").all()
        }
        plain = {name: [path.replace("\u200b", "") for path in paths] for name, paths in groups.items()}
        assert plain == {"Prediction": ["/v1/predict", "/v1/model"], "Operation": ["/healthz", "/readyz"]}


# --- trouble


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
        assert_shows(card, asked(page.request, scans[0])[0])
        progress(page, "1 of 1 done")


def test_another_try_leaves_the_focus_on_the_scan(browser, answering, scans):
    with opened(browser, answering, refused=["ERR_FAILED"]) as page:
        page.route("**/v1/predict*", lambda route: route.abort(), times=1)
        page.set_input_files("#files", scans[0])
        page.get_by_role("button", name="Try again").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".answer")).to_be_visible()
        expect(page.locator("#cards .row")).to_be_focused()


def test_answers_are_not_lost_by_accident(browser, answering, scans):
    with opened(browser, answering, refused=["beforeunload"]) as page:
        for away in ("Download CSV", "Download JSON", "Clear all"):
            page.set_input_files("#files", scans[0])
            progress(page, "1 of 1 done")
            page.locator("h1").click()  # browsers ask only those who have done something
            with page.expect_event("dialog") as dialog:
                page.evaluate("setTimeout(() => location.reload())")
            assert dialog.value.type == "beforeunload"
            assert page.locator("#cards .name").inner_text() == scans[0].name
            page.get_by_role("button", name=away).click()
            expect(page.locator("#list")).to_be_visible(visible=away != "Clear all")
            page.reload()  # ends in time only if nobody is asked
            assert page.locator("#cards > li").count() == 0


# --- accessibility


def one(page, scans) -> None:
    page.set_input_files("#files", scans[0])
    page.get_by_text("Zoom, window and level").click()


def many(page, scans) -> None:
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"none"}
    page.set_input_files("#files", scans[:12])
    page.set_input_files("#files", [broken, broken])
    progress(page, "14 of 14 done, 2 failed")
    page.locator(".row").nth(2).click()
    page.locator(".is-failed .row").first.click()
    expect(page.locator(".answer")).to_be_visible()


def nevertheless(page, scans) -> None:
    page.set_input_files("#files", scans[0])
    page.get_by_text("nevertheless").click()
    expect(page.locator("table")).to_be_visible()


def operations(page, scans) -> None:
    expect(page.locator(".opblock")).to_have_count(4)
    for operation in page.locator(".opblock-summary-control").all():
        operation.click()
    expect(page.locator(".opblock-body .responses-inner")).to_have_count(4)


@pytest.mark.parametrize(
    ("server", "path", "act"),
    [
        ("answering", "", lambda page, _: expect(page.locator("#worth")).to_be_visible()),
        ("answering", "", one),
        ("hesitating", "", one),
        ("hesitating", "", many),
        ("refusing", "", lambda page, scans: page.set_input_files("#files", scans[0])),
        ("refusing", "", nevertheless),
        ("answering", "docs", lambda page, _: expect(page.locator(".opblock")).to_have_count(4)),
        ("answering", "docs", operations),
        ("answering", "nothing", lambda page, _: None),
    ],
    ids=["empty", "answer", "unsure", "many", "refused", "nevertheless", "docs", "operations", "missing"],
)
def test_no_violation_of_accessibility(browser, request, scans, server, path, act):
    known = ["status of 404", "status of 422"]
    with opened(browser, request.getfixturevalue(server), path, refused=known, bypass_csp=True) as page:
        act(page, scans)
        if server == "refusing" or act in (one, nevertheless):
            expect(page.locator(".answer")).to_be_visible()
        assert_accessible(page)
