"""The environment, read here alone, on call, into the frozen Settings.

Order: environment, then .env in the working folder. Any secret also as NAME_FILE, a file that holds it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.core.errors import ConfigurationError
from bot.core.request import Limits
from bot.core.settings import BackendEntry, Secret, Settings
from bot.core.styles import STYLES

SECRETS = (
    "DISCORD_TOKEN",
    "SLACK_BOT_TOKEN",
    "SLACK_APP_TOKEN",
    "SLACK_SIGNING_SECRET",
    "SLACK_CLIENT_ID",
    "SLACK_CLIENT_SECRET",
    "FAIRBRUSH_SECRET_KEY",
    "STOCHASTIC_API_KEY",
    "SALAD_API_KEY",
    "OPENAI_API_KEY",
    "FAL_KEY",
    "REPLICATE_API_TOKEN",
    "HORDE_API_KEY",
    "FAIRBRUSH_A1111_AUTH",
)
"""Read by their own names, each also as NAME_FILE; never printed."""


SERVICES = ("stochastic", "salad", "openai", "fal", "replicate", "horde")
"""Kinds of backends with an address of their own: FAIRBRUSH_KIND_URL."""


class Environment(BaseSettings):
    """The FAIRBRUSH_* variables, as typed as they can be. .env.example explains each."""

    model_config = SettingsConfigDict(env_prefix="FAIRBRUSH_", env_file=".env", extra="ignore")

    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("fairbrush", appauthor=False))
    )
    database_url: str = ""
    host: str = "127.0.0.1"
    port: int = Field(8765, ge=0, le=65535)
    public_url: str = ""
    operators: str = ""
    discord_api_url: str = ""
    discord_gateway_url: str = ""
    slack_api_url: str = ""
    stochastic_url: str = ""
    salad_url: str = ""
    openai_url: str = ""
    fal_url: str = ""
    replicate_url: str = ""
    horde_url: str = ""
    aliases: str = ""
    budget: float = Field(5.0, ge=0)
    budget_per_guild: float = Field(1.0, ge=0)
    budget_per_user: float = Field(0.5, ge=0)
    requests_per_second: float = Field(50.0, gt=0)
    backends: str = "local:"
    styles: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    blocked_words: str = ""
    safety_checker: bool = True
    previews: bool = True
    device: str = ""
    threads: int | None = Field(None, ge=1)
    cache_dir: Path | None = None
    job_timeout: float = Field(120.0, gt=0)
    attempts: int = Field(3, ge=1, le=10)
    log_level: str = "info"
    max_steps: int = Field(150, ge=1, le=1000)
    max_guidance: float = Field(30.0, gt=0, le=100)
    max_count: int = Field(10, ge=1, le=100)
    max_side: int = Field(2048, ge=64, le=8192)
    max_work: int = Field(Limits().max_work, ge=1)
    max_prompt: int = Field(2000, ge=1, le=20_000)
    waiting_per_user: int = Field(10, ge=1)
    waiting_per_guild: int = Field(500, ge=1)
    waiting_per_key: int = Field(1000, ge=1)

    @field_validator("styles", mode="before")
    @classmethod
    def _styles(cls, value: object) -> object:
        return json.loads(value) if isinstance(value, str) and value.strip() else value or {}

    @field_validator("styles")
    @classmethod
    def _with_prompt(cls, value: dict[str, str]) -> dict[str, str]:
        for name, template in value.items():
            if "{prompt}" not in template:
                raise ValueError(f'style "{name}" must contain {{prompt}}')
        return value

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("must be debug, info, warning or error")
        return value.lower()


def load(
    *,
    data_dir: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    env_file: Path | None = Path(".env"),
) -> Settings:
    """Settings from the environment and .env; arguments given on the command line win.

    Raises ConfigurationError that names the variable and what it takes.
    """
    given = {"data_dir": data_dir, "host": host, "port": port}
    over = {name: value for name, value in given.items() if value is not None}
    try:
        env = Environment(_env_file=env_file, **over)  # type: ignore[call-arg, arg-type]
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"FAIRBRUSH_STYLES: not JSON: {error}") from None
    return _settings(env, _secrets(_dotenv(env_file)))


def _settings(env: Environment, secrets: Mapping[str, Secret]) -> Settings:
    return Settings(
        data_dir=env.data_dir.expanduser().absolute(),
        host=env.host,
        port=env.port,
        public_url=env.public_url.rstrip("/"),
        database_url=env.database_url,
        operators=frozenset(_members(env.operators)),
        platform_urls={
            name: url
            for name, url in (
                ("discord", env.discord_api_url),
                ("discord-gateway", env.discord_gateway_url),
                ("slack", env.slack_api_url),
            )
            if url
        },
        service_urls={kind: url.rstrip("/") for kind in SERVICES if (url := getattr(env, f"{kind}_url"))},
        aliases=_aliases(env.aliases),
        budget=env.budget,
        budget_per_guild=env.budget_per_guild,
        budget_per_user=env.budget_per_user,
        requests_per_second=env.requests_per_second,
        backends=parse_backends(env.backends),
        limits=Limits(
            max_steps=env.max_steps,
            max_guidance=env.max_guidance,
            max_count=env.max_count,
            max_side=env.max_side,
            max_work=env.max_work,
            max_prompt=env.max_prompt,
            waiting_per_user=env.waiting_per_user,
            waiting_per_guild=env.waiting_per_guild,
            waiting_per_key=env.waiting_per_key,
        ),
        styles={**STYLES, **env.styles},
        blocked_words=tuple(word.strip() for word in env.blocked_words.split(",") if word.strip()),
        safety_checker=env.safety_checker,
        previews=env.previews,
        device=env.device,
        threads=env.threads,
        cache_dir=env.cache_dir,
        job_timeout=env.job_timeout,
        attempts=env.attempts,
        log_level=env.log_level,
        secrets=secrets,
    )


def _aliases(text: str) -> dict[str, str]:
    """FAIRBRUSH_ALIASES: a comma list of name=model. Raises ConfigurationError."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    for name, equals, model in pairs:
        if not (name.strip() and equals and model.strip()):
            raise ConfigurationError(
                f'FAIRBRUSH_ALIASES: "{name}{equals}{model}" is not name=model, as in '
                "stable-diffusion-2=stabilityai/sd-turbo"
            )
    return {name.strip(): model.strip() for name, _, model in pairs}


def _members(text: str) -> list[str]:
    """FAIRBRUSH_OPERATORS: a comma list of platform:user. Raises ConfigurationError."""
    members = [part.strip() for part in text.split(",") if part.strip()]
    for member in members:
        platform, colon, user = member.partition(":")
        if not (platform and colon and user):
            raise ConfigurationError(
                f'FAIRBRUSH_OPERATORS: "{member}" is not platform:user, as in discord:80351110224678912'
            )
    return members


def parse_backends(text: str) -> tuple[BackendEntry, ...]:
    """FAIRBRUSH_BACKENDS: a comma list of kind:target;option=value. Raises ConfigurationError."""
    entries = [_backend(part.strip()) for part in text.split(",") if part.strip()]
    if not entries:
        raise ConfigurationError(
            "FAIRBRUSH_BACKENDS is empty. local: is the model that comes with Fairbrush."
        )
    names = [entry.name for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigurationError(
            f"FAIRBRUSH_BACKENDS: {twice} is given twice. Use ;slots=N for more at a time."
        )
    return tuple(entries)


def _backend(text: str) -> BackendEntry:
    head, *options = text.split(";")
    kind, colon, target = head.partition(":")
    if not colon or not kind.strip().isidentifier():
        raise ConfigurationError(f'FAIRBRUSH_BACKENDS: "{text}" is not kind:target, as in local:/models/mine')
    if "://" in target and "@" in target:  # and so it is in no list, log or receipt
        raise ConfigurationError(
            f"FAIRBRUSH_BACKENDS: the address of {kind.strip()}: holds a user name or a password. Leave it "
            "out; for a1111: it goes in FAIRBRUSH_A1111_AUTH=user:password"
        )
    pairs = [option.partition("=") for option in options]
    wrong = next((name for name, equals, _ in pairs if not equals), None)
    if wrong is not None:
        raise ConfigurationError(
            f'FAIRBRUSH_BACKENDS: option "{wrong}" of {head} has no value, as in ;slots=2'
        )
    return BackendEntry(
        kind.strip(), target.strip(), {name.strip(): value.strip() for name, _, value in pairs}
    )


def _dotenv(env_file: Path | None) -> Mapping[str, str]:
    from dotenv import dotenv_values  # comes with pydantic-settings

    values = dotenv_values(env_file) if env_file is not None and env_file.is_file() else {}
    return {name: value for name, value in values.items() if value is not None}


def _secrets(dotenv: Mapping[str, str]) -> dict[str, Secret]:
    found = {name: _secret(name, os.environ, dotenv) for name in SECRETS}
    return {name: Secret(value) for name, value in found.items() if value}


def _secret(name: str, environ: Mapping[str, str], dotenv: Mapping[str, str]) -> str:
    for source in (environ, dotenv):
        if value := source.get(name, "").strip():
            return value
        if path := source.get(f"{name}_FILE", ""):
            try:
                return Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ConfigurationError(f"{name}_FILE: {path} cannot be read: {error.strerror}") from None
    return ""


def _explain(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        name = "FAIRBRUSH_" + "_".join(str(part) for part in item["loc"]).upper()
        parts.append(f"{name}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts)
