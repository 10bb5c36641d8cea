"""The server under load: a rate that it must serve, 20 times that rate for 3 seconds, and the first rate again.

    python benchmarks/server_load.py [--rate 50] [--seconds 20]

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


def tell(name: str, answers: list[tuple[int, float]]) -> dict[int, float]:
    """Print counts and latencies per status; returns status -> 99th percentile in milliseconds."""
    worst = {}
    for status, count in sorted(Counter(status for status, _ in answers).items()):
        times = 1000 * np.array([took for found, took in answers if found == status])
        middle, worst[status] = np.percentile(times, [50, 99])
        print(f"{name:<24} status {status}: {count:>5}, median {middle:6.1f} ms, p99 {worst[status]:6.1f} ms")
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=50, help="requests per second that must be served")
    parser.add_argument("--seconds", type=float, default=20, help="of the first and the last phase")
    options = parser.parse_args()
    request = upload()
    command = [sys.executable, "-m", "brain_tumor", "serve", "--port", str(PORT)]
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while asyncio.run(send(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))[0] != 200:
            time.sleep(0.1)
        before = tell(f"{options.rate:g} a second", asyncio.run(load(request, options.rate, options.seconds)))
        beyond = tell(f"{20 * options.rate:g} a second", asyncio.run(load(request, 20 * options.rate, 3)))
        after = tell(f"{options.rate:g} a second again", asyncio.run(load(request, options.rate, options.seconds)))
    finally:
        server.terminate()
        server.wait()
    steady = before.keys() == after.keys() == {200} and max(before[200], after[200]) <= 150
    return 0 if steady and beyond.keys() == {200, 503} else 1


if __name__ == "__main__":
    sys.exit(main())
