"""Settings, frozen. Filled by bot/config.py from the environment; the core reads nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bot.core.errors import ConfigurationError
from bot.core.request import Limits


class Secret:
    """A string that does not print itself. `reveal()` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)" if self._value else "Secret()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


SIZE: Final = re.compile(r"([1-9]\d{1,3})x([1-9]\d{1,3})", re.ASCII)
"""WxH in pixels, as an entry's options and servers' cards say it."""

CORE_OPTIONS: Final = ("slots", "after", "cap", "as")
"""What an entry of FAIRBRUSH_BACKENDS may say about any backend; see bot.core.terms."""


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """One entry of FAIRBRUSH_BACKENDS: `kind:target;name=value;...`."""

    kind: str
    target: str
    options: Mapping[str, str] = field(default_factory=dict)

    def number(self, option: str, default: float) -> float:
        """An option that is a number of 0 or more. Raises ConfigurationError."""
        text = self.options.get(option)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0.0 <= value < math.inf:
            raise ConfigurationError(
                f'FAIRBRUSH_BACKENDS: {self.name};{option}={text}: "{text}" is not a number of 0 or more.'
            )
        return value

    def size(self, default: tuple[int, int]) -> tuple[int, int]:
        """The option `size`, as in 1024x1024: width and height in pixels. Raises ConfigurationError."""
        text = self.options.get("size")
        if text is None:
            return default
        if (found := SIZE.fullmatch(text)) is None:
            raise ConfigurationError(
                f'FAIRBRUSH_BACKENDS: {self.name};size={text}: "{text}" is not a size, as in size=1024x1024.'
            )
        return int(found[1]), int(found[2])

    def expect(self, *own: str) -> None:
        """Refuse options that neither the core (slots, after, cap, as) nor this kind of backend, which knows
        `own`, would heed; for its create(). Raises ConfigurationError."""
        known = (*CORE_OPTIONS, *own)
        unknown = next((option for option in self.options if option not in known), None)
        if unknown is not None:
            *first, last = known
            raise ConfigurationError(
                f'FAIRBRUSH_BACKENDS: {self.name} has no option "{unknown}"; it knows {", ".join(first)} and '
                f"{last}."
            )

    @property
    def name(self) -> str:
        """kind:target, what logs and receipts say."""
        return f"{self.kind}:{self.target}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that an operator can set.

    host, port: where the web server listens (port 0: any free one); lease_seconds: how long a running job
    may go without a sign of life of this program; job_timeout: seconds without any event from a backend
    after which a job is taken from it; attempts: tries of a job before it fails; secrets: tokens by their
    environment name; operators: members (platform:user) who may set weights; platform_urls: other addresses
    of platforms, by adapter ("discord", "discord-gateway", "slack"), where they are not the real ones;
    service_urls: other addresses of hosted services, by kind of backend; aliases: model names that the served
    APIs know, and the model ids that they mean; budget, budget_per_guild, budget_per_user: US dollars that
    hosted pictures may cost in a day (UTC) altogether, for one guild, for one member; requests_per_second: of
    the served APIs, by one key.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8765
    public_url: str = ""
    database_url: str = ""
    backends: tuple[BackendEntry, ...] = (BackendEntry("local", ""),)
    limits: Limits = field(default_factory=Limits)
    styles: Mapping[str, str] = field(default_factory=dict)
    blocked_words: tuple[str, ...] = ()
    safety_checker: bool = True
    previews: bool = True
    lease_seconds: float = 30.0
    job_timeout: float = 120.0
    attempts: int = 3
    log_level: str = "info"
    cache_dir: Path | None = None
    device: str = ""
    threads: int | None = None
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    operators: frozenset[str] = frozenset()
    platform_urls: Mapping[str, str] = field(default_factory=dict)
    service_urls: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    budget: float = 5.0
    budget_per_guild: float = 1.0
    budget_per_user: float = 0.5
    requests_per_second: float = 50.0

    @property
    def pictures_dir(self) -> Path:
        """Where picture files lie."""
        return self.data_dir / "pictures"

    def entry(self, kind: str, target: str) -> BackendEntry:
        """The entry of FAIRBRUSH_BACKENDS for this backend; one without options where there is none."""
        return next(
            (entry for entry in self.backends if entry.kind == kind and entry.target == target),
            BackendEntry(kind, target),
        )

    def secret(self, name: str) -> Secret:
        """The secret with this environment name; an empty one where unset."""
        return self.secrets.get(name, Secret(""))
