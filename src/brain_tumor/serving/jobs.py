"""Requests that upload files and wait for predictions: a bounded number of them, each for a bounded time."""

import asyncio
import ctypes
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from threading import Event

from brain_tumor.serving.problems import Refused
from brain_tumor.workers import cores

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h
_LARGE = 2**18  # bytes
_EVERY = 5.0  # seconds


@dataclass(frozen=True)
class Limits:
    """Limits of one request, except `requests` and `connections`.

    Attributes:
        bytes: size of its body, and of the answer.
        files: number of files.
        pixels: of one file, all slices together.
        seconds: for the header, again for the upload, for the wait until a core is free, and for the prediction.
        requests: number of requests at a time; further ones get status 503.
        connections: number at a time; a further one closes that which has waited longest without a request.
    """

    bytes: int = 32_000_000
    files: int = 16
    pixels: int = 25_000_000
    seconds: float = 10.0
    requests: int = 16
    connections: int = 800


class Jobs:
    """What the server computes.

    Args:
        limits: of a request.

    Attributes:
        ready: whether requests are taken.
    """

    def __init__(self, limits: Limits) -> None:
        self.ready = False
        self._limits = limits
        self._pool, self._free = ThreadPoolExecutor(cores()), asyncio.Semaphore(limits.requests)
        self._waits: set[asyncio.Timeout] = set()  # of requests that upload, or wait for a core
        self._memory = _Memory()

    async def start(self, warm: Callable[[], object]) -> None:
        """Call `warm` in each thread, then take requests."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._pool, warm) for _ in range(cores())))
        self.ready = True

    def stop(self) -> None:
        """Take no more: what is computed is answered, what is not yet computed is refused."""
        self.ready = False
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[list[asyncio.Future]]:
        """Hold a place until the block and the yielded jobs have ended."""
        if not self.ready:
            raise Refused(503, "the server is starting or stopping: try again later")
        if self._free.locked():
            raise Refused(503, f"the server is busy with {self._limits.requests} requests: try again later")
        await self._free.acquire()
        jobs: list[asyncio.Future] = []
        try:
            yield jobs
        finally:
            asyncio.gather(*jobs, return_exceptions=True).add_done_callback(lambda _: self._free.release())

    @asynccontextmanager
    async def wait(self, status: int, detail: str) -> AsyncIterator[None]:
        """Bound the time of the block; beyond it, or if the server stops meanwhile, the request is refused."""
        try:
            async with asyncio.timeout(self._limits.seconds) as wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if not self.ready:
                raise Refused(503, "the server is stopping: try again later") from None
            raise Refused(status, detail) from None

    async def compute(self, jobs: list[asyncio.Future], work: Callable[[Callable[[], bool]], object]) -> object:
        """What `work` returns, from a thread; it is told by its argument, which it calls often, when to give up."""
        loop, seconds = asyncio.get_running_loop(), self._limits.seconds
        started, ended = asyncio.Event(), Event()
        spent = 0.0  # seconds of a core

        def run() -> object:
            begin = time.thread_time()

            def given_up() -> bool:
                nonlocal spent
                spent = time.thread_time() - begin
                return ended.is_set()

            loop.call_soon_threadsafe(started.set)
            try:
                return work(given_up)
            finally:
                self._memory.give_back()

        jobs.append(job := loop.run_in_executor(self._pool, run))
        try:
            async with self.wait(503, f"the server was busy for {seconds:g} s: try again later"):
                await started.wait()
            return await asyncio.wait_for(asyncio.shield(job), seconds)
        except TimeoutError:
            if spent < seconds / 2:  # other programs had the cores
                raise Refused(503, f"prediction took over {seconds:g} s on a busy machine: try again later") from None
            raise Refused(413, f"prediction took over {seconds:g} s: send fewer or smaller files") from None
        finally:
            ended.set()
            if not started.is_set():
                job.cancel()


class _Memory:
    """Keeps what the server holds from creeping up with the mix of pictures, where the C library is glibc.

    By itself that raises what it counts as a large array with each one that is freed, up to 32 MB, has an arena for
    each thread, and keeps pages between small pieces that are in use (mallopt(3), malloc_trim(3)).
    """

    def __init__(self) -> None:
        self._trim, self._next = None, 0.0
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, _LARGE)
            library.mallopt(_M_ARENA_MAX, 1)
            self._trim = library.malloc_trim

    def give_back(self) -> None:
        """Give free pages back to the system, if it has been a while; takes some milliseconds."""
        if self._trim and time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            self._trim(0)
