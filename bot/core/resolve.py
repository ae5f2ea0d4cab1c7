"""From what was said to what is made: defaults filled in, every limit checked, names looked up.

Everything that can be refused without a backend is refused here, with the field, the limit and the way out.
It knows no platform and no backend, only what models are offered and which parameters are honoured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from bot.core.checks import (
    check_inputs,
    check_numbers,
    check_params,
    check_work,
    checked_text,
    doubled,
)
from bot.core.errors import InvalidRequest
from bot.core.names import find_model, find_style, pick_scheduler
from bot.core.options import Options
from bot.core.permutations import plain, unfold
from bot.core.ports import Model
from bot.core.ranges import number, ranges
from bot.core.request import MAX_SEED, Defaults, Image, ImageRequest, Limits
from bot.core.sizes import check_ratio, nearest_size, ratio_name
from bot.core.text import clip

DEFAULT_STRENGTH: Final = 0.6
VARY_STRENGTH: Final = 0.55
UPSCALE_STRENGTH: Final = 0.35
MAX_PREVIEWS: Final = 10  # of each picture

_LIMITS: Final = Limits()
N = TypeVar("N", int, float)


def resolve(
    options: Options,
    *,
    defaults: Defaults,
    limits: Limits,
    models: Sequence[Model],
    seed: Callable[[], int],
    params: frozenset[str] | None = None,
    init_image: Image | None = None,
    mask_image: Image | None = None,
    literal: bool = False,
    prompts: Sequence[str] = (),
    previews: int = 0,
) -> tuple[ImageRequest, ...]:
    """The requests that `options` stand for, one for each prompt, all with one seed and one size.

    defaults: of `defaults.model`; where the options name another model, its own best size, steps, guidance
    and scheduler count. seed: called where none was said. params: fields of ImageRequest that the backend
    honours (Capabilities.params), None for all. literal: the prompt is taken as it is, without permutations;
    prompts: several such ones instead of the options'. previews: of each picture; none where not honoured.
    Raises InvalidRequest, with the field, for the first thing that is wrong.
    """
    model = find_model(options.model or defaults.model, models, said=options.model is not None)
    defaults = _defaults(defaults, model)
    options = _styled(options, defaults, literal=literal)
    texts = _prompts(options, defaults, limits, literal=literal, given=prompts)
    check_inputs(init_image, mask_image, options, limits)
    draft = _draft(texts[0], options, defaults, limits, model, seed, has_picture=init_image is not None)
    if init_image is not None or mask_image is not None:
        draft = replace(draft, init_image=init_image, mask_image=mask_image)
    check_params(draft, options, defaults, params)
    draft = _without_unheeded(draft, params)
    check_numbers(draft, limits)
    width, height = _size(draft, options, defaults, limits, len(texts))
    seen = _previews(previews, params)
    request = draft
    if (width, height, seen) != (draft.width, draft.height, draft.previews):
        request = replace(draft, width=width, height=height, previews=seen)
    check_work(request, limits, len(texts))
    if len(texts) == 1:
        return (request,)
    return tuple(replace(request, prompt=prompt) for prompt in texts)


def _previews(wanted: int, params: frozenset[str] | None) -> int:
    """Raises InvalidRequest where it is out of range; none where no backend gives as many as asked."""
    if not 0 <= wanted <= MAX_PREVIEWS:
        raise InvalidRequest(
            f"previews must be a number from 0 to {MAX_PREVIEWS}, not {wanted}.", field="previews"
        )
    return wanted if params is None or "previews" in params else 0


def _draft(
    prompt: str,
    options: Options,
    defaults: Defaults,
    limits: Limits,
    model: Model | None,
    seed: Callable[[], int],
    *,
    has_picture: bool,
) -> ImageRequest:
    """All but the pictures, with the size that was said; its numbers are not checked yet."""
    return ImageRequest(
        prompt=prompt,
        width=_or(options.width, defaults.width),
        height=_or(options.height, defaults.height),
        steps=_or(options.steps, defaults.steps),
        guidance_scale=_or(options.guidance_scale, defaults.guidance_scale),
        seed=seed() % (MAX_SEED + 1) if options.seed is None else options.seed,
        count=_or(options.count, defaults.count),
        negative_prompt=_negative(options, defaults, limits),
        scheduler=pick_scheduler(options.scheduler, model, default=defaults.scheduler),
        model=defaults.model,
        style=None if options.style is None else find_style(options.style, defaults.styles),
        strength=_or(options.strength, _usual_strength(options)) if has_picture else None,
        spoiler=options.spoiler,
        upscale=options.upscale,
        source=options.source if has_picture else "",
    )


def _usual_strength(of: Options | ImageRequest) -> float:
    return UPSCALE_STRENGTH if of.upscale else VARY_STRENGTH if of.source else DEFAULT_STRENGTH


def _negative(options: Options, defaults: Defaults, limits: Limits) -> str:
    said = options.negative_prompt
    return checked_text(defaults.negative_prompt if said is None else said, "negative_prompt", limits)


def _styled(options: Options, defaults: Defaults, *, literal: bool) -> Options:
    """The options with the default style where none is said; "none" and nothing ask for no style."""
    if options.style is None:
        return options if literal or defaults.style is None else replace(options, style=defaults.style)
    none = options.style.strip().casefold() in ("", "none") and options.style not in defaults.styles
    return replace(options, style=None) if none else options


def _without_unheeded(draft: ImageRequest, params: frozenset[str] | None) -> ImageRequest:
    """Defaults that the backend would not heed are left to it."""
    keeps = {"scheduler", "strength", "negative_prompt"} if params is None else params
    if keeps >= {"scheduler", "strength", "negative_prompt"}:
        return draft
    return replace(
        draft,
        scheduler=draft.scheduler if "scheduler" in keeps else None,
        strength=draft.strength if "strength" in keeps else None,
        negative_prompt=draft.negative_prompt if "negative_prompt" in keeps else "",
    )


def _or(said: N | None, default: N) -> N:
    return default if said is None else said


def as_options(request: ImageRequest) -> Options:
    """A request's full recipe but for its pictures: resolving it gives the request again.

    No style is put around the prompt again, for its words are there already.
    """
    return Options(
        prompt=plain(request.prompt),
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        steps=request.steps,
        guidance_scale=request.guidance_scale,
        seed=request.seed,
        count=request.count,
        scheduler=request.scheduler,
        model=request.model,
        style="none" if request.style else None,
        strength=request.strength,
        spoiler=request.spoiler,
        upscale=request.upscale,
        source=request.source,
    )


def differences(request: ImageRequest, defaults: Defaults, limits: Limits = _LIMITS) -> tuple[str, ...]:
    """What a receipt says: how a request differs from the defaults ("16:9", "40 steps"), nothing else."""
    area = defaults.width * defaults.height
    same_size = (request.width, request.height) == (defaults.width, defaults.height)
    negative, remade = clip(request.negative_prompt, 40), _remade(request)
    found = (
        remade,
        not same_size and ratio_name(request.width, request.height, area, limits),
        request.steps != defaults.steps and f"{request.steps} {'step' if request.steps == 1 else 'steps'}",
        request.guidance_scale != defaults.guidance_scale and f"guidance {number(request.guidance_scale)}",
        request.count != defaults.count and f"{request.count} picture{'s' * (request.count > 1)}",
        request.scheduler != defaults.scheduler and request.scheduler,
        request.model != defaults.model and request.model,
        request.style != defaults.style and (request.style or (not request.source and "no style")),
        request.negative_prompt != defaults.negative_prompt and negative and f"no {negative}",
        request.init_image
        and not remade
        and f"from a picture, strength {number(request.strength or DEFAULT_STRENGTH)}",
    )
    return tuple(part for part in found if isinstance(part, str) and part)


def _remade(request: ImageRequest) -> str:
    """ "upscale of 7K2QABCD", "variation of 7K2QABCD #2"; nothing for what comes from no result."""
    strength = request.strength or _usual_strength(request)
    said = "" if strength == _usual_strength(request) else f", strength {number(strength)}"
    if request.upscale:
        return f"upscale of {request.source or 'a picture'}{said}"
    return f"variation of {request.source}{said}" if request.source else ""


def _defaults(defaults: Defaults, model: Model | None) -> Defaults:
    """The defaults, those of `model` where they are another model's."""
    if model is None or model.id == defaults.model:
        return defaults
    return replace(
        defaults,
        width=model.width,
        height=model.height,
        steps=model.steps,
        guidance_scale=model.guidance_scale,
        scheduler=model.scheduler,
        model=model.id,
    )


def _prompts(
    options: Options, defaults: Defaults, limits: Limits, *, literal: bool, given: Sequence[str]
) -> tuple[str, ...]:
    """Every prompt, with its style's words."""
    if len(given) > limits.max_prompts:
        raise InvalidRequest(
            f"These are {len(given):,} prompts; at most {limits.max_prompts:,} are allowed in one request. "
            "Send the others in a request of their own.",
            field="prompt",
        )
    texts = [checked_text(text, "prompt", limits) for text in given or (options.prompt,)]
    prompts = tuple(texts) if literal or given else unfold(texts[0], limits=limits)
    if not all(prompts):
        raise InvalidRequest(
            "The prompt is empty. Say what to draw, such as: a red fox in snow", field="prompt"
        )
    if options.style is None:
        return prompts
    template = defaults.styles[find_style(options.style, defaults.styles)]
    if "{prompt}" not in template:
        template = f"{{prompt}}, {template}"
    styled = tuple(template.replace("{prompt}", prompt) for prompt in prompts)
    longest = max(map(len, styled))
    if longest > limits.max_prompt:
        raise InvalidRequest(
            f"With the words of its style the prompt has {longest:,} characters; at most "
            f"{limits.max_prompt:,} are allowed. Shorten it, or leave --style out.",
            field="style",
        )
    return styled


def _size(
    draft: ImageRequest, options: Options, defaults: Defaults, limits: Limits, prompts: int
) -> tuple[int, int]:
    """Width and height: what was said, else the ratio, else the picture's own, else the default. An upscale's
    are twice the picture's."""
    if options.upscale and draft.init_image is not None:
        return doubled(draft.init_image, options, limits)
    if options.aspect is not None:
        return _size_of_ratio(options.aspect, options, defaults, limits)
    if draft.init_image is not None and options.width is None and options.height is None:
        wide, high = draft.init_image.width, draft.init_image.height
        affordable = limits.max_work / (draft.steps * draft.count * prompts)
        return nearest_size(wide / high, min(wide * high, affordable), limits, at_most=affordable)
    width, height = _or(options.width, defaults.width), _or(options.height, defaults.height)
    ranges(limits)["width"].check(width)
    ranges(limits)["height"].check(height)
    check_ratio(width, height, limits, field="width" if options.height is None else "height")
    return width, height


def _size_of_ratio(
    aspect: tuple[int, int], options: Options, defaults: Defaults, limits: Limits
) -> tuple[int, int]:
    """The default's area in this ratio."""
    if options.width is not None or options.height is not None:
        raise InvalidRequest(
            "--ar and a size are both given. Keep --ar (the usual area in that ratio), or the size alone.",
            field="aspect",
        )
    across, down = aspect
    check_ratio(across, down, limits, field="aspect")
    return nearest_size(across / down, defaults.width * defaults.height, limits)
