"""What the parts of the OpenAPI document are made of: operations, parameters, answers, fields with limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from bot.core.request import JSON, MAX_SEED, Limits

Schema = Mapping[str, JSON]

JSON_TYPE: Final = "application/json"
KEYS: Final[Mapping[str, Schema]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key: `fairbrush key create NAME`."},
    "saladKey": {
        "type": "apiKey",
        "in": "header",
        "name": "Salad-Api-Key",
        "description": "A key: `fairbrush key create NAME`.",
    },
    "stochasticKey": {
        "type": "apiKey",
        "in": "header",
        "name": "apiKey",
        "description": "A key: `fairbrush key create NAME`.",
    },
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One status of an operation. schema: of its JSON, None where there is no body; kind: its media type;
    others: further media types, with their schemas and examples; headers: name -> description."""

    description: str
    schema: Schema | None = None
    example: JSON = None
    kind: str = JSON_TYPE
    others: Mapping[str, tuple[Schema, JSON]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> Schema:
        """As the document says it."""
        content: dict[str, JSON] = {}
        if self.schema is not None:
            content[self.kind] = _content(self.schema, self.example)
        for kind, (schema, example) in self.others.items():
            content[kind] = _content(schema, example)
        made: dict[str, JSON] = {"description": self.description}
        if self.headers:
            made["headers"] = {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in self.headers.items()
            }
        return made | ({"content": content} if content else {})


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. key: the name of the scheme in KEYS, empty where none is needed; body, example:
    of the JSON that is sent; examples: several bodies by name, where one says too little."""

    method: str
    path: str
    tag: str
    name: str
    summary: str
    description: str
    answers: Mapping[int, Answer]
    key: str = ""
    parameters: Sequence[Schema] = ()
    body: Schema | None = None
    examples: Mapping[str, JSON] = field(default_factory=dict)

    def to_json(self) -> Schema:
        """As the document says it."""
        made: dict[str, JSON] = {
            "operationId": self.name,
            "tags": [self.tag],
            "summary": self.summary,
            "description": self.description,
            "security": [{self.key: []}] if self.key else [],
            "responses": {str(status): answer.to_json() for status, answer in sorted(self.answers.items())},
        }
        if self.parameters:
            made["parameters"] = list(self.parameters)
        if self.body is not None:
            examples: JSON = {name: {"value": value} for name, value in self.examples.items()}
            content: dict[str, JSON] = {"schema": self.body, "examples": examples}
            made["requestBody"] = {"required": True, "content": {JSON_TYPE: content}}
        return made


def _content(schema: Schema, example: JSON) -> Schema:
    return {"schema": schema} | ({} if example is None else {"example": example})


def ref(name: str) -> Schema:
    """A schema among the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(
    properties: Mapping[str, JSON], required: Sequence[str] = (), *, open_: bool = False, **more: JSON
) -> dict[str, JSON]:
    """An object; open_: may have further properties."""
    made: dict[str, JSON] = {"type": "object", "properties": properties, **more}
    if required:
        made["required"] = list(required)
    return made if open_ else made | {"additionalProperties": False}


def text(description: str = "", **more: JSON) -> dict[str, JSON]:
    """A text."""
    return {"type": "string", **({"description": description} if description else {}), **more}


def listed(of: JSON, **more: JSON) -> Schema:
    """An array."""
    return {"type": "array", "items": of, **more}


def maybe(schema: Schema) -> dict[str, JSON]:
    """The same, or null for "not said"."""
    changed = dict(schema)
    changed["type"] = [str(schema["type"]), "null"]
    if isinstance(values := schema.get("enum"), Sequence):
        changed["enum"] = [*values, None]
    return changed


def in_path(name: str, description: str, example: str, **more: JSON) -> Schema:
    """A parameter within the path."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", "minLength": 1, **more},
        "example": example,
    }


def in_query(name: str, description: str, schema: Schema, **more: JSON) -> Schema:
    """A parameter after the question mark."""
    return {"name": name, "in": "query", "description": description, "schema": schema, **more}


def title_of(status: int) -> str:
    """The phrase of a status."""
    return HTTPStatus(status).phrase


# --- fields of a request, with the limits of the settings ------------------------------------------------


def prompt_text(limits: Limits) -> Schema:
    """One prompt."""
    return text(
        "What to draw, taken as it is: no flags, no permutations.", minLength=1, maxLength=limits.max_prompt
    )


def negative_text(limits: Limits) -> Schema:
    """What to keep out."""
    return maybe(text("What to keep out, where the model takes it.", maxLength=limits.max_prompt))


def whole(description: str, low: int, high: int, **more: JSON) -> Schema:
    """A whole number within bounds, or null."""
    return maybe({"type": "integer", "description": description, "minimum": low, "maximum": high, **more})


def side(which: str, limits: Limits) -> Schema:
    """A width or a height."""
    multiple = limits.side_multiple
    return whole(
        f"{which} in pixels; the longer side is at most {limits.max_ratio:g} times the other. Default: the "
        "model's own.",
        limits.min_side,
        limits.max_side,
        multipleOf=multiple,
    )


def steps(limits: Limits) -> Schema:
    """Inference steps."""
    return whole("Inference steps. Default: the model's own.", limits.min_steps, limits.max_steps)


def guidance(limits: Limits) -> Schema:
    """Guidance scale."""
    return maybe(
        {
            "type": "number",
            "description": "How closely to follow the prompt. Default: the model's own.",
            "minimum": limits.min_guidance,
            "maximum": limits.max_guidance,
        }
    )


def seed() -> Schema:
    """The seed."""
    return whole(
        "The same seed gives the same picture; picture i uses seed + i. Default: chosen, and told.",
        0,
        MAX_SEED,
    )


def count(limits: Limits) -> Schema:
    """How many pictures."""
    return whole("How many pictures.", 1, limits.max_count, default=1)
