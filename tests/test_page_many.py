"""The web page in a real browser, with the real server behind it: many scans and folders."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
from conftest import ROOT
from pages import (
    BULKY,
    FILE,
    SETS,
    asked,
    assert_accessible,
    assert_shows,
    drop,
    opened,
    progress,
    served,
    shown,
    sideways,
    words,
    write_pages,
    write_series,
)
from playwright.sync_api import expect
from rewritten import giving_all_states

from brain_tumor.imaging.decoding import decode

LEFT_OUT = 116  # files of `folder`


@pytest.fixture(scope="module")
def scans(small_run):
    return sorted((small_run / "data/raw/phantoms").rglob("*.jpg"))


@pytest.fixture(scope="module")
def server(small_run, scans, tmp_path_factory):
    """Gives every state among the first two dozen scans."""
    model = tmp_path_factory.mktemp("server") / "model.tflite"
    with served(giving_all_states(scans[:24], small_run / FILE, model, sets=SETS)) as running:
        yield running


@pytest.fixture(scope="module")
def folder(scans, tmp_path_factory):
    """Two dozen scans, a broken one, a volume, two series without suffixes, and files that are to be left out."""
    top = tmp_path_factory.mktemp("scans") / "patients é"
    for i, scan in enumerate(scans[:24]):
        target = top / ("", "a", "b/deep")[i % 3] / f"scan {i:02}, {'xyz'[i % 3]}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scan, target)
    (top / "a/broken.png").write_bytes(b"none")
    write_pages(top / "b/pages.tif", scans[:5])
    write_series(top / "series/first", "1.2.3.4", scans[:4])
    write_series(top / "series/second", "1.2.3.5", scans[4:7])
    (top / "a/.cache").mkdir()
    for name in (".hidden.jpg", "a/.cache/scan.jpg", "a/.DS_Store"):
        (top / name).write_bytes(scans[0].read_bytes())
    (top / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (top / "notes").mkdir()
    for i in range(111):  # browsers hand out the content of a folder by the hundred
        (top / f"notes/{i}.txt").write_text("no scan")
    (top / "b/scan").write_bytes(scans[0].read_bytes())  # neither suffix nor signature
    return top


@pytest.fixture(scope="module")
def said(browser, server, folder):
    """What the API says of each scan of the folder: path as the page tells it -> answers, or the error."""
    context = browser.new_context(base_url=server.address)
    names = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".jpg", ".png", ".tif", "")]
    hidden = [path for path in names if any(part[0] == "." for part in path.relative_to(folder).parts)]
    kept = [path for path in names if path.name not in ("DICOMDIR", "scan") and path not in hidden]
    told = {}
    for path in kept:
        file = {"name": path.name, "mimeType": "application/octet-stream", "buffer": path.read_bytes()}
        answer = context.request.post("v1/predict", multipart={"files": file}).json()
        name = str(path.relative_to(folder.parent))
        told[name] = [each | {"name": name} for each in answer["results"]] if "results" in answer else answer["detail"]
    assert len(told) == 24 + 1 + 1 + 4 + 3
    context.close()
    return told


def cards_of(said) -> list[dict]:
    """The cards that the page is to have, in the order of their paths: name, its answers, and the one that counts."""
    cards, series = [], {}
    for name in sorted(said):
        results = said[name]
        if isinstance(results, str):
            cards.append({"name": name, "kind": "failed", "results": [results]})
        elif "series" in results[0]:
            found = series.setdefault(results[0]["series"], {"results": []})
            found["results"] += results
            if found not in cards:
                cards.append(found)
        else:
            cards.append({"name": name, "results": results})
    for card in cards:
        if card.get("kind") == "failed":
            continue
        results = card["results"]
        if "series" in results[0]:
            results.sort(key=lambda result: result["position"])
            card["name"] = f"{results[0]['name'].rsplit('/', 1)[0]} (series of {len(results)})"
        middle = results[len(results) // 2]
        card["kind"] = middle["label"] if middle["state"] == "answer" else middle["state"]
        card |= {"middle": middle}
    return cards


def line_of(card: dict) -> str:
    """The line of a card: its name, which slice counts, and the answer."""
    if card["kind"] == "failed":
        return f"{card['name']} not read"
    middle, place = card["middle"], ""
    if "slices" in middle:
        place = f" slice {middle['slice'] + 1} of {middle['slices']}"
    elif "series" in middle:
        place = f" slice {len(card['results']) // 2 + 1} of {len(card['results'])}"
    verdict = {
        "answer": f"{words(middle['label'])} {middle['probabilities'][middle['label']]:.3f}",
        "unsure": f"unsure: {' or '.join(map(words, middle['likely']))}",
        "no answer": "no answer",
    }[middle["state"]]
    return f"{card['name']}{place} {verdict}"


def choose(page, folder, number) -> None:
    page.set_input_files("#folder", folder)
    progress(page, f"{number} of {number} done, 1 failed")


def chips(page) -> dict[str, bool]:
    """Text -> whether it is pressed."""
    found = page.locator(".chip:visible").evaluate_all(
        "all => all.map(chip => [chip.innerText, chip.ariaPressed === 'true'])"
    )
    return dict(found)


def test_a_folder_is_listed_summarised_narrowed_and_ordered(browser, server, folder, said):
    cards = cards_of(said)
    counts = Counter(card["kind"] for card in cards)
    with opened(browser, server, refused=["status of 422"]) as page:
        choose(page, folder, len(cards))
        expect(page.locator("#ignored")).to_have_text(f"Left out of the folder, as no scans: {LEFT_OUT}.")
        lines = page.locator("#cards h2").all_text_contents()
        assert [" ".join(line.split()) for line in lines] == list(map(line_of, cards))
        assert shown(page) == [card["name"] for card in cards]
        order = [*page.request.get("v1/model").json()["classes"], "unsure", "no answer", "failed"]
        kinds = {f"{'not read' if k == 'failed' else words(k)} {counts[k]}": k for k in order if counts[k]}
        assert {"unsure", "no answer", "failed"} < set(kinds.values())
        everything = f"all {len(cards)}"
        assert list(chips(page)) == [everything, *kinds] and chips(page)[everything]
        for text, kind in kinds.items():
            page.get_by_role("button", name=text, exact=True).click()
            expect(page.get_by_role("button", name=text, exact=True)).to_be_focused()
            assert [name for name, pressed in chips(page).items() if pressed] == [text]
            assert shown(page) == [card["name"] for card in cards if card["kind"] == kind]
        page.locator(".chip:visible", has_text="unsure").click()
        page.get_by_role("searchbox", name="Name").fill("X.JPG")
        assert shown(page) == [c["name"] for c in cards if c["kind"] == "unsure" and c["name"].endswith("x.jpg")]
        page.get_by_role("button", name=everything).click()
        assert shown(page) == [card["name"] for card in cards if card["name"].endswith("x.jpg")]
        page.get_by_role("searchbox", name="Name").fill("")

        surest = lambda card: -max(card["middle"]["probabilities"].values()) if "middle" in card else 1  # noqa: E731
        keys = {
            "novelty": lambda card: -card["middle"]["novelty"] if "middle" in card else 1,
            "probability": surest,
            "answer": lambda card: card["kind"],
            "name": lambda card: card["name"],
            "as added": lambda card: 0,
        }
        assert sorted(page.get_by_label("Order").locator("option").all_inner_texts()) == sorted(keys)
        for text, key in keys.items():
            page.get_by_label("Order").select_option(text)
            assert shown(page) == [card["name"] for card in sorted(cards, key=key)]
        assert not sideways(page)


def test_details_come_on_demand_and_scans_go_on_demand(browser, server, folder, scans, said):
    cards = cards_of(said)
    with opened(browser, server, refused=["status of 422"]) as page:
        choose(page, folder, len(cards))
        assert page.locator(".answer, .scan img").count() == 0
        first = {card["kind"]: i for i, card in reversed(list(enumerate(cards))) if card["name"].endswith("g")}
        assert {"unsure", "no answer", "failed"} < first.keys()
        for kind, i in first.items():
            card = page.locator("#cards > li").nth(i)
            toggle, details = card.locator(".row"), card.locator(".details")
            assert details.get_attribute("id") == toggle.get_attribute("aria-controls")
            expect(toggle).to_have_attribute("aria-expanded", "false")
            toggle.click()
            expect(toggle).to_have_attribute("aria-expanded", "true")
            if kind == "failed":
                expect(details).to_contain_text("What is read: JPEG")
                assert details.get_by_role("button").count() == 0  # it would fail again
            else:
                assert_shows(card, asked(page.request, folder.parent / cards[i]["name"])[0])
            toggle.click()
            expect(toggle).to_have_attribute("aria-expanded", "false")
            expect(details).to_be_hidden()
            assert details.locator("*").count() == 0
        names = shown(page)
        page.get_by_role("button", name=f"Remove {names[1]}", exact=True).click()
        expect(page.locator(".row").nth(1)).to_be_focused()
        assert shown(page) == names[:1] + names[2:]
        progress(page, f"{len(cards) - 1} of {len(cards) - 1} done, 1 failed")
        kind = cards[1]["kind"]
        left = Counter(card["kind"] for card in cards)[kind] - 1
        expect(page.locator(f".chip[data-kind='{kind}']")).to_have_text(f"{words(kind)} {left}")
        page.locator(".away").last.click()
        expect(page.locator(".row").last).to_be_focused()
        page.get_by_role("button", name="Clear all").click()
        expect(page.get_by_role("button", name="Choose scans")).to_be_focused()
        expect(page.locator("#list")).to_be_hidden()
        expect(page.get_by_role("region", name="Samples")).to_be_visible()
        page.set_input_files("#files", scans[0])
        progress(page, "1 of 1 done")
        page.locator(".away").click()
        expect(page.get_by_role("button", name="Choose scans")).to_be_focused()


def test_removing_goes_on_among_the_scans_that_are_shown(browser, server, folder, said):
    cards = cards_of(said)
    with opened(browser, server, refused=["status of 422"]) as page:
        choose(page, folder, len(cards))
        page.locator(".chip:visible", has_text="unsure").click()
        names = shown(page)
        while len(names) > 1:
            page.get_by_role("button", name=f"Remove {names.pop(0)}", exact=True).click()
            expect(page.locator(".row:visible").first).to_be_focused()
            assert shown(page) == names


def test_a_dropped_folder_is_read_as_a_chosen_one(browser, server, folder, said):
    cards = cards_of(said)
    with opened(browser, server, refused=["status of 422"]) as page:
        drop(page, folder)
        progress(page, f"{len(cards)} of {len(cards)} done, 1 failed")
        assert shown(page) == [card["name"] for card in cards]
        expect(page.locator("#ignored")).to_have_text(f"Left out of the folder, as no scans: {LEFT_OUT}.")


def test_a_folder_without_scans_is_said_to_have_none(browser, server, tmp_path):
    (tmp_path / "notes.txt").write_text("no scan")
    with opened(browser, server) as page:
        page.set_input_files("#folder", tmp_path)
        expect(page.get_by_text("Left out of the folder")).to_be_visible()


def test_downloads_are_what_api_and_command_say(browser, server, folder, said):
    cards = cards_of(said)
    with opened(browser, server, refused=["status of 422"]) as page:
        choose(page, folder, len(cards))
        contents = {}
        for kind in ("JSON", "CSV"):
            with page.expect_download() as download:
                page.get_by_role("button", name=f"Download {kind}").click()
            assert download.value.suggested_filename == f"answers.{kind.lower()}"
            contents[kind] = download.value.path().read_text(encoding="utf-8")
    told = json.loads(contents["JSON"])
    assert told["model"] == server.sha256
    expected = [result for card in cards for result in card["results"]]
    assert len(told["results"]) == len(expected)
    for got, result in zip(told["results"], expected, strict=True):
        if isinstance(result, str):
            assert got["name"] == "patients é/a/broken.png" and result.rstrip(".") in got["error"]
        else:
            assert got == result and not BULKY & got.keys()

    command = [sys.executable, "-m", "brain_tumor", "predict", "--csv", "--model", server.model, "--quiet", *said]
    variables = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        list(map(str, command)), cwd=folder.parent, env=variables, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr
    printed = {row["file"]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    head, *lines = csv.reader(io.StringIO(contents["CSV"]))
    assert head == next(csv.reader(io.StringIO(done.stdout)))
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    assert [row["file"] for row in rows] == [result["name"] for result in told["results"]] and len(rows) == len(printed)
    for row in rows:
        expected = printed[row["file"]]
        assert row.pop("model") == expected.pop("model") == server.sha256
        assert row.pop("error").startswith(error := expected.pop("error")) and bool(error) == (not row["state"])
        numbers = [name for name in row if row["state"] and name.startswith(("p_", "novelty"))]
        for name in numbers:
            assert float(row.pop(name)) == float(expected.pop(name))
        assert row == expected


def test_two_hundred_scans(browser, server, scans, tmp_path):
    small = [cv2.resize(decode(scan.read_bytes()), (48, 48), interpolation=cv2.INTER_AREA) for scan in scans]
    for i in range(200):
        (tmp_path / f"patient {i // 20}").mkdir(exist_ok=True)
        picture = small[i % len(small)]
        cv2.imwrite(str(tmp_path / f"patient {i // 20}/{i:03}.png"), np.roll(picture, i // len(small), axis=1))
    with opened(browser, server, bypass_csp=True) as page:
        page.set_input_files("#folder", tmp_path)
        progress(page, "200 of 200 done")
        files = sorted(path for path in tmp_path.rglob("*.png"))
        assert shown(page) == [str(path.relative_to(tmp_path.parent)) for path in files]
        with page.expect_download() as download:
            page.get_by_role("button", name="Download JSON").click()
        results = json.loads(download.value.path().read_text(encoding="utf-8"))["results"]
        counts = Counter(each["label"] if each["state"] == "answer" else each["state"] for each in results)
        texts = {f"{words(kind)} {number}" for kind, number in counts.items()}
        assert set(chips(page)) == texts | {"all 200"} and counts.total() == 200
        for i in range(0, 200, 40):
            (answer,) = asked(page.request, files[i], "slice=middle")
            assert results[i] == answer | {"name": str(files[i].relative_to(tmp_path.parent))}
        page.locator(".row").nth(150).click()
        expect(page.locator(".answer")).to_be_visible()
        for width, height in ((1280, 900), (390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.scrollingElement.scrollHeight") < 20_000
            assert not sideways(page)
        assert_accessible(page)


def hold(page, times=None) -> list:
    """Lets requests for predictions wait, and collects them."""
    held = []
    page.route("**/v1/predict*", lambda route: held.append(route), times=times)
    return held


def test_answers_come_in_order_two_at_a_time(browser, server, scans):
    files = scans[11::-1]
    with opened(browser, server) as page:
        held = hold(page)
        page.set_input_files("#files", files)
        expect(page.get_by_text("being read")).to_have_count(2)
        expect(page.get_by_text("waiting for its turn")).to_have_count(10)
        expect(page.locator(".head").get_by_role("button", disabled=True)).to_have_count(12)
        while len(held) < 2:
            page.wait_for_timeout(20)
        page.route("**/v1/predict*", lambda route: route.continue_())
        for route in held:
            route.continue_()
        progress(page, "12 of 12 done")
        assert shown(page) == [path.name for path in files]
    assert len(held) == 2


@pytest.mark.parametrize("place", ["row", "chip"])
def test_the_focus_stays_while_answers_come(browser, server, scans, place):
    """Although the list is ordered and counted anew."""
    with opened(browser, server) as page:
        surest = {path: max(asked(page.request, path)[0]["probabilities"].values()) for path in scans[:6]}
        *files, late = sorted(surest, key=surest.get)
        page.set_input_files("#files", files)
        progress(page, "5 of 5 done")
        page.get_by_label("Order").select_option("probability")
        held = hold(page)
        page.set_input_files("#files", late)
        while not held:
            page.wait_for_timeout(20)
        element = page.locator(f".{place}").first
        name = element.locator(".name").inner_text() if place == "row" else "all 6"
        element.focus()
        held[0].continue_()
        progress(page, "6 of 6 done")
        expect(page.locator("#cards .name").first).to_have_text(late.name)
        expect(page.locator(f".{place}", has_text=name)).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_a_broken_file_beside_good_ones_on_any_screen(browser, server, scans, tmp_path, width, scheme):
    broken = tmp_path / f"{'long_name_' * 12}.png"
    broken.write_bytes(scans[0].read_bytes()[:100])
    with opened(browser, server, size=(width, 900), scheme=scheme, refused=["status of 422"]) as page:
        assert not sideways(page)
        page.set_input_files("#files", [scans[0], broken, scans[1]])
        progress(page, "3 of 3 done, 1 failed")
        failed = page.locator("#cards > li").nth(1)
        assert failed.get_attribute("class") == "is-failed" and page.locator(".is-failed").count() == 1
        expect(failed.locator("h2")).to_have_text(re.compile(f"^{broken.name}\\s+not read\\s*$"))
        for row in page.locator(".row").all():
            row.click()
        expect(page.locator(".answer")).to_have_count(2)
        assert not sideways(page)
        page.mouse.wheel(0, 100_000)
        expect(page.get_by_role("link", name="API")).to_be_in_viewport()
        expect(page.get_by_text("Research use only")).to_be_in_viewport(ratio=1)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(","))) < 300) == (scheme == "dark")


def test_names_are_text(browser, server, scans):
    name = '<img src=x onerror=alert(1)> & "x".png'
    with opened(browser, server, refused=["status of 422"]) as page:
        contents = scans[0].read_bytes(), b"no scan"
        files = [{"name": name, "mimeType": "image/png", "buffer": content} for content in contents]
        page.set_input_files("#files", files)
        progress(page, "2 of 2 done, 1 failed")
        for row in page.locator(".row").all():
            row.click()
        expect(page.locator(".answer")).to_be_visible()
        assert shown(page) == [name, name]
        assert page.locator("#cards img").count() == 2  # picture and map
