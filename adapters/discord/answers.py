"""Answers to what is neither a request nor its refusal: in time, in private, and whole sentences for errors.

Whatever goes wrong in a handler ends here: a person reads what to do, the log has the rest.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aiohttp
import discord
from discord import ui

from adapters.discord.errors import ANSWERED, UNKNOWN_INTERACTION
from adapters.discord.flow import PATIENCE, tell
from adapters.discord.wording import lines, small
from bot.core.errors import FairbrushError

if TYPE_CHECKING:
    from adapters.discord.declare import Interaction

log = logging.getLogger(__name__)

T = TypeVar("T")

NOT_THERE: Final = frozenset({ANSWERED, UNKNOWN_INTERACTION})
"""Codes that say that nobody waits for this answer any more."""


async def guarded(interaction: Interaction, work: Awaitable[None]) -> None:
    """Do something for somebody; what it raises is told to them alone."""
    try:
        await work
    except FairbrushError as error:
        log.info("interaction %s: refused: %s %s", interaction.id, error.message, error.detail)
        await told(interaction, error)
    except discord.HTTPException as error:
        if error.code in NOT_THERE:
            log.info("interaction %s: nobody waits for its answer any more: %s", interaction.id, error)
        else:
            await broken(interaction, error)
    except Exception as error:  # one press must not take anything else with it
        await broken(interaction, error)


async def broken(interaction: Interaction, error: BaseException) -> None:
    """A bug, or trouble of Discord's: a reference for them, all of it for the log."""
    reference = secrets.token_hex(2).upper()
    log.error("interaction %s: ref %s", interaction.id, reference, exc_info=error)
    await told(interaction, lines("Something broke here. Try it again.", small(f"ref {reference}")))


async def told(interaction: Interaction, what: str | FairbrushError) -> None:
    """tell(), where there is nothing left to do if not even that comes through."""
    try:
        await tell(interaction, what)
    except (discord.HTTPException, aiohttp.ClientError, OSError, RuntimeError) as error:
        # RuntimeError: of a session that was closed, for the connection was lost or is being left.
        log.warning("interaction %s: could not be answered: %s", interaction.id, error)


async def in_time(interaction: Interaction, work: Coroutine[Any, Any, T], *, private: bool = True) -> T:
    """What comes of `work`. Where it takes long the answer is deferred meanwhile: a private one or not, and
    for a button the message that it is on."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=PATIENCE)
        if not task.done() and not interaction.response.is_done():
            if interaction.type is discord.InteractionType.component:
                await interaction.response.defer()
            else:
                await interaction.response.defer(ephemeral=private, thinking=True)
        return await task
    finally:
        task.cancel()


async def heard(interaction: Interaction) -> None:
    """A press was heard, and what comes of it is seen elsewhere."""
    if not interaction.response.is_done():
        await interaction.response.defer()


async def show_instead(interaction: Interaction, view: ui.LayoutView) -> None:
    """Make the message that was pressed be this."""
    if interaction.response.is_done():
        await interaction.edit_original_response(view=view, attachments=[])
    else:
        await interaction.response.edit_message(view=view, attachments=[])


__all__ = ["broken", "guarded", "heard", "in_time", "show_instead", "told"]
