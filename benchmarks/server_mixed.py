"""The server under everything at once: good scans, damaged ones, wrong requests, slow clients and lost ones.

    python benchmarks/server_mixed.py [--minutes 30] [--clients 6]  (at least 4 minutes)

A fixed number of clients, each with one request after another, on loopback. Every 10 seconds memory, descriptors and
threads of the server are read. It ends with 1 unless no answer had a status from 500 but 503, every kind of client had
its answers, memory stayed flat (the slope of the median of each minute after the first third of the time, in which the
allocator comes to its largest size, is at most 20 MB an hour), threads became no more (by the medians of the last two
thirds), and, when all clients have gone, descriptors are as many as before.
"""

import argparse
import asyncio
import itertools
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))
from scan_files import dicom, nifti  # noqa: E402

PORT = 8766
MOST = 20.0  # MB an hour
HOST = b"Host: localhost\r\n"
KIND = b"Content-Type: multipart/form-data; boundary=limit\r\n"
Request = tuple[bytes, bytes]  # head and body


def scans() -> dict[str, list[bytes]]:
    """Files to send, by the kind of request."""
    rows, columns = np.indices((512, 512))
    head = ((columns - 256) / 180) ** 2 + ((rows - 256) / 220) ** 2 <= 1
    picture = (head * (120 + 12 * np.random.default_rng(0).normal(size=head.shape))).clip(0, 255).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    small = picture[::4, ::4].astype(np.int16)
    volume = nifti(np.repeat(small[..., None], 24, axis=2), packed=True)
    series = [dicom(small, SeriesInstanceUID="1.2.9", InstanceNumber=str(i)) for i in range(5)]
    return {
        "picture": [jpeg],
        "several": [jpeg] * 4,
        "DICOM": [dicom(small)],
        "series": series,
        "NIfTI": [volume],
        "damaged": [jpeg[: len(jpeg) // 3], volume[:900], series[0][:700], b"no scan"],
    }


def form(files: list[bytes], query: str = "") -> Request:
    """A request that uploads files."""
    part = b'--limit\r\nContent-Disposition: form-data; name="files"; filename="scan"\r\n\r\n'
    body = b"".join(part + file + b"\r\n" for file in files) + b"--limit--\r\n"
    head = b"POST /v1/predict%s HTTP/1.1\r\n" % query.encode() + HOST + KIND
    return head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body), body


def chunked(head: bytes, body: bytes) -> bytes:
    """The same request, in chunks."""
    line = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    parts = [body[i : i + 100_000] for i in range(0, len(body), 100_000)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nX-Trailer: a\r\n\r\n"
    return head.replace(line, b"Transfer-Encoding: chunked") + coded


async def answer(reader: asyncio.StreamReader, seconds: float = 60) -> list[int]:
    """Statuses of what comes until the server ends the connection."""
    try:
        content = await asyncio.wait_for(reader.read(), seconds)
    except (OSError, TimeoutError):
        return [0]
    return [int(part[:3]) for part in content.split(b"HTTP/1.1 ")[1:]] or [0]


class Clients:
    """The kinds of clients: each method is one connection, and returns the statuses of its answers."""

    def __init__(self) -> None:
        self.files = scans()

    async def _send(self, data: bytes, small: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raw = socket.socket()
        if small:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", PORT))
        reader, writer = await asyncio.open_connection(sock=raw, limit=4096 if small else 65536)
        writer.write(data)
        return reader, writer

    async def _exchange(self, data: bytes) -> list[int]:
        reader, writer = await self._send(data)
        found = await answer(reader)
        writer.close()
        return found

    async def scan(self) -> list[int]:
        """A good or damaged upload, whole or in chunks."""
        query = random.choice(["", "?explain=true", "?slice=all", "?slice=all&explain=true", "?slice=3"])
        head, body = form(self.files[random.choice(list(self.files))], query)
        return await self._exchange(chunked(head, body) if random.random() < 0.3 else head + body)

    async def too_large(self) -> list[int]:
        """More than the server takes: announced, or in chunks."""
        head, body = form([bytes(33_000_000)])
        return await self._exchange(chunked(head, body) if random.random() < 0.5 else head + body[:1_000_000])

    async def wrong(self) -> list[int]:
        """Requests that are none, or for what is not there."""
        get = b"%s HTTP/1.1\r\n" + HOST + b"Connection: close\r\n%s\r\n"
        paths = [b"/nothing", b"/web/..%2f..%2fserver.py", b"/web/%00", b"/docs", b"/v1/model", b"/openapi.json"]
        return await self._exchange(
            random.choice(
                [
                    *(get % (b"GET " + path, b"") for path in paths),
                    get % (b"POST /v1/predict", b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
                    get % (b"GET /", b"X: y\r\n" * 20_000),
                    get % (b"GET /", b"Host: evil.example\r\n"),
                    get % (b"POST /v1/predict", KIND + b"Origin: http://evil.example\r\nContent-Length: 0\r\n"),
                    os.urandom(300) + b"\r\n\r\n",
                ]
            )
        )

    async def pipelined(self) -> list[int]:
        """Three requests at once over one connection."""
        head, body = form(self.files["picture"])
        kept = head.replace(b"Connection: close\r\n", b"") + body
        return await self._exchange(kept + b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n" + head + body)

    async def _endless(self, start: bytes, piece: bytes) -> list[int]:
        """A request of which every half second another piece comes, until it is answered."""
        reader, writer = await self._send(start)
        reading = asyncio.create_task(answer(reader))
        while not reading.done():
            writer.write(piece)
            await asyncio.sleep(0.5)
        writer.close()
        return reading.result()

    async def slow_header(self) -> list[int]:
        """A header that never ends."""
        return await self._endless(b"GET / HTTP/1.1\r\n", b"X: y\r\n")

    async def slow_upload(self) -> list[int]:
        """A body that never ends."""
        head, body = form(self.files["picture"])
        return await self._endless(head + body[:1000], b"x")

    async def slow_reader(self) -> list[int]:
        """Somebody who takes 2 kB of a large answer every half second, and then goes."""
        head, body = form(self.files["NIfTI"], "?slice=all&explain=true")
        reader, writer = await self._send(head + body, small=True)
        start = await reader.read(100)
        for _ in range(10):
            await reader.read(2048)
            await asyncio.sleep(0.5)
        writer.transport.abort()
        return [int(start[9:12] or 0)]

    async def lost(self) -> list[int]:
        """Somebody who goes while uploading, or before the answer."""
        head, body = form(self.files["series"], "?explain=true")
        _, writer = await self._send(head + body[: random.choice([0, 1000, len(body)])])
        await asyncio.sleep(random.random() / 10)
        writer.transport.abort()
        return [-1]

    async def idle(self) -> list[int]:
        """Connections without a byte."""
        opened = [await self._send(b"") for _ in range(10)]
        found = [await answer(reader) for reader, _ in opened]
        for _, writer in opened:
            writer.close()
        return list(itertools.chain(*found))


WEIGHTS = {"scan": 60, "too_large": 2, "wrong": 15, "pipelined": 8, "slow_header": 1, "slow_upload": 1}
WEIGHTS |= {"slow_reader": 2, "lost": 6, "idle": 1}


async def client(clients: Clients, until: float, counts: Counter) -> None:
    """One request after another, with short pauses."""
    while time.monotonic() < until:
        (kind,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        try:
            found = await getattr(clients, kind)()
        except OSError:
            found = [0]
        counts.update((kind, status) for status in found)
        await asyncio.sleep(random.random() / 10)


def state(process: int) -> tuple[float, int, int]:
    """MB of memory, descriptors and threads of a process."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    told = dict(line.split(":", 1) for line in status)
    memory, threads = int(told["VmRSS"].split()[0]) / 1000, int(told["Threads"])
    return memory, len(os.listdir(f"/proc/{process}/fd")), threads


async def load(process: int, minutes: float, number: int) -> tuple[Counter, list[tuple[float, float, int, int]]]:
    """Counts of (kind, status), and (minute, memory, descriptors, threads) every 10 seconds."""
    start, counts, seen = time.monotonic(), Counter(), []
    clients, until = Clients(), time.monotonic() + 60 * minutes
    running = [asyncio.create_task(client(clients, until, counts)) for _ in range(number)]
    while time.monotonic() < until:
        await asyncio.sleep(min(10, max(0, until - time.monotonic())))
        seen.append(((time.monotonic() - start) / 60, *state(process)))
        if len(seen) % 6 == 0:
            print("minute {:4.1f}: {:6.1f} MB, {} descriptors, {} threads".format(*seen[-1]), flush=True)
    await asyncio.gather(*running)
    return counts, seen


def slope(seen: list[tuple[float, float, int, int]], after: float) -> float:
    """MB an hour by which memory grows after that minute, from the median of each minute."""
    by_minute: dict[int, list[float]] = {}
    for minute, memory, *_ in seen:
        by_minute.setdefault(int(minute), []).append(memory)
    points = {minute: statistics.median(values) for minute, values in by_minute.items() if minute >= after}
    return 60 * statistics.linear_regression(list(points), list(points.values())).slope


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=6)
    options = parser.parse_args()
    random.seed(0)
    command = [sys.executable, "-m", "brain_tumor", "serve", "--port", str(PORT)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ready = b"GET /readyz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
        while True:
            try:
                if asyncio.run(Clients()._exchange(ready)) == [200]:
                    break
            except OSError:
                time.sleep(0.1)
        before = state(server.pid)
        counts, seen = asyncio.run(load(server.pid, options.minutes, options.clients))
        time.sleep(25)  # until the last connection is over
        after = state(server.pid)
    finally:
        server.terminate()
        code = server.wait()
    for kind in WEIGHTS:
        told = {status: count for (found, status), count in sorted(counts.items()) if found == kind}
        print(f"{kind:<12} " + ", ".join(f"{status}: {count}" for status, count in told.items()))
    grown = slope(seen, options.minutes / 3)
    thirds = [[number for minute, *_, number in seen if minute * 3 // options.minutes == third] for third in (1, 2)]
    threads = [statistics.median(third) for third in thirds]  # one that reads files may come and go
    print(
        f"{counts.total()} answers; memory grows by {grown:.1f} MB an hour; threads {threads[0]:g}, then {threads[1]:g}"
    )
    print(f"descriptors before {before[1]}, most {max(row[2] for row in seen)}, after {after[1]}; exit code {code}")
    failed = {status for _, status in counts if status >= 500 and status != 503}
    flat = grown <= MOST and threads[1] <= threads[0] and after[1] == before[1]
    return 0 if flat and not failed and code == 0 and {kind for kind, _ in counts} == WEIGHTS.keys() else 1


if __name__ == "__main__":
    sys.exit(main())
