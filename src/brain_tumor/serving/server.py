"""Predictions over HTTP: `POST /v1/predict`, a web page at `/`, and endpoints for operators.

Uploads stay in memory. Errors are answered with problem details (RFC 9457), never with a traceback.
"""

import base64
import hashlib
import json
import logging
import math
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from socket import socket
from typing import Annotated

import numpy as np
import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.routing import Route

from brain_tumor.serving.answers import Answer, File, GivenUp, answer
from brain_tumor.serving.classifier import Classifier
from brain_tumor.serving.connections import protocol
from brain_tumor.serving.guard import ANYBODY, Access, Guard
from brain_tumor.serving.jobs import Jobs, Limits
from brain_tumor.serving.output import as_json
from brain_tumor.serving.problems import Refused, tell_problems
from brain_tumor.serving.schema import Health, Model, Predictions, described, problems, upload

_WEB = Path(__file__).with_name("web")
_LOG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {name: {"handlers": ["stderr"], "level": "INFO"} for name in ("uvicorn", "brain_tumor")},
}


def serve(
    classifier: Classifier, limits: Limits, listening: socket, report: Path | None = None, access: Access = ANYBODY
) -> None:
    """Serve until interrupted, or ended by SIGTERM: then with exit code 0, after what is being computed is answered.

    Args:
        classifier: what answers.
        limits: of a request.
        listening: socket to accept connections from.
        report: see `make_app`.
        access: who may ask.
    """
    app = make_app(classifier, limits, report, access)
    config = uvicorn.Config(
        app,
        http=protocol(limits),
        ws="none",
        proxy_headers=False,  # a client could put anything in the log with them
        server_header=False,
        access_log=False,  # the guard writes one that has no names of files
        log_config=_LOG,
        timeout_graceful_shutdown=math.ceil(limits.seconds) + 5,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # what uvicorn raises once more when it has stopped
    _Server(config, app.stop).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start, and say where: uvicorn itself says so only of sockets that it has opened."""
        await super().startup(sockets)
        for host, port, *_ in (listening.getsockname() for listening in sockets or ()):
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            logging.getLogger("uvicorn.error").info("Uvicorn running on %s (Press CTRL+C to quit)", address)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop, and tell first: uvicorn tells the application only when no request is left."""
        self._stop()
        await super().shutdown(sockets)


def make_app(classifier: Classifier, limits: Limits, report: Path | None = None, access: Access = ANYBODY) -> Guard:
    """The application, for any ASGI server; limits of connections and headers are those of that server.

    Args:
        classifier: what answers.
        limits: of a request.
        report: HTML file about the run that made the classifier, to be served at /report.
        access: who may ask.
    """
    jobs = Jobs(limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await jobs.start(partial(classifier.predict, np.zeros((64, 64), np.uint8)))
        yield
        jobs.stop()
        jobs.close()

    app = FastAPI(
        title="brain-tumor",
        description="Classifies brain-tumour MRI. Research use only: not a medical device, not for diagnosis.",
        lifespan=lifespan,
        redirect_slashes=False,  # a redirection would repeat the Host header
        **dict.fromkeys(("docs_url", "redoc_url", "swagger_ui_oauth2_redirect_url")),
    )
    app.openapi = partial(described, app, bool(access.token))
    tell_problems(app, _WEB / "missing.html")
    app.mount("/web", StaticFiles(directory=_WEB))
    app.mount("/swagger", StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.post(
        "/v1/predict",
        summary="Classify scans",
        tags=["Prediction"],
        response_model=Predictions,
        responses=problems(400, 401, 403, 408, 413, 415, 421, 422, 431, 503),
        openapi_extra=upload(limits.files),
    )
    async def predict(
        request: Request,
        explain: Annotated[bool, Query(description="add the activation maps, and pictures")] = False,
        slice: Annotated[
            str,
            Query(pattern="^(middle|all|[0-9]{1,6})$", description="of a volume or series: middle, all or a number"),
        ] = "middle",
    ) -> Response:
        async with jobs.slot() as running:
            async with jobs.wait(408, f"the upload took over {limits.seconds:g} s: send fewer or smaller files"):
                files = await _receive(request, limits)

            def work(given_up: Callable[[], bool]) -> tuple[list[Answer], list[bytes]]:
                wanted = int(slice) if slice.isdecimal() else slice
                told = answer(classifier, files, given_up, wanted=wanted, max_pixels=limits.pixels)
                return told, _encoded(told, classifier, explain, limits, given_up)

            told, results = await jobs.compute(running, work)
        if all(each.error for each in told):
            what = told[0].error if len(told) == 1 else f"none of the {len(told)} files is a readable scan"
            raise Refused(422, what, errors=[json.loads(result) for result in results])
        return Response(b'{"results":[%s]}' % b",".join(results), media_type="application/json")

    common = problems(400, 401, 421, 431)

    @app.get(
        "/v1/model", summary="Facts about the classifier", tags=["Prediction"], response_model=Model, responses=common
    )
    async def model() -> Response:
        file = {"format_version": classifier.format_version, "sha256": classifier.sha256}
        return JSONResponse(asdict(classifier.metadata) | file | {"report": report is not None})

    probed = problems(400, 431)

    @app.get("/healthz", summary="Is the process alive?", tags=["Operation"], response_model=Health, responses=probed)
    async def health() -> Response:
        return JSONResponse({"status": "alive"})

    @app.get(
        "/readyz",
        summary="Is it ready to predict?",
        tags=["Operation"],
        response_model=Health,
        responses=probed | problems(503),
    )
    async def readiness() -> Response:
        if not jobs.ready:
            raise Refused(503, "the server is starting or stopping: try again later")
        return JSONResponse({"status": "ready"})

    pages = {"/": _WEB / "index.html", "/docs": _WEB / "api.html", "/favicon.ico": _WEB / "icon.svg"}
    for path, file in pages.items():
        app.add_route(path, partial(_file, file), include_in_schema=False)
    if report:
        app.add_route("/report", partial(_report, report), include_in_schema=False)
    paths = [route.path if isinstance(route, Route) else f"{route.path}/*" for route in app.routes]
    return Guard(app, access, paths, jobs.stop)


async def _file(path: Path, _: Request) -> Response:
    return FileResponse(path)


async def _report(path: Path, _: Request) -> Response:
    """One file: its style sheet and pictures are in it, so only these may be shown, and no script runs."""
    try:
        changed = path.stat().st_mtime_ns
        hashes = await run_in_threadpool(_styles, path, changed)
    except OSError:
        raise HTTPException(404) from None
    policy = f"default-src 'none'; img-src data:; style-src {hashes}; frame-ancestors 'none'; base-uri 'none'"
    return FileResponse(path, headers={"Content-Security-Policy": policy})


@lru_cache(maxsize=1)
def _styles(path: Path, _changed: int) -> str:
    """The style sheets of a page as sources of a Content-Security-Policy."""
    sheets = re.findall(rb"<style>(.*?)</style>", path.read_bytes(), re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(sheet).digest()).decode() for sheet in sheets)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"


def _encoded(
    told: list[Answer], classifier: Classifier, explain: bool, limits: Limits, given_up: Callable[[], bool]
) -> list[bytes]:
    """Each answer as JSON; together at most as large as a request may be, since all are kept until they are sent."""
    results, size = [], 0
    for each in told:
        if given_up():
            raise GivenUp
        results.append(json.dumps(as_json(each, classifier.preprocessing, explain), allow_nan=False).encode())
        size += len(results[-1])
        if size > limits.bytes:
            raise Refused(
                413, f"the answer would have over {limits.bytes / 1e6:g} MB: ask for fewer slices, or without explain"
            )
    return results


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
    except (ValueError, LookupError):  # there is no such charset, or its names are not in it
        raise Refused(400, "expected a form in UTF-8, got another charset: curl -F files=@scan.jpg URL") from None
    uploads = [upload for _, upload in form.multi_items()]
    if not uploads:
        raise Refused(400, "expected at least one file, got a form without any: curl -F files=@scan.jpg URL")
    return [File(upload.filename or f"file {i}", upload.file.read) for i, upload in enumerate(uploads, start=1)]


def _too_large(limits: Limits) -> Refused:
    return Refused(
        413, f"expected at most {limits.bytes / 1e6:g} MB in a request, got more: send fewer or smaller files"
    )
