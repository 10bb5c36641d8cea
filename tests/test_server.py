"""The server as its clients and its attackers meet it: a real process, real connections."""

import atexit
import base64
import concurrent.futures
import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from rewritten import giving_all_states, rewritten
from settings import PARAMS

from brain_tumor import Classifier
from brain_tumor.errors import PipelineError
from brain_tumor.serving.command.cli import _listening

FILE = "src/brain_tumor/serving/classifier.tflite"
GOLDEN = Path(__file__).parent / "golden"
WEB = ROOT / "src/brain_tumor/serving/web"
PNG = b"\x89PNG\r\n\x1a\n"
# Reports every file that the server opens for writing: an upload must reach none. Asked by a signal, it also reports
# TCP_NODELAY of each of its connections.
WATCH = """
import os, signal, sys
def connections(*_):
    import socket
    for number in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(number))) as found:
                if found.family == socket.AF_INET:
                    undelayed = bool(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                    os.write(2, f"CONNECTION {found.getpeername()[1]} {undelayed}\\n".encode())
        except OSError:  # another kind of file, or not connected
            pass
signal.signal(signal.SIGUSR1, connections)
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[0] != os.devnull:
        mode, flags = arguments[1] or "", arguments[2]
        if set("wax+") & set(mode) or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            os.write(2, f"WROTE {arguments[0]!r}\\n".encode())
    elif event in ("tempfile.mkstemp", "tempfile.mkdtemp", "os.mkdir", "os.rename"):
        os.write(2, f"WROTE {event}\\n".encode())
sys.addaudithook(hook)
"""


class Server:
    """A running server; `log` is what it printed."""

    def __init__(self, project: Path, folder: Path, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sitecustomize.py").write_text(WATCH)
        self.log = folder / "log"
        command = [
            sys.executable,
            "-m",
            "brain_tumor",
            "serve",
            "--model",
            project / FILE,
            "--port",
            self.port,
            *options,
        ]
        environment = os.environ | {"PYTHONPATH": f"{folder}:{ROOT / 'src'}", "PYTHONDONTWRITEBYTECODE": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                env=environment,
                stdout=log,
                stderr=log,
                cwd=folder,
                # Programs in the background of a shell ignore it.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        atexit.register(self.process.kill)  # a test that fails before it stops it leaves none behind
        for _ in range(600):
            try:
                if self.get("/readyz")[0] == 200:
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def request(self, path: str, data: bytes | None = None, **headers: str) -> tuple[int, str, bytes, dict]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.headers["Content-Type"], response.read(), dict(response.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read(), dict(error.headers)

    def get(self, path: str) -> tuple[int, str, bytes, dict]:
        return self.request(path)

    def predict(self, *files: tuple[str, bytes], query: str = "") -> tuple[int, dict]:
        """Status and JSON of the answer to an upload."""
        body, kind = form(*files)
        status, answer_kind, content, _ = self.request(f"/v1/predict{query}", body, **{"Content-Type": kind})
        expected = "application/json" if status == 200 else "application/problem+json"
        assert answer_kind == expected, (status, answer_kind, content)
        return status, json.loads(content)

    def stop(self) -> str:
        self.process.terminate()
        self.process.wait(30)
        return self.log.read_text(encoding="utf-8", errors="replace")


def form(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    """A multipart body and its content type; names are sent as they are, as a hostile client would."""
    body = io.BytesIO()
    for name, content in files:
        quoted = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = f'--limit\r\nContent-Disposition: form-data; name="files"; filename="{quoted}"\r\n'
        body.write(head.encode("utf-8", "surrogateescape"))
        body.write(b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n")
    body.write(b"--limit--\r\n")
    return body.getvalue(), "multipart/form-data; boundary=limit"


@pytest.fixture(scope="module")
def server(small_run, tmp_path_factory):
    running = Server(small_run, tmp_path_factory.mktemp("server"))
    yield running
    log = running.stop()
    assert "WROTE" not in log and "Traceback" not in log, log


@pytest.fixture(scope="module")
def scan(small_run) -> bytes:
    return sorted((small_run / "data/raw/phantoms").glob("*/*/*.jpg"))[0].read_bytes()


def test_it_answers_as_the_library_does(server, small_run, scan):
    said = Classifier.load(small_run / FILE).predict(scan)
    status, answer = server.predict(("scan.jpg", scan))
    (told,) = answer["results"]
    assert (status, told["name"], told["label"]) == (200, "scan.jpg", said.label)
    assert told["probabilities"] == pytest.approx(said.probabilities, abs=1e-6)
    assert (told["state"], told["likely"]) == (said.state, said.likely)
    assert told["abstained"] == said.abstained and told["reasons"] == said.reasons
    assert "map" not in told
    _, answer = server.predict(("scan.jpg", scan), query="?explain=true")
    (told,) = answer["results"]
    np.testing.assert_allclose(told["map"][said.label], said.map, atol=1e-4)
    picture, overlay = (
        cv2.imdecode(np.frombuffer(base64.b64decode(told[name].split(",")[1]), np.uint8), cv2.IMREAD_UNCHANGED)
        for name in ("picture", "overlay")
    )
    np.testing.assert_array_equal(picture, cv2.imdecode(np.frombuffer(scan, np.uint8), cv2.IMREAD_GRAYSCALE))
    assert overlay.shape == (*picture.shape, 4) and (overlay[..., 3].max() > 0) == (said.map.max() > 0)


def resolved(schema: dict, whole: dict) -> list[dict]:
    """A schema of the OpenAPI document, or those of which one is to hold."""
    if "$ref" in schema:
        return [whole["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]]
    return [found for part in schema.get("anyOf", []) for found in resolved(part, whole)]


def assert_as_documented(value: dict, schema: dict) -> None:
    """Every field is in the schema, none that must be there lacks, and an enumeration holds the value."""
    assert set(schema["required"]) <= value.keys() <= schema["properties"].keys()
    for name, part in schema["properties"].items():
        if name in value and "enum" in part:
            assert value[name] in part["enum"]


def test_the_three_states_as_the_schema_documents_them(small_run, tmp_path):
    scans = sorted((small_run / "data/raw/phantoms").glob("*/*/*.jpg"))[:12]
    model = giving_all_states(scans, small_run / FILE, tmp_path / "model.tflite")
    server = Server(small_run, tmp_path / "server", "--model", str(model))
    schema = json.loads(server.get("/openapi.json")[2])
    answered, failed = resolved(
        schema["components"]["schemas"]["Predictions"]["properties"]["results"]["items"], schema
    )
    assert sorted(answered["properties"]["state"]["enum"]) == ["answer", "no answer", "unsure"]
    served, states = Classifier.load(model), []
    _, answer = server.predict(*((path.name, path.read_bytes()) for path in scans), ("broken.png", PNG))
    for path, told in zip(scans, answer["results"], strict=False):
        said = served.predict(path)
        assert_as_documented(told, answered)
        assert (told["state"], told["label"], told["likely"]) == (said.state, said.label, said.likely)
        assert told["abstained"] == (told["state"] != "answer") and told["reasons"] == said.reasons
        assert len(told["likely"]) == {"answer": 1, "unsure": 2, "no answer": 0}[told["state"]]
        ordered = sorted(told["probabilities"], key=told["probabilities"].get, reverse=True)
        assert told["likely"] == ordered[: len(told["likely"])] and told["label"] == ordered[0]
        states.append(told["state"])
    assert set(states) == {"answer", "unsure", "no answer"}
    assert len(answer["results"]) == 13
    assert_as_documented(answer["results"][12], failed)
    model_says = json.loads(server.get("/v1/model")[2])
    assert_as_documented(model_says, schema["components"]["schemas"]["Model"])
    file = {"format_version": 2, "sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
    assert model_says == asdict(served.metadata) | file | {"report": False}
    assert "Traceback" not in server.stop()


def test_a_bad_file_does_not_stop_the_others(server, scan):
    status, answer = server.predict(("a.jpg", scan), ("b.jpg", b"none"), ("c.jpg", scan))
    assert status == 200
    assert ["error" in result for result in answer["results"]] == [False, True, False]
    assert [result["name"] for result in answer["results"]] == ["a.jpg", "b.jpg", "c.jpg"]
    status, problem = server.predict(("b.jpg", b"none"), ("c.jpg", b""))
    assert status == 422 and [error["name"] for error in problem["errors"]] == ["b.jpg", "c.jpg"]
    assert problem["status"] == 422 and {"type", "title", "detail"} <= problem.keys()


def test_what_operators_and_developers_ask_for(server, small_run):
    for path in ("/healthz", "/readyz", "/v1/model", "/openapi.json", "/docs", "/"):
        assert server.get(path)[0] == 200, path
    model = json.loads(server.get("/v1/model")[2])
    file = {"format_version": 2, "sha256": hashlib.sha256((small_run / FILE).read_bytes()).hexdigest()}
    assert model == asdict(Classifier.load(small_run / FILE).metadata) | file | {"report": False}
    assert model["expects"] == PARAMS.export.expects != ""
    assert [row["images"].split(":")[0] for row in model["measured"]] == ["phantoms", "second", "phantoms"]
    schema = json.loads(server.get("/openapi.json")[2])
    assert "multipart/form-data" in schema["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    page = server.get("/docs")[2].decode()
    assert "cdn" not in page
    headers = server.get("/")[3]
    assert "default-src 'self'" in headers["content-security-policy"]
    listening = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, text=True, check=True).stdout
    sockets = [line.split()[1] for line in listening.splitlines() if line.split()[3] == "0A"]
    assert [s for s in sockets if s.endswith(f":{server.port:04X}")] == [f"0100007F:{server.port:04X}"]


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "helps"),
    [
        ("/v1/predict", b"x", "image/jpeg", 415, "curl -F"),
        ("/v1/predict", b"x", "multipart/form-data", 400, "boundary"),
        ("/v1/predict", b"x", "multipart/form-data; boundary=limit", 400, "curl -F"),
        ("/v1/predict", b"--limit--\r\n", "multipart/form-data; boundary=limit", 400, "got a form without any"),
        ("/v1/predict?explain=maybe", b"x", "multipart/form-data; boundary=limit", 400, "explain"),
        ("/v1/predict?slice=-1", b"x", "multipart/form-data; boundary=limit", 400, "slice"),
        ("/nothing", None, "", 404, "Not Found"),
        ("/v1/predict", None, "", 405, "Method Not Allowed"),
        ("/web/../server.py", None, "", 404, "Not Found"),
        ("/web/%2e%2e/server.py", None, "", 404, "Not Found"),
        ("/web/nothing.js", None, "", 404, "Not Found"),
        ("/report", None, "", 404, "Not Found"),
    ],
)
def test_refusals_say_what_was_expected(server, path, body, kind, status, helps):
    found, content_type, content, _ = server.request(path, body, **({"Content-Type": kind} if kind else {}))
    assert (found, content_type) == (status, "application/problem+json")
    assert helps in json.loads(content)["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_the_model_is_the_file_that_was_loaded(version, tmp_path):
    content = (GOLDEN / f"classifier-{version}.tflite").read_bytes()
    expects, report = ["", "pictures of spots"][version - 1], tmp_path / "of the run.html"
    (tmp_path / "model").write_bytes(content)
    if expects:
        content = rewritten(tmp_path / "model", tmp_path / "model", expects=expects).read_bytes()
    report.write_text("<!doctype html><style>p {color: red}</style><p>the report", encoding="utf-8")
    server = Server(
        tmp_path, tmp_path, "--model", str(tmp_path / "model"), *(["--report", str(report)] * bool(expects))
    )
    told = json.loads(server.get("/v1/model")[2])
    assert told["format_version"] == version and told["sha256"] == hashlib.sha256(content).hexdigest()
    assert told["expects"] == expects and told["report"] == bool(expects)
    assert told["classes"] == Classifier.load(tmp_path / "model").metadata.classes
    status, kind, page, headers = server.get("/report")
    assert status == (200 if expects else 404)
    if expects:
        assert kind.startswith("text/html") and page == report.read_bytes()
        # Its own style sheet and pictures, which are in it, and nothing else: no script, no address, no other style.
        sheet = base64.b64encode(hashlib.sha256(b"p {color: red}").digest()).decode()
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy.pop("default-src") == "'none'" and policy.pop("style-src") == f"'sha256-{sheet}'"
        assert policy.pop("img-src") == "data:" and set(policy.values()) == {"'none'"}
    assert "Traceback" not in server.stop()


def test_a_wrong_address_is_told_to_people_and_to_programs(server):
    for path in ("/nothing", "/v1/nothing", "/web/nothing.css", "/swagger/nothing", "/report"):
        for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
            status, kind, content, _ = server.request(path, **accept)
            assert (status, kind, json.loads(content)["status"]) == (404, "application/problem+json", 404)
        browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
        status, kind, content, headers = server.request(path, **browser)
        assert (status, kind) == (404, "text/html; charset=utf-8"), path
        assert content == (WEB / "missing.html").read_bytes() and b'href="/"' in content
        assert headers["content-security-policy"] == server.get("/")[3]["content-security-policy"]
    status, kind, content, _ = server.get("/favicon.ico")
    assert (status, kind, content) == (200, "image/svg+xml", (WEB / "icon.svg").read_bytes())
    status, kind, *_ = server.request("/", b"x", Accept="text/html")  # not a page that lacks
    assert (status, kind) == (405, "application/problem+json")


def test_no_page_has_anything_from_elsewhere_or_inline(server):
    """Nothing that a page must do without is in it: the browser would say so in its console only."""
    paths = ["/", "/docs", "/favicon.ico", "/openapi.json", "/v1/model", "/v1/predict", "/nothing", "/healthz"]
    paths += [f"/web/{path.relative_to(WEB).as_posix()}" for path in WEB.rglob("*") if path.is_file()]
    for path in paths:
        for headers in (server.get(path)[3], server.request(path, Accept="text/html")[3]):
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'self'; ") and "unsafe" not in policy and "http" not in policy, path
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store" and headers["referrer-policy"] == "no-referrer"
    for path in ("/", "/docs", "/web/missing.html"):
        page = server.get(path)[2].decode()
        assert not re.search(r"<style|\bstyle=|\bon[a-z]+=|<script(?![^>]*\bsrc=)|javascript:", page), path
        for address in re.findall(r'(?:src|href)="(?!https://)([^"#]+)"', page):
            assert server.get("/" + address.lstrip("/."))[0] == 200, (path, address)
        assert not re.search(r'<(script|link|img)[^>]*"https?:', page), path


def test_answers_are_sent_at_once(server):
    """Without TCP_NODELAY the kernel holds the end of an answer back until the client has confirmed its start."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")  # accepted, and kept open
        server.process.send_signal(signal.SIGUSR1)
        for _ in range(500):
            if told := re.search(rf"CONNECTION {client.getsockname()[1]} (\w+)\n", server.log.read_text()):
                break
            time.sleep(0.02)
    assert told and told[1] == "True"


@pytest.mark.slow
def test_where_it_cannot_listen_it_says_so_in_one_line(tmp_path):
    command = [sys.executable, "-m", "brain_tumor", "serve", "--model", str(GOLDEN / "classifier-2.tflite")]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for options, said in (
            (["--port", port], f"cannot listen on 127.0.0.1, port {port}: Address already in use: choose others"),
            (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid, port 8000: "),
            (["--host", "." * 70], "cannot listen on "),
            (["--port", "0", "--report", "none.html"], "expected a report in none.html (--report), found none"),
            (["--port", "0", "--report", "."], "expected a report in . (--report), found none"),
            (["--port", "0", "--model", "none"], "expected an exported classifier in none"),
        ):
            done = subprocess.run(
                [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
            )
            assert (done.returncode, done.stdout) == (2, ""), (options, done.stderr)
            (line,) = done.stderr.splitlines()
            assert line.startswith(f"error: {said}"), (options, line)


def test_two_servers_that_start_together_do_not_share_a_port():
    with _listening("127.0.0.1", 0) as first:
        assert first.proto == socket.IPPROTO_TCP
        with pytest.raises(PipelineError, match="Address already in use"):
            _listening("127.0.0.1", first.getsockname()[1])


def test_limits_of_a_request(small_run, tmp_path, scan):
    server = Server(small_run, tmp_path, "--max-mb", "0.2", "--max-files", "3", "--max-pixels", "100000")
    assert server.predict(*[("a.jpg", scan)] * 3)[0] == 200
    status, problem = server.predict(*[("a.jpg", scan)] * 4)
    assert status == 413 and "at most 3 files" in problem["detail"]
    # Refused by its announced size, and by what comes where none is announced.
    assert server.predict(("a.jpg", bytes(300_000)))[0] == 413
    body, kind = form(("a.jpg", bytes(300_000)))
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:90_000], body[90_000:250_000], body[250_000:])
    )
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode() + chunks + b"0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    status, problem = server.predict(("a.png", cv2.imencode(".png", np.zeros((400, 400), np.uint8))[1].tobytes()))
    assert status == 422 and "100,000 pixels" in problem["detail"]
    assert "Traceback" not in server.stop()


def test_a_slow_upload_is_ended(small_run, tmp_path, scan):
    server = Server(small_run, tmp_path, "--max-seconds", "1", "--max-requests", "1")
    body, kind = form(("a.jpg", scan))
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode() + body[:100])
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
    # Its place is free again.
    assert server.predict(("a.jpg", scan))[0] == 200
    assert "Traceback" not in server.stop()


def test_beyond_its_capacity_it_says_so_and_recovers(small_run, tmp_path, scan):
    server = Server(small_run, tmp_path, "--max-requests", "2")
    body, kind = form(("a.jpg", scan))
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    held = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(2)]
    for connection in held:
        connection.sendall(head.encode() + body[:50])
    for _ in range(200):  # until both have arrived
        status, _, content, headers = server.request("/v1/predict", body, **{"Content-Type": kind})
        if status == 503:
            break
        time.sleep(0.05)
    assert status == 503 and headers["retry-after"] == "1" and "try again" in json.loads(content)["detail"]
    assert server.get("/healthz")[0] == 200
    for connection in held:
        connection.sendall(body[50:])
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        connection.close()
    assert server.predict(("a.jpg", scan))[0] == 200
    # A client that goes away gives its place back.
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode() + body[:50])
    assert {server.predict(("a.jpg", scan))[0] for _ in range(5)} == {200}
    assert "Traceback" not in server.stop()


def png(width: int, height: int, content: bytes) -> bytes:
    """A PNG with any claim of its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def saved(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def uploads(scan: bytes) -> list[tuple[str, bytes]]:
    """500 uploads that something is wrong or odd with."""
    rng = np.random.default_rng(0)
    image = Image.open(io.BytesIO(scan)).convert("L")
    encoded = {kind: saved(image, kind) for kind in ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM")}
    frames = [Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)) for _ in range(5)]
    files = [
        ("empty.jpg", b""),
        ("text.jpg", b"<html><script>alert(1)</script></html>"),
        ("zeros.png", bytes(100_000)),
        ("svg.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
        ("pdf.pdf", b"%PDF-1.7\n%%EOF"),
        ("bomb.png", png(20_000, 20_000, zlib.compress(bytes(20_000 * 2001)))),
        ("bomb.nii.gz", zlib.compress(bytes(50_000_000), wbits=31)),
        ("zip.zip", b"PK\x03\x04" + bytes(200)),
        ("huge.png", png(2**31 - 1, 2**31 - 1, zlib.compress(b"x"))),
        ("wide.png", png(2**30, 1, zlib.compress(b"x"))),
        ("none.png", png(0, 0, zlib.compress(b""))),
        ("one.png", saved(image.resize((1, 1)), "PNG")),
        ("line.png", saved(image.resize((5000, 1)), "PNG")),
        ("cmyk.jpg", saved(image.convert("CMYK"), "JPEG")),
        ("cmyk.tif", saved(image.convert("CMYK"), "TIFF")),
        ("16.png", cv2.imencode(".png", rng.integers(0, 65536, (60, 60), dtype=np.uint16))[1].tobytes()),
        ("float.tif", saved(image.convert("F"), "TIFF")),
        ("alpha.png", saved(image.convert("LA"), "PNG")),
        ("palette.png", saved(image.convert("P"), "PNG")),
        ("bits.png", saved(image.convert("1"), "PNG")),
        ("animated.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])),
        ("animated.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])),
        ("animated.png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])),
        ("pages.tif", saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])),
        ("dicom.dcm", bytes(128) + b"DICM" + bytes(300)),
        ("nifti.nii", bytes(344) + b"n+1\0" + bytes(200)),
    ]
    names = [
        "<img src=x onerror=alert(1)>.png",
        "../../etc/passwd",
        "\x1b[31m.png",
        "a\x00b.png",
        "é" * 300,
        "x" * 5000,
    ]
    names += ["C:\\con.png", "'; drop table", "\u202egnp.exe", "\udcff.png", "", ".", "{{7*7}}.png"]
    files += [(name, content) for name in names for content in (scan, encoded["PNG"][:200])]
    for kind, content in encoded.items():
        files += [(f"cut-{i}.{kind}", content[: len(content) * i // 20]) for i in range(20)]
    while len(files) < 500:
        content = bytearray(list(encoded.values())[len(files) % len(encoded)])
        for place in rng.integers(0, min(len(content), 1000), rng.integers(1, 12)):
            content[place] = rng.integers(0, 256)
        files.append((f"damaged-{len(files)}", bytes(content)))
    return files


def test_500_malformed_uploads(server, scan):
    files = uploads(scan)
    assert len(files) == 500

    def send(file: tuple[str, bytes]) -> tuple[int, dict]:
        return server.predict(file, query="?explain=true")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, files))
    for (name, _), (status, answer) in zip(files, answers, strict=True):
        # A name that no header holds makes the form invalid.
        assert status in (200, 422) or (status == 400 and len(name) > 1000), (name, status, answer)
        text = json.dumps(answer)
        assert "Traceback" not in text and str(ROOT) not in text and "site-packages" not in text, (name, text)
        if status == 422:
            assert answer["detail"].isprintable() and len(answer["detail"]) < 400, (name, answer)
    by_name = {name: (status, answer) for (name, _), (status, answer) in zip(files, answers, strict=True)}
    for name in ("empty.jpg", "bomb.png", "bomb.nii.gz", "huge.png", "wide.png", "none.png", "one.png", "text.jpg"):
        assert by_name[name][0] == 422, name
    for name in ("cmyk.jpg", "16.png", "alpha.png", "palette.png", "animated.gif", "bits.png"):
        assert by_name[name][0] == 200, (name, by_name[name])
    assert server.process.poll() is None
    assert server.predict(("scan.jpg", scan))[0] == 200
