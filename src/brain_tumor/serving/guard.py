"""What stands before every request: who may ask, which headers every answer has, and the line in the log."""

import base64
import binascii
import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brain_tumor.serving.problems import Refused, problem

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every answer, unless it has its own."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names by which the own machine is reached."""

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{20,}=*")
"""What a token may be: as RFC 6750, and long enough not to be guessed."""

_PROBES = ("/healthz", "/readyz")
_SAFE = ("GET", "HEAD", "OPTIONS")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]*)?")
_REALM = 'realm="brain-tumor", charset="UTF-8"'
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: that every request but those for health needs; empty: none is needed.
        hosts: names in lower case by which the server may be addressed, without port; None: any.
    """

    token: str = ""
    hosts: frozenset[str] | None = None


ANYBODY = Access()
"""No token, and any name."""


class Guard:
    """An ASGI application before another one.

    Args:
        app: what answers the requests that are let through.
        access: who may ask.
        paths: what the log names; of a path that ends in "/*" what follows is left out, and other paths are not named,
            because a path that somebody mistypes may hold the name of a file.
        stop: to be called when the server is told to stop, before it waits for the requests that are left.
    """

    def __init__(self, app: ASGIApp, access: Access, paths: Collection[str], stop: Callable[[], None]) -> None:
        self.app, self.stop = app, stop
        self._hosts, self._paths = access.hosts, frozenset(paths)
        self._token = _digest(access.token.encode()) if access.token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
        except Refused as error:
            response = problem(error.status, error.detail)
            if error.status == 400:  # whoever else reads the connection may take what follows for something else
                response.headers["Connection"] = "close"
            if error.status == 401:  # a program takes the first, a browser asks for a password because of the second
                response.headers.append("WWW-Authenticate", f"Bearer {_REALM}")
                response.headers.append("WWW-Authenticate", f"Basic {_REALM}")
            await response(scope, receive, answer)
        else:
            await self.app(scope, receive, answer)
        finally:
            took = 1000 * (time.perf_counter() - start)
            log_request(scope["client"], f"{scope['method']} {self._named(scope['path'])}", status, took)

    def _check(self, scope: Scope) -> None:
        """Raise Refused unless the request is clear, is meant for this server, and may be answered."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if scope["http_version"] not in ("1.0", "1.1") or len(hosts) != 1:
            raise Refused(400, "expected HTTP 1.0 or 1.1 and one Host header, got something else: send one")
        codings = [coding.lower() for coding in headers.getlist("transfer-encoding")]
        if codings not in ([], ["chunked"]):  # about others proxies and servers disagree
            raise Refused(400, "expected no Transfer-Encoding but chunked: send the body as it is")
        if scope["path"] in _PROBES:
            return
        name = _HOST.fullmatch(hosts[0].lower())
        if self._hosts is not None and (name is None or name[1] not in self._hosts):
            raise Refused(421, "expected a name of this server in Host, got another one: allow it with --allow-host")
        if scope["method"] not in _SAFE and not _same_site(headers, hosts):
            raise Refused(403, "expected a request of the server's own page or of a program, got one of another site")
        if self._token is not None and not hmac.compare_digest(_digest(_given(headers)), self._token):
            raise Refused(401, "expected the server's token: send it as Authorization: Bearer TOKEN, or as a password")

    def _named(self, path: str) -> str:
        mounted = f"/{path.split('/')[1]}/*" if path.count("/") > 1 else path
        return path if path in self._paths else mounted if mounted in self._paths else "-"


def log_request(client: tuple[str, int] | None, request: str, status: int, milliseconds: float) -> None:
    """Write the line about a request; it has nothing in it that the client has chosen."""
    _log.info('%s "%s" %s %.0f ms', client[0] if client else "-", request, status or "unanswered", milliseconds)


def _same_site(headers: Headers, hosts: list[str]) -> bool:
    """Whether a request comes from a page of this server, or from no page at all.

    As in CrossOriginProtection of Go's net/http: a browser tells so, over plain HTTP by Origin only.
    """
    if site := headers.get("sec-fetch-site"):
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2].lower() in [host.lower() for host in hosts]


def _given(headers: Headers) -> bytes:
    """The token of a request: Bearer, or the password of Basic, whatever the user."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""


def _digest(token: bytes) -> bytes:
    """Of one length, so that the time of a comparison does not tell the token's."""
    return hashlib.sha256(token).digest()
