"""The fair queue: hierarchical start-time fair queueing, guilds first, then each guild's users.

It decides who goes next and says where everybody stands. It deliberately knows no clock, no store, no
backend and no platform: costs come in as estimated device-seconds and are corrected to what was used.

How it works (Goyal, Vin and Cheng, "Start-time Fair Queueing", SIGCOMM 1996; costs corrected at completion
as in "Fairness in Serving Large Language Models", OSDI 2024). Every node, a guild or a user in a guild, has a
tag `vt` and a weight; every parent has a virtual time V, the start tag of its last dispatch.

- Dispatch takes the guild with the least tag, in it the user with the least tag, and of that user's jobs the
  first that can run. Equal tags go in the order of acceptance. Both nodes are charged cost / weight.
- A node that becomes eligible starts at max(vt, V - credit): nobody saves up service by being idle or at a
  cap. Its credit is what it is owed: refunds that came since its queue was empty, at most one job's, or how
  far behind V it was when a cap stopped it.
- Completion charges (actual - estimate) / weight; a job that is given back is refunded whole and returns to
  its place by acceptance, which is the head of its user's line.

Bound: of two nodes that both have jobs waiting, |W_f/w_f - W_g/w_g| <= (C/w_f + C/w_g)(1 + e(1 + 2W)) over
any interval, for jobs of at most C device-seconds, estimates off by at most the fraction e, and W workers.

Caps. A guild or user at its running cap is not eligible. The soft cap holds back a user in a guild who runs
`soft_user_cap` jobs for as long as a user below it, of any guild, has a job that the asking worker can run;
otherwise those held back go by least tag, so that no worker idles. Among users below the soft cap the order
is the same as without it. The bound holds between nodes that no cap holds back.

Workers that cannot run everything take the least tag among what they can run. A node that is passed over
keeps its claim, but no more of it than two of the largest jobs: else a long line for one slow worker would
keep newcomers from that worker for good, and could later take the fast ones for itself.

Memory. The tag of an idle node that V has caught up with says nothing and is forgotten, so are all tags below
a node that is idle as a whole, and beyond REMEMBERED idle children of one parent those nearest to V.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Final

from bot.core.fairplaces import Place, before, standings
from bot.core.fairsearch import CanRun, Search, Serves, Skips
from bot.core.ports import ShareTag
from bot.core.sharetree import REMEMBERED, ROOT, Entry, Guild, Job, Key, Node, Parent, Plan, Root, User, cap

__all__ = ["REMEMBERED", "WAITING", "Entry", "FairQueue", "Place"]

WAITING: Final = 1e300
"""As a stored credit: the node was eligible, so its jobs go on after a restart and it is no newcomer. Finite,
so that any store can hold it."""

EARLIER: Final = -(2**62)  # where the ranks of adopted jobs begin


class FairQueue:
    """Jobs that wait and jobs that run, and whose turn it is. Not safe for threads; no call blocks.

    guild_cap, user_cap: running jobs at most, for each guild and each user in a guild, None for no cap;
    soft_user_cap: running jobs of a user while others wait.

    After a restart: `restore` once; then `push` or `adopt_running` for every unfinished job, in any order
    where entries have their `order`; only then `requeue` for those of the running ones that are lost. Nothing
    is ranked before the first other call. The order of dispatch is then that of a queue that never stopped.
    Without `order`, push in the order of acceptance; adopted jobs count as earlier.
    """

    def __init__(
        self, *, guild_cap: int | None = None, user_cap: int | None = None, soft_user_cap: int | None = 1
    ) -> None:
        self._root = Root((cap("guild_cap", guild_cap), cap("user_cap", user_cap)))
        self._soft = cap("soft_user_cap", soft_user_cap)
        self._queued: dict[str, Job] = {}
        self._running: dict[str, Job] = {}
        self._changed: dict[Key, None] = {}
        self._orders = 0
        self._rebuilding = False

    def __len__(self) -> int:
        return len(self._queued)

    # --- jobs come and go ---

    def push(self, entry: Entry) -> None:
        """Line up a job behind its user's earlier ones. ValueError where its id is known."""
        job = self._job(entry)
        if self._enter(job):
            self._refresh(job.user)
        else:
            job.user.guild.came_last(job)

    def pop(
        self, can_run: CanRun | None = None, *, serves: Serves | None = None, skips: Skips | None = None
    ) -> Entry | None:
        """Dispatch the fair next job among those that can run; None where there is none.

        can_run is asked about single jobs in fair order; serves about kinds, at most once for each guild and
        kind: where entries have kinds, what cannot run costs no look at every job. skips: whether a guild
        (its user None), or a user, may have none of these workers now. They must change nothing here.
        """
        self._settle()
        root = self._root
        if serves is not None and not any(map(serves, root.kinds)):
            return None
        search = Search(root, can_run, serves, skips)
        job = search.find()
        if job is None:
            return None
        self._start(job)
        self._limit_claims(search, job.user.guild)
        self._forget(job.user.guild)
        return job.entry

    def complete(self, job_id: str, actual: float) -> None:
        """A running job ended, however it ended, and used `actual` device-seconds (0 or more, already times
        the worker's speed). KeyError where it is not running."""
        if not 0.0 <= actual < math.inf:
            raise ValueError(f"job {job_id!r} used {actual} device-seconds; it must be finite and 0 or more")
        self._settle()
        job = self._stop(job_id, actual)
        self._refresh(job.user)
        self._forget(job.user.guild)

    def requeue(self, job_id: str) -> None:
        """A running job is given back: refunded, and first again of its user's. KeyError where it is not
        running."""
        self._settle()
        job = self._stop(job_id, 0.0)
        self._enter(job)
        self._refresh(job.user)

    def cancel(self, job_id: str) -> bool:
        """Take out a queued job. False, and nothing happens, where it is running or unknown."""
        self._settle()
        job = self._queued.get(job_id)
        if job is None:
            return False
        self._leave(job)
        self._mark(job.user)
        self._refresh(job.user)
        self._forget(job.user.guild)
        return True

    @property
    def kinds(self) -> Collection[str]:
        """The kinds of the jobs that wait."""
        return self._root.kinds.keys()

    def set_kind(self, job_id: str, kind: str) -> None:
        """From now on other workers can run a queued job; nothing happens to any other. Its turn stays."""
        job = self._queued.get(job_id)
        if job is None or job.entry.kind == kind:
            return
        for node in (job.user.guild, self._root):
            node.count(job.entry.kind, -1)
            node.count(kind, 1)
        job.entry = replace(job.entry, kind=kind)

    # --- where jobs stand ---

    def place(self, job_id: str) -> Place | None:
        """Where a queued job stands, None for any other. Cheaper than places() for a few jobs."""
        self._settle()
        job = self._queued.get(job_id)
        if job is None:
            return None
        line = job.user.line
        return Place(list(line).index(job_id) + 1, len(line), *self._before(job))

    def ahead(self, job_id: str) -> int | None:
        """How many queued jobs go before this one, as place() says, None for any other. Cheap for any number
        of jobs of one user: O(guilds x log n)."""
        self._settle()
        job = self._queued.get(job_id)
        return None if job is None else self._before(job)[0]

    def _before(self, job: Job) -> tuple[int, float]:
        """How many jobs go before a queued one, and their cost."""
        guild = job.user.guild
        own = self._plan(guild)
        others = (
            self._plan(each) for each in self._root.children.values() if each.queued and each is not guild
        )
        return before(own, guild.index(own, job), others)

    def places(self) -> dict[str, Place]:
        """Where every queued job stands, in the order in which they go if no more come, one worker runs
        all and none ends otherwise than estimated. Running caps delay jobs, and are not foreseen here."""
        return {entry.job_id: place for entry, place in self.standings()}

    def prepare(self) -> Iterator[int]:
        """Work out in pieces what standings() needs: a guild at a time, with how many jobs it has."""
        self._settle()
        for guild in list(self._root.children.values()):
            self._plan(guild)
            yield guild.queued

    def standings(self) -> Iterator[tuple[Entry, Place]]:
        """places() as of this call, one by one, so that a long queue can be read in pieces; jobs that have
        left it meanwhile are still there."""
        self._settle()
        guilds = [guild for guild in self._root.children.values() if guild.queued]
        return standings([self._plan(guild).keys for guild in guilds])

    def waiting(self, guild: str | None = None, user: str | None = None) -> int:
        """Queued jobs of a user in a guild; None stands for all."""
        return sum(node.queued for node in self._root.nodes(guild, user))

    def running(self, guild: str | None = None, user: str | None = None) -> int:
        """Running jobs of a user in a guild; None stands for all."""
        return sum(node.running for node in self._root.nodes(guild, user))

    # --- what an operator sets ---

    def set_weight(self, guild: str, weight: float, user: str | None = None) -> None:
        """The share of a guild among guilds, or of a user within it, for jobs to come; 1 where not set. To be
        set at every start, as caps are: the store keeps it only as long as the node says something."""
        if not 0.0 < weight < math.inf:
            raise ValueError(f"weight of {user or guild} is {weight}; it must be finite and over 0")
        self._root.weights[guild, user] = weight
        for node in self._root.nodes(guild, user):
            node.weight = weight
            self._changed[node.key] = None
        if (known := self._root.children.get(guild)) is not None:
            known.plan = None

    def set_cap(self, guild: str, running: int | None = None, user: int | None = None) -> None:
        """Running jobs at most, of a guild and of each of its users; None: the queue's own cap."""
        self._root.caps[guild] = (cap("running", running), cap("user", user))
        if (known := self._root.children.get(guild)) is not None:
            known.cap, known.user_cap = self._root.caps_of(guild)
            for user_node in known.children.values():
                self._refresh(user_node)
            self._rank(known)

    # --- storing and restoring ---

    def changed(self) -> tuple[ShareTag, ...]:
        """The nodes that changed since the last call, for the store; a weight of 0 says that the node is
        forgotten and its row may be deleted. Commit them with the change that caused them."""
        tags = tuple(self._tag(key) for key in self._changed)
        self._changed.clear()
        return tags

    def restore(self, tags: Iterable[ShareTag]) -> None:
        """Begin with stored nodes. ValueError where the queue is in use already."""
        if self._queued or self._running or self._root.children:
            raise ValueError("restore() comes before any push()")
        self._rebuilding = True
        for tag in tags:
            if tag.weight > 0.0:
                self._restore(tag)

    def adopt_running(self, entry: Entry) -> None:
        """After a restart: a job that was running, and is charged by the stored nodes already."""
        job = self._job(entry, EARLIER)
        self._running[entry.job_id] = job
        self._count_running(job, 1)
        self._refresh(job.user)

    # --- inside ---

    def _job(self, entry: Entry, base: int = 0) -> Job:
        if entry.job_id in self._queued or entry.job_id in self._running:
            raise ValueError(f"job {entry.job_id!r} is in the queue already")
        self._orders += 1
        order = base + self._orders if entry.order is None else entry.order
        return Job(entry, order, self._root.user(entry.guild, entry.user))

    def _enter(self, job: Job) -> bool:
        user, kind = job.user, job.entry.kind
        self._queued[job.entry.job_id] = job
        user.queued += 1
        user.guild.count(kind, 1)
        self._root.count(kind, 1)
        return user.enter(job)

    def _leave(self, job: Job) -> None:
        user, kind = job.user, job.entry.kind
        del self._queued[job.entry.job_id]
        del user.line[job.entry.job_id]
        user.queued -= 1
        user.guild.count(kind, -1)
        self._root.count(kind, -1)

    def _count_running(self, job: Job, change: int) -> None:
        job.user.running += change
        job.user.guild.running += change
        self._root.running += change

    def _start(self, job: Job) -> None:
        user, root, cost = job.user, self._root, job.entry.cost
        self._leave(job)
        user.guild.charge(user, cost)
        root.charge(user.guild, cost)
        root.vt = max(root.vt, cost)
        self._running[job.entry.job_id] = job
        self._count_running(job, 1)
        self._mark(user)
        self._refresh(user)

    def _stop(self, job_id: str, actual: float) -> Job:
        job = self._running.pop(job_id, None)
        if job is None:
            raise KeyError(f"job {job_id!r} is not running")
        self._count_running(job, -1)
        cost = job.entry.cost
        job.user.correct(actual - cost, cost)
        job.user.guild.correct(actual - cost, cost)
        self._mark(job.user)
        return job

    def _refresh(self, user: User) -> None:
        """Rank a user and its guild anew, after anything that may have moved them."""
        guild = user.guild
        guild.plan = None
        if self._rebuilding:
            return
        ready, held, cap = None, None, guild.user_cap
        if user.line and (cap is None or user.running < cap):
            if self._soft is None or user.running < self._soft:
                ready = user.head.order
            else:
                held = user.head.order
        if guild.arrange(user, ready, held):
            self._mark(user)
        self._rank(guild)

    def _rank(self, guild: Guild) -> None:
        if self._rebuilding:
            return
        ready = held = None
        if guild.cap is None or guild.running < guild.cap:
            if (item := guild.ready.first()) is not None:
                ready = item[1]
            if (item := guild.held_back.first()) is not None:
                held = item[1]
        if self._root.arrange(guild, ready, held):
            self._changed[guild.key] = None

    def _limit_claims(self, search: Search, chosen: Guild) -> None:
        """Who was passed over, because nothing of theirs can run, keeps a claim of two largest jobs."""
        if not search.passed_guilds and not search.passed_users:
            return
        claim = 2.0 * self._root.vt
        for guild in search.passed_guilds:
            if self._root.limit(guild, claim):
                self._changed[guild.key] = None
                guild.plan = None
                self._rank(guild)
        for user in search.passed_users.get(chosen.name, ()):
            if chosen.limit(user, claim):
                self._mark(user)
                self._refresh(user)

    def _forget(self, guild: Guild) -> None:
        """Drop the tags that a dispatch or an end has made meaningless."""
        for user in guild.forget():
            self._changed[user.key] = None
        for other in self._root.forget():
            self._changed[other.key] = None
            self._changed.update(dict.fromkeys(user.key for user in other.children.values()))

    def _settle(self) -> None:
        """End a rebuilding: rank all, and what was waiting when it was stored but has no job now is idle."""
        if not self._rebuilding:
            return
        self._rebuilding = False
        for guild in list(self._root.children.values()):
            for node in (guild, *guild.children.values()):
                if not node.queued and node.credit >= WAITING / 2:
                    node.credit = 0.0
            for user in guild.children.values():
                self._refresh(user)
            self._rank(guild)
            self._forget(guild)

    def _plan(self, guild: Guild) -> Plan:
        tag = self._root.start_tag(guild)  # where it is not eligible, that follows the root's virtual time
        if guild.plan is None or guild.plan.tag != tag:
            guild.plan = guild.planned(tag)
        return guild.plan

    def _mark(self, user: User) -> None:
        for key in (ROOT, user.guild.key, user.key):
            self._changed[key] = None

    def _restore(self, tag: ShareTag) -> None:
        root = self._root
        node: Node = root
        if tag.guild is not None:
            if tag.weight != 1.0:
                root.weights.setdefault((tag.guild, tag.user), tag.weight)
            node = root.guild(tag.guild) if tag.user is None else root.user(tag.guild, tag.user)
        node.vt, node.credit = tag.vt, tag.credit
        if isinstance(node, Parent):
            node.virtual = tag.virtual

    def _tag(self, key: Key) -> ShareTag:
        node = self._root.find(key)
        if node is None:
            return ShareTag(key[0], key[1], 0.0, 0.0, weight=0.0)
        virtual = node.virtual if isinstance(node, Parent) else 0.0
        credit = WAITING if node.eligible else node.credit
        return ShareTag(key[0], key[1], node.vt, virtual, node.weight, credit)
