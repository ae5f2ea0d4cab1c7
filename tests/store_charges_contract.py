"""The part of a store's contract that concerns money. Inherited through `StoreContract`."""

from __future__ import annotations

from bot.core.ports import Charge, Outcome, Store
from bot.core.request import State
from tests.fakes.groups import a_group, done, end, queue, the_job

FAILED = Outcome(State.FAILED, money=0.04)


def a_charge(job_id: str, attempt: int = 0, *, at: float = 100.0, money: float = 0.04) -> Charge:
    """A charge of Ada's at a hosted backend."""
    return Charge(at, "fal:flux", "discord:guild-1", "discord:ada", job_id, attempt, money)


async def spent(store: Store, since: float = 0.0) -> dict[tuple[str, str, str], float]:
    """US dollars by backend, tenant and member, to the millionth."""
    return {(b, t, m): round(money, 6) for b, t, m, money in await store.charges(since)}


WHO = ("fal:flux", "discord:guild-1", "discord:ada")


class ChargesContract:
    """Inherited by a class that provides the fixture `store`."""

    async def test_charges_are_summed_by_backend_tenant_and_member_since_a_time(self, store: Store) -> None:
        await queue(store, a_group("g", jobs=4))
        rows = (("g-0", 99.9, 8.0), ("g-1", 100.0, 0.5), ("g-2", 101.0, 0.25))
        for job_id, at, money in rows:
            charge = a_charge(job_id, at=at, money=money)
            assert await store.finish(job_id, attempt=0, outcome=FAILED, at=at, tags=(), charge=charge)
        other = Charge(100.0, "openai:x", "key:1", "api:1", "g-3", 0, 1.0)
        await store.finish("g-3", attempt=0, outcome=FAILED, at=1.0, tags=(), charge=other)
        assert await spent(store, 100.0) == {WHO: 0.75, ("openai:x", "key:1", "api:1"): 1.0}
        assert await spent(store, 101.5) == {}

    async def test_a_stale_attempt_charges_nothing(self, store: Store) -> None:
        await queue(store, a_group("g"))
        await store.start("g-0", attempt=0, backend="b", at=1.0, lease_until=2.0, tags=(), money=0.25)
        assert not await store.requeue("g-0", attempt=7, tags=(), charge=a_charge("g-0", 7))
        assert await store.requeue("g-0", attempt=0, tags=(), charge=a_charge("g-0", 0))
        assert (await the_job(store, "g-0")).money is None
        stale = a_charge("g-0", 0, money=9.0)
        assert not await store.finish("g-0", attempt=0, outcome=FAILED, at=1.0, tags=(), charge=stale)
        assert await store.finish(
            "g-0", attempt=1, outcome=FAILED, at=1.0, tags=(), charge=a_charge("g-0", 1)
        )
        assert await spent(store) == {WHO: 0.08}
        assert (await the_job(store, "g-0")).money == 0.04

    async def test_charges_outlive_their_group(self, store: Store) -> None:
        await queue(store, a_group("g"))
        end_of_it = done("a.png")
        await store.finish("g-0", attempt=0, outcome=end_of_it, at=1.0, tags=(), charge=a_charge("g-0"))
        await store.forget("g")
        assert await store.group("g") is None
        assert await spent(store) == {WHO: 0.04}
        assert await store.check() == "ok"

    async def test_old_charges_are_forgotten(self, store: Store) -> None:
        await queue(store, a_group("g", jobs=2))
        for job_id, at in (("g-0", 10.0), ("g-1", 20.0)):
            charge = a_charge(job_id, at=at)
            await store.finish(job_id, attempt=0, outcome=FAILED, at=at, tags=(), charge=charge)
        assert await store.forget_charges(20.0) == 1
        assert await store.forget_charges(20.0) == 0
        assert await spent(store) == {WHO: 0.04}

    async def test_a_job_without_a_charge_costs_nothing(self, store: Store) -> None:
        await queue(store, a_group("g"))
        await end(store, "g-0", done("a.png"))
        assert await spent(store) == {}
