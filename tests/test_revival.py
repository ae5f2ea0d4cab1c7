"""After a restart: what was left is taken up, and what cannot be fails by itself."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

from bot.core.errors import Unavailable
from bot.core.ports import StoredGroup
from bot.core.request import Requester, State
from bot.core.studio import Submission
from tests.fakes.backend import FakeBackend, flat_png
from tests.fakes.house import house
from tests.fakes.memory_store import Data, MemoryStore
from tests.fakes.notebook import Notebook
from tests.fakes.trouble import OddBackend

ANN = Requester("notebook", "g1", "ann")


async def leave_behind(folder: Path, data: Data, *keys: str, image: bool = False) -> None:
    """A program that stopped with one job running and those named by `keys` waiting."""
    backend = FakeBackend()
    hold = backend.hold("start")
    async with house(folder, store=MemoryStore(data), backends=[backend]) as home:
        await home.ask("in the way", user="bob", key="running")
        await home.until(hold.reached.is_set)
        for key in keys:
            text = f"a flat colour {key}" + (" --strength 0.5" if image else "")
            picture = flat_png(64, 64, 9) if image else None
            await home.studio.submit(Submission(ANN, key, {"page": key}, text=text, init_image=picture))
        await home.until(lambda: all(home.page(key).prepared for key in keys))


def change(data: Data, key: str, alter: Callable[[StoredGroup], StoredGroup]) -> None:
    """Alter a stored group."""
    (group,) = [group for group in data.groups.values() if group.event_key == f"notebook:{key}"]
    data.groups[group.group_id] = alter(group)


async def test_a_request_that_cannot_be_read_fails_and_the_others_go_on(tmp_path: Path) -> None:
    data = Data()
    await leave_behind(tmp_path, data, "damaged", "sound")
    change(
        data,
        "damaged",
        lambda group: dataclasses.replace(
            group, jobs=tuple(dataclasses.replace(job, request={"prompt": "?"}) for job in group.jobs)
        ),
    )
    notebook = Notebook()
    async with house(tmp_path, store=MemoryStore(data), notebook=notebook) as home:
        assert (await notebook.delivered("sound")).state is State.DONE
        damaged = await notebook.delivered("damaged")
        assert (damaged.state, bool(damaged.reference)) == (State.FAILED, True)
        await home.until(home.idle)
        assert not await home.store.unfinished()


async def test_a_missing_input_picture_fails_its_own_job_and_says_so(tmp_path: Path) -> None:
    data = Data()
    await leave_behind(tmp_path, data, "k", image=True)
    for path in (tmp_path / "pictures").iterdir():
        path.unlink()
    notebook = Notebook()
    async with house(tmp_path, store=MemoryStore(data), notebook=notebook):
        assert (await notebook.delivered("running")).state is State.DONE
        result = await notebook.delivered("k")
        assert result.state is State.FAILED
        assert "picture" in result.message


async def test_a_job_of_a_backend_that_is_gone_is_made_by_another(tmp_path: Path) -> None:
    data = Data()
    await leave_behind(tmp_path, data, "k")
    notebook, other = Notebook(), FakeBackend("fake:other", resumable=True)
    async with house(tmp_path, store=MemoryStore(data), backends=[other], notebook=notebook) as home:
        assert (await notebook.delivered("running")).backend == "fake:other"
        assert (await notebook.delivered("k")).state is State.DONE
        await home.until(home.idle)
        home.check()


async def test_requests_of_a_platform_that_is_off_wait_until_it_is_on_again(tmp_path: Path) -> None:
    data = Data()
    await leave_behind(tmp_path, data, "k")
    async with house(tmp_path, store=MemoryStore(data), notebook=Notebook("another")) as home:
        await home.clock.advance(10.0)
        assert home.idle()
    notebook = Notebook()
    async with house(tmp_path, store=MemoryStore(data), notebook=notebook):
        assert (await notebook.delivered("k")).state is State.DONE


async def test_a_result_for_a_platform_that_is_off_waits_in_the_outbox(tmp_path: Path) -> None:
    data = Data()
    async with house(tmp_path, store=MemoryStore(data)) as home:
        home.page("k").failures["deliver"] = [Unavailable("platform down") for _ in range(99)]
        await home.ask("a flat colour", key="k")
        await home.until(lambda: bool(data.outbox))
    async with house(tmp_path, store=MemoryStore(data), notebook=Notebook("another")) as home:
        await home.clock.advance(10.0)
        assert data.outbox
    notebook = Notebook()
    async with house(tmp_path, store=MemoryStore(data), notebook=notebook) as home:
        assert (await notebook.delivered("k")).state is State.DONE
        await home.until(home.idle)
        assert not data.outbox


async def test_a_request_cancelled_before_its_message_existed_gets_one_after_a_restart(
    tmp_path: Path,
) -> None:
    data = Data()
    async with house(tmp_path, store=MemoryStore(data)) as home:
        home.page("k").failures["prepare"] = [Unavailable("platform down") for _ in range(99)]
        ticket = await home.ask("a flat colour", key="k")
        await home.studio.cancel(ticket.group_id, ANN)
    notebook = Notebook()
    async with house(tmp_path, store=MemoryStore(data), notebook=notebook):
        assert (await notebook.delivered("k")).state is State.CANCELLED
        assert notebook.page("k").prepared == 1


async def test_a_group_that_had_ended_in_part_is_finished(tmp_path: Path) -> None:
    data, backend = Data(), FakeBackend()
    first = backend.hold("start")
    async with house(tmp_path, store=MemoryStore(data), backends=[backend]) as home:
        await home.ask("a {red, green} star", key="k")
        await home.until(first.reached.is_set)
        second = backend.hold("start")
        first.release()
        await home.until(second.reached.is_set)
    notebook, again = Notebook(), FakeBackend()
    async with house(tmp_path, store=MemoryStore(data), backends=[again], notebook=notebook):
        result = await notebook.delivered("k")
        assert [picture.recipe["prompt"] for picture in result.pictures] == ["a red star", "a green star"]
        assert [request.prompt for _, request in again.submitted] == ["a green star"]


async def test_a_job_that_ends_while_the_program_starts_is_delivered(tmp_path: Path) -> None:
    data, backend = Data(), FakeBackend(resumable=True)
    hold = backend.hold("start")
    async with house(tmp_path, store=MemoryStore(data), backends=[_Alive(backend)]) as home:
        await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
    hold.release()
    await asyncio.gather(*backend._tasks)
    notebook = Notebook()
    store = _SlowReader(data)
    async with house(tmp_path, store=store, backends=[backend], notebook=notebook) as home:
        assert (await notebook.delivered("k")).state is State.DONE
        await home.until(home.idle)
        home.check()
    assert len(backend.submitted) == 1


async def test_a_resumable_backend_that_is_down_at_the_start_keeps_its_job(
    tmp_path: Path,
) -> None:
    data, backend = Data(), OddBackend(resumable=True)
    hold = backend.hold("start")
    async with house(tmp_path, store=MemoryStore(data), backends=[_Alive(backend)]) as home:
        await home.ask("a flat colour", key="k")
        await home.until(hold.reached.is_set)
    hold.release()
    backend.broken.add("capabilities")
    notebook = Notebook()
    async with house(tmp_path, store=MemoryStore(data), backends=[backend], notebook=notebook):
        assert (await notebook.delivered("k")).state is State.DONE
    assert len(backend.submitted) == 1


async def test_damaged_estimates_do_not_keep_the_program_from_starting(tmp_path: Path) -> None:
    data = Data()
    data.shelves["core", "estimator"] = {"rates": "nonsense"}
    async with house(tmp_path, store=MemoryStore(data)) as home:
        await home.ask("a flat colour", key="k")
        assert (await home.notebook.delivered("k")).state is State.DONE


class _Alive:
    """A backend that lives on when the program stops, as a hosted one does."""

    def __init__(self, backend: FakeBackend) -> None:
        self._backend = backend
        self.name = backend.name
        self.capabilities = backend.capabilities
        self.submit = backend.submit
        self.events = backend.events
        self.cancel = backend.cancel
        self.health = backend.health

    async def aclose(self) -> None:
        """The remote goes on."""


class _SlowReader(MemoryStore):
    """A store whose outbox takes a moment to read."""

    async def outbox(self, *, limit: int = 1000):  # type: ignore[no-untyped-def]
        await asyncio.sleep(0.2)
        return await super().outbox(limit=limit)
