"""The picture in the page, in a real browser with the real server behind it: map, zoom, window, slices of volumes."""

import base64
import json
import re

import cv2
import numpy as np
import pytest
from nibabel import Nifti1Image
from pages import (
    BULKY,
    FILE,
    SETS,
    asked,
    assert_shows,
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
from rewritten import giving_all_states, rewritten
from scan_files import dicom

from brain_tumor.imaging.decoding import decode


@pytest.fixture(scope="module")
def scans(small_run):
    return sorted((small_run / "data/raw/phantoms").rglob("*.jpg"))


@pytest.fixture(scope="module")
def answering(small_run, tmp_path_factory):
    """Answers always."""
    model = tmp_path_factory.mktemp("answering") / "model.tflite"
    with served(rewritten(small_run / FILE, model, novelty=1e9, confidence=[0.0] * 4, sets=SETS)) as server:
        yield server


@pytest.fixture(scope="module")
def refusing(small_run, tmp_path_factory):
    """Never answers."""
    model = tmp_path_factory.mktemp("refusing") / "model.tflite"
    with served(rewritten(small_run / FILE, model, novelty=1e-9, sets=SETS)) as server:
        yield server


@pytest.fixture(scope="module")
def deciding(small_run, scans, tmp_path_factory):
    """Gives every state among the first two dozen scans."""
    model = tmp_path_factory.mktemp("deciding") / "model.tflite"
    with served(giving_all_states(scans[:24], small_run / FILE, model, sets=SETS)) as server:
        yield server


GREYS = np.kron(np.array([[0, 64, 102], [128, 180, 255]], np.uint8), np.ones((256, 256), np.uint8))[:, :512]


def pixels(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED).astype(float)


def of_address(address: str) -> np.ndarray:
    return pixels(base64.b64decode(address.split(",")[1]))


@pytest.mark.parametrize("kind", ["answering", "refusing"])
def test_the_saved_picture_is_the_shown_one(browser, request, tmp_path, kind):
    """As it is on the screen: with the map if that is shown, and with window and level."""
    cv2.imwrite(str(tmp_path / "head.png"), GREYS)
    with opened(browser, request.getfixturevalue(kind)) as page:
        page.set_input_files("#files", tmp_path / "head.png")

        def saved() -> np.ndarray:
            with page.expect_download() as download:
                page.get_by_role("button", name="Save picture").click()
            assert download.value.suggested_filename == "head-map.png"
            image = pixels(download.value.path().read_bytes())
            assert image.shape[1] == 512 and image[512:].max() > 200  # there is something to read below
            return image[:512, :, :3]

        (said,) = asked(page.request, tmp_path / "head.png")
        grey, layer = of_address(said["picture"])[..., None], of_address(said["overlay"])
        np.testing.assert_array_equal(grey[..., 0], GREYS)
        share = 0.6 * layer[..., 3:] / 255
        with_map = share * layer[..., :3] + (1 - share) * grey
        assert np.abs(with_map - grey).max() > 20
        if kind == "refusing":
            np.testing.assert_array_equal(saved(), np.repeat(grey, 3, axis=2))
            page.get_by_text("nevertheless").click()
        expect(page.locator(".layer")).to_be_visible()
        np.testing.assert_allclose(saved(), with_map, atol=2)
        page.get_by_label("Map").fill("0")
        np.testing.assert_array_equal(saved(), np.repeat(grey, 3, axis=2))
        page.get_by_text("Zoom, window and level").click()
        page.get_by_label("Window").fill("40")
        page.get_by_label("Level").fill("30")
        lit = (grey * 2.5 + 255 * (0.5 - 2.5 * 0.3)).clip(0, 255)
        np.testing.assert_allclose(saved(), np.repeat(lit, 3, axis=2), atol=1)


def test_zoom_window_and_level_change_the_display_alone(browser, answering, tmp_path):
    cv2.imwrite(str(tmp_path / "head.png"), GREYS)
    with opened(browser, answering) as page:
        page.set_input_files("#files", tmp_path / "head.png")
        page.get_by_text("Zoom, window and level").click()
        frame, (picture, overlay) = page.locator(".scan"), page.locator(".scan img").all()
        before = frame.bounding_box()
        page.get_by_label("Zoom").fill("300")
        room = frame.evaluate("frame => frame.clientWidth")
        assert picture.bounding_box()["width"] == pytest.approx(3 * room, abs=1)
        assert picture.bounding_box() == overlay.bounding_box() and frame.bounding_box() == before
        frame.evaluate("frame => frame.scrollTo(200, 100)")
        assert frame.evaluate("frame => [frame.scrollLeft, frame.scrollTop]") == [200, 100]
        assert picture.bounding_box() == overlay.bounding_box()
        assert picture.bounding_box()["x"] == pytest.approx(before["x"] - 200, abs=1)
        assert not sideways(page)
        page.get_by_role("button", name="Reset").click()
        expect(picture).to_have_css("width", f"{before['width']:g}px")

        page.get_by_label("Map").fill("0")
        for window, level in ((100, 50), (40, 30), (20, 75), (1, 50), (100, 0)):
            page.get_by_label("Window").fill(str(window))
            page.get_by_label("Level").fill(str(level))
            slope = 100 / window
            intercept = 0.5 - slope * level / 100
            name = picture.evaluate("image => /#([^\"')]+)/.exec(getComputedStyle(image).filter)?.[1] ?? ''")
            assert bool(name) == ((slope, intercept) != (1, 0))
            if name:
                filter = page.locator(f"filter#{name}")
                assert filter.get_attribute("color-interpolation-filters") == "sRGB"
                told = filter.locator("feComponentTransfer > *").evaluate_all(
                    """parts => parts.map(part =>
                      [part.localName, ...["type", "slope", "intercept"].map(name => part.getAttribute(name))])"""
                )
                assert [part[:2] for part in told] == [[f"feFunc{colour}", "linear"] for colour in "RGB"]
                assert all([float(value) for value in part[2:]] == pytest.approx([slope, intercept]) for part in told)
            seen = pixels(frame.screenshot())[..., :3]
            expected = (GREYS[128::256, 128::256] * slope + 255 * intercept).clip(0, 255)
            high, wide = (edge // 4 for edge in seen.shape[:2])
            spots = seen[high :: 2 * high, wide :: 2 * wide]
            np.testing.assert_allclose(spots, np.repeat(expected[..., None], 3, axis=2), atol=1)
        assert_shows(page.locator("#cards > li"), asked(page.request, tmp_path / "head.png")[0])


# --- volumes and series


def assert_lines(page, classes, results) -> None:
    """The chart shows the probabilities of these slices, broken where there is no answer."""
    last, lines = len(results) - 1, page.locator(".chart polyline")
    expect(lines.first).to_be_attached()
    got = lines.evaluate_all("lines => lines.map(line => [line.getAttribute('class'), line.getAttribute('points')])")
    expected = []
    for i, name in enumerate(classes):
        run = []
        for at, result in enumerate([*results, None]):
            if result and result["state"] != "no answer":
                run.append([100 * at / last, 100 - 100 * result["probabilities"][name]])
            elif run:
                expected.append((f"line-{i}", run if len(run) > 1 else run * 2))
                run = []
    assert [kind for kind, _ in got] == [kind for kind, _ in expected]
    for (_, points), (_, run) in zip(got, expected, strict=True):
        np.testing.assert_allclose([list(map(float, point.split(","))) for point in points.split()], run, atol=1e-6)
    assert page.locator(".key li").all_inner_texts() == list(map(words, classes))
    gaps = sum(result["state"] == "no answer" for result in results)
    said = [f"No answer for {gaps} of {len(results)} slices: gaps in the lines."] if gaps else []
    assert page.locator(".chart > p").all_inner_texts() == said


def assert_slice(page, number, of, said) -> None:
    """The slider stands at this slice, counted from 1, and the card shows its answer."""
    slider = page.get_by_role("slider", name="Slice")
    expect(slider).to_have_value(str(number))
    assert [slider.get_attribute(name) for name in ("min", "max")] == ["1", str(of)]
    assert slider.get_attribute("aria-valuetext") == f"{number} of {of}"
    expect(page.locator(".scan img").first).to_have_attribute("src", said["picture"])
    assert_shows(page.locator("#cards > li"), said)
    expect(page.locator(".scan img").first).to_have_attribute("alt", re.compile(f"slice {number} of {of}$"))
    at = page.locator(".chart").evaluate("chart => Number(chart.style.getPropertyValue('--at'))")
    assert at == pytest.approx((number - 1) / (of - 1))


@pytest.mark.parametrize("kind", ["NIfTI", "TIFF"])
def test_a_volume_is_one_card_with_its_slices(browser, deciding, scans, tmp_path, kind):
    if kind == "NIfTI":
        path, count = tmp_path / "head.nii.gz", 14
        slices = [cv2.resize(decode(scan.read_bytes()), (64, 72)) for scan in scans[:count]]
        Nifti1Image(np.stack(slices, axis=2), np.eye(4)).to_filename(path)
    else:
        path, count = tmp_path / "pages.tif", 12
        write_pages(path, scans[: 2 * count : 2])
    with opened(browser, deciding) as page:
        classes = page.request.get("v1/model").json()["classes"]
        results = asked(page.request, path, "slice=all")
        assert [result["slice"] for result in results] == list(range(count))
        assert {result["slices"] for result in results} == {count}
        assert kind == "NIfTI" or {result["state"] for result in results} == {"answer", "unsure", "no answer"}
        middle = asked(page.request, path, "slice=middle")
        middle = middle[len(middle) // 2]["slice"]
        page.set_input_files("#files", path)
        progress(page, "1 of 1 done")
        assert shown(page) == [path.name]
        assert_lines(page, classes, results)
        slider = page.get_by_role("slider", name="Slice")
        for number in (middle + 1, 1, count, count // 3):
            if number != middle + 1:
                slider.fill(str(number))
            assert_slice(page, number, count, asked(page.request, path, f"slice={number - 1}&explain=true")[0])
        slider.press("ArrowRight")
        number = count // 3 + 1
        assert_slice(page, number, count, asked(page.request, path, f"slice={number - 1}&explain=true")[0])
        with page.expect_download() as download:
            page.get_by_role("button", name="Download JSON").click()
        assert json.loads(download.value.path().read_text(encoding="utf-8"))["results"] == results
        # The line is that of the middle slice still.
        page.locator(".row").click()
        line = " ".join(page.locator("h2").text_content().split())
        verdict = results[middle]["label"] if results[middle]["state"] == "answer" else results[middle]["state"]
        assert line.startswith(f"{path.name} slice {middle + 1} of {count} {words(verdict)}")


def test_the_files_of_a_series_are_one_card(browser, deciding, scans, tmp_path):
    write_series(tmp_path / "mixed/one", "1.2.3.4", scans[:5])
    write_series(tmp_path / "mixed/two", "1.2.3.5", scans[5:8])
    (tmp_path / "alone").write_bytes(dicom(decode(scans[8].read_bytes()), SeriesInstanceUID="1.2.3.6"))
    first, second = (sorted((tmp_path / "mixed" / name).iterdir(), reverse=True) for name in ("one", "two"))
    with opened(browser, deciding) as page:
        classes = page.request.get("v1/model").json()["classes"]
        said = {path: asked(page.request, path)[0] for path in first + second + [tmp_path / "alone"]}
        assert [said[path]["position"] for path in first] == [-7, -2, 3, 8, 13]
        series = [{said[path]["series"] for path in paths} for paths in (first, second, [tmp_path / "alone"])]
        assert [len(names) for names in series] == [1, 1, 1] and len(set.union(*series)) == 3
        for told in said.values():
            assert not re.search(
                r"1\.2\.3\.|Roe|Jane|7531", json.dumps({k: v for k, v in told.items() if k not in BULKY})
            )

        page.set_input_files("#folder", tmp_path / "mixed")
        progress(page, "2 of 2 done")
        assert shown(page) == ["mixed/one (series of 5)", "mixed/two (series of 3)"]
        page.get_by_role("button", name="Clear all").click()

        page.set_input_files("#files", first)  # alone, it is opened
        progress(page, "1 of 1 done")
        assert_lines(page, classes, [said[path] for path in first])
        for number in (3, 1, 5, 2):
            if number != 3:
                page.get_by_role("slider", name="Slice").fill(str(number))
            assert_slice(page, number, 5, said[first[number - 1]])
        page.get_by_role("button", name="Clear all").click()

        page.set_input_files("#files", tmp_path / "alone")
        assert_shows(page.locator("#cards > li"), said[tmp_path / "alone"])
        assert page.get_by_role("slider", name="Slice").count() == 0
