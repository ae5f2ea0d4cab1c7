"""What the program itself serves beside the APIs, in the OpenAPI document: no key is needed for any of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.api.openapi_parts import Answer, Operation, Schema, in_path, in_query, record, text
from bot.core.request import JSON, Limits

TAG: Final = "Server"
ABOUT: Final = "Pictures by their links, whether the program is there, and this document."
_PLAIN: Final = "text/plain"
_PICTURE: Final[Schema] = {"contentMediaType": "application/octet-stream"}


def operations(limits: Limits) -> list[Operation]:
    """Its operations."""
    return [_picture(), _live(), _ready(), _document()]


def schemas(limits: Limits) -> Mapping[str, Schema]:
    """Its schemas."""
    backend = record({"state": text(), "detail": text()}, open_=True)
    return {
        "Readiness": record(
            {
                "ready": {"type": "boolean"},
                "adapters": {"type": "array", "items": text()},
                "backends": {"type": "object", "additionalProperties": backend},
            },
            ["ready"],
            open_=True,
        )
    }


def _picture() -> Operation:
    return Operation(
        "get",
        "/pictures/{name}",
        TAG,
        "getPicture",
        "A picture by its link",
        "Links come with results; whoever holds one sees the picture until it expires.",
        {
            200: Answer(
                "The picture.",
                _PICTURE,
                kind="image/png",
                others={"image/jpeg": (_PICTURE, None), "image/webp": (_PICTURE, None)},
            ),
            403: Answer(
                "Expired, or not one of ours.", text(), "This link is over, or not one of ours.\n", _PLAIN
            ),
            404: Answer("It was deleted.", text(), "This picture was deleted.\n", _PLAIN),
            503: Answer("Not ready.", text(), "Fairbrush is starting.\n", _PLAIN),
        },
        parameters=[
            in_path("name", "The file's name.", "NAME.png"),
            in_query("expires", "Unix seconds.", {"type": "string"}),
            in_query("signature", "Of name and expiry.", {"type": "string"}),
        ],
    )


def _live() -> Operation:
    return Operation(
        "get",
        "/livez",
        TAG,
        "isAlive",
        "Whether it runs",
        "For supervisors.",
        {200: Answer("It runs.", text(), "ok\n", _PLAIN)},
    )


def _ready() -> Operation:
    example: JSON = {
        "ready": True,
        "adapters": ["api", "web"],
        "backends": {"local:": {"state": "ok", "detail": ""}},
    }
    schema: Schema = {"$ref": "#/components/schemas/Readiness"}
    return Operation(
        "get",
        "/readyz",
        TAG,
        "isReady",
        "Whether it takes requests",
        "With what is still connecting or loading.",
        {
            200: Answer("Requests are accepted durably.", schema, example),
            503: Answer(
                "Not yet, or not any more.", schema, {"ready": False, "adapters": [], "backends": {}}
            ),
        },
    )


def _document() -> Operation:
    return Operation(
        "get",
        "/openapi.json",
        TAG,
        "getDocument",
        "This document",
        "OpenAPI 3.1, with the limits of this server. `/docs` shows it to people.",
        {200: Answer("The document.", {"type": "object"})},
    )
