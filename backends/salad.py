"""Salad Inference Endpoints: `salad:ORG/ENDPOINT`, with the key in SALAD_API_KEY.

Both of Salad's APIs carry the same inputs. The current one (jobs) lists jobs, with our mark on them, and
cancels them, so that a job survives a crash at any moment; the beta, which the first endpoints speak, does
neither. An endpoint that the current API knows is spoken to by it, whatever its age.

Each picture is a job of its own, with its own seed, so that each can be made again by itself. All jobs share
the 240 calls a minute that a key has.

Options, as in `salad:acme/pictures;price=0.01;model=stabilityai/sdxl-turbo`:

    api             jobs or beta, where it is not to be found out
    price           US dollars a picture
    price_per_hour  US dollars an hour of device time, for an endpoint on GPUs of your own; Salad's list has a
                    GPU-hour from about 0.05 (a small card at a low priority), billed by the second
    model           the model behind the endpoint, for --model, its licence and its pipelines
    size, steps, guidance   what its model does best: 1024x1024, 30, 7
    pipelines       sd, sdxl or auto: whose classes are named
    image           init_image where the endpoint's image of docker-diffusers-api is older than `image`

Salad publishes no price of an endpoint, so one must be told; another address than Salad's own costs nothing
unless it is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from backends._endpoint import at_home
from backends._http import REAL_CLOCK, Http, poll_delays
from backends._licences import licence_of
from backends._pacing import OWN_SERVER
from backends._remote import Remote
from backends._salad_inputs import OFFERED_SCHEDULERS, PIPELINES, REFUSED_SCHEDULERS, Wording
from backends._salad_wire import SaladWire
from bot.core.errors import ConfigurationError
from bot.core.ports import Backend, Clock, Model, Price
from bot.core.settings import BackendEntry, Settings

ADDRESS: Final = "https://api.salad.com"
_SETTING: Final = "FAIRBRUSH_SALAD_URL"
PER_MINUTE: Final = 240
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
_OPTIONS: Final = (
    "api",
    "price",
    "price_per_hour",
    "model",
    "size",
    "steps",
    "guidance",
    "pipelines",
    "image",
)


def create(target: str, settings: Settings) -> Backend:
    """The backend of `salad:ORG/ENDPOINT`. Raises ConfigurationError."""
    return build(target, settings)


def build(
    target: str,
    settings: Settings,
    *,
    clock: Clock | None = None,
    delays: Callable[[], Iterator[float]] = poll_delays,
) -> Remote:
    """As create(), with the clock and the pace of polls passed in."""
    entry = settings.entry("salad", target)
    entry.expect(*_OPTIONS)
    organization, endpoint = _names(entry)
    address = settings.service_urls.get("salad") or ADDRESS
    real = at_home(address, ADDRESS, setting=_SETTING)
    key = settings.secret("SALAD_API_KEY")
    if real and not key:
        raise ConfigurationError(
            f"SALAD_API_KEY is not set; {entry.name} needs it. It is under API Access in Salad's portal."
        )
    sharing = sum(other.kind == "salad" for other in settings.backends) or 1
    http = Http(
        address,
        headers={"Salad-Api-Key": key.reveal()} if key else {},
        clock=clock,
        service="Salad",
        setting=_SETTING,
        per_minute=max(1, (PER_MINUTE if real else OWN_SERVER) // sharing),
    )
    model = _model(entry, endpoint, paid=real)
    wire = SaladWire(
        http,
        organization,
        endpoint,
        model=model,
        wording=_wording(entry, model, settings),
        api=_choice(entry, "api", ("jobs", "beta"), None),
        clock=clock or REAL_CLOCK,
    )
    return Remote(entry.name, wire, http, clock=clock, delays=delays)


def _names(entry: BackendEntry) -> tuple[str, str]:
    organization, _, endpoint = entry.target.partition("/")
    if not (_NAME.fullmatch(organization) and _NAME.fullmatch(endpoint)):
        raise ConfigurationError(
            f'FAIRBRUSH_BACKENDS: "{entry.name}" is not salad:ORGANIZATION/ENDPOINT, as in '
            "salad:acme/stable-diffusion-2-1 (small letters, digits and -)."
        )
    return organization, endpoint


def _model(entry: BackendEntry, endpoint: str, *, paid: bool) -> Model:
    name = entry.options.get("model", "") or endpoint
    licence, commercial = licence_of(name)
    width, height = _size(entry, name)
    return Model(
        id=name,
        title=name,
        width=width,
        height=height,
        steps=_whole(entry, "steps", 30),
        guidance_scale=entry.number("guidance", 7.5),
        licence=licence,
        commercial=commercial,
        schedulers=OFFERED_SCHEDULERS,
        refused_schedulers=REFUSED_SCHEDULERS,
        price=_price(entry, paid=paid),
    )


def _price(entry: BackendEntry, *, paid: bool) -> Price | None:
    """What the operator says; None where it costs nothing."""
    said = [name for name in ("price", "price_per_hour") if name in entry.options]
    if len(said) == 2:
        raise ConfigurationError(
            f"FAIRBRUSH_BACKENDS: {entry.name} has both ;price= (a picture) and ;price_per_hour= (device "
            "time). Keep one."
        )
    if not said and paid:
        raise ConfigurationError(
            f"FAIRBRUSH_BACKENDS: {entry.name}: Salad publishes no price of this endpoint. Say it, as in "
            f"{entry.name};price=0.04 (US dollars a picture; 0 where it costs nothing), or "
            ";price_per_hour=0.3 (device time)."
        )
    price = Price(
        per_image=entry.number("price", 0.0), per_second=entry.number("price_per_hour", 0.0) / 3600.0
    )
    return price if price != Price() else None


def _size(entry: BackendEntry, model: str) -> tuple[int, int]:
    side = 1024 if "xl" in model.lower() else 768 if "2-1" in model or "2.1" in model else 512
    return entry.size((side, side))


def _whole(entry: BackendEntry, option: str, default: int) -> int:
    number = entry.number(option, default)
    if number < 1 or number != int(number):
        raise ConfigurationError(
            f"FAIRBRUSH_BACKENDS: {entry.name};{option}={entry.options[option]} is not a whole number from 1."
        )
    return int(number)


def _wording(entry: BackendEntry, model: Model, settings: Settings) -> Wording:
    usual = "sdxl" if "xl" in model.id.lower() else "sd"
    return Wording(
        pipelines=_choice(entry, "pipelines", tuple(PIPELINES), usual) or usual,
        image=_choice(entry, "image", ("image", "init_image"), "image") or "image",
        safety_checker=settings.safety_checker,
    )


def _choice(entry: BackendEntry, option: str, known: Sequence[str], default: str | None) -> str | None:
    said = entry.options.get(option)
    if said is not None and said not in known:
        raise ConfigurationError(
            f"FAIRBRUSH_BACKENDS: {entry.name};{option}={said} is not known. "
            f"It is one of: {', '.join(known)}."
        )
    return said or default
