"""Connections of the server: what a client may send and hold below its requests, and for how long.

uvicorn leaves this to a proxy: it sets no time for a header and for taking an answer, no size of a header, and no
number of connections.
"""

import asyncio
import weakref
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from brain_tumor.serving.guard import HEADERS, log_request
from brain_tumor.serving.jobs import Limits
from brain_tumor.serving.problems import problem

_HEADER_BYTES, _HEADERS = 65_536, 100
_LEAST_RATE = 250_000  # bytes a second at which a client must take an answer
_LINGER = 2.0  # seconds in which a client that still sends may read the answer


class Connection(HttpToolsProtocol):
    """A connection.

    Args:
        limits: of a request, and of the number of connections.
        options: of uvicorn.
    """

    def __init__(self, limits: Limits, **options) -> None:
        super().__init__(**options)
        self._limits = limits
        self._part = ""  # of a request that is being received: "header" or "body"; empty between requests
        self._received = 0  # bytes of that part
        self._deaf = False  # whatever else is received is dropped
        self._lingering = False  # until the client has read its answer
        self._refusal = 400, "expected a request of HTTP 1.1, got something else"
        self._patience: asyncio.TimerHandle | None = None  # with a client that is to send
        self._since = 0.0  # by the clock of the loop
        self._taking: asyncio.TimerHandle | None = None  # the same with a client that is to take an answer

    # --- the beginning and the end

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._real = transport
        super().connection_made(_Transport(transport, self))
        if len(self.connections) > self._limits.connections:
            waiting = [each for each in self.connections if each.waiting_since is not None]
            min(waiting, key=lambda each: each.waiting_since, default=self).abort()
        self._wait_for_header()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._patience, self._taking):
            if timer:
                timer.cancel()
        self._deaf = True
        super().connection_lost(exc)
        self.headers, self.scope = [], {}  # the connection may be known to others for a while

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for a request, by the clock of the loop; None while it has one."""
        return self._patience and self._since

    @property
    def unsent(self) -> int:
        """Bytes of answers that the client has not taken."""
        return self._real.get_write_buffer_size()

    def abort(self) -> None:
        """End the connection at once; it counts no more, although the loop closes it a little later."""
        self.connections.discard(self)
        self._stop_waiting()
        self._real.abort()

    def close(self) -> None:
        """End the connection when the client has its answer.

        A socket that is closed while the client sends resets the connection, which may take the answer from the client:
        what it sends is dropped for a moment (RFC 9112, 9.6).
        """
        if self.closing:
            return
        if self._part:
            self._deaf = self._lingering = True
            self._real.write_eof()
            self.flow.resume_reading()
            self._wait(_LINGER, self.abort)
        else:
            self._real.close()
        self._wait_for_taking()

    @property
    def closing(self) -> bool:
        """Whether no further request is answered."""
        return self._lingering or self._real.is_closing()

    # --- time

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_waiting()
        self._since = self.loop.time()
        self._patience = self.loop.call_later(seconds, then)

    def _stop_waiting(self) -> None:
        if self._patience:
            self._patience.cancel()
            self._patience = None

    def _wait_for_header(self) -> None:
        self._wait(self._limits.seconds, self._without_header)

    def _without_header(self) -> None:
        self._patience = None
        if self._part:
            self._refuse(408, f"expected the header within {self._limits.seconds:g} s: send it at once")
        else:
            self._real.close()

    def _wait_for_taking(self) -> None:
        if self._taking is None and self.unsent:
            seconds = self._limits.seconds + self.unsent / _LEAST_RATE
            self._taking = self.loop.call_later(seconds, self.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_taking()
        if sum(each.unsent for each in self.connections) > 8 * self._limits.bytes:
            max(self.connections, key=lambda each: each.unsent).abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taking and not self.closing:
            self._taking.cancel()
            self._taking = None

    # --- what is received

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._received += len(data)
        super().data_received(data)
        if self._deaf:
            return
        if self._part == "header" and self._received > _HEADER_BYTES:
            self._refusal = _too_large()
            self.send_400_response("")
        # Twice: what announces chunks counts here as well.
        elif self._part == "body" and self._received > 2 * self._limits.bytes + _HEADER_BYTES:
            self._refusal = 413, "expected less than was sent: send fewer or smaller files"
            self.send_400_response("")

    def on_message_begin(self) -> None:
        self._part = "header"
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Not a trailer, which would pass for a header that a proxy has checked; one too many is enough to refuse all.
        if self._part == "header" and len(self.headers) <= _HEADERS:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > _HEADER_BYTES or len(self.headers) > _HEADERS:
            self._refusal = _too_large()
            raise ValueError("too large")  # which httptools tells as an error of parsing
        self._part, self._received = "body", 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._part, self._received = "", 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._part == "body" and not self.pipeline:  # the answer did not need it
            self.close()
        super().on_response_complete()
        if not self.closing and self.cycle.response_complete:
            self._wait_for_header()

    def _unsupported_upgrade_warning(self) -> None:
        """Answer and close: what follows is no HTTP for the client, and must not pass for a request."""
        self.cycle.keep_alive = False
        self._deaf = True

    # --- refusals

    def send_400_response(self, msg: str) -> None:
        """Refuse what is received; uvicorn calls this for what it cannot parse."""
        if self.cycle and not self.cycle.response_complete:
            if self.pipeline or self.cycle.response_started:
                self.abort()
                return
            if not self.cycle.more_body:  # an earlier request, which is answered first
                self.cycle.keep_alive = False
                self._deaf = True
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._refuse(*self._refusal)

    def _refuse(self, status: int, detail: str) -> None:
        response = problem(status, detail)
        response.headers.update(HEADERS | {"Connection": "close"})
        self._real.write(_encoded(response))
        log_request(self.client, "-", status, 0)
        self._part = self._part or "header"
        self.close()


class _Transport:
    """What uvicorn sees of a transport: to close it is up to the connection.

    It does not keep the connection, whose memory would wait for the garbage collector otherwise.
    """

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport, self._connection = transport, weakref.ref(connection)

    def close(self) -> None:
        if connection := self._connection():
            connection.close()

    def __getattr__(self, name: str):
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        connection = self._connection()
        return connection is None or connection.closing


def _too_large() -> tuple[int, str]:
    return 431, f"expected at most {_HEADERS} headers and {_HEADER_BYTES} bytes of them, got more: send fewer"


def _encoded(response: Response) -> bytes:
    """A response as HTTP 1.1."""
    status = HTTPStatus(response.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode(), *(b"%s: %s" % each for each in response.raw_headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + response.body


def protocol(limits: Limits) -> partial:
    """What uvicorn makes connections with."""
    return partial(Connection, limits)
