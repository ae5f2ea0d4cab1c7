"""Where one request is answered: plain JSON, stored with it, and enough to go on after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from bot.core.ports import Address

TOKEN_LIFE: Final = 15 * 60.0
"""Seconds that an interaction's token lives."""
SPARE: Final = 20.0  # seconds before its end in which a token is not relied on
DEFAULT_FILE_LIMIT: Final = 10 * 1024**2


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one request.

    application, interaction, token: its reply handle, dead at `until` (Unix time); guild: "" outside guilds;
    channel: where it was asked, a thread too; user: who asked; mode: thread, both or channel; reachable: the
    bot itself may act in the channel, not only answer; threads: a thread may be made from the receipt;
    file_limit: bytes of one file; spoiler: previews are hidden; prompt and told: the receipt's words; group:
    its id, once known; receipt, status: message ids, the same where there is no thread; thread: its id; more:
    further messages of a large result; pinged: whoever waited was told, or was about to be.
    """

    application: str
    interaction: str
    token: str
    until: float
    channel: str
    user: str
    guild: str = ""
    mode: str = "thread"
    reachable: bool = True
    threads: bool = False
    file_limit: int = DEFAULT_FILE_LIMIT
    spoiler: bool = False
    prompt: str = ""
    told: tuple[str, ...] = ()
    group: str = ""
    receipt: str = ""
    thread: str = ""
    status: str = ""
    more: tuple[str, ...] = ()
    pinged: bool = False

    def fresh(self, now: float) -> bool:
        """Whether the token can still be relied on."""
        return now < self.until - SPARE

    @property
    def in_place(self) -> bool:
        """Whether receipt, status and pictures are one message."""
        return self.status == self.receipt

    @property
    def home(self) -> str:
        """The channel of the status message."""
        return self.channel if self.in_place else self.thread

    def link(self, message: str = "") -> str:
        """The web address of the thread, or of one of the messages in the channel."""
        where = f"https://discord.com/channels/{self.guild or '@me'}"
        return f"{where}/{self.channel}/{message}" if message else f"{where}/{self.thread or self.channel}"


_USUAL: Final = {field.name: field.default for field in fields(Place)}


def place_to_json(place: Place) -> Address:
    """What is stored; what equals its default is left out."""
    found = ((name, getattr(place, name), usual) for name, usual in _USUAL.items())
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value, usual in found
        if value != usual
    }


def place_from_json(address: Address) -> Place:
    """The inverse; keys of other versions are ignored."""
    found = {name: value for name, value in address.items() if name in _USUAL}
    place = Place(**found)  # type: ignore[arg-type]  # what place_to_json wrote
    return replace(place, told=tuple(place.told), more=tuple(place.more))


def is_place(address: Mapping[str, object]) -> bool:
    """Whether an address is one of this adapter's."""
    return {"application", "interaction", "channel"} <= address.keys()
