"""What an operator says about one backend, whatever its kind: slots, after, cap, as. Knows no backend."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bot.core.errors import ConfigurationError
from bot.core.settings import BackendEntry

MOST_SLOTS: Final = 1000
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_AFTER: Final = re.compile(r"(\d+(?:\.\d+)?)([smh])")


@dataclass(frozen=True, slots=True)
class Terms:
    """Options of an entry of FAIRBRUSH_BACKENDS. slots: jobs at a time, None: as the backend says; after:
    seconds that a request would wait for what is free of charge before this is paid for; cap: US dollars that
    it may cost in a day (UTC); stands_for: ids of other models whose requests its default model may make."""

    slots: int | None = None
    after: float = 600.0
    cap: float = 1.0
    stands_for: tuple[str, ...] = ()

    @classmethod
    def of(cls, entry: BackendEntry) -> Terms:
        """Those of an entry. Raises ConfigurationError, which names the entry and what is allowed."""
        return cls(_slots(entry), _after(entry), entry.number("cap", cls().cap), _as(entry))


def _slots(entry: BackendEntry) -> int | None:
    text = entry.options.get("slots")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MOST_SLOTS:
        raise _wrong(entry, "slots", f"a whole number from 1 to {MOST_SLOTS:,}")
    return int(text)


def _after(entry: BackendEntry) -> float:
    text = entry.options.get("after")
    if text is None:
        return Terms().after
    found = _AFTER.fullmatch(text)
    if found is None:
        raise _wrong(entry, "after", "a time such as 90s, 10m or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def _as(entry: BackendEntry) -> tuple[str, ...]:
    text = entry.options.get("as")
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split("+"))
    if not all(names):
        raise _wrong(entry, "as", "the id of a model, or several with + between them")
    if entry.target in names or entry.options.get("model") in names:
        raise _wrong(entry, "as", "the id of another model than its own")
    return tuple(dict.fromkeys(names))


def _wrong(entry: BackendEntry, option: str, allowed: str) -> ConfigurationError:
    text = entry.options[option]
    return ConfigurationError(f'FAIRBRUSH_BACKENDS: {entry.name};{option}={text}: "{text}" is not {allowed}.')
