"""/imagine: its options as Discord is told of them, and the request that they make.

Native options and flags in the prompt mean the same, and a flag wins. Ranges are the operator's; what a
server tightens is checked when the request is taken in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import discord
from discord import app_commands
from discord.app_commands import Choice
from discord.enums import AppCommandOptionType

from adapters.discord import autocomplete, flow
from adapters.discord.answers import guarded
from adapters.discord.asking import from_command
from adapters.discord.declare import Interaction, Option, command
from adapters.discord.drafts import Draft
from adapters.discord.looking import prompt_of
from adapters.discord.modals import LONGEST, text_length
from bot.core.options import Options
from bot.core.patience import Tasks
from bot.core.ranges import number, ranges
from bot.core.request import Limits, Requester

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord

_KINDS: Final = {True: AppCommandOptionType.integer, False: AppCommandOptionType.number}


def imagine(adapter: Discord) -> app_commands.Command[Any, ..., None]:
    """The command."""
    limits = adapter.studio.limits

    async def taken(interaction: Interaction, **values: Any) -> None:
        draft = draft_of_values(values)
        await guarded(interaction, flow.ask(adapter, interaction, from_command(adapter, draft), draft))

    return command("imagine", "Make pictures from words", taken, options_of(adapter, limits))


def options_of(adapter: Discord, limits: Limits) -> Sequence[Option]:
    """Every option; the order is the one in which Discord shows them."""
    suggest = Suggestions(adapter)
    negative_most = min(LONGEST, limits.max_prompt)
    return (
        Option(
            "prompt",
            "What to draw. Flags such as --ar 16:9 or --steps 30 work here too",
            required=True,
            low=1,
            high=text_length(limits),
        ),
        Option("negative", "What to keep out of the picture", high=negative_most),
        Option("size", "Width and height, as in 768x512", high=20, suggest=suggest.size),
        Option("aspect", "The shape, at the usual number of pixels", choices=autocomplete.aspects(limits)),
        _ranged("steps", "Diffusion steps: more is finer and slower", limits),
        _ranged("guidance_scale", "How closely the prompt is followed", limits, name="guidance"),
        _ranged("seed", "The same seed and options make the same picture", limits),
        _ranged("count", "How many pictures", limits),
        Option("scheduler", "How the noise is taken out", high=100, suggest=suggest.scheduler),
        Option("model", "Which model draws", high=100, suggest=suggest.model),
        Option("style", "Words that are put around the prompt", high=100, suggest=suggest.style),
        Option("image", "A picture to start from", AppCommandOptionType.attachment),
        _ranged("strength", "How much of the attached picture is repainted", limits),
        Option("spoiler", "Hide the pictures until they are clicked", AppCommandOptionType.boolean),
    )


def _ranged(field: str, says: str, limits: Limits, *, name: str = "") -> Option:
    span = ranges(limits)[field]
    low, high = (int(span.low), int(span.high)) if span.whole else (float(span.low), float(span.high))
    told = f"{says}. {number(span.low)} to {number(span.high)}"
    return Option(name or field, told, _KINDS[span.whole], low=low, high=high)


def draft_of_values(values: dict[str, Any]) -> Draft:
    """What was filled in; a size is read when the request is taken in, where a refusal is told."""
    image: discord.Attachment | None = values.get("image")
    draft = Draft(
        text=values["prompt"],
        options=Options(
            negative_prompt=values.get("negative"),
            aspect=_aspect(values.get("aspect")),
            steps=values.get("steps"),
            guidance_scale=values.get("guidance"),
            seed=values.get("seed"),
            count=values.get("count"),
            scheduler=values.get("scheduler"),
            model=values.get("model"),
            style=values.get("style"),
            strength=values.get("strength"),
            spoiler=bool(values.get("spoiler")),
        ),
        size=values.get("size"),
    )
    return replace(draft, picture=image.url, file_name=image.filename) if image is not None else draft


def _aspect(choice: str | None) -> tuple[int, int] | None:
    """One of the choices; Discord lets nothing else through, and what is forged is refused as a ratio."""
    across, _, down = (choice or "").partition(":")
    if choice is None:
        return None
    return (int(across), int(down)) if across.isdecimal() and down.isdecimal() else (0, 0)


class Suggestions:
    """What is offered while the options are typed; answered from memory."""

    def __init__(self, adapter: Discord) -> None:
        self._adapter = adapter
        self._tasks = Tasks()

    async def size(self, interaction: Interaction, typed: str) -> list[Choice[str]]:
        """Good sizes for the chosen model."""
        studio, said = self._adapter.studio, interaction.namespace
        model = autocomplete.chosen_model(studio, said.model, said.prompt)
        return await asyncio.to_thread(autocomplete.sizes, typed, model, studio.limits)

    async def scheduler(self, interaction: Interaction, typed: str) -> list[Choice[str]]:
        """What the chosen model takes."""
        studio, said = self._adapter.studio, interaction.namespace
        return autocomplete.schedulers(typed, autocomplete.chosen_model(studio, said.model, said.prompt))

    async def model(self, interaction: Interaction, typed: str) -> list[Choice[str]]:
        """What is offered now."""
        return autocomplete.models(self._adapter.studio, typed)

    async def style(self, interaction: Interaction, typed: str) -> list[Choice[str]]:
        """The presets."""
        return autocomplete.styles(self._adapter.studio, typed)

    async def cancel(self, interaction: Interaction, typed: str) -> list[Choice[str]]:
        """One's own unfinished requests."""
        mine = self._adapter.studio.queue(flow.requester_of(interaction))
        return autocomplete.unfinished(mine, typed)

    async def show(self, interaction: Interaction, typed: str) -> list[Choice[str]]:
        """One's own latest requests: those in memory; after a restart they are there for the next key."""
        by = flow.requester_of(interaction)
        if not self._adapter.recent.knows(by):
            self._tasks.start(self._remember(by))
        return self._adapter.recent.choices(by, typed)

    async def _remember(self, by: Requester) -> None:
        """Take a member's latest requests into memory."""
        groups = await self._adapter.studio.history(by, limit=autocomplete.MOST)
        self._adapter.recent.fill(by, (autocomplete.Known(each.group_id, prompt_of(each)) for each in groups))
