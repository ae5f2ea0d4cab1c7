"""Starting and stopping the whole program, also when half of it does not work."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.app import App, build, hold
from bot.core.errors import AuthFailed, ConfigurationError, Unavailable
from bot.core.ports import Adapter, Backend
from bot.core.request import Requester, State
from bot.core.settings import BackendEntry, Settings
from bot.core.studio import Studio, Submission
from bot.run import run
from tests.fakes.backend import FakeBackend
from tests.fakes.memory_store import Data, MemoryStore
from tests.fakes.notebook import Notebook
from tests.fakes.trouble import OddBackend, TroubledStore

ANN = Requester("notebook", "g1", "ann")


@asynccontextmanager
async def program(
    folder: Path,
    *,
    adapters: list[Adapter] | None = None,
    backends: list[Backend] | None = None,
    store: MemoryStore | None = None,
    serve: bool = False,
    port: int = 0,
) -> AsyncIterator[App]:
    """A program in real time, not started; closed in the end."""
    app = build(
        Settings(data_dir=folder, port=port, backends=(BackendEntry("fake", ""),)),
        adapters=[Notebook()] if adapters is None else adapters,
        backends=[FakeBackend()] if backends is None else backends,
        serve=serve,
        store=store or MemoryStore(),
    )
    try:
        yield app
    finally:
        await app.aclose()


async def ask(app: App, key: str) -> None:
    """Submit a request."""
    await app.studio.submit(Submission(ANN, key, {"page": key}, text="a flat colour"))


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something in real time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


# --- starting ---------------------------------------------------------------------------------------------


async def test_a_taken_port_is_a_wrong_setting_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        backend, store = FakeBackend(), MemoryStore()
        port = taken.getsockname()[1]
        async with program(tmp_path, backends=[backend], store=store, serve=True, port=port) as app:
            with pytest.raises(ConfigurationError, match="--port"):
                await app.start()
        assert backend.closed
        assert store.closed
    hold(tmp_path).close()  # free again


async def test_a_second_program_on_the_same_data_is_told_who_has_it(tmp_path: Path) -> None:
    async with program(tmp_path) as first, program(tmp_path) as second:
        await first.start()
        with pytest.raises(ConfigurationError, match=f"in use by process {os.getpid()}"):
            await second.start()
        await second.aclose()
        await ask(first, "k")  # and the first one goes on
        with pytest.raises(ConfigurationError):
            hold(tmp_path)


async def test_a_start_that_breaks_in_the_middle_closes_what_was_open(tmp_path: Path) -> None:
    class Unreadable(MemoryStore):
        async def unfinished(self):  # type: ignore[no-untyped-def]
            raise RuntimeError("the disk broke")

    backend, store = FakeBackend(), Unreadable()
    async with program(tmp_path, backends=[backend], store=store) as app:
        with pytest.raises(RuntimeError):
            await app.start()
    assert backend.closed
    assert store.closed
    hold(tmp_path).close()


async def test_a_start_that_is_cancelled_closes_what_was_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.app.ASK_MOST", 60.0)
    backend, store = OddBackend(), MemoryStore()
    backend.stuck.add("capabilities")
    async with program(tmp_path, backends=[backend], store=store) as app:
        starting = asyncio.ensure_future(app.start())
        await until(lambda: backend.asked["capabilities"] > 0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert backend.closed
    assert store.closed
    hold(tmp_path).close()


# --- stopping ---------------------------------------------------------------------------------------------


async def test_one_thing_that_does_not_close_does_not_keep_the_others_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.app.CLOSE_MOST", 0.1)
    broken, stuck, good = OddBackend("fake:1"), OddBackend("fake:2"), FakeBackend("fake:3")
    broken.broken.add("aclose")
    stuck.stuck.add("aclose")
    store = TroubledStore()
    async with program(tmp_path, backends=[broken, stuck, good], store=store) as app:
        await app.start()
        store.full["shelf_put"] = 1
        await app.aclose()
        assert good.closed
        assert store.closed
    hold(tmp_path).close()


async def test_running_jobs_are_drained_and_waiting_ones_kept(tmp_path: Path) -> None:
    data, backend, notebook = Data(), FakeBackend(), Notebook()
    gate = backend.hold("picture")
    async with program(tmp_path, adapters=[notebook], backends=[backend], store=MemoryStore(data)) as app:
        await app.start()
        await ask(app, "running")
        await until(gate.reached.is_set)
        await ask(app, "waiting")
        closing = asyncio.ensure_future(app.aclose(drain=30.0))
        await until(lambda: not app.studio.accepting)
        with pytest.raises(Unavailable):
            await ask(app, "late")
        gate.release()
        await closing
        assert [result.state for result in notebook.page("running").delivered] == [State.DONE]
        assert len(backend.submitted) == 1
    (group,) = await MemoryStore(data).unfinished()
    assert group.event_key == "notebook:waiting"


async def test_a_second_call_to_stop_does_not_wait(tmp_path: Path) -> None:
    data, backend = Data(), FakeBackend()
    gate = backend.hold("picture")
    async with program(tmp_path, backends=[backend], store=MemoryStore(data)) as app:
        await app.start()
        await ask(app, "k")
        await until(gate.reached.is_set)
        closing = asyncio.ensure_future(app.aclose(drain=600.0))
        await until(lambda: not app.studio.accepting)
        async with asyncio.timeout(10.0):
            await app.aclose()
            await closing
    assert len(await MemoryStore(data).unfinished()) == 1


async def test_a_full_disk_does_not_keep_the_program_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.core.running.STOP_MOST", 0.2)
    data, backend = Data(), FakeBackend()
    gate = backend.hold("start")
    store = TroubledStore(data)
    async with program(tmp_path, backends=[backend], store=store) as app:
        await app.start()
        await ask(app, "k")
        await until(gate.reached.is_set)
        await ask(app, "waiting")
        store.full.update(dict.fromkeys(("finish", "requeue", "delivered", "renew", "shelf_put"), 10_000))
        groups = list(app.studio._desk.groups.values())
        cancelling = [asyncio.ensure_future(app.studio.cancel(group.group_id, ANN)) for group in groups]
        await until(lambda: store.calls["finish"] >= 2)
        async with asyncio.timeout(10.0):
            await app.aclose(drain=0.5)
        await asyncio.gather(*cancelling, return_exceptions=True)
    assert len(await MemoryStore(data).unfinished()) == 2


# --- adapters ---------------------------------------------------------------------------------------------


class Troubled(Notebook):
    """An adapter whose run() ends in an error each time."""

    def __init__(self, error: Exception) -> None:
        super().__init__("troubled")
        self.error = error
        self.runs = 0

    async def run(self, studio: Studio) -> None:
        self.runs += 1
        raise self.error


async def test_a_refused_token_at_the_start_ends_the_program(tmp_path: Path) -> None:
    async with program(tmp_path, adapters=[Troubled(ConfigurationError("TOKEN is refused."))]) as app:
        await app.start()
        with pytest.raises(ConfigurationError, match="TOKEN"):
            await asyncio.wait_for(app.failed, 10)


async def test_a_revoked_token_stops_its_adapter_alone(tmp_path: Path) -> None:
    revoked, good = Troubled(AuthFailed("revoked")), Notebook()
    async with program(tmp_path, adapters=[revoked, good]) as app:
        await app.start()
        await until(lambda: revoked.runs > 0)
        await ask(app, "k")
        assert (await good.delivered("k")).state is State.DONE
        await asyncio.sleep(1.2)  # longer than the first pause before another try
        assert revoked.runs == 1
        assert not app.failed.done()


async def test_an_adapter_that_breaks_is_started_again(tmp_path: Path) -> None:
    broken = Troubled(RuntimeError("a bug"))
    async with program(tmp_path, adapters=[broken, Notebook()]) as app:
        await app.start()
        await until(lambda: broken.runs >= 2)


async def test_a_broken_health_check_is_shown_as_down(tmp_path: Path) -> None:
    backend = OddBackend("fake:odd")
    backend.broken.add("health")
    async with program(tmp_path, backends=[backend, FakeBackend("fake:good")]) as app:
        await app.start()
        await until(lambda: len(app._health) == 2)
        _, body = app._readiness()
        assert body["backends"] == {
            "fake:odd": {"state": "down", "detail": "RuntimeError: a bug in health"},
            "fake:good": {"state": "ok", "detail": ""},
        }


# --- signals ----------------------------------------------------------------------------------------------


async def test_a_signal_stops_a_start_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.app.ASK_MOST", 60.0)
    monkeypatch.setattr("bot.run.set_up", lambda *_: None)
    backend = OddBackend()
    backend.stuck.add("capabilities")
    async with program(tmp_path, backends=[backend]) as app:
        running = asyncio.ensure_future(run(app.settings, app))
        await until(lambda: backend.asked["capabilities"] > 0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(running, 10) == 0
        assert backend.closed


async def test_a_second_signal_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bot.run.set_up", lambda *_: None)
    data, backend = Data(), FakeBackend()
    gate = backend.hold("picture")
    async with program(tmp_path, backends=[backend], store=MemoryStore(data), serve=True) as app:
        running = asyncio.ensure_future(run(app.settings, app))
        await until(lambda: "ready" in capsys.readouterr().out)
        await ask(app, "k")
        await until(gate.reached.is_set)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: not app.studio.accepting)
        assert not running.done()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(running, 10) == 0
    assert len(await MemoryStore(data).unfinished()) == 1


async def test_the_command_says_78_where_the_data_is_in_use(tmp_path: Path) -> None:
    lock = hold(tmp_path)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FAIRBRUSH_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bot",
        "run",
        "--data-dir",
        str(tmp_path),
        env={**environment, "FAIRBRUSH_BACKENDS": f"local:{tmp_path}"},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    lock.close()
    assert process.returncode == 78
    assert b"Traceback" not in said
    assert len(said.decode().strip().splitlines()) == 1
