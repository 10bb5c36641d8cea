"""What the server takes and gives, for its documentation page."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from brain_tumor.exported.classifier_file import Metadata

UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                    "required": ["files"],
                }
            }
        },
    }
}
"""The request of `POST /v1/predict`, which is read by hand to keep it in memory and within its limits."""


class Failed(BaseModel):
    """A file that could not be read."""

    name: str
    error: str


class Answered(BaseModel):
    """What the classifier says of one slice."""

    name: str = Field(description="of the file, as sent")
    slice: int | None = Field(None, description="number in a volume or series")
    label: str = Field(description="most probable class, also where it abstains")
    abstained: bool = Field(description="whether the label should not be relied on")
    reasons: list[str] = Field(description="why it abstains")
    probabilities: dict[str, float]
    prediction_sets: dict[str, list[str]] = Field(description="promised coverage in percent -> classes")
    novelty: float = Field(description="above 1: likely no scan of the kind it has learned from")
    map: dict[str, list[list[float]]] | None = Field(None, description="class -> what each place adds to its logit")
    picture: str | None = Field(None, description="the slice, PNG as data URL")
    overlay: str | None = Field(None, description="map of the label, transparent PNG of the same size as data URL")


class Predictions(BaseModel):
    """In the order of the files; a volume gives several."""

    results: list[Answered | Failed]


@dataclass(frozen=True)
class Model(Metadata):
    """See `brain_tumor.exported.classifier_file.Metadata`."""

    format_version: int


class Health(BaseModel):
    status: str


class Problem(BaseModel):
    """Problem details, RFC 9457."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str
