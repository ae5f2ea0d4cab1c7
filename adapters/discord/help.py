"""/help: what can be done here, short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from adapters.discord import flow
from adapters.discord.answers import in_time
from adapters.discord.settings_text import allowed
from adapters.discord.wording import clipped, escape, lines, small

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord
    from adapters.discord.declare import Interaction

LONGEST: Final = 3900

FLAGS: Final = (
    "`--ar 16:9` `--size 768x512` `--steps 30` `--guidance 7` `--seed 42` `--count 4` `--negative blurry` "
    "`--style NAME` `--model NAME` `--scheduler NAME` `--strength 0.6` `--spoiler`"
)


async def help_(adapter: Discord, interaction: Interaction) -> None:
    """/help."""
    await flow.tell(interaction, await in_time(interaction, text_for(adapter, interaction)))


async def text_for(adapter: Discord, interaction: Interaction) -> str:
    """What this member may do in this place."""
    studio, by = adapter.studio, flow.requester_of(interaction)
    rules = await studio.rules(by.tenant, flow.channel_of(interaction))
    styles = ", ".join(sorted(studio.settings.styles))
    text = lines(
        "`/imagine` a red fox in snow `--ar 16:9`",
        f"Flags stand anywhere in the prompt and win over the options beside it: {FLAGS}",
        "`{red, blue}` makes one picture of each. Attach a picture to start from it.",
        allowed(rules, studio.defaults(rules=rules), studio.limits_of(rules)),
        f"Styles: {escape(styles)}" if styles else "",
        "`/queue` why you wait · `/cancel` · `/show` · `/history` · `/recipe` what made a picture",
        small("On any message, under Apps: Remix, Recipe, Delete. Only its author and moderators delete."),
    )
    return clipped(text, LONGEST)
