"""What hosted pictures may cost: caps of a day, what was spent of them, and what running jobs may still cost.

Days are UTC. A job holds its estimate from its start on; its end makes a charge of it, or gives it back. The
charges are the store's; here are their sums of today. Knows no queue and starts nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.core.errors import QuotaExceeded, Unavailable
from bot.core.lanes import Lane
from bot.core.messages import price
from bot.core.ports import Charge, Clock, Store
from bot.core.request import Requester
from bot.core.settings import Settings

log = logging.getLogger(__name__)

DAY: Final = 86_400.0
DAYS: Final = 8  # whose sums are remembered
LOOK_AGAIN: Final = 2.0  # seconds
_ROUNDING: Final = 1e-9  # US dollars that sums may be off


@dataclass(frozen=True, slots=True)
class Cap:
    """US dollars a day. scope: whose sum counts; whose: the same for people ("this server's")."""

    scope: str
    limit: float
    whose: str

    @property
    def personal(self) -> bool:
        """Whether it is a guild's, a key's or a member's: others may still have room."""
        return self.scope.startswith(("tenant:", "member:"))


@dataclass(frozen=True, slots=True)
class Hold:
    """What a running job may cost, and whose it is."""

    backend: str
    tenant: str
    member: str
    money: float

    @property
    def scopes(self) -> tuple[str, ...]:
        """The sums that it counts in."""
        return _scopes(self.backend, self.tenant, self.member)


class Budget:
    """See the module. changes: counts up when there may be room again."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._day = self._today()
        self._days: dict[int, defaultdict[str, float]] = {}
        self._held: defaultdict[str, float] = defaultdict(float)
        self._holds: dict[str, Hold] = {}
        self._told: set[str] = set()
        self.changes = 0
        self._keys: Mapping[str, float] = {}

    async def load(self, store: Store) -> None:
        """At start: what was spent today."""
        for backend, tenant, member, money in await store.charges(self._today() * DAY):
            self._spend(self._today(), _scopes(backend, tenant, member), money)
        await self.look(store)

    async def look(self, store: Store) -> None:
        """Notice a new day, which nobody may ask about where all who wait lack money; and read the daily
        budgets of keys anew."""
        self._turn()
        keys = await store.keys()
        budgets = {f"key:{key.key_id}": key.daily_budget for key in keys if key.daily_budget is not None}
        if budgets != self._keys:
            self._keys, self.changes = budgets, self.changes + 1

    async def watch(self, store: Store) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_AGAIN)
            try:
                await self.look(store)
            except Unavailable as error:
                log.warning("budgets of keys are not read: %s", error.message)

    # --- caps ---

    def caps(self, lane: Lane, who: Requester) -> Sequence[Cap]:
        """What holds for a job of theirs on this lane. A key's own budget stands in for a guild's and a
        member's."""
        settings, tenant, caps = self._settings, who.tenant, self.common(lane)
        noun = "key" if tenant.startswith("key:") else who.nouns.guild
        if tenant in self._keys:
            return [*caps, Cap(f"tenant:{tenant}", self._keys[tenant], "this key's")]
        return [
            *caps,
            Cap(f"tenant:{tenant}", settings.budget_per_guild, f"this {noun}'s"),
            Cap(f"member:{who.member}", settings.budget_per_user, "your"),
        ]

    def common(self, lane: Lane) -> Sequence[Cap]:
        """Those of everybody together."""
        return (
            Cap(f"lane:{lane.name}", lane.terms.cap, f"{lane.name}'s"),
            Cap("", self._settings.budget, "everybody's"),
        )

    def full(self, lane: Lane, who: Requester, money: float) -> Cap | None:
        """The first cap that has no room for so much, None where all have."""
        self._turn()
        if money <= 0.0 or all(
            self.used(scope) + money <= limit + _ROUNDING for scope, limit in self._limits(lane, who)
        ):
            return None
        return next((cap for cap in self.caps(lane, who) if self.room(cap) + _ROUNDING < money), None)

    def _limits(self, lane: Lane, who: Requester) -> Sequence[tuple[str, float]]:
        """caps(), without words."""
        settings, tenant = self._settings, who.tenant
        limits = ((f"lane:{lane.name}", lane.terms.cap), ("", settings.budget))
        if (own := self._keys.get(tenant)) is not None:
            return (*limits, (f"tenant:{tenant}", own))
        tenants, member = settings.budget_per_guild, settings.budget_per_user
        return (*limits, (f"tenant:{tenant}", tenants), (f"member:{who.member}", member))

    def room(self, cap: Cap) -> float:
        """US dollars that are neither spent nor held."""
        return cap.limit - self.used(cap.scope)

    def used(self, scope: str) -> float:
        """US dollars spent today, or held by running jobs."""
        return self._spent.get(scope, 0.0) + self._held.get(scope, 0.0)

    @property
    def _spent(self) -> Mapping[str, float]:
        return self._days.get(self._day, {})

    def spent(self, lane: str | None = None) -> float:
        """US dollars spent today, at one lane or altogether."""
        self._turn()
        return self._spent.get("" if lane is None else f"lane:{lane}", 0.0)

    def refusal(self, cap: Cap, money: float) -> QuotaExceeded:
        """What is said where a cap has no room, with the seconds until it has."""
        self.tell(cap)
        used = min(self.used(cap.scope), cap.limit)
        return QuotaExceeded(
            f"This costs about {price(money)} on a hosted service, and {price(used)} of {cap.whose} "
            f"{price(cap.limit)} a day are spent. Send it again after midnight UTC, or use another model.",
            field="budget",
            retry_after=self.until_midnight(),
            accepted=False,
        )

    def until_midnight(self) -> float:
        """Seconds until all sums begin anew."""
        return max(1.0, (self._today() + 1) * DAY - self._clock.now())

    def tell(self, cap: Cap) -> None:
        """Once a day and cap the log says that it is reached; one of nothing is meant so."""
        if cap.scope in self._told or cap.limit <= 0.0:
            return
        self._told.add(cap.scope)
        log.warning(
            "budget: %s of %s are spent today (UTC), and more is asked for: %s",
            price(self.used(cap.scope)),
            price(cap.limit),
            cap.scope or "FAIRBRUSH_BUDGET",
        )

    # --- jobs ---

    def hold(self, job_id: str, backend: str, who: Requester, money: float) -> None:
        """A job starts that may cost so much."""
        hold = self._holds[job_id] = Hold(backend, who.tenant, who.member, money)
        for scope in hold.scopes:
            self._held[scope] += money

    def release(self, job_id: str) -> None:
        """It ended, and what it cost is spent; idempotent."""
        if (hold := self._holds.pop(job_id, None)) is None:
            return
        self.changes += 1
        for scope in hold.scopes:
            self._held[scope] -= hold.money
            if self._held[scope] <= _ROUNDING:
                del self._held[scope]

    def held(self, job_id: str) -> float:
        """What a running job may cost."""
        hold = self._holds.get(job_id)
        return hold.money if hold is not None else 0.0

    def spend(self, charge: Charge) -> None:
        """A charge is stored."""
        scopes = _scopes(charge.backend, charge.tenant, charge.member)
        self._spend(int(charge.at // DAY), scopes, charge.money)

    def _spend(self, day: int, scopes: Sequence[str], money: float) -> None:
        sums = self._days.setdefault(day, defaultdict(float))
        for scope in scopes:
            sums[scope] += money
        while len(self._days) > DAYS:
            del self._days[next(iter(self._days))]

    # --- days ---

    def _today(self) -> int:
        return int(self._clock.now() // DAY)

    def _turn(self) -> None:
        """At midnight sums begin anew; what is held still counts. A clock that is set back finds the old
        ones."""
        if (today := self._today()) != self._day:
            self._day = today
            self.changes += 1
            self._told.clear()


def _scopes(backend: str, tenant: str, member: str) -> tuple[str, ...]:
    return "", f"lane:{backend}", f"tenant:{tenant}", f"member:{member}"
