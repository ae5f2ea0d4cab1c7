"""Checks what goes over the wire against Discord's OpenAPI file, in both directions.

The file is named by FAIRBRUSH_SPECS (its folder). Each request that a bot sends and each answer of the local
Discord is looked up by method and path template. What is wrong is collected, not raised.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

NAME = "discord-openapi.json"
BASE = "urn:discord"
IDS = frozenset({"users", "roles", "message_id", "channel_id", "guild_id", "recipient_id", "applied_tags"})


def spec() -> Spec | None:
    """The checker, None where FAIRBRUSH_SPECS is unset."""
    folder = os.environ.get("FAIRBRUSH_SPECS")
    return _loaded(folder) if folder else None


@functools.cache
def _loaded(folder: str) -> Spec:
    return Spec(json.loads((Path(folder) / NAME).read_text("utf-8")))


class Spec:
    """The OpenAPI document. Errors are one line: where, what, and the value."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._registry: Registry[Any] = Registry().with_resource(BASE, DRAFT202012.create_resource(document))
        self._validators: dict[str, Draft202012Validator] = {}

    def request(self, operation: str, body: Any) -> str | None:
        """What is wrong with a request's JSON; operation: "PATCH /channels/{channel_id}"."""
        found = self._operation(operation)
        if found is None:
            return f"{operation}: no such operation"
        content = found.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            return None if body is None else f"{operation}: takes no JSON"
        if body is None and not found["requestBody"].get("required"):
            return None
        pointer = self._pointer(operation, "requestBody", "content", "application/json", "schema")
        return self._check(f"sent {operation}", pointer, _with_string_ids(body))

    def answer(self, operation: str, status: int, body: Any) -> str | None:
        """What is wrong with an answer."""
        found = self._operation(operation)
        if found is None:
            return f"{operation}: no such operation"
        answers = found["responses"]
        key = next((each for each in (str(status), f"{status // 100}XX") if each in answers), None)
        if key is None:
            return None if status >= 500 else f"{operation}: never answers {status}"
        content = answers[key].get("content")
        where = ["responses", key]
        if "$ref" in answers[key]:
            name = answers[key]["$ref"].rpartition("/")[2]
            pointer = f"/components/responses/{name}/content/application~1json/schema"
        elif content is None:
            return None if body is None else f"{operation}: {status} has no body"
        else:
            pointer = self._pointer(operation, *where, "content", "application/json", "schema")
        if status >= 400 and isinstance(
            body, dict
        ):  # the file says that inner codes are numbers; they are words
            body = {key: value for key, value in body.items() if key != "errors"}
        return self._check(f"answered {operation} {status}", pointer, body)

    def component(self, name: str, value: Any) -> str | None:
        """What is wrong with a value that should be of a named schema, as MessageResponse."""
        return self._check(name, f"/components/schemas/{name}", value)

    def knows(self, operation: str) -> bool:
        """Whether there is such an operation."""
        return self._operation(operation) is not None

    def _operation(self, operation: str) -> dict[str, Any] | None:
        method, _, path = operation.partition(" ")
        found: dict[str, Any] | None = self.document["paths"].get(path, {}).get(method.lower())
        return found

    def _pointer(self, operation: str, *parts: str) -> str:
        method, _, path = operation.partition(" ")
        escaped = (
            each.replace("~", "~0").replace("/", "~1") for each in ("paths", path, method.lower(), *parts)
        )
        return "/" + "/".join(escaped)

    def _check(self, what: str, pointer: str, value: Any) -> str | None:
        validator = self._validators.get(pointer)
        if validator is None:
            schema = {"$ref": f"{BASE}#{_quoted(pointer)}"}
            validator = Draft202012Validator(schema, registry=self._registry)
            self._validators[pointer] = validator
        error = best_match(validator.iter_errors(value))
        return None if error is None else f"{what}: {_told(error)}"


def _quoted(pointer: str) -> str:
    return pointer.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")


def _told(error: ValidationError) -> str:
    where = "/".join(str(each) for each in error.absolute_path)
    return f"at /{where}: {error.message[:300]}"


def _with_string_ids(body: Any, key: str = "") -> Any:
    """discord.py sends many ids as numbers, which Discord takes though its file says strings."""
    if isinstance(body, dict):
        inside = {"id"} if key == "attachments" else IDS
        return {
            name: _as_id(value) if name in inside else _with_string_ids(value, name)
            for name, value in body.items()
        }
    return [_with_string_ids(each, key) for each in body] if isinstance(body, list) else body


def _as_id(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_id(each) for each in value]
    return str(value) if isinstance(value, int) else value
