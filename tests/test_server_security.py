"""The server and those who mean it no good: raw bytes over real sockets to a real process."""

import base64
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT
from pages import opened, progress, served
from playwright.sync_api import expect
from scan_files import dicom, nifti
from test_server import GOLDEN, Server, form

pytestmark = pytest.mark.slow
LONG = os.environ.get("LONG") == "1"
TOKEN = "0123456789abcdef0123456789abcdef"
HOST = b"Host: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST
POST = b"POST /v1/predict HTTP/1.1\r\n" + HOST + b"Content-Type: multipart/form-data; boundary=limit\r\n"
HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
SCAN = (GOLDEN / "scan.png").read_bytes()


def started(folder: Path, *options: object) -> Server:
    """A server with the committed classifier of the tests."""
    return Server(ROOT, folder, "--model", GOLDEN / "classifier-2.tflite", *options)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = started(tmp_path_factory.mktemp("server"))
    yield running
    log = running.stop()
    assert "Traceback" not in log and "WROTE" not in log, log
    assert running.process.returncode == 0


def ended(connection: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    content = b""
    while part := connection.recv(65536):
        content += part
    return content


@contextmanager
def connected(server: Server, data: bytes = b"", seconds: float = 60):
    """A connection over which something was sent; `seconds` only end what hangs."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        connection.sendall(data)
        yield connection


def statuses(content: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", content)]


def headers(content: bytes) -> dict[str, str]:
    """Of the first answer; each comes once."""
    lines = content.split(b"\r\n\r\n")[0].decode("ascii").split("\r\n")[1:]
    found = [(name.lower(), value) for name, value in (line.split(": ", 1) for line in lines)]
    assert len(dict(found)) == len(found) or "www-authenticate" in dict(found)
    return dict(found)


def with_body(head: bytes, body: bytes, *lines: bytes) -> bytes:
    return head + b"".join(line + b"\r\n" for line in (*lines, b"Content-Length: %d" % len(body))) + b"\r\n" + body


# --- smuggling

BODY, _ = form(("a.png", SCAN))
SECOND = b"GET /v1/model HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
SMUGGLED = {
    "length and chunked": CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "the same length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "list of lengths": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "negative length": POST + b"Content-Length: -5\r\n\r\nhello",
    "length with sign": POST + b"Content-Length: +5\r\n\r\nhello",
    "length in hex": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "length beyond 64 bits": POST + b"Content-Length: 99999999999999999999\r\n\r\nhello",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked, then identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity, then chunked": POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "compressed": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "tab before the colon": POST + b"Content-Length\t: 5\r\n\r\nhello",
    "folded": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "folded first": b"GET /healthz HTTP/1.1\r\n X: y\r\n" + HOST + b"\r\n",
    "line feeds only": b"GET /healthz HTTP/1.1\nHost: localhost\n\n",
    "a line feed only": GET[:-2] + b"\nX: y\r\n\r\n",
    "a carriage return only": GET[:-2] + b"\rX: y\r\n\r\n",
    "NUL in a value": GET + b"X: a\x00b\r\n\r\n",
    "NUL in a name": GET + b"X\x00: a\r\n\r\n",
    "negative chunk": CHUNKED + b"\r\n-1\r\nx\r\n0\r\n\r\n",
    "chunk beyond 64 bits": CHUNKED + b"\r\nFFFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n",
    "chunk with 0x": CHUNKED + b"\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "chunk that is longer than told": CHUNKED + b"\r\n3\r\nhello\r\n0\r\n\r\n",
    "chunk that ends with a line feed": CHUNKED + b"\r\n5\nhello\n0\n\n",
    "length in a trailer": CHUNKED + b"\r\n0\r\nContent-Length: 3\r\n\r\n",
    "no host": b"GET /v1/model HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: localhost\r\n\r\n",
    "HTTP 0.9": b"GET /v1/model\r\n\r\n",
    "HTTP 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "a tunnel": b"CONNECT localhost:22 HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_request_that_can_be_read_in_two_ways_is_refused(server, name):
    with connected(server, SMUGGLED[name]) as connection:
        content = ended(connection)
    assert statuses(content) == [400]
    problem = json.loads(content.rpartition(b"\r\n\r\n")[2])
    assert problem["status"] == 400 and problem["detail"].startswith("expected ")
    found = headers(content)
    assert HEADERS.items() <= found.items() and found["content-type"] == "application/problem+json"


def test_what_follows_an_upgrade_is_no_request(server):
    """A proxy takes it for the body of the request, and the server must not answer it."""
    asked = POST + b"Connection: upgrade\r\nUpgrade: foo\r\nContent-Length: %d\r\n\r\n" % len(SECOND)
    with connected(server, asked) as connection:
        first = connection.recv(10_000)
        assert statuses(first) == [400]
        try:
            connection.sendall(SECOND)
            rest = ended(connection)
        except ConnectionError:
            rest = b""
        assert statuses(first + rest) == [400]
    for name in (b"h2c", b"websocket"):
        upgrade = GET + b"Connection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % name
        with connected(server, upgrade) as connection:
            assert statuses(ended(connection)) == [200]  # answered as any other, and not switched


def test_after_an_answer_that_came_early_no_rest_of_the_body_is_a_request(server):
    """The server answers before it has read the body: what still comes of it is dropped."""
    asked = POST.replace(b"/v1/predict", b"/nothing") + b"Content-Length: 1000000\r\n\r\n"
    with connected(server, asked + b"x" * 100_000) as connection:
        time.sleep(0.2)
        with suppress(ConnectionError):
            connection.sendall(SECOND * 10)
        assert statuses(ended(connection)) == [404]


# --- requests that are right, though rare


def test_pipelined_requests_are_answered_in_order(server):
    first = with_body(POST, BODY)
    with connected(server, first + GET + b"\r\n" + first + GET + b"Connection: close\r\n\r\n" + SECOND) as connection:
        content = ended(connection)
    assert statuses(content) == [200] * 4
    assert [found in content for found in (b"alive", b"results", b"expects")] == [True, True, False]
    assert content.index(b"results") < content.index(b"alive")
    # What cannot be parsed does not overtake the answer before it.
    with connected(server, first + b"nonsense\r\n\r\n") as connection:
        assert statuses(ended(connection)) == [200]


def test_chunks_of_any_size_and_trailers(server):
    whole = b"%x;name=value\r\n%s\r\n0\r\nX-Trailer: a\r\nHost: evil.example\r\n\r\n" % (len(BODY), BODY)
    small = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[i : i + 7] for i in range(0, len(BODY), 7)))
    for chunks in (whole, small + b"0\r\n\r\n"):
        with connected(server, CHUNKED + b"Connection: close\r\n\r\n" + chunks) as connection:
            content = ended(connection)
        assert statuses(content) == [200] and b'"probabilities"' in content


# --- limits of header and form


def test_headers_that_are_refused_leave_no_memory_behind(server):
    """10,000 short ones, within the limit of bytes; until the garbage collector comes they would be 1.5 MB each."""
    process, request = psutil.Process(server.process.pid), b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 10_000 + b"\r\n"

    def refused(times: int) -> int:
        for _ in range(times):
            with connected(server, request) as connection:
                assert statuses(ended(connection)) == [431]
        return process.memory_info().rss

    before = refused(20)
    assert refused(100) - before < 30_000_000


def test_limits_of_the_header(server):
    for lines, status in (
        (b"X: %s\r\n" % (b"y" * 60_000), 200),
        (b"X: %s\r\n" % (b"y" * 70_000), 431),
        (b"X: y\r\n" * 90, 200),
        (b"X: y\r\n" * 110, 431),
    ):
        with connected(server, GET + b"Connection: close\r\n" + lines + b"\r\n") as connection:
            assert statuses(ended(connection)) == [status]
    # Without an end.
    for start, more in ((b"GET /", b"yyyyyy"), (GET + b"X: ", b"yyyyyy"), (GET, b"X: y\r\n")):
        assert answer_meanwhile(server, start, more * 1000) == [431]


def answer_meanwhile(server: Server, start: bytes, more: bytes) -> list[int]:
    """The answer to a client that sends and sends; it comes within 5 MB."""
    with connected(server, start) as connection:
        for _ in range(5_000_000 // len(more)):
            connection.sendall(more)
            if select.select([connection], [], [], 0.002)[0]:
                return statuses(connection.recv(10_000))
    return []


def test_what_stands_around_a_body_has_a_limit_too(tmp_path):
    server = started(tmp_path, "--max-mb", "1")
    for start, more in ((b"0\r\nX: ", b"yyyyyy"), (b"0\r\n", b"X: y\r\n"), (b"5;a=", b"yyyyyy")):
        assert answer_meanwhile(server, CHUNKED + b"\r\n" + start, more * 1000) == [413]
    assert "Traceback" not in server.stop()


def part(name: bytes, content: bytes = SCAN, *lines: bytes) -> bytes:
    head = b"--limit\r\nContent-Disposition: form-data; " + name + b"\r\n"
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + content + b"\r\n"


FILE = b'name="files"; filename="a.png"'
NESTED = b"Content-Type: multipart/mixed; boundary=inner"
INNER = b'--inner\r\nContent-Disposition: file; filename="b.png"\r\n\r\n' + SCAN + b"\r\n--inner--\r\n"


@pytest.mark.parametrize(
    ("parts", "status", "helps"),
    [
        (part(FILE) * 16, 200, ""),
        (part(FILE) * 17, 413, "at most 16 files"),
        (part(b'name="files"') + part(FILE), 400, "files only"),
        (part(b'name="x"', b"y") * 5000, 400, "files only"),
        (part(FILE, SCAN, b"X: " + b"y" * 5000), 400, "files only"),
        (part(FILE, SCAN, *[b"X: y"] * 20), 400, "files only"),
        (part(b'name="%s"; filename="a.png"' % (b"n" * 5000)), 400, "files only"),
        (part(b'filename="a.png"'), 400, "files only"),
        (b"--limit\r\n\r\n" + SCAN + b"\r\n", 400, "files only"),
        (part(FILE, INNER, NESTED), 422, "not an image"),  # one file, whatever it holds
        (b"--limi" * 1_000_000, 400, "files only"),
        (part(FILE, b"\r\n--limi" * 1_000_000), 422, "not an image"),
    ],
)
def test_limits_of_the_form(server, parts, status, helps):
    with connected(server, with_body(POST, parts + b"--limit--\r\n", b"Connection: close")) as connection:
        content = ended(connection)
    assert statuses(content) == [status] and helps in content.decode()


def test_a_charset_that_is_none_of_a_text(server):
    for charset in ("undefined", "hex", "idna", "utf-7", "unicode_escape", "none"):
        kind = f"multipart/form-data; boundary=limit; charset={charset}"
        body = part(b'name="files"; filename="\\ud800+2AA-\xff"', b"x") + b"--limit--\r\n"
        status, _, content, _ = server.request("/v1/predict", body, **{"Content-Type": kind})
        assert status in (400, 422) and json.loads(content)["detail"], charset


# --- paths, names and headers


def test_no_path_leads_out_of_the_folders_of_the_page(server):
    folders = ("/web/", "/swagger/", "/", "/web/samples/", "/report/")
    ups = ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..\\", "..%5c", "%252e%252e%252f", "....//", "%c0%ae%c0%ae/", "/")
    targets = ("server.py", "etc/passwd", "classifier.tflite", "pyproject.toml")
    odd = ["/web/%00", "/web/page.js%00.png", "/web/" + "a" * 300, "/web/%ff", "/web", "/docs/", "//evil.example/docs"]
    paths = [folder + up * times + name for folder in folders for up in ups for times in (1, 9) for name in targets]
    asked = b"".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths + odd)
    with connected(server, asked + GET + b"Connection: close\r\n\r\n") as connection:
        content = ended(connection)
    assert statuses(content) == [404] * len(paths + odd) + [200]
    assert b"root:" not in content and b"import" not in content and b"location" not in content.lower()
    # A whole address in the request line is no other server.
    with connected(
        server, b"GET http://evil.example/healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    ) as out:
        assert b"evil" not in ended(out)


def test_no_name_becomes_a_header_or_a_line(server):
    name = b'name="files"; filename="a\\r\\nSet-Cookie: planted=1%0d%0aX: planted\r.png"'
    for content in (SCAN, b"none"):
        body = part(name, content) + b"--limit--\r\n"
        with connected(server, with_body(POST, body, b"Connection: close")) as connection:
            head, _, told = ended(connection).partition(b"\r\n\r\n")
        assert b"planted" not in head and b"\n" not in told and b"\r" not in told
    with connected(server, b"GET /%0d%0aSet-Cookie:planted HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n") as out:
        assert b"planted" not in ended(out)


def test_every_answer_has_the_headers_and_none_lets_another_site_read_it(server):
    origin = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    body, kind = form(("a.png", SCAN))
    asked = [("/", None), ("/docs", None), ("/web/page.js", None), ("/openapi.json", None), ("/v1/model", None)]
    asked += [("/nothing", None), ("/v1/predict", None), ("/healthz", b"x"), ("/v1/predict", b"x")]
    for path, data in asked:
        for more in ({}, origin, {"Accept": "text/html"}):
            found = {name.lower(): value for name, value in server.request(path, data, **more)[3].items()}
            assert HEADERS.items() <= found.items(), path
            policy = found["content-security-policy"]
            assert "frame-ancestors 'none'" in policy and "unsafe" not in policy and "*" not in policy
            assert not [name for name in found if name.startswith("access-control")] and "server" not in found
    found = server.request("/v1/predict", body, **{"Content-Type": kind})[3]
    assert HEADERS.items() <= {name.lower(): value for name, value in found.items()}.items()


def test_a_page_of_another_site_can_neither_send_nor_ask(server):
    """As a browser does: it tells where a request comes from, and which name led here."""
    body, kind = form(("a.png", SCAN))
    own = f"http://127.0.0.1:{server.port}"
    for more, status in (
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": own}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": own}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://a.proxy.example"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": own}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
    ):
        assert server.request("/v1/predict", body, **{"Content-Type": kind} | more)[0] == status, more
    for host, status in (
        (f"127.0.0.1:{server.port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:80", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost:1@evil.example", 421),
        ("localhost evil", 421),
        ("", 421),
    ):
        assert server.request("/v1/model", Host=host)[0] == status, host
        assert server.request("/healthz", Host=host)[0] == 200, host


def test_names_that_are_allowed(tmp_path):
    server = started(tmp_path, "--host", "0.0.0.0", "--allow-host", "Scans.example.org")
    for host, status in (("scans.example.org", 200), ("scans.example.org:80", 200), ("localhost", 200), ("x.org", 421)):
        assert server.request("/v1/model", Host=host)[0] == status, host
    assert "Traceback" not in server.stop()


# --- the token


def test_with_a_token_nothing_but_health_is_open(tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    report = tmp_path / "report.html"
    report.write_text("<p>the report")
    server = started(tmp_path / "server", "--token-file", tmp_path / "token", "--report", report)
    basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    for path in ("/", "/docs", "/web/page.js", "/openapi.json", "/v1/model", "/report", "/nothing"):
        right = 404 if path == "/nothing" else 200
        for given, status in (
            (f"Bearer {TOKEN}", right),
            (f"bearer {TOKEN}", right),
            (f"Basic {basic}", right),
            (f"Bearer {TOKEN[:-1]}", 401),
            (f"Bearer {TOKEN}0", 401),
            ("Bearer ", 401),
            ("Bearer \xe9", 401),
            (f"Basic {TOKEN}", 401),
            ("Basic \xe9", 401),
            (TOKEN, 401),
        ):
            status_found, kind, content, _ = server.request(path, Authorization=given)
            assert status_found == status, (path, given)
            if status == 401:
                assert kind == "application/problem+json" and TOKEN not in content.decode()
        assert server.get(path)[0] == 401
    assert server.get("/healthz")[0] == server.get("/readyz")[0] == 200
    with connected(server, with_body(POST, BODY, b"Connection: close")) as connection:
        content = ended(connection)
        assert statuses(content) == [401] and content.lower().count(b"www-authenticate: b") == 2
    with connected(
        server, with_body(POST, BODY, b"Connection: close", b"Authorization: Bearer " + TOKEN.encode())
    ) as c:
        assert statuses(ended(c)) == [200]
    document = json.loads(server.request("/openapi.json", Authorization=f"Bearer {TOKEN}")[2])
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    command = Path(f"/proc/{server.process.pid}/cmdline")
    assert not command.exists() or TOKEN not in command.read_text()
    log = server.stop()
    assert TOKEN not in log and basic not in log and "Traceback" not in log


def test_a_browser_asks_for_the_token_and_the_page_works_with_it(browser, tmp_path, monkeypatch):
    monkeypatch.setenv("BRAIN_TUMOR_TOKEN", TOKEN)
    model, report = tmp_path / "model.tflite", tmp_path / "report.html"
    shutil.copy(GOLDEN / "classifier-2.tflite", model)
    report.write_text("<style>p {color: rgb(1, 2, 3)}</style><p style='color: red'>the report")
    with served(model, "--report", report) as server:
        credentials = {"username": "anybody", "password": TOKEN}
        refused = ["Content Security Policy", "Content-Security-Policy"]  # the style outside the sheet
        with opened(browser, server, http_credentials=credentials, refused=refused) as page:
            page.get_by_role("link", name="Report of all scores").click()
            expect(page.get_by_text("the report")).to_have_css("color", "rgb(1, 2, 3)")
            page.goto(server.address)
            page.set_input_files("#files", GOLDEN / "scan.png")
            progress(page, "1 of 1 done")
        context = browser.new_context(http_credentials={"username": "anybody", "password": "wrong"})
        assert context.new_page().goto(server.address).status == 401
        context.close()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read a token from token (--token-file): No such file or directory"),
        ("", "expected a token of 20 or more letters, digits and -._~+/= in token (--token-file)"),
        ("short", "expected a token of 20 or more"),
        ("a token with spaces and so on", "expected a token of 20 or more"),
        ("\xe9" * 30, "expected a token of 20 or more"),
    ],
)
def test_a_token_that_is_none_is_told_in_one_line(content, said, tmp_path):
    if content is not None:
        (tmp_path / "token").write_text(content, encoding="utf-8")
    command = [sys.executable, "-m", "brain_tumor", "serve", "--port", "0", "--token-file", "token"]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.defpath}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {said}") and done.stderr.count("\n") == 1
    assert not content or content not in done.stderr


# --- time


def test_clients_that_are_slow_or_silent_are_ended(tmp_path):
    server = started(tmp_path, "--max-seconds", "1", "--max-requests", "2")
    with (
        connected(server) as silent,
        connected(server, b"GET / HTTP/1.1\r\nX: ") as header,
        connected(server, with_body(POST, BODY)[:-100]) as body,
        connected(server, GET + b"\r\n") as kept,
    ):
        assert statuses(kept.recv(10_000)) == [200]
        kept.sendall(b"GET /hea")
        assert ended(silent) == b""
        assert statuses(ended(header)) == statuses(ended(kept)) == statuses(ended(body)) == [408]
    # A byte now and then is not enough.
    for start in (GET + b"X: ", POST + b"Content-Length: 100000\r\n\r\n", CHUNKED + b"\r\n0\r\nX: "):
        with connected(server, start) as connection:
            try:
                for _ in range(600):
                    connection.sendall(b"y")
                    time.sleep(0.1)
                raise AssertionError("a minute of single bytes was taken")
            except ConnectionError:
                pass
    assert server.predict(("a.png", SCAN))[0] == 200
    assert "Traceback" not in server.stop()


def connections(server: Server) -> int:
    """How many are established, by the kernel."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in table]
    return sum(row[1].endswith(f":{server.port:04X}") and row[3] == "01" for row in rows)


def test_a_client_that_does_not_take_its_answer_is_ended(tmp_path):
    server = started(tmp_path, "--max-seconds", "5")
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 8), np.uint8)
    body, _ = form(*[("a.nii", nifti(noise))] * 4)
    asked = b"POST /v1/predict?slice=all&explain=true HTTP/1.1" + POST[POST.index(b"\r\n") :]
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(with_body(asked, body))
        assert connection.recv(9) == b"HTTP/1.1 "
        for _ in range(600):
            if connections(server) == 0:
                break
            time.sleep(0.1)
        assert connections(server) == 0
    assert server.predict(("a.png", SCAN))[0] == 200
    assert "Traceback" not in server.stop()


def test_many_connections_without_a_byte_lock_nobody_out(tmp_path):
    server = started(tmp_path, "--max-connections", "50", "--max-seconds", "60")
    whole = with_body(POST, BODY, b"Expect: 100-continue")
    with connected(server, whole[:-100]) as busy:
        assert busy.recv(10_000).startswith(b"HTTP/1.1 100 ")  # its header has been read
        held = []
        for i in range(300):
            held.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            if i % 100 == 99:
                assert server.predict(("a.png", SCAN))[0] == 200
        assert connections(server) <= 51
        assert held[0].recv(1) == b""  # the first had waited longest
        busy.sendall(whole[-100:])  # and who sends a request is not among them
        assert statuses(busy.recv(10_000)) == [200]
        for connection in held:
            connection.close()
    log = server.stop()
    assert "Traceback" not in log and "Too many open files" not in log


def test_a_prediction_that_nobody_waits_for_ends(tmp_path):
    """24,000 slices, for which the time is not enough: the place is free again, and soon."""
    server = started(tmp_path, "--max-seconds", "1", "--max-requests", "1")
    volume = nifti(np.full((32, 32, 24_000), 7, np.uint8), packed=True)
    status, problem = server.predict(("a.nii.gz", volume), query="?slice=all")
    # 503 where other programs take the cores.
    assert status in (413, 503) and "prediction took over 1 s" in problem["detail"]
    for _ in range(300):
        if (status := server.predict(("a.png", SCAN))[0]) != 503:
            break
        time.sleep(0.05)
    assert status == 200
    assert "Traceback" not in server.stop()


def test_an_answer_has_a_limit_too(tmp_path):
    server = started(tmp_path, "--max-mb", "1", "--max-seconds", "30")
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 1), np.uint8)
    volume = nifti(np.repeat(noise, 60, axis=2), packed=True)
    status, problem = server.predict(("a.nii.gz", volume), query="?slice=all&explain=true")
    assert status == 413 and "the answer would have over 1 MB" in problem["detail"]
    assert server.predict(("a.nii.gz", volume), query="?slice=all")[0] == 200
    assert "Traceback" not in server.stop()


# --- the end


def test_what_is_being_computed_is_answered_before_the_end(tmp_path):
    server = started(tmp_path, "--max-seconds", "20")
    volume = nifti(np.random.default_rng(0).integers(0, 256, (64, 64, 150), np.uint8))
    asked = POST.replace(b"predict", b"predict?slice=all")
    with (
        connected(server, with_body(asked, form(("a.nii", volume))[0])) as computing,
        connected(server, with_body(POST, BODY)[:-100]) as uploading,
        connected(server, GET + b"\r\n") as kept,
        connected(server) as silent,
    ):
        assert statuses(kept.recv(10_000)) == [200]
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        answers = {statuses(ended(uploading))[0], statuses(ended(computing))[0]}
        assert statuses(ended(kept)) == [] and ended(silent) == b""
    assert answers == {503, 200}
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port), timeout=10)
    assert server.process.wait(60) == 0
    assert "Traceback" not in server.log.read_text()


def test_neither_silent_clients_nor_an_interruption_keep_it_from_ending(tmp_path):
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        server = started(tmp_path / str(code), "--max-seconds", "1")
        with connected(server, b"GET / HT"), connected(server, CHUNKED + b"\r\n5\r\nhel"), connected(server):
            server.process.send_signal(number)
            assert server.process.wait(60) == code
        assert "Traceback" not in server.log.read_text()


# --- the log


def test_the_log_has_no_name_of_a_file_and_nothing_of_a_header(tmp_path):
    planted = {"PatientName": "Planted^Anna", "PatientID": "planted-id", "StudyDescription": "planted study"}
    grey = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.int16)
    scan = dicom(grey, **planted)
    server = started(tmp_path)
    files = [("planted-anna.dcm", scan), ("planted-b.dcm", scan[:-300]), ("planted\n2099 INFO.png", b"planted content")]
    for file in files:
        server.predict(file)
    server.predict(*files)
    for path in ("/v1/predict/planted.dcm", "/planted.dcm", "/v1/model?name=planted", "/web/planted/../page.js"):
        server.request(path, **{"User-Agent": "planted", "Referer": "planted", "X-Forwarded-For": "planted"})
    with connected(server, b"planted planted\r\nplanted: planted\r\n\r\n") as connection:
        ended(connection)
    with connected(server, with_body(POST, b"--limit\r\nplanted: planted", b"Connection: close")) as connection:
        ended(connection)
    log = server.stop()
    assert "planted" not in log.lower() and "anna" not in log.lower(), log
    lines = [line for line in log.splitlines() if '"' in line]
    pattern = r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO 127\.0\.0\.1 "([A-Z]+ (/[a-z0-9/*]*|-)|-)" \d{3} \d+ ms'
    assert len(lines) >= 11 and all(re.fullmatch(pattern, line) for line in lines), log
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) ", line) for line in log.splitlines())


# --- the OpenAPI document


def test_schemathesis_finds_nothing(tmp_path):
    """All its checks: 200 cases of the upload, with LONG=1 10,000."""
    server = started(tmp_path / "server", "--max-seconds", "60")
    program = shutil.which("schemathesis", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    command = [program, "--config-file", ROOT / "tests/schemathesis.toml", "run", "--no-color", "--continue-on-failure"]
    command += ["--max-examples", 10_000 if LONG else 200, "--seed", 0]
    command += [f"http://127.0.0.1:{server.port}/openapi.json"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks"}
    environment["PYTHONPATH"] = f"{ROOT / 'tests'}:{ROOT / 'src'}"
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True)
    told = [line[:300] for line in done.stdout.splitlines()]
    assert done.returncode == 0 and "No issues found" in done.stdout, "\n".join(told[-200:])
    (generated,) = re.findall(r"(\d+) generated, (?:\1) passed", done.stdout)
    assert int(generated) >= (10_000 if LONG else 200)
    log = server.stop()
    answered = set(map(int, re.findall(r'" (\d{3}) \d+ ms', log)))
    assert {200, 400, 422} <= answered and not {status for status in answered if status >= 500}
