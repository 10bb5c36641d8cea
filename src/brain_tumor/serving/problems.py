"""Errors as problem details (RFC 9457), never with a traceback."""

from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

TITLES = {
    400: "invalid request",
    401: "no or a wrong token",
    403: "sent by a page of another site",
    408: "the request took too long to arrive",
    413: "a limit is exceeded",
    415: "no form with files",
    421: "not a name of this server",
    422: "no file is a readable scan",
    431: "the header is too large",
    503: "busy or not ready: try again later",
}


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


def problem(status: int, detail: str, **more: object) -> JSONResponse:
    """The response that tells a problem."""
    title = TITLES.get(status) or HTTPStatus(status).phrase
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    headers = {"Retry-After": "1"} if status == 503 else {}
    return JSONResponse(content | more, status, headers, media_type="application/problem+json")


def tell_problems(app: FastAPI, missing: Path) -> None:
    """Answer every error with problem details; a person in a browser gets the page `missing` for a wrong address."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return problem(error.status, error.detail, **error.more)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404 and "text/html" in request.headers.get("accept", ""):
            return FileResponse(missing, 404)
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
