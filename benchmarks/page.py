"""The web page in Chromium: from the choice of a scan to its answer on the screen, and 200 scans at once.

    python benchmarks/page.py [--scans FOLDER] [--repeats 30] [--json FILE]

The scans are drawings of heads, or the pictures of a folder. Browser and server share the processor cores. Times are
taken in the page, from the event of the choice to the frame after the answer was put in.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Page, expect, sync_playwright
from rows import Row, run

SOURCE = Path(__file__).resolve().parents[1] / "src"
MANY = 200
WATCH = """([input, place, text]) => {
  const begun = () => { window.begun = performance.now(); window.took = 0; };
  document.getElementById(input).addEventListener("change", begun, { capture: true, once: true });
  const watcher = new MutationObserver(() => {
    if (!window.begun || !document.querySelector(place)?.textContent.startsWith(text)) return;
    watcher.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => { window.took = performance.now() - window.begun; }));
  });
  watcher.observe(document.body, { childList: true, subtree: true });
}"""


def draw(folder: Path, number: int) -> None:
    """Write drawings of heads, 512 x 512 pixels, all different."""
    rows, columns = np.indices((512, 512))
    random = np.random.default_rng(0)
    for i in range(number):
        head = ((columns - 256) / random.uniform(150, 200)) ** 2 + ((rows - 256) / random.uniform(190, 230)) ** 2 <= 1
        picture = head * random.uniform(80, 140) + random.normal(0, 12, (512, 512)) * head
        cv2.imwrite(str(folder / f"{i:03}.jpg"), picture.clip(0, 255).astype(np.uint8))


def taken(page: Page, files: list[Path], place: str, text: str) -> float:
    """Milliseconds until `text` stands at `place` after the files were chosen."""
    page.evaluate(WATCH, ["files", place, text])
    page.set_input_files("#files", files)
    expect(page.locator(place)).to_contain_text(text, timeout=60_000)
    deadline = time.monotonic() + 60
    while not (milliseconds := page.evaluate("window.took")):
        assert time.monotonic() < deadline
        page.wait_for_timeout(5)
    return milliseconds


def measure(arguments: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.scans:
            draw(Path(folder), MANY)
        found = sorted((arguments.scans or Path(folder)).rglob("*.jpg"))
        many = [found[i % len(found)] for i in range(MANY)]
        command = [sys.executable, "-m", "brain_tumor", "serve", "--port", "0"]
        log = Path(folder) / "log.txt"
        with log.open("w") as file:
            server = subprocess.Popen(command, env={"PYTHONPATH": str(SOURCE)}, stderr=file, stdout=file)
        try:
            while not (ready := re.search(r"running on (http://\S+)", log.read_text())):
                time.sleep(0.1)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.goto(ready[1])
                page.wait_for_load_state("networkidle")
                single = []
                for path in many[: arguments.repeats]:
                    single.append(taken(page, [path], ".said .answer", ""))
                    page.click("#clear")
                whole = taken(page, many, "#progress", f"{MANY} of {MANY} done")
                session = page.context.new_cdp_session(page)
                session.send("HeapProfiler.collectGarbage")
                heap = session.send("Runtime.getHeapUsage")["usedSize"] / 1e6
                browser.close()
        finally:
            server.terminate()
            server.wait(30)
    return [
        Row("web page: one scan, choice to answer, median", statistics.median(single), "ms", "limit", 250, most=1),
        Row(f"web page: {MANY} scans", whole / 1000, "s", "limit", 8, most=1),
        Row(f"web page: {MANY} scans, JavaScript heap", heap, "MB", "limit", 60, most=1),
    ]


if __name__ == "__main__":
    sys.exit(
        run(
            __doc__,
            measure,
            scans={"type": Path, "help": "folder of pictures, instead of drawings"},
            repeats={"type": int, "default": 30, "help": "scans chosen one at a time (default: 30)"},
        )
    )
