"""What one `openai:MODEL` entry offers: the model, its sizes, the fields that are sent and what it costs.

On api.openai.com that is known by the model's name. At any other address nothing is assumed from a name: the
entry's options say what the server honours. Pure but for reading the settings that are passed in.

    ;price=0.04            US dollars a picture; wins over the table. Elsewhere than at OpenAI 0 unless said
    ;quality=low           OpenAI's quality, medium unless said (of DALL·E: standard)
    ;previews=2            OpenAI only: 0-3 previews of each picture, each charged 100 tokens; elsewhere: of a
                           server that streams as OpenAI does
    ;size=768x768          the model's best size;  ;sizes=512x512+768x768  all sizes, where it has a list
    ;params=steps+seed     the fields that the server honours, of steps, guidance_scale, seed and
                           negative_prompt; also width+height for one that takes no size;
                           seed:random_seed sends it by another name
    ;params=sdcpp          stable-diffusion.cpp's own fields;  ;params=vllm  vLLM-Omni's
    ;edits=1               it takes pictures at /v1/images/edits
    ;format=b64_json       what response_format says; none leaves it out
    ;steps=20  ;guidance=7  the model's best, where it honours them
    ;like=gpt-image-2      the server relays this model of OpenAI's

Another Fairbrush says all that of its models by itself; what an entry says wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from backends._licences import licence_of
from backends._openai_models import KNOWN, Known, Size, free_size, known, nearest
from bot.core.errors import ConfigurationError
from bot.core.ports import Model, Price
from bot.core.request import JSON, ImageRequest
from bot.core.schedulers import SCHEDULERS
from bot.core.settings import SIZE, BackendEntry

OPTIONS: Final = (
    *("price", "quality", "previews", "size", "sizes", "params", "edits", "format", "steps", "guidance"),
    "like",
)
_ELSEWHERE: Final = ("size", "sizes", "params", "edits", "format", "steps", "guidance", "like")
_FIELDS: Final = ("steps", "guidance_scale", "seed", "negative_prompt")
_LEARNT: Final = (*_FIELDS, "scheduler")
_NAMED: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "sdcpp": {name: name for name in _FIELDS},
        "vllm": {
            "steps": "num_inference_steps",
            "guidance_scale": "guidance_scale",
            "seed": "seed",
            "negative_prompt": "negative_prompt",
        },
    }
)
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}\Z")


@dataclass(frozen=True, slots=True)
class Offer:
    """One model at one address.

    known: OpenAI's own, or None; sizes: all that it makes, empty for those of `known`, or any; fields: our
    name -> the key it is sent as; wrapped: they go into the prompt, as stable-diffusion.cpp reads them;
    response_format: sent where not empty; previews: of each picture where nothing else is asked for; most:
    pictures in one call; price: of a picture, where the entry says so.
    """

    model: Model
    known: Known | None
    quality: str
    sizes: tuple[Size, ...]
    fields: Mapping[str, str]
    wrapped: bool
    response_format: str
    previews: int
    edits: bool
    most: int
    price: float | None

    @property
    def params(self) -> frozenset[str]:
        """For Capabilities: the fields of a request that it honours."""
        honoured = {name for name in self.fields if name in _LEARNT}
        if self.edits:
            honoured |= {"init_image", "mask_image"} if self.known else {"init_image"}
            if self.wrapped:
                honoured |= {"strength"}
        return frozenset(honoured | ({"previews"} if self.previews else set()))

    def size_for(self, request: ImageRequest) -> Size:
        """The size that is asked for in place of the request's."""
        if self.sizes:
            return nearest(self.sizes, request.width, request.height)
        if self.known is not None:
            return free_size(request.width, request.height)
        return request.width, request.height

    def calls(self, request: ImageRequest, *, streamed: bool) -> tuple[tuple[int, ...], ...]:
        """The pictures of each call: as many at once as the model makes, but one where each has a seed of its
        own or is streamed."""
        most = 1 if streamed or "seed" in self.fields else self.most
        indices = tuple(range(request.count))
        return tuple(indices[at : at + most] for at in range(0, request.count, most))

    def money(self, made: int, size: Size, usage: float, counted: int) -> float | None:
        """What `made` pictures cost, in US dollars; usage: of `counted` pictures, by the answers' own count
        of tokens."""
        if self.price is not None:
            return self.price * made or None
        if self.known is None:
            return None
        rest = max(0, made - counted)
        each = self.known.price_of(self.quality, size) if rest else 0.0
        return None if each is None and not counted else usage + (each or 0.0) * rest


def read_offer(entry: BackendEntry, *, official: bool) -> Offer:
    """The offer of an entry; official: at api.openai.com. Raises ConfigurationError with the way out."""
    entry.expect(*OPTIONS)
    if not entry.target:
        raise ConfigurationError("FAIRBRUSH_BACKENDS: openai: needs a model, as in openai:gpt-image-2.")
    model = _relayed(entry, official)
    return _generic(entry) if model is None else _openai(entry, model, official)


def _relayed(entry: BackendEntry, official: bool) -> Known | None:
    """The model of OpenAI's that an entry means; None for others."""
    if official:
        for option in _ELSEWHERE:
            if option in entry.options:
                raise _wrong(entry, option, "is for other servers than OpenAI's; set FAIRBRUSH_OPENAI_URL")
        found = known(entry.target)
        if found is None and "price" not in entry.options:
            raise ConfigurationError(
                f"FAIRBRUSH_BACKENDS: what {entry.target} costs at OpenAI is not known here. Add ;price=0.04 "
                f"(US dollars a picture; 0 where it costs nothing), or use one of {', '.join(KNOWN)}."
            )
        # A newer model than this table: made as the newest in it, which it most likely follows.
        return found or Known(entry.target, (), {}, "medium", more_qualities=("low", "medium", "high"))
    if (like := entry.options.get("like")) is None:
        return None
    if (found := known(like)) is None:
        raise _wrong(entry, "like", f"is none of {', '.join(KNOWN)}")
    return found


def _openai(entry: BackendEntry, model: Known, official: bool) -> Offer:
    quality = entry.options.get("quality", model.quality)
    if quality not in model.qualities:
        raise _wrong(entry, "quality", f"is none of {', '.join(model.qualities)}")
    price, said = model.price(quality), _price(entry)
    if official and said is None and price is None:
        raise ConfigurationError(
            f"FAIRBRUSH_BACKENDS: what {entry.name} costs at quality {quality} is not known here. Add "
            ";price=0.04 (US dollars a picture)."
        )
    if said is not None or not official:
        price = Price(said) if said else None
    best = (1024, 1024)
    licence, commercial = licence_of(entry.target)
    retired = f"OpenAI shut this model down {model.retired}; name another." if model.retired else ""
    return Offer(
        model=Model(
            id=entry.target,
            title=model.title,
            width=best[0],
            height=best[1],
            steps=1,
            guidance_scale=1.0,
            licence=licence,
            commercial=commercial,
            advice=retired if official else "",
            price=price,
        ),
        known=model,
        quality=quality,
        sizes=model.sizes,
        fields={},
        wrapped=False,
        response_format="" if model.gpt else "b64_json",
        previews=_previews(entry) if model.gpt else 0,
        edits=model.gpt,
        most=model.most,
        price=said if official else said or 0.0,
    )


def _generic(entry: BackendEntry) -> Offer:
    fields, wrapped = _fields(entry)
    sizes = tuple(_size(entry, "sizes", text) for text in entry.options.get("sizes", "").split("+") if text)
    best = _size(entry, "size", entry.options.get("size", "1024x1024"))
    if sizes and "size" not in entry.options:
        best = sizes[0]
    steps = round(entry.number("steps", 20 if "steps" in fields else 1))
    guidance = entry.number("guidance", 7.0 if "guidance_scale" in fields else 1.0)
    said = _price(entry)
    response_format = entry.options.get("format", "b64_json")
    licence, commercial = licence_of(entry.target)
    return Offer(
        model=Model(
            id=entry.target,
            title=entry.target,
            width=best[0],
            height=best[1],
            steps=max(1, steps),
            guidance_scale=guidance,
            licence=licence,
            commercial=commercial,
            price=Price(said) if said else None,
        ),
        known=None,
        quality=entry.options.get("quality", ""),
        sizes=sizes,
        fields=fields,
        wrapped=wrapped,
        response_format="" if response_format == "none" else response_format,
        previews=_previews(entry),
        edits=entry.number("edits", 0) > 0,
        most=10,
        price=said or 0.0,
    )


def learnt(offer: Offer, entry: BackendEntry, listing: JSON) -> Offer:
    """The offer with what a server's list of models says about this one beyond OpenAI's format, as Fairbrush
    does: params, default_size, steps, guidance_scale, scheduler, schedulers, title, licence, commercial,
    advice. What the entry says stays."""
    card = _card(offer.model.id, listing)
    params = card.get("params")
    if offer.known is not None or not isinstance(params, Sequence) or isinstance(params, str):
        return offer
    if "params" not in entry.options:
        offer = replace(offer, fields={name: name for name in _LEARNT if name in params})
    said: dict[str, Any] = {}
    for name in ("title", "licence", "advice", "scheduler"):
        if isinstance(value := card.get(name), str) and len(value) <= 300:
            said[name] = value
    if isinstance(commercial := card.get("commercial"), bool):
        said["commercial"] = commercial
    if isinstance(names := card.get("schedulers"), Sequence) and not isinstance(names, str):
        said["schedulers"] = tuple(name for name in names if isinstance(name, str) and name in SCHEDULERS)
    if said.get("scheduler") not in said.get("schedulers", ()):
        said.pop("scheduler", None)
    said |= _numbers(entry, card)
    return replace(offer, model=replace(offer.model, **said))


def _numbers(entry: BackendEntry, card: Mapping[str, JSON]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    steps, guidance = card.get("steps"), card.get("guidance_scale")
    if "steps" not in entry.options and isinstance(steps, int) and 1 <= steps <= 500:
        said["steps"] = int(steps)
    if "guidance" not in entry.options and isinstance(guidance, int | float) and 0 <= guidance <= 100:
        said["guidance_scale"] = float(guidance)
    size = SIZE.fullmatch(str(card.get("default_size")))
    if size is not None and not {"size", "sizes"} & set(entry.options):
        said |= {"width": int(size[1]), "height": int(size[2])}
    return said


def _card(model: str, listing: JSON) -> Mapping[str, JSON]:
    """What a list of models says about one; {} where it is not there."""
    data = listing.get("data") if isinstance(listing, Mapping) else None
    cards = data if isinstance(data, Sequence) and not isinstance(data, str) else ()
    for card in cards:
        if isinstance(card, Mapping):
            aliases = card.get("aliases")
            names = aliases if isinstance(aliases, Sequence) and not isinstance(aliases, str) else ()
            if model == card.get("id") or model in names:
                return card
    return {}


def _fields(entry: BackendEntry) -> tuple[Mapping[str, str], bool]:
    text = entry.options.get("params", "")
    if text in _NAMED:
        return _NAMED[text], text == "sdcpp"
    fields: dict[str, str] = {}
    for part in text.split("+") if text else ():
        name, colon, key = part.partition(":")
        if name not in (*_FIELDS, "width", "height") or (colon and not _KEY.match(key)):
            raise _wrong(entry, "params", f'"{part}" is none of {", ".join(_FIELDS)}, width, height')
        fields[name] = key or name
    return fields, False


def _previews(entry: BackendEntry) -> int:
    number = entry.number("previews", 0)
    if number not in (0, 1, 2, 3):
        raise _wrong(entry, "previews", "is not 0, 1, 2 or 3")
    return int(number)


def _price(entry: BackendEntry) -> float | None:
    return entry.number("price", 0.0) if "price" in entry.options else None


def _size(entry: BackendEntry, option: str, text: str) -> Size:
    if (found := SIZE.fullmatch(text)) is None:
        raise _wrong(entry, option, f'"{text}" is no size such as 1024x1024')
    return int(found[1]), int(found[2])


def _wrong(entry: BackendEntry, option: str, why: str) -> ConfigurationError:
    value = entry.options.get(option, "")
    return ConfigurationError(f"FAIRBRUSH_BACKENDS: {entry.name};{option}={value}: {why}.")
