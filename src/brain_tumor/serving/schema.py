"""Requests and responses of the server, for its OpenAPI documentation."""

from dataclasses import dataclass
from typing import Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field

from brain_tumor.exported.classifier_file import Metadata
from brain_tumor.serving.problems import TITLES


def upload(max_files: int) -> dict:
    """The request of `POST /v1/predict`, which the server parses itself to keep it in memory and within the limits."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, "maxItems": max_files}
    form = {"type": "object", "properties": {"files": files}, "required": ["files"], "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


class Failed(BaseModel):
    """A file that could not be read."""

    name: str
    error: str


class Answered(BaseModel):
    """The prediction for one slice."""

    name: str = Field(description="of the file, as it was sent")
    slice: int | None = Field(None, description="number of the slice, frame or page, if the file has several")
    slices: int | None = Field(None, description="how many the file has, if several")
    series: str | None = Field(None, description="the same for all files of a DICOM series, but not its UID")
    position: float | None = Field(None, description="of the file in its series, in mm or by its number")
    state: Literal["answer", "unsure", "no answer"]
    label: str = Field(description="the most probable class, also if the classifier abstains")
    likely: list[str] = Field(description="the class of an answer, the two likely ones if unsure, otherwise none")
    abstained: bool = Field(description="whether the label should not be relied on: the state is not answer")
    reasons: list[str] = Field(description="why the classifier abstains")
    probabilities: dict[str, float]
    prediction_sets: dict[str, list[str]] = Field(description="nominal coverage in percent -> classes")
    novelty: float = Field(description="novelty score; above 1: probably not like the training scans")
    map: dict[str, list[list[float]]] | None = Field(None, description="class -> activation map, rows of logits")
    picture: str | None = Field(None, description="the slice, PNG as data URL")
    overlay: str | None = Field(None, description="map of the label, transparent PNG of the same size as data URL")


class Predictions(BaseModel):
    """In the order of the files; a volume may have several results."""

    results: list[Answered | Failed]


@dataclass(frozen=True, kw_only=True)
class Model(Metadata):
    """See `brain_tumor.exported.classifier_file.Metadata`.

    Attributes:
        format_version: of the classifier's file.
        sha256: of the classifier's file, as `sha256sum` prints it.
        report: whether a report of the run that made it is served at /report.
    """

    format_version: int
    sha256: str
    report: bool


class Health(BaseModel):
    """That the server runs."""

    status: str


class Problem(BaseModel):
    """Problem details, RFC 9457."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str


def problems(*statuses: int) -> dict[int, dict]:
    """The responses of a route that tell problems, for FastAPI."""
    return {status: {"model": Problem, "description": TITLES[status]} for status in statuses}


def described(app: FastAPI, with_token: bool) -> dict:
    """The OpenAPI document: problems have a media type of their own, which FastAPI cannot be told by route."""
    if not app.openapi_schema:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for path, operations in document["paths"].items():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    if status >= "400":
                        response["content"] = {"application/problem+json": response["content"]["application/json"]}
                if with_token and path.startswith("/v1/"):
                    operation["security"] = [{"token": []}]
        if with_token:
            document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = document
    return app.openapi_schema
