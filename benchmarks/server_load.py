"""The server under load: a rate that it must serve, 20 times that rate for 3 seconds, and the first rate again.

    python benchmarks/server_load.py [--rate 50] [--seconds 20] [--json FILE]

Requests are sent at fixed times, whether or not earlier ones have been answered, so that a slow answer delays no
other ("open loop"; G. Tene: coordinated omission). Each uploads one JPEG of 512 x 512 pixels over its own connection.
Client and server share the processor cores.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from rows import Row, run

SOURCE = Path(__file__).resolve().parents[1] / "src"
PORT = 8765


def upload() -> bytes:
    """A request that uploads the drawing of a head."""
    rows, columns = np.indices((512, 512))
    head = ((columns - 256) / 180) ** 2 + ((rows - 256) / 220) ** 2 <= 1
    picture = head * 120 + np.random.default_rng(0).normal(0, 12, (512, 512)) * head
    jpeg = cv2.imencode(".jpg", picture.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    head = b'--limit\r\nContent-Disposition: form-data; name="files"; filename="scan.jpg"\r\n\r\n'
    body = head + jpeg + b"\r\n--limit--\r\n"
    lines = ["POST /v1/predict HTTP/1.1", "Host: localhost", "Content-Type: multipart/form-data; boundary=limit"]
    lines += [f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def send(request: bytes) -> tuple[int, float]:
    """Status of the response and seconds until it is complete; status 0: the connection failed."""
    start = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        status = int(answer.split(b" ", 2)[1])
    except (OSError, IndexError):
        status = 0
    return status, time.perf_counter() - start


async def load(request: bytes, rate: float, seconds: float) -> list[tuple[int, float]]:
    """Send requests at a fixed rate; returns what `send` returns for each."""
    start, sent = time.perf_counter(), []
    for i in range(round(rate * seconds)):
        await asyncio.sleep(max(0, start + i / rate - time.perf_counter()))
        sent.append(asyncio.create_task(send(request)))
    return await asyncio.gather(*sent)


def tell(name: str, answers: list[tuple[int, float]]) -> dict[int, tuple[int, float, float]]:
    """Print and return by status: count, median and 99th percentile of the times in milliseconds."""
    found = {}
    for status, count in sorted(Counter(status for status, _ in answers).items()):
        middle, worst = np.percentile([1000 * took for got, took in answers if got == status], [50, 99])
        print(f"{name:<24} status {status}: {count:>5}, median {middle:6.1f} ms, p99 {worst:6.1f} ms")
        found[status] = count, float(middle), float(worst)
    return found


def measure(arguments: argparse.Namespace) -> list[Row]:
    request, rate, seconds = upload(), arguments.rate, arguments.seconds
    command = [sys.executable, "-m", "brain_tumor", "serve", "--port", str(PORT)]
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while asyncio.run(send(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))[0] != 200:
            time.sleep(0.1)
        before = tell(f"{rate:g} a second", asyncio.run(load(request, rate, seconds)))
        beyond = tell(f"{20 * rate:g} a second", asyncio.run(load(request, 20 * rate, 3)))
        after = tell(f"{rate:g} a second again", asyncio.run(load(request, rate, seconds)))
    finally:
        server.terminate()
        server.wait()
    if not before.keys() == after.keys() == {200} or beyond.keys() != {200, 503}:
        sys.exit("error: expected status 200 at the rate that must be served, and 200 and 503 beyond it")
    what = f"{rate:g} requests a second, served"
    return [
        Row(f"{what}, median", after[200][1], "ms", "", None),
        Row(f"{what}, 99th percentile", max(before[200][2], after[200][2]), "ms", "limit", 150, most=1),
        Row(f"{20 * rate:g} requests a second for 3 s, answered", beyond[200][0] / 3, "a second", "", None),
        Row(f"{20 * rate:g} requests a second for 3 s, 503 within, 99th percentile", beyond[503][2], "ms", "", None),
    ]


if __name__ == "__main__":
    sys.exit(
        run(
            __doc__,
            measure,
            rate={"type": float, "default": 50, "help": "requests per second that must be served"},
            seconds={"type": float, "default": 20, "help": "of the first and the last phase"},
        )
    )
