"""The fields of a JSON body, read strictly: each once, of its type, and none that means nothing here.

Every refusal names the field as the client wrote it ("params.img_width"), what is wrong and the way out.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from bot.core.errors import InvalidRequest
from bot.core.request import JSON

_SHOWN: Final = 40
_ADDRESS: Final = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
_DATA_URL: Final = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)


class Fields:
    """One JSON object. where: its own name, empty for the body. A null is as if the field were missing."""

    def __init__(self, data: JSON, where: str = "") -> None:
        if not isinstance(data, Mapping):
            what = where or "The body"
            raise InvalidRequest(f"{what} must be a JSON object, not {kind_of(data)}.", field=where or None)
        self._data = data
        self._where = where
        self._known: set[str] = set()

    def name(self, field: str) -> str:
        """A field as the client wrote it."""
        return f"{self._where}.{field}" if self._where else field

    def has(self, field: str) -> bool:
        """Whether it says anything."""
        return self._data.get(field) is not None

    def object(self, field: str, *, required: bool = False) -> Fields:
        """A JSON object within; an empty one where it is missing and need not be there."""
        value = self._take(field)
        if value is None and not required:
            value = {}
        if not isinstance(value, Mapping):
            raise self._wrong(field, value, "a JSON object")
        return Fields(value, self.name(field))

    def text(self, field: str) -> str | None:
        """A text."""
        value = self._take(field)
        if value is not None and not isinstance(value, str):
            raise self._wrong(field, value, "a text")
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """A text, or several in an array; at least one."""
        value = self._take(field)
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, Sequence) or not value:
            raise self._wrong(field, value, 'a text such as "a red fox in snow", or an array of texts')
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise self._wrong(f"{field}[{index}]", item, "a text")
        return tuple(str(item) for item in value)

    def whole(self, field: str) -> int | None:
        """A whole number; 512.0 is one."""
        value = self._take(field)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        raise self._wrong(field, value, "a whole number" + _unquoted(value))

    def real(self, field: str) -> float | None:
        """A finite number."""
        value = self._take(field)
        if value is None:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                if math.isfinite(number := float(value)):
                    return number
            except OverflowError:
                pass
        raise self._wrong(field, value, "a finite number" + _unquoted(value))

    def flag(self, field: str, *, as_text: bool = False) -> bool | None:
        """True or false; as_text: "true" and "false" mean the same."""
        value = self._take(field)
        if value is None or isinstance(value, bool):
            return value
        if as_text and isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        raise self._wrong(field, value, "true or false")

    def picture(self, field: str) -> bytes | None:
        """A picture's bytes, from base64 or a data URL. An address is refused: none is fetched."""
        value = self.text(field)
        if value is None:
            return None
        name = self.name(field)
        if _ADDRESS.match(value):
            raise InvalidRequest(
                f"{name} is an address, and none is fetched here. Send the picture itself, in base64.",
                field=name,
            )
        head = _DATA_URL.match(value)
        try:
            data = binascii.a2b_base64(value[head.end() if head else 0 :], strict_mode=True)
        except ValueError:  # also text that is no ASCII
            data = b""
        if not data:
            raise InvalidRequest(
                f"{name} is not base64. Send a PNG, JPEG or WebP in base64, or as a data: URL.", field=name
            )
        return data

    def plain(self, field: str) -> JSON:
        """Whatever it holds."""
        return self._take(field)

    def refuse(self, fields: Collection[str], why: str) -> None:
        """Raise InvalidRequest for a field that is never taken, whatever it holds."""
        for field in self._data:
            if field in fields:
                raise InvalidRequest(f"{self.name(field)} {why}", field=self.name(field))

    def finish(self) -> None:
        """Raise InvalidRequest for a field that was not asked for."""
        for field in self._data:
            if field not in self._known:
                known = ", ".join(sorted(self._known))
                raise InvalidRequest(
                    f"{self.name(_clipped(field))} is not known here. Leave it out; known: {known}.",
                    field=self.name(_clipped(field)),
                )

    def _take(self, field: str) -> JSON:
        self._known.add(field)
        return self._data.get(field)

    def _wrong(self, field: str, value: JSON, wanted: str) -> InvalidRequest:
        name = self.name(field)
        if value is None:
            return InvalidRequest(f"{name} is missing: it must be {wanted}.", field=name)
        return InvalidRequest(f"{name} must be {wanted}, not {kind_of(value)}.", field=name)


def kind_of(value: JSON) -> str:
    """A value for an error's text."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return f"the text {json.dumps(_clipped(value), ensure_ascii=False)}"
        case int():
            return str(value) if abs(value) < 10**18 else "a number of that size"
        case float():
            return repr(value)
        case Mapping():
            return "a JSON object"
    return "an array" if value else "an empty array"


def is_finite(value: JSON) -> bool:
    """Whether JSON can hold it: no infinity (1e400) anywhere."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(is_finite(each) for each in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(is_finite(each) for each in value)
    return True


def _unquoted(value: JSON) -> str:
    return " without quotes" if isinstance(value, str) else ""


def _clipped(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
