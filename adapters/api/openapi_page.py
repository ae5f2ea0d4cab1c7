"""The OpenAPI document as a page for people: plain HTML, made here, without a script or anything from
elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from adapters.api.openapi_parts import title_of

Doc = Mapping[str, Any]

_CODE: Final = re.compile(r"`([^`]+)`")
_TYPES: Final = {"string": "text", "integer": "whole number", "boolean": "true or false", "array": "list"}
_SCHEMES: Final = {
    "bearer": "Authorization: Bearer $FAIRBRUSH_KEY",
    "saladKey": "Salad-Api-Key: $FAIRBRUSH_KEY",
    "stochasticKey": "apiKey: $FAIRBRUSH_KEY",
}


def page_of(document: Doc) -> str:
    """The page."""
    base = document["servers"][0]["url"]
    parts = [(tag, list(_of_tag(document, tag["name"]))) for tag in document["tags"]]
    sections = "".join(_section(document, base, tag, found) for tag, found in parts)
    return _FRAME.format(
        title="Fairbrush API",
        nav="".join(_nav(tag, found) for tag, found in parts),
        about=_prose(document["info"]["description"]),
        base=escape(base),
        sections=sections,
    )


def _of_tag(document: Doc, tag: str) -> Iterator[tuple[str, str, Doc]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield method, path, operation


def _nav(tag: Doc, found: Sequence[tuple[str, str, Doc]]) -> str:
    items = "".join(
        f'<li><a href="#{escape(operation["operationId"])}"><span class="m {method}">{_short(method)}</span> '
        f"{escape(operation['summary'])}</a></li>"
        for method, _, operation in found
    )
    return f'<p><a href="#{_anchor(tag["name"])}">{escape(tag["name"])}</a></p><ul>{items}</ul>'


def _section(document: Doc, base: str, tag: Doc, found: Sequence[tuple[str, str, Doc]]) -> str:
    shown = "".join(_operation(document, base, *each) for each in found)
    return (
        f'<section id="{_anchor(tag["name"])}"><h2>{escape(tag["name"])}</h2>'
        f'<p class="lead">{_prose(tag["description"])}</p>{shown}</section>'
    )


def _operation(document: Doc, base: str, method: str, path: str, operation: Doc) -> str:
    parts = [
        f'<h3><span class="m {method}">{method.upper()}</span> <code class="path">{_path(path)}</code></h3>',
        f'<p class="what"><strong>{escape(operation["summary"])}.</strong> ',
        f"{_prose(operation['description'])}</p>",
        _call(base, method, path, operation),
        _parameters(operation.get("parameters", ())),
        _body(document, operation),
        _answers(document, operation["responses"]),
    ]
    return f'<article class="card" id="{escape(operation["operationId"])}">{"".join(parts)}</article>'


def _parameters(parameters: Sequence[Doc]) -> str:
    rows = "".join(
        _row(
            each["name"], each["schema"], each.get("description", ""), each["in"], bool(each.get("required"))
        )
        for each in parameters
    )
    return f"<h4>Parameters</h4><dl>{rows}</dl>" if rows else ""


def _body(document: Doc, operation: Doc) -> str:
    if "requestBody" not in operation:
        return ""
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return f"<h4>Body</h4><dl>{''.join(_fields(document, schema))}</dl>"


def _fields(document: Doc, schema: Doc, before: str = "") -> Iterator[str]:
    """A row for each field, those within an object after it, with dots."""
    schema = _meant(document, schema)
    for name, value in schema.get("properties", {}).items():
        field = _meant(document, value)
        yield _row(before + name, field, field.get("description", ""), "", name in schema.get("required", ()))
        if "properties" in field:
            yield from _fields(document, field, f"{before}{name}.")


def _row(name: str, schema: Doc, description: str, where: str, required: bool) -> str:
    marks = "".join(
        f'<span class="mark">{escape(mark)}</span>'
        for mark in ("required" if required else "", "in the " + where if where else "")
        if mark
    )
    kind = _kind(schema)
    told = f' <span class="about">{_prose(description)}</span>' if description else ""
    term = f"<dt><code>{escape(name).replace('.', '.<wbr>')}</code>{marks}</dt>"
    return f'<div>{term}<dd><span class="kind">{escape(kind)}</span>{told}</dd></div>'


def _kind(schema: Doc) -> str:
    """A schema in a few words: "whole number from 1 to 150"."""
    if "oneOf" in schema:
        return " or ".join(dict.fromkeys(_kind(each) for each in schema["oneOf"]))
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"] if value is not None) + _default(schema)
    types = schema.get("type", "anything")
    names = [types] if isinstance(types, str) else [name for name in types if name != "null"]
    words = " or ".join(_TYPES.get(name, name) for name in names)
    return words + _bounds(schema) + _default(schema)


def _bounds(schema: Doc) -> str:
    found = ""
    if "multipleOf" in schema:
        found += f", a multiple of {schema['multipleOf']}"
    if "minimum" in schema and "maximum" in schema:
        found += f" from {_number(schema['minimum'])} to {_number(schema['maximum'])}"
    if "maxLength" in schema:
        found += f" of at most {schema['maxLength']:,} characters"
    if "items" in schema:
        kind = schema["items"].get("type", "")
        found += f" of {_TYPES.get(kind, kind)}s" if kind else ""
    return found


def _number(value: float) -> str:
    return f"{value:,}".removesuffix(".0")


def _default(schema: Doc) -> str:
    return f", default {json.dumps(schema['default'])}" if "default" in schema else ""


def _call(base: str, method: str, path: str, operation: Doc) -> str:
    """The same with curl."""
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", str(parameter["example"]))
    head = ["curl"] if method == "get" else ["curl", "-X", method.upper()]
    lines = [f"{' '.join(head)} {base}{path}"]
    lines += [f'-H "{_SCHEMES[name]}"' for scheme in operation["security"] for name in scheme]
    if "requestBody" in operation:
        examples = operation["requestBody"]["content"]["application/json"]["examples"]
        first = json.dumps(next(iter(examples.values()))["value"], indent=2)
        lines += ['-H "Content-Type: application/json"', f"-d '{first}'"]
    call = " \\\n  ".join(lines)
    others = "".join(
        f"<details><summary>Body: {escape(name)}</summary><pre>{_json(example['value'])}</pre></details>"
        for name, example in list(_examples(operation))[1:]
    )
    return f"<h4>Call</h4><pre>{escape(call, quote=False)}</pre>{others}"


def _examples(operation: Doc) -> Iterator[tuple[str, Doc]]:
    if "requestBody" in operation:
        yield from operation["requestBody"]["content"]["application/json"]["examples"].items()


def _answers(document: Doc, answers: Doc) -> str:
    shown = "".join(
        f'<details><summary><span class="s s{status[0]}">{status}</span> {escape(title_of(int(status)))}'
        f'<span class="about">{_prose(answer["description"])}</span></summary>'
        f"{_answer(document, answer)}</details>"
        for status, answer in answers.items()
    )
    return f'<h4>Answers</h4><div class="answers">{shown}</div>'


def _answer(document: Doc, answer: Doc) -> str:
    parts = [
        f'<p class="hint"><code>{escape(name)}</code> {_prose(header["description"])}</p>'
        for name, header in answer.get("headers", {}).items()
    ]
    for kind, content in answer.get("content", {}).items():
        parts.append(f'<p class="hint"><code>{escape(kind)}</code></p>')
        if "example" in content:
            example = content["example"]
            text = escape(example, quote=False) if isinstance(example, str) else _json(example)
            parts.append(f"<pre>{text}</pre>")
        rows = "".join(_fields(document, content["schema"])) if kind == "application/json" else ""
        if rows:
            parts.append(f"<dl>{rows}</dl>")
    return "".join(parts) or '<p class="hint">No body.</p>'


def _meant(document: Doc, schema: Doc) -> Doc:
    """What a reference refers to."""
    if "$ref" not in schema:
        return schema
    found: Doc = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _prose(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))


def _path(path: str) -> str:
    """A path that may break after its slashes."""
    return escape(path).replace("/", "/<wbr>")


def _json(value: object) -> str:
    return escape(json.dumps(value, indent=2), quote=False)


def _anchor(name: str) -> str:
    return escape(name.lower().replace(" ", "-"))


def _short(method: str) -> str:
    return {"delete": "DEL"}.get(method, method.upper())


_FRAME: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="theme-color" content="#f5f2ed" media="(prefers-color-scheme: light)">
<meta name="theme-color" content="#131210" media="(prefers-color-scheme: dark)">
<meta name="robots" content="noindex">
<title>{title}</title>
<link rel="icon" href="/docs/mark.svg" type="image/svg+xml">
<link rel="stylesheet" href="/docs/docs.css">
</head>
<body>
<header class="top">
<a class="brand" href="/"><img src="/docs/mark.svg" alt="" width="28" height="28">Fairbrush</a>
<nav aria-label="Elsewhere"><a href="/">Playground</a><a href="/openapi.json">openapi.json</a></nav>
</header>
<div class="page">
<nav class="side" aria-label="Contents">{nav}</nav>
<main>
<h1>API</h1>
<p class="lead">{about}</p>
<pre>export FAIRBRUSH_KEY=$(fairbrush key create NAME | tail -n 1)
curl {base}/v1/models -H "Authorization: Bearer $FAIRBRUSH_KEY"</pre>
{sections}
</main>
</div>
</body>
</html>
"""
