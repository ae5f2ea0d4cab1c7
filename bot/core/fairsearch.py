"""The search of the fair queue: in fair order, past those who have nothing that a worker can run.

Reads the tree and changes nothing; whom it passed over is for the queue to deal with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from bot.core.sharetree import Entry, Guild, Job, Root, User

CanRun: TypeAlias = Callable[[Entry], bool]
Serves: TypeAlias = Callable[[str], bool]
Skips: TypeAlias = Callable[[str, str | None], bool]


class Search:
    """One look for the fair next job among those that a worker can run.

    can_run, serves and skips as in FairQueue.pop. passed_guilds, passed_users (by guild): who came before the
    job found, and had nothing that can run.
    """

    def __init__(
        self, root: Root, can_run: CanRun | None, serves: Serves | None, skips: Skips | None = None
    ) -> None:
        self._root = root
        self._can_run = can_run
        self._serves = serves
        self._skips = skips
        self.passed_guilds: list[Guild] = []
        self.passed_users: dict[str, list[User]] = {}

    def find(self) -> Job | None:
        """The job, None where nothing can run. Those held back by the soft cap come second."""
        job = self._root.ready.search(self._ready_in)
        return self._root.held_back.search(self._held_in) if job is None else job

    def _ready_in(self, name: str) -> Job | None:
        guild = self._root.children[name]
        job = None
        if self._may_have(guild):
            job = guild.ready.search(lambda user: self._ready_of(guild, user))
        if job is None:
            self.passed_guilds.append(guild)
        return job

    def _ready_of(self, guild: Guild, name: str) -> Job | None:
        user = guild.children[name]
        job = self._first_of(user)
        if job is None:
            self.passed_users.setdefault(guild.name, []).append(user)
        return job

    def _held_in(self, name: str) -> Job | None:
        guild = self._root.children[name]
        if not self._may_have(guild):
            return None
        return guild.held_back.search(lambda user: self._first_of(guild.children[user]))

    def _may_have(self, guild: Guild) -> bool:
        if self._skips is not None and self._skips(guild.name, None):
            return False
        return self._serves is None or any(map(self._serves, guild.kinds))

    def _first_of(self, user: User) -> Job | None:
        can_run, serves = self._can_run, self._serves
        if self._skips is not None and self._skips(user.guild.name, user.name):
            return None
        for job in user.line.values():
            if (serves is None or serves(job.entry.kind)) and (can_run is None or can_run(job.entry)):
                return job
        return None
