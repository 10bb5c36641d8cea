"""Predictions over HTTP: `POST /v1/predict`, a web page at `/`, and endpoints for operators.

Uploads stay in memory. Errors are answered with problem details (RFC 9457), never with a traceback.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from socket import socket
from typing import Annotated

import numpy as np
import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from brain_tumor.serving.answers import File, answer, cores
from brain_tumor.serving.classifier import Classifier
from brain_tumor.serving.output import as_json
from brain_tumor.serving.schema import UPLOAD, Health, Model, Predictions, Problem

_WEB = Path(__file__).with_name("web")
_OWN_ONLY = (
    "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
# The report is one file: its style sheet and pictures are in it.
_ONE_FILE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
_PROBLEMS = {
    400: "invalid request",
    408: "the upload took too long",
    413: "a limit is exceeded",
    415: "no form with files",
    422: "no file is a readable scan",
    503: "busy or not ready: try again later",
    504: "the prediction took too long",
}


@dataclass(frozen=True)
class Limits:
    """Limits of one request, except `requests`.

    Attributes:
        bytes: size of its body.
        files: number of files.
        pixels: of one file, all slices together.
        seconds: for the upload, and again for the prediction.
        requests: number of requests at a time; further ones get status 503.
    """

    bytes: int = 32_000_000
    files: int = 16
    pixels: int = 25_000_000
    seconds: float = 10.0
    requests: int = 16


class Refused(Exception):
    """A request that is answered with problem details.

    Args:
        status: of HTTP.
        detail: what was expected, what was received and what to do.
        more: further members of the problem details.
    """

    def __init__(self, status: int, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status, self.detail, self.more = status, detail, more


def serve(classifier: Classifier, limits: Limits, listening: socket, report: Path | None = None) -> None:
    """Serve until interrupted.

    Args:
        classifier: what answers.
        limits: of a request.
        listening: socket to accept connections from.
        report: see `make_app`.
    """
    app = make_app(classifier, limits, report)
    _Server(uvicorn.Config(app, server_header=False, timeout_graceful_shutdown=10)).run(sockets=[listening])


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start, and say where: uvicorn itself says so only of sockets that it has opened."""
        await super().startup(sockets)
        for host, port, *_ in (listening.getsockname() for listening in sockets or ()):
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            logging.getLogger("uvicorn.error").info("Uvicorn running on %s (Press CTRL+C to quit)", address)


def make_app(classifier: Classifier, limits: Limits, report: Path | None = None) -> FastAPI:
    """The application, for any ASGI server.

    Args:
        classifier: what answers.
        limits: of a request.
        report: HTML file about the run that made the classifier, to be served at /report.
    """
    pool, ready, free = ThreadPoolExecutor(cores()), asyncio.Event(), asyncio.Semaphore(limits.requests)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        blank = np.zeros((64, 64), np.uint8)
        loop = asyncio.get_running_loop()
        warm = [loop.run_in_executor(pool, classifier.predict, blank) for _ in range(cores())]
        await asyncio.gather(*warm)
        ready.set()
        yield
        ready.clear()
        pool.shutdown(cancel_futures=True)

    app = FastAPI(
        title="brain-tumor",
        description="Classifies brain-tumour MRI. Research use only: not a medical device, not for diagnosis.",
        lifespan=lifespan,
        **dict.fromkeys(("docs_url", "redoc_url", "swagger_ui_oauth2_redirect_url")),
    )
    _tell_problems(app)
    app.mount("/web", StaticFiles(directory=_WEB))
    app.mount("/swagger", StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.post(
        "/v1/predict",
        summary="Classify scans",
        tags=["Prediction"],
        response_model=Predictions,
        responses={status: {"model": Problem, "description": text} for status, text in _PROBLEMS.items()},
        openapi_extra=UPLOAD,
    )
    async def predict(
        request: Request,
        explain: Annotated[bool, Query(description="add the activation maps, and pictures")] = False,
        slice: Annotated[
            str,
            Query(pattern="^(middle|all|[0-9]{1,6})$", description="of a volume or series: middle, all or a number"),
        ] = "middle",
    ) -> Response:
        async with _slot(free, limits) as jobs:
            try:
                async with asyncio.timeout(limits.seconds):
                    files = await _receive(request, limits)
            except TimeoutError:
                raise Refused(408, f"the upload took over {limits.seconds:g} s: send fewer or smaller files") from None

            def work() -> list[dict]:
                wanted = int(slice) if slice.isdecimal() else slice
                told = answer(classifier, files, wanted=wanted, max_pixels=limits.pixels)
                return [as_json(each, classifier.preprocessing, explain) for each in told]

            jobs.append(job := asyncio.get_running_loop().run_in_executor(pool, work))
            try:
                results = await asyncio.wait_for(asyncio.shield(job), limits.seconds)
            except TimeoutError:
                raise Refused(504, f"prediction took over {limits.seconds:g} s: send fewer or smaller files") from None
        if all("error" in result for result in results):
            what = results[0]["error"] if len(results) == 1 else f"none of the {len(results)} files is a readable scan"
            raise Refused(422, what, errors=results)
        return JSONResponse({"results": results})

    @app.get("/v1/model", summary="Facts about the classifier", tags=["Prediction"], response_model=Model)
    async def model() -> Response:
        file = {"format_version": classifier.format_version, "sha256": classifier.sha256}
        return JSONResponse(asdict(classifier.metadata) | file | {"report": report is not None})

    @app.get("/healthz", summary="Is the process alive?", tags=["Operation"], response_model=Health)
    async def health() -> Response:
        return JSONResponse({"status": "alive"})

    @app.get(
        "/readyz",
        summary="Is it ready to predict?",
        tags=["Operation"],
        response_model=Health,
        responses={503: {"model": Problem}},
    )
    async def readiness() -> Response:
        if not ready.is_set():
            raise Refused(503, "the server is starting or stopping: try again later")
        return JSONResponse({"status": "ready"})

    pages = {"/": _WEB / "index.html", "/docs": _WEB / "api.html", "/favicon.ico": _WEB / "icon.svg"}
    for path, file in (pages | ({"/report": report} if report else {})).items():
        app.add_route(path, partial(_file, file), include_in_schema=False)

    @app.middleware("http")
    async def careful(request: Request, proceed) -> Response:
        response = await proceed(request)
        policy = _ONE_FILE if report and request.url.path == "/report" else _OWN_ONLY
        response.headers.update(_HEADERS | {"Content-Security-Policy": policy})
        return response

    return app


async def _file(path: Path, _: Request) -> Response:
    return FileResponse(path)


@asynccontextmanager
async def _slot(free: asyncio.Semaphore, limits: Limits) -> AsyncIterator[list[asyncio.Future]]:
    """Hold a slot for a request until the block and the yielded jobs have ended; a running job cannot be stopped."""
    if free.locked():
        raise Refused(503, f"the server is busy with {limits.requests} requests: try again later")
    await free.acquire()
    jobs: list[asyncio.Future] = []
    try:
        yield jobs
    finally:
        asyncio.gather(*jobs, return_exceptions=True).add_done_callback(lambda _: free.release())


async def _receive(request: Request, limits: Limits) -> list[File]:
    """The files of the uploaded form, in memory."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refused(415, "expected multipart/form-data with files: curl -F files=@scan.jpg URL")
    size = request.headers.get("content-length", "0")
    if size.isdecimal() and int(size) > limits.bytes:
        raise _too_large(limits)

    async def body() -> AsyncIterator[bytes]:
        received = 0
        async for chunk in request.stream():
            received += len(chunk)
            if received > limits.bytes:
                raise _too_large(limits)
            yield chunk

    parser = MultiPartParser(request.headers, body(), max_files=limits.files, max_fields=0)
    parser.spool_max_size = limits.bytes + 1  # never to disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise Refused(413, f"expected at most {limits.files} files in a request: send several requests") from None
        raise Refused(400, f"expected a form with files only ({error.message}): curl -F files=@scan.jpg URL") from None
    except (ValueError, LookupError):  # a character set that is none, or whose bytes are none of it
        raise Refused(400, "expected a form with names in UTF-8: curl -F files=@scan.jpg URL") from None
    uploads = [upload for _, upload in form.multi_items()]
    if not uploads:
        raise Refused(400, "expected at least one file, got a form without any: curl -F files=@scan.jpg URL")
    return [File(upload.filename or f"file {i}", upload.file.read) for i, upload in enumerate(uploads, start=1)]


def _too_large(limits: Limits) -> Refused:
    return Refused(
        413, f"expected at most {limits.bytes / 1e6:g} MB in a request, got more: send fewer or smaller files"
    )


def _tell_problems(app: FastAPI) -> None:
    """Answer every error with problem details."""

    def problem(status: int, detail: str, **more: object) -> JSONResponse:
        title = _PROBLEMS.get(status) or HTTPStatus(status).phrase
        content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        headers = {"Retry-After": "1"} if status == 503 else {}
        return JSONResponse(content | more, status, headers, media_type="application/problem+json")

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return problem(error.status, error.detail, **error.more)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404 and "text/html" in request.headers.get("accept", ""):  # a person in a browser
            return FileResponse(_WEB / "missing.html", 404)
        response = problem(error.status_code, error.detail)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return problem(400, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return problem(400, "the upload ended early")

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return problem(500, "internal error of the server: see its log")
