"""From what somebody does in Discord to a request of the core, and the first answer to it.

An acceptance is the receipt itself, a refusal is private, and both come as the first response; only where the
core takes longer than 1.5 s is the response deferred. Nothing here is kept in memory beyond the answer.
"""

from __future__ import annotations

import asyncio
import io
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar

import aiohttp
import discord
from discord import ui

from adapters.discord import permissions, render
from adapters.discord.actions import Action
from adapters.discord.address import TOKEN_LIFE, Place, place_to_json
from adapters.discord.drafts import Draft, Drafts
from adapters.discord.errors import ANSWERED, UNKNOWN_INTERACTION
from adapters.discord.settings_text import channels_allowed, roles_allowed
from adapters.discord.wording import TEXT_MOST, at, clipped, code, escape, lines
from bot.core.errors import FairbrushError, Forbidden, QueueFull, QuotaExceeded
from bot.core.guilds import ThreadMode
from bot.core.intake import Acknowledge, Submission, Ticket
from bot.core.messages import not_queued
from bot.core.request import Requester

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord

log = logging.getLogger(__name__)

Interaction: TypeAlias = "discord.Interaction[discord.Client]"

T = TypeVar("T")

PATIENCE: Final = 1.5
"""Seconds after which the response is deferred."""
BREATH: Final = 0.5  # seconds, of the three in which Discord takes a first response
BROKEN: Final = (aiohttp.ClientConnectionError, ConnectionError)
"""How a connection that broke shows, with or without the request having arrived."""
WHY_MOST: Final = 2500  # characters of what is wrong with a request
DIRECT: Final = "dm"
NOTHING: Final = Draft()
_THREADED: Final = (discord.ChannelType.text, discord.ChannelType.news)


class Act(Protocol):
    """What a submission is given to: Studio.submit, or a partial of Studio.redo and its like."""

    def __call__(
        self, submission: Submission, *, acknowledge: Acknowledge | None = None
    ) -> Awaitable[Ticket]:
        """Take it in."""
        ...


# --- who and where ----------------------------------------------------------------------------------------


def in_guild(interaction: Interaction) -> bool:
    """Whether it happened in a server that the bot itself was added to."""
    if interaction.guild_id is None:
        return False
    return interaction.is_guild_integration() or not interaction.is_user_integration()


def requester_of(interaction: Interaction) -> Requester:
    """Who asks. The guild is "dm" in direct and group messages, and where only the user installed the app.
    @everyone is a role too, with the guild's id; Discord does not list it among a member's."""
    user = interaction.user
    guild = str(interaction.guild_id) if in_guild(interaction) else DIRECT
    roles = (guild, *map(str, getattr(user, "_roles", ()))) if guild != DIRECT else ()
    return Requester("discord", guild, str(user.id), roles, user.display_name)


def channel_of(interaction: Interaction) -> str:
    """The channel whose rules count: a thread's parent; "" outside servers."""
    if not in_guild(interaction):
        return ""
    channel = interaction.channel
    parent = channel.parent_id if isinstance(channel, discord.Thread) else None
    return str(parent or interaction.channel_id or "")


def age_restricted(interaction: Interaction) -> bool:
    """Whether the channel, or a thread's parent, is for adults alone; not where that cannot be known."""
    check = getattr(interaction.channel, "is_nsfw", None)
    return bool(check and check())


def is_admin(interaction: Interaction) -> bool:
    """Whether the member may manage the server, by the permissions that Discord resolved."""
    return in_guild(interaction) and interaction.permissions.manage_guild


def is_moderator(interaction: Interaction) -> bool:
    """Whether the member may delete others' messages here, by the permissions that Discord resolved."""
    return in_guild(interaction) and interaction.permissions.manage_messages


def place_of(interaction: Interaction, mode: ThreadMode | None, *, now: float, prompt: str = "") -> Place:
    """Where the answer goes. now: Unix time, for the token's end."""
    guild, channel = in_guild(interaction), interaction.channel
    has = interaction.app_permissions
    kind = channel.type if channel is not None else None
    mode = mode or ThreadMode.THREAD
    return Place(
        application=str(interaction.application_id),
        interaction=str(interaction.id),
        token=interaction.token,
        until=now + TOKEN_LIFE,
        guild=str(interaction.guild_id or ""),
        channel=str(interaction.channel_id or ""),
        user=str(interaction.user.id),
        mode=str(mode),
        reachable=channel is not None
        and (has.view_channel if guild else interaction.context.dm_channel is True),
        threads=guild
        and mode is not ThreadMode.CHANNEL
        and kind in _THREADED
        and permissions.may_thread(has),
        file_limit=_file_limit(interaction),
        prompt=prompt,
    )


def _file_limit(interaction: Interaction) -> int:
    """Bytes of a file that both the answer and a message of the bot itself may have."""
    guild = interaction.guild if in_guild(interaction) else None
    return min(interaction.filesize_limit, guild.filesize_limit) if guild else interaction.filesize_limit


# --- the answer -------------------------------------------------------------------------------------------


class Answer:
    """The first response to an interaction, given once. Deferred by itself where it takes longer than 1.5 s
    from here on."""

    def __init__(self, interaction: Interaction) -> None:
        self.interaction = interaction
        self.given = False
        self._lock = asyncio.Lock()
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._is_late)
        self._deferring: asyncio.Task[None] | None = None

    def _is_late(self) -> None:
        self._deferring = asyncio.ensure_future(self._defer())

    async def _defer(self) -> None:
        async with self._lock:
            if not self.given and not self.interaction.response.is_done():
                try:
                    await self.interaction.response.defer(thinking=True)
                except (discord.HTTPException, *BROKEN) as error:
                    log.info("interaction %s: not deferred: %s", self.interaction.id, error)

    def close(self) -> None:
        """No answer will be needed any more."""
        self.given = True
        self._timer.cancel()

    async def accept(self, view: ui.LayoutView) -> str:
        """The public answer; the message's id, "" where Discord took it and did not say."""
        async with self._lock:
            self.close()
            response = self.interaction.response
            if response.is_done():
                message = await self.interaction.edit_original_response(view=view)
                return str(message.id)
            try:
                told = await surely(lambda: response.send_message(view=view))
            except discord.HTTPException as error:
                if error.code not in (ANSWERED, UNKNOWN_INTERACTION):
                    raise
                # It came through and Discord's word was lost, or it was too late: prepare() finds out.
                log.info("interaction %s: its answer is not confirmed: %s", self.interaction.id, error)
                return ""
            return str(told.message_id or "")

    async def refuse(self, view: ui.LayoutView, file: discord.File | None = None) -> None:
        """A private answer, also where the response was deferred in public."""
        async with self._lock:
            self.close()
            if self.interaction.response.is_done():
                await self._take_back()
            await _send(self.interaction, view, file)

    async def _take_back(self) -> None:
        """The deferred answer goes; where it stays, the reason is told all the same."""
        try:
            await self.interaction.delete_original_response()
        except (discord.HTTPException, *BROKEN) as error:
            log.info("interaction %s: its answer stays: %s", self.interaction.id, error)


async def surely(send: Callable[[], Awaitable[T]]) -> T:
    """A first response, sent again where the connection broke, as idle ones do, or a proxy turned it away.
    Had it arrived, Discord would not take the second."""
    try:
        return await send()
    except BROKEN:
        return await send()
    except discord.HTTPException as error:
        if error.status != 429:
            raise
        await asyncio.sleep(BREATH)
        return await send()


async def tell(
    interaction: Interaction, what: str | ui.LayoutView | FairbrushError, *, ephemeral: bool = True
) -> None:
    """Answer in private (or not): a text in Discord's markdown, a view, or an error in its own words."""
    if isinstance(what, FairbrushError):
        what = escape(what.message)
    view = render.sealed(render.text(what)) if isinstance(what, str) else what
    await _send(interaction, view, None, ephemeral=ephemeral)


async def _send(
    interaction: Interaction, view: ui.LayoutView, file: discord.File | None, *, ephemeral: bool = True
) -> None:
    files = [file] if file else []
    try:
        if interaction.response.is_done():
            await interaction.followup.send(view=view, files=files, ephemeral=ephemeral)
        else:
            await surely(partial(_respond, interaction, view, files, ephemeral))
    except discord.HTTPException as error:
        if error.code not in (ANSWERED, UNKNOWN_INTERACTION):
            raise
        log.info("interaction %s: nobody is there to be told: %s", interaction.id, error)


async def _respond(
    interaction: Interaction, view: ui.LayoutView, files: Sequence[discord.File], ephemeral: bool
) -> None:
    for file in files:
        file.reset()
    await interaction.response.send_message(view=view, files=files, ephemeral=ephemeral)


# --- asking -----------------------------------------------------------------------------------------------


async def ask(adapter: Discord, interaction: Interaction, act: Act, draft: Draft = NOTHING) -> None:
    """Give a request to `act` and answer: with the receipt, or in private with what is wrong.

    draft: what was typed and chosen; a refused request is opened with it again. Never raises a
    FairbrushError.
    """
    answer = Answer(interaction)
    try:
        await _ask(adapter, answer, act, draft)
    except FairbrushError as error:
        log.info("interaction %s: refused: %s %s", interaction.id, error.message, error.detail)
        await _refuse(adapter, answer, error, draft)
    except discord.HTTPException:
        raise
    except Exception:
        reference = secrets.token_hex(2).upper()
        log.exception("interaction %s: ref %s", interaction.id, reference)
        await answer.refuse(render.sealed(render.text(f"Something broke here.\n-# ref {reference}")))
    finally:
        answer.close()


async def _ask(adapter: Discord, answer: Answer, act: Act, draft: Draft) -> None:
    interaction, studio = answer.interaction, adapter.studio
    requester, channel = requester_of(interaction), channel_of(interaction)
    rules = await studio.rules(requester.tenant, channel)
    place = place_of(interaction, rules.thread_mode, now=adapter.clock.now(), prompt=draft.text)
    submission = Submission(
        requester,
        place.interaction,
        place_to_json(place),
        text=draft.text,
        options=draft.options,
        channel=channel,
        age_restricted=age_restricted(interaction),
    )

    async def acknowledge(ticket: Ticket) -> None:
        await adapter.acknowledge(answer, place, ticket)

    await act(submission, acknowledge=acknowledge)


async def _refuse(adapter: Discord, answer: Answer, error: FairbrushError, draft: Draft) -> None:
    """What is wrong, the prompt to send again, and a way to correct it."""
    prompt = draft.text
    why = clipped(escape(not_queued(error.message)), WHY_MOST)
    why = lines(why, _next_free(adapter, error), await _allowed(adapter, answer.interaction, error))
    said, file = lines(why, code(prompt)), None
    if len(said) > TEXT_MOST:  # then the prompt comes as a file
        said = why
        file = discord.File(io.BytesIO(prompt.encode("utf-8", "replace")), "prompt.txt")
    items: list[ui.Item[ui.LayoutView]] = [render.text(said)]
    if file is not None:
        items.append(ui.File("attachment://prompt.txt"))
    if prompt:
        items += render.rows(await _edit(adapter, draft))
    await answer.refuse(render.sealed(*items), file)


async def _edit(adapter: Discord, draft: Draft) -> list[ui.Button[ui.LayoutView]]:
    """The button that opens a draft; none where it cannot be stored."""
    try:
        token = await Drafts(adapter.studio.shelf("discord")).keep(draft)
    except FairbrushError as error:
        log.warning("a draft is not kept: %s %s", error.message, error.detail)
        return []
    return [render.button(Action.EDIT, token, "Edit")]


async def _allowed(adapter: Discord, interaction: Interaction, error: FairbrushError) -> str:
    """Which roles or channels would do, where that is what was refused."""
    if not isinstance(error, Forbidden) or error.field not in ("role", "channel"):
        return ""
    rules = await adapter.studio.rules(requester_of(interaction).tenant, channel_of(interaction))
    return f"For {roles_allowed(rules)}." if error.field == "role" else f"Ask in {channels_allowed(rules)}."


def _next_free(adapter: Discord, error: FairbrushError) -> str:
    if isinstance(error, QueueFull | QuotaExceeded) and error.retry_after:
        return f"Next free {at(adapter.clock.now() + error.retry_after)}."
    return ""
