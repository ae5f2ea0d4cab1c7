"""What is asked for and what comes of it: plain, frozen values that cross every boundary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeAlias

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

MAX_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Nouns:
    """What a platform calls its users and guilds, for texts that people read."""

    member: str = "member"
    guild: str = "server"


USUAL_NOUNS: Final = Nouns()


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks. `guild` is never empty: a Discord server, a Slack team, `dm`, `key:ID` or `web`.

    A user is (platform, user); `name` and `nouns` are for people to read and prove nothing; nouns are not
    stored.
    """

    platform: str
    guild: str
    user: str
    roles: tuple[str, ...] = ()
    name: str = ""
    nouns: Nouns = field(default=USUAL_NOUNS, compare=False)

    @property
    def tenant(self) -> str:
        """The guild, unique over platforms (a key is one over all): the first level of the fair queue."""
        return self.guild if self.guild.startswith("key:") else f"{self.platform}:{self.guild}"

    @property
    def member(self) -> str:
        """The user, unique over platforms: the second level of the fair queue."""
        return f"{self.platform}:{self.user}"


@dataclass(frozen=True, slots=True)
class Image:
    """An encoded picture that came in: bytes of a PNG, JPEG or WebP, checked, sides in pixels."""

    data: bytes
    mime: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One prompt, ready to be made. Ranges are those of `Limits`; picture i uses `seed + i` (mod 2**32).

    scheduler: an A1111 name ("Euler a") or None for the model's own; model: an id that a backend offers,
    or None for the default; strength: 0 to 1, how much of `init_image` is repainted; mask_image: white is
    repainted; style: the preset whose words `prompt` already holds, for people to read alone; upscale:
    `init_image` is a picture of half the sides, to be made again at this size in a second pass; source: the
    result that `init_image` comes from ("7K2QABCD", "7K2QABCD #2"), for people to read alone; show_flagged:
    a picture that a content check flags is shown behind a spoiler, and not withheld; previews: so many
    previews of each picture are wanted, evenly spaced over the steps, 0 leaves it to the backend.
    """

    prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    count: int = 1
    negative_prompt: str = ""
    scheduler: str | None = None
    model: str | None = None
    style: str | None = None
    init_image: Image | None = None
    mask_image: Image | None = None
    strength: float | None = None
    spoiler: bool = False
    upscale: bool = False
    source: str = ""
    show_flagged: bool = False
    previews: int = 0

    def seed_of(self, index: int) -> int:
        """The seed of picture `index` (0-based)."""
        return (self.seed + index) % (MAX_SEED + 1)


class State(StrEnum):
    """Where a job is. A group's state is that of its least advanced job."""

    ACCEPTED = "accepted"  # committed; its status message is not there yet
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WITHHELD = "withheld"  # made, and kept back by a content rule

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self not in (State.ACCEPTED, State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Picture:
    """One finished picture on disk. `name` is its id in links; `recipe` is what reproduces it (JSON).

    withheld: kept back by a content rule; its file must not be shown; spoiler: shown hidden until clicked.
    """

    name: str
    index: int
    path: Path
    mime: str
    width: int
    height: int
    seed: int
    alt_text: str
    recipe: Mapping[str, JSON]
    withheld: bool = False
    spoiler: bool = False


@dataclass(frozen=True, slots=True)
class ImageResult:
    """All that came of one group, in order, for delivery.

    state: DONE where at least one picture was made, else WITHHELD, FAILED or CANCELLED.
    message: why there are no pictures, or fewer than asked; safe to show. reference: a short id for the log.
    device_seconds: summed over the jobs; money: US dollars where a backend charged; vary, upscale: a backend
    here can make variations, or a second pass at twice the size, of these pictures; remedy: changes to the
    options that would make a failed request work, and remedy_label what they are for people ("1024×1024").
    """

    group_id: str
    requester: Requester
    prompt: str
    state: State
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
    message: str = ""
    reference: str = ""
    spoiler: bool = False
    backend: str = ""
    model: str = ""
    device_seconds: float = 0.0
    money: float | None = None
    waited: float = 0.0
    vary: bool = False
    upscale: bool = False
    remedy: Mapping[str, JSON] = field(default_factory=dict)
    remedy_label: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Ranges of a request, all inclusive, checked before a model is loaded. Every one is a setting.

    tightened: the names of those that a guild has set tighter than the operator; nouns: what it is called.
    """

    min_steps: int = 1
    max_steps: int = 150
    min_guidance: float = 0.0
    max_guidance: float = 30.0
    max_count: int = 10
    min_side: int = 64
    max_side: int = 2048
    side_multiple: int = 8
    max_ratio: float = 4.0
    max_prompt: int = 2000
    max_work: int = 1024 * 1024 * 50 * 4  # pixels x steps x count, over a whole group
    max_prompts: int = 16  # prompts that one request's permutations may unfold to
    waiting_per_user: int = 10
    waiting_per_guild: int = 500
    waiting_per_key: int = 1000
    max_image_bytes: int = 20 * 1024 * 1024
    max_image_pixels: int = 4096 * 4096
    tightened: frozenset[str] = frozenset()
    nouns: Nouns = USUAL_NOUNS


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request gets where it does not say: the model's own best, then the guild's. style: put around
    prompts that are not literal; "none" asks for none."""

    width: int
    height: int
    steps: int
    guidance_scale: float
    scheduler: str | None = None
    model: str | None = None
    styles: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    negative_prompt: str = ""
    style: str | None = None
