"""What an operator may set for a local backend. Knows the settings, not what is done with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bot.core.errors import ConfigurationError
from bot.core.settings import BackendEntry, Settings

ENGINE = "backends.local.engine:create"
_OPTIONS = frozenset({"slots", "device", "dtype", "as"})
_DTYPES = ("", "float32", "float16", "bfloat16")


def pause_before_restart(falls: int) -> float:
    """Seconds to wait after `falls` ends in a row without a finished job: 0, 0.5, 1, 2 ... 60."""
    return 0.0 if falls <= 1 else min(60.0, 0.5 * 2.0 ** (falls - 2))


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """What an operator may set. job_timeout: seconds without a sign of life while working; load_timeout:
    the same while opening (a model may have to be downloaded); engine: what the worker runs."""

    slots: int | None = None
    device: str = ""
    dtype: str = ""
    threads: int | None = None
    cache_dir: str | None = None
    previews: bool = True
    safety_checker: bool = True
    job_timeout: float = 120.0
    load_timeout: float = 1800.0
    engine: str = ENGINE
    pause: Callable[[int], float] = pause_before_restart

    @classmethod
    def from_entry(cls, entry: BackendEntry, settings: Settings) -> LocalOptions:
        """Options after `;` in FAIRBRUSH_BACKENDS over the settings. Raises ConfigurationError."""
        unknown = sorted(set(entry.options) - _OPTIONS)
        if unknown:
            raise ConfigurationError(
                f"FAIRBRUSH_BACKENDS: {entry.name} has no option {unknown[0]!r}; "
                "it knows slots, device, dtype and as."
            )
        dtype = entry.options.get("dtype", "")
        if dtype not in _DTYPES:
            raise ConfigurationError(f"FAIRBRUSH_BACKENDS: dtype must be one of {', '.join(_DTYPES[1:])}.")
        return cls(
            slots=_slots(entry.options.get("slots")),
            device=entry.options.get("device", settings.device),
            dtype=dtype,
            threads=settings.threads,
            cache_dir=str(settings.cache_dir) if settings.cache_dir else None,
            previews=settings.previews,
            safety_checker=settings.safety_checker,
            job_timeout=settings.job_timeout,
        )


def _slots(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise ConfigurationError(f"FAIRBRUSH_BACKENDS: slots must be a number from 1 to 64, not {text!r}.")
    return int(text)
