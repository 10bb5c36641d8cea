"""For the tests of the web page: servers with a chosen classifier, pages in a real browser, and what they must show."""

import hashlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT
from PIL import Image
from playwright.sync_api import APIRequestContext, Browser, Locator, Page, expect
from scan_files import dicom
from scratch import environment

from brain_tumor.imaging.decoding import decode

FILE = "src/brain_tumor/serving/classifier.tflite"
SETS = {"90": [1.01] * 4, "95": [0.0] * 4}  # one empty set, and one of all classes
PHONE, DESK = (390, 844), (1280, 900)
BULKY = {"map", "picture", "overlay"}  # fields that an answer has only on demand
TITLES = {"unsure": "Unsure", "no answer": "No answer"}
expect.set_options(timeout=30_000)


@dataclass(frozen=True)
class Served:
    """A running server: its address, the file of its classifier, and what it has printed so far."""

    address: str
    model: Path

    @property
    def log(self) -> str:
        return self.model.with_name("log.txt").read_text(encoding="utf-8")

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.model.read_bytes()).hexdigest()


@contextmanager
def served(model: Path, *options: object) -> Iterator[Served]:
    """A server with this classifier, from the moment it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Served(f"http://127.0.0.1:{port}/", model)
    command = [sys.executable, "-m", "brain_tumor", "serve", "--port", port, "--model", model, *options]
    variables = environment() | {"PYTHONPATH": str(ROOT / "src")}
    with model.with_name("log.txt").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), env=variables, stdout=log, stderr=log)
    try:
        while not _ready(server):
            assert process.poll() is None, server.log
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(30)
    assert "Traceback" not in server.log, server.log


def _ready(server: Served) -> bool:
    try:
        with urllib.request.urlopen(f"{server.address}readyz", timeout=10) as response:
            return response.status == 200
    except OSError:
        return False


@contextmanager
def opened(
    browser: Browser, server: Served, path="", *, size=DESK, scheme="light", refused=(), **more
) -> Iterator[Page]:
    """A page; at the end the console held nothing but what is `refused`, and there was no foreign request.

    Dialogs are dismissed, and count as trouble by their kind.
    """
    width, height = size
    viewport = {"width": width, "height": height}
    context = browser.new_context(base_url=server.address, viewport=viewport, color_scheme=scheme, **more)
    page, trouble, requests = context.new_page(), [], []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: (trouble.append(f"{dialog.type}: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{server.address}{path}")
    yield page
    assert [text for text in trouble if not any(known in text for known in refused)] == []
    assert [url for url in requests if not url.startswith((server.address, f"blob:{server.address}", "data:"))] == []
    context.close()


def drop(page: Page, path: Path) -> None:
    """Drag a file or folder over the page and drop it there, as the browser hears it from the system."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        expect(page.locator("body.dragging")).to_have_count(int(kind == "drop"))  # it shows where it would fall
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 9, "y": 300, "data": data})
    expect(page.locator("body.dragging")).to_have_count(0)


def progress(page: Page, text: str) -> None:
    """Wait until the page says that it has come so far."""
    expect(page.locator("#progress")).to_have_text(text)


def shown(page: Page) -> list[str]:
    """Names of the scans that the list shows, in its order."""
    return page.locator("#cards > li:visible .name").evaluate_all("all => all.map(name => name.firstChild.data)")


def asked(request: APIRequestContext, path: Path, query: str = "explain=true") -> list[dict]:
    """What the API says of a file."""
    file = {"name": path.name, "mimeType": "application/octet-stream", "buffer": path.read_bytes()}
    return request.post(f"v1/predict?{query}", multipart={"files": file}).json()["results"]


def words(name: str) -> str:
    return name.replace("_", " ")


def seen_or_heard(page: Page) -> str:
    """The text that the page shows, and what Chromium hands to screen readers."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    names = [
        node[key]["value"] for node in nodes if not node["ignored"] for key in ("name", "description") if key in node
    ]
    return "\n".join([page.locator("body").inner_text(), *names])


def sideways(page: Page) -> bool:
    """Whether the page scrolls to the side."""
    return page.evaluate("document.scrollingElement.scrollWidth > document.scrollingElement.clientWidth")


def assert_shows(card: Locator, said: dict) -> None:
    """The opened card shows this answer, which is one of `SETS`; in whatever state, it is in the document."""
    expect(card.locator(".answer")).to_have_text(TITLES.get(said["state"], words(said["label"])))
    assert card.locator(".reasons li").all_text_contents() == said["reasons"]
    assert card.locator("th").all_text_contents() == list(map(words, said["probabilities"]))
    assert card.locator("td").all_text_contents() == [f"{p:.3f}" for p in said["probabilities"].values()]
    shares = card.locator("td").evaluate_all("cells => cells.map(c => Number(c.style.getPropertyValue('--share')))")
    assert shares == list(said["probabilities"].values())
    weights = card.locator("th").evaluate_all("heads => heads.map(h => Number(getComputedStyle(h).fontWeight) > 500)")
    bold = [name for name, heavy in zip(said["probabilities"], weights, strict=True) if heavy]
    assert bold == ([said["label"]] if said["state"] == "answer" else [])
    none, among, novelty = card.locator(".facts p").all_text_contents()
    assert said["prediction_sets"]["90"] == [] and none == "90 % set: empty, none of the classes is typical."
    assert among == f"95 % set: {', '.join(map(words, said['prediction_sets']['95']))}."
    assert novelty.startswith(f"Novelty {said['novelty']:.2f}; above 1 it is likely no scan")
    picture, overlay = card.locator(".scan img").all()
    assert [picture.get_attribute("src"), overlay.get_attribute("src")] == [said["picture"], said["overlay"]]
    assert picture.evaluate("i => i.decode().then(() => i.naturalWidth > 0)")
    silent = said["state"] == "no answer" and not card.locator(".said details[open]").count()
    assert card.locator("figcaption").text_content() == ("" if silent else f"Bright: speaks for {words(said['label'])}")


def write_pages(path: Path, scans: list[Path]) -> None:
    """A TIFF file with a scan on each page."""
    first, *others = [Image.fromarray(decode(scan.read_bytes())) for scan in scans]
    first.save(path, save_all=True, append_images=others)


def write_series(folder: Path, uid: str, scans: list[Path]) -> None:
    """Files of a series from the feet up, named from the head down."""
    folder.mkdir(parents=True)
    for i, scan in enumerate(scans):
        place = {"ImagePositionPatient": [0, 0, 5 * i - 7], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        more = {"SeriesInstanceUID": uid, "PatientName": "Roe^Jane", "PatientID": "7531", "InstanceNumber": 9 - i}
        content = dicom(decode(scan.read_bytes()).astype(np.uint16), **more, **place)
        (folder / f"IM{9 - i}").write_bytes(content)


STILL = """async () => {
  await new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  while (document.getAnimations().length) {
    await Promise.allSettled(document.getAnimations().map(each => each.finished));
  }
}"""


def assert_accessible(page) -> None:
    """axe-core finds nothing, on two screens, light and dark."""
    for width, height in (DESK, PHONE):
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.evaluate(STILL)
            found = Axe().run(page)
            assert found.violations_count == 0, f"{width}, {scheme}: {found.generate_report()}"
