"""The texts that people read and that are the same on every platform.

Plain text without markup: adapters escape it, make parts bold and add their own times and buttons. It knows
no platform, no clock and no job beyond the values that it is given.
"""

from __future__ import annotations

import math
from typing import Final

from bot.core.ports import JobStatus, Position, Price, Progress
from bot.core.request import ImageResult, State
from bot.core.text import clip

PROMPT_SHOWN: Final = 80
"""Characters of a prompt on a status line."""

RESTARTED: Final = "Restarted, your place was kept"
NOT_CHARGED: Final = "Not charged."
MAY_BE_CHARGED: Final = "The hosted service may charge for it all the same."

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


# --- time and place ---------------------------------------------------------------------------------------


def wait_range(low: float, high: float) -> str:
    """A wait of `low` to `high` seconds: "under a minute", "1-3 min", "2-4 h", "1-2 days"."""
    low, high = max(0.0, min(low, high)), max(0.0, low, high)
    if high < _MINUTE:
        return "under a minute"
    if high < 1.5 * _HOUR:
        return _span(low / _MINUTE, high / _MINUTE, "min")
    if high < 1.5 * _DAY:
        return _span(low / _HOUR, high / _HOUR, "h")
    return _span(low / _DAY, high / _DAY, "days")


def _span(low: float, high: float, unit: str) -> str:
    """Rounded outwards, so that the promise holds; never from nothing."""
    first, last = max(1, math.floor(low)), math.ceil(high)
    return f"about {last} {unit}" if first >= last else f"{first}-{last} {unit}"


def duration(seconds: float) -> str:
    """Time spent: "18 s", "1:40", "2:05:00"."""
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ahead(position: Position) -> str:
    """ "Next", "About 1 request ahead", "About 9 requests ahead"."""
    return f"About {_count(position.ahead, 'request')} ahead" if position.ahead > 0 else "Next"


def own_place(position: Position) -> str:
    """ "your #2 of 3", or nothing where it is the only one."""
    return f"your #{position.own_rank} of {position.own_total}" if position.own_total > 1 else ""


def place(position: Position) -> str:
    """A place on one line: "#2 of yours · about 9 ahead · 1-3 min", "next · under a minute"."""
    rank = f"#{position.own_rank} of yours" if position.own_total > 1 else ""
    before = f"about {position.ahead:,} ahead" if position.ahead > 0 else "next"
    return _dotted(rank, before, wait_range(position.low, position.high))


def why_waiting(
    members: int,
    places: int = 1,
    *,
    guilds: int = 1,
    member: str = "member",
    guild: str = "server",
    place: str = "GPU",
) -> str:
    """Why somebody waits. members, guilds: that have requests in the queue; places: that make pictures.

    member, guild, place: what the platform calls them ("member" or "person", "server" or "workspace").
    """
    whose = _count(members, member)
    if guilds > 1:
        whose = f"{whose} of {_count(guilds, guild)}"
    verb = "shares" if members == 1 else "share"
    if members == 1:
        return f"{whose} uses {_count(places, place)}: your own requests are made one after the other."
    first = f"The {guild}, and in it the {member}, that has" if guilds > 1 else "Whoever has"
    return (
        f"{whose} {verb} {_count(places, place)}. {first} had least {place} time since joining the line "
        "goes next; big requests count for more."
    )


def share_line(own_seconds: float, typical_seconds: float) -> str:
    """ "last hour: you 1:40 · typical 0:50", of device time."""
    return f"last hour: you {_clock(own_seconds)} · typical {_clock(typical_seconds)}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02}"


# --- progress ---------------------------------------------------------------------------------------------


def progress_bar(progress: Progress, *, width: int = 10) -> str:
    """ "▰▰▰▰▱▱▱▱▱▱ 12/30", with a percentage where steps are unknown, or the phase before there are any."""
    fraction = min(1.0, max(0.0, progress.fraction))
    if progress.step is None and progress.phase and fraction == 0:
        return progress.phase
    filled = math.floor(fraction * width)
    bar = "▰" * filled + "▱" * (width - filled)
    if progress.step is None or not progress.total:
        return f"{bar} {math.floor(fraction * 100)} %"
    return f"{bar} {min(progress.step, progress.total)}/{progress.total}"


def one_line(prompt: str) -> str:
    """A prompt for a status line: at most PROMPT_SHOWN characters, line breaks taken out."""
    return clip(prompt, PROMPT_SHOWN)


def status_line(status: JobStatus, *, guild: str = "server") -> str:
    """How a group stands, on one line without its prompt and without a time of day. guild: as of
    why_waiting()."""
    kept = RESTARTED if status.restarted else ""
    match status.state:
        case State.ACCEPTED:
            return _dotted(kept, "Accepted")
        case State.QUEUED:
            return _dotted(kept, ahead(status.position) if status.position else "Queued")
        case State.RUNNING:
            bar = progress_bar(status.progress) if status.progress else "Starting"
            return _dotted(bar, f"{status.made} of {status.total} made" if status.total > 1 else "")
        case State.DONE:
            return status.message or "Ready"
        case State.FAILED:
            return failed(status.message, status.reference, charged=status.charged)
        case State.CANCELLED:
            return cancelled(status.made, charged=status.charged)
        case State.WITHHELD:
            return withheld(status.message, guild=guild)


# --- ends -------------------------------------------------------------------------------------------------


def finished(
    *, seed: int | None, model: str = "", seconds: float = 0.0, backend: str = "", money: float | None = None
) -> str:
    """ "seed 812734 · SDXL · 18 s · local", hosted "... · fal · $0.02". backend: `kind:target` or a kind;
    several with commas between them."""
    return _dotted(
        "" if seed is None else f"seed {seed}",
        model,
        duration(seconds) if seconds > 0 else "",
        ", ".join(dict.fromkeys(name.partition(":")[0] for name in backend.split(", "))),
        "" if money is None else price(money),
    )


def finished_line(result: ImageResult) -> str:
    """finished() for a result, with the first shown picture's seed."""
    seed = next((picture.seed for picture in result.pictures if not picture.withheld), None)
    return finished(
        seed=seed,
        model=result.model,
        seconds=result.device_seconds,
        backend=result.backend,
        money=result.money,
    )


def price(money: float) -> str:
    """US dollars: "$0.02"; small sums to the tenth of a cent."""
    return f"${money:.2f}" if money >= 0.01 or money == 0 else f"${max(money, 0.001):.3f}"


def prices(each: Price) -> str:
    """What a model costs: "$0.04 a picture", "$0.01 a megapixel + $0.002 a second"."""
    parts = ((each.per_image, "picture"), (each.per_megapixel, "megapixel"), (each.per_second, "second"))
    return " + ".join(f"{_exactly(money)} a {unit}" for money, unit in parts if money)


def _exactly(money: float) -> str:
    return f"${money:.2f}" if round(money, 2) == money else f"${money:g}"


def ended(result: ImageResult, *, guild: str = "server") -> str:
    """What to say of a result with no pictures, or fewer than asked for; nothing where all is well. guild:
    as of why_waiting()."""
    match result.state:
        case State.FAILED:
            return failed(result.message, result.reference, charged=bool(result.money))
        case State.CANCELLED:
            return cancelled(len(result.pictures), charged=bool(result.money))
        case State.WITHHELD:
            return withheld(result.message, guild=guild)
    return result.message


def not_made(message: str, *, charged: bool = False) -> str:
    """ "Not made: out of GPU memory at 2048×2048. Not charged." """
    return f"Not made: {_sentence(message or 'something went wrong')}" + (
        "" if charged else f" {NOT_CHARGED}"
    )


def reference_line(reference: str) -> str:
    """ "ref 7K2Q": what an operator finds in the log."""
    return f"ref {reference}" if reference else ""


def failed(message: str, reference: str = "", *, charged: bool = False) -> str:
    """not_made() and the reference on one line."""
    return " ".join(filter(None, (not_made(message, charged=charged), reference_line(reference))))


def cancelled(made: int = 0, *, charged: bool = False) -> str:
    """made: pictures that were ready before; charged: it cost money, or may have."""
    if made:
        return f"Cancelled after {_count(made, 'picture')}."
    return f"Cancelled. {MAY_BE_CHARGED if charged else NOT_CHARGED}"


def withheld(message: str = "", *, guild: str = "server") -> str:
    """The backend or a content rule kept the result back; message: why."""
    reason = message.removeprefix("Withheld:").strip()
    reason = reason or f"a content rule of this {guild} forbids the result"
    return f"Withheld: {_sentence(reason)}"


# --- refusals ---------------------------------------------------------------------------------------------


def not_queued(message: str) -> str:
    """A refusal as people read it: "Not queued: Steps must be ..."."""
    return message if message.startswith("Not queued:") else f"Not queued: {_sentence(message)}"


def queue_full(waiting: int, most: int, asked: int = 1, *, whose: str = "your", note: str = "") -> str:
    """ "Not queued: 10 of your 10 places are taken. Wait for one, or cancel one."; asked: places wanted;
    note: whose limit it is."""
    taken = f"Not queued: {waiting:,} of {whose} {most:,} places {'is' if most == 1 else 'are'} taken"
    taken += f" ({note})" if note else ""
    if asked > most:
        return f"{taken} and this needs {asked:,}. Ask for fewer prompts at once."
    if asked > 1 and waiting < most:
        return f"{taken} and this needs {asked:,} more. Wait, or ask for fewer prompts at once."
    return f"{taken}. Wait for one to finish, or cancel one."


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _count(count: int, noun: str) -> str:
    """ "1 GPU", "31 members", "2,000 people"."""
    plural = "people" if noun == "person" else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def _dotted(*parts: str) -> str:
    return " · ".join(filter(None, parts))
