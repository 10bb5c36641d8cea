"""A small server on this machine that answers the official `kaggle` client in the place of Kaggle.

The client talks to http://localhost:80 where KAGGLE_API_ENVIRONMENT is LOCALHOST. HTTP_PROXY leads it from
there to an unprivileged port, where this server takes the requests as a proxy would.
"""

import json
import os
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_METADATA = "/api/v1/datasets.DatasetApiService/GetDatasetMetadata"
_DOWNLOAD = "/api/v1/datasets.DatasetApiService/DownloadDataset"
_STORAGE = "/storage/archive.zip"
_BROKEN_ONCE = ("cut", "reset", "elsewhere", "changed", "unsatisfiable")


class KaggleStandIn:
    """Serves one archive; a context manager.

    Args:
        archive: the bytes that a download brings.
        script: the behaviour for each run of the client in turn, the last one for all that follow:
            "serve"; an HTTP status; (status, message), sent as Kaggle sends it in JSON; "silent": no answer at all;
            "stall": the first part of the archive, then silence; "cut": the first part, then the connection ends,
            once; "reset": the same with a reset (RST); "short": the first part as if it were all; "long": a length is
            announced that never comes; "drip": a MiB a second; "page": a web page of the size of the archive instead;
            "login": a web page in answer to everything; "refused": a reset before any answer; "garbage": an answer
            that is no HTTP; "circle": redirections without end. What a request for the rest gets: "elsewhere": bytes
            from another place, "changed": the whole of another version, "unsatisfiable": status 416; all three let the
            first part through, once.

    Attributes:
        requests: per request its path and headers, in order.
        stalled: an event, set once the first part of the archive is on its way in a "stall".
    """

    def __init__(self, archive: bytes, *script: str | int | tuple[int, str]):
        self.archive = archive
        self.script = list(script) or ["serve"]
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.stalled = threading.Event()
        self.broken = False
        self._closing = threading.Event()

    @property
    def runs(self) -> int:
        """How many times the client was started and asked for the data set."""
        return Counter(path for path, _ in self.requests)[_METADATA]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead the client here."""
        port = self._server.server_address[1]
        return {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "HTTP_PROXY": f"http://127.0.0.1:{port}"}

    def __enter__(self) -> "KaggleStandIn":
        stand_in = self

        class Handler(_Handler):
            owner = stand_in

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def be_silent(self) -> None:
        """Hold a connection open without a byte until the server closes."""
        self._closing.wait()


class _Handler(BaseHTTPRequestHandler):
    owner: KaggleStandIn

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self) -> None:
        path = self.path.removeprefix("http://localhost").split("?")[0]
        self.owner.requests.append((path, dict(self.headers)))
        behaviour = self.owner.script[min(max(self.owner.runs, 1), len(self.owner.script)) - 1]
        if behaviour == "silent":
            self.owner.be_silent()
        elif isinstance(behaviour, int):
            self.send_error(behaviour)
        elif behaviour == "refused":
            self._reset()
        elif behaviour == "garbage":
            self.wfile.write(b"\x16\x03\x01 SSH-2.0 \r\n\r\n")
            self.close_connection = True
        elif behaviour == "login":
            self._send(b"<!DOCTYPE html><html>Please sign in to this network</html>", "text/html")
        elif isinstance(behaviour, tuple):
            self._send_json({"code": behaviour[0], "message": behaviour[1]}, behaviour[0])
        elif path == _METADATA:
            self._send_json({"info": {"licenses": [{"name": "CC0-1.0"}]}})
        elif path == _DOWNLOAD:  # Kaggle sends the client on to a storage service
            self.send_response(302)
            self.send_header("Location", f"http://localhost{_DOWNLOAD if behaviour == 'circle' else _STORAGE}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path == _STORAGE:
            self._send_archive(behaviour)
        else:
            self.send_error(404)

    def _send_json(self, value: object, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_archive(self, behaviour: str) -> None:
        body = self.owner.archive
        if behaviour == "page":
            body = b"<html>Please sign in to this network".ljust(len(body))
        first, _, _ = (self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")
        first, etag = int(first), "one-version"
        if first and behaviour == "unsatisfiable":
            self.send_error(416)
            return
        if first and behaviour == "changed":
            first, etag = 0, "another-version"
        rest, total = body[first:], len(body)
        if first and behaviour == "elsewhere":
            rest, first = body[: len(rest)], 0
        part = rest[: len(rest) * 3 // 4]
        self.send_response(206 if len(rest) < total else 200)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Last-Modified", "Sun, 24 May 2020 00:00:00 GMT")
        if len(rest) < total:
            self.send_header("Content-Range", f"bytes {first}-{first + len(rest) - 1}/{total}")
        if behaviour != "short":
            self.send_header("Content-Length", str(len(rest) + 1000 * (behaviour == "long")))
        self.end_headers()
        if behaviour == "stall":
            self.wfile.write(part)
            self.owner.stalled.set()
            self.owner.be_silent()
        elif behaviour == "short":
            self.wfile.write(part)
        elif behaviour == "drip":
            for at in range(0, len(rest), 1024**2):
                time.sleep(1)
                self.wfile.write(rest[at : at + 1024**2])
        elif behaviour in _BROKEN_ONCE and not self.owner.broken:
            self.owner.broken = True
            self.wfile.write(part)
            if behaviour == "reset":
                self._reset()
        else:
            self.wfile.write(rest)

    def _reset(self) -> None:
        """End the connection by RST: what is under way is lost, and the client is told so."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())  # `close` would wait for the files that stand on it
        self.close_connection = True
