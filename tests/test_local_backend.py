"""The local backend over real worker processes with engines that need no model: life, death and recovery."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backends.local import LocalBackend, LocalOptions, create
from backends.local.options import pause_before_restart
from backends.local.sources import Kind, Source
from bot.core.errors import Cancelled, ConfigurationError, InvalidRequest, Unavailable
from bot.core.ports import Backend, CancelOutcome, Done, ImageReady, Progress, Queued, RemoteRef
from bot.core.request import Image, ImageRequest
from bot.core.settings import BackendEntry, Settings
from tests.backend_contract import PATIENCE, BackendContract, collect
from tests.fakes.backend import flat_png

OPTIONS = LocalOptions(engine="tests.fakes.engine:create", pause=lambda falls: 0.0)


def make_backend(folder: Path, options: LocalOptions = OPTIONS, engine: str = "create") -> LocalBackend:
    source = Source(Kind.FOLDER, "flat", str(folder), folder)
    options = replace(options, engine=f"tests.fakes.engine:{engine}")
    return LocalBackend(source, options, name="local:flat")


def make_request(prompt: str = "a colour", *, steps: int = 3, seed: int = 7, count: int = 1) -> ImageRequest:
    return ImageRequest(
        prompt=prompt, width=64, height=64, steps=steps, guidance_scale=7.5, seed=seed, count=count
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that another process brings about."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.01)


async def made(backend: Backend, ref: RemoteRef) -> list[int]:
    """The seeds of a job's pictures."""
    return [event.seed for event in await collect(backend.events(ref)) if isinstance(event, ImageReady)]


async def started(backend: Backend, ref: RemoteRef) -> None:
    """Wait for the first step of a job."""
    async with asyncio.timeout(PATIENCE):
        stream = backend.events(ref)
        async for event in stream:
            if isinstance(event, Progress) and event.step:
                break
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[LocalBackend]:
    backend = make_backend(tmp_path)
    yield backend
    await backend.aclose()


class TestContract(BackendContract):
    lacks = frozenset({"resume"})

    @pytest.fixture
    async def backend(self, tmp_path: Path) -> AsyncIterator[Backend]:
        backend = make_backend(tmp_path)
        yield backend
        await backend.aclose()


# --- answering at once ------------------------------------------------------------------------------------


async def test_capabilities_and_health_do_not_wait_for_loading(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, engine="create_slowly")
    async with asyncio.timeout(1):
        assert (await backend.capabilities()).models[0].id == "flat"
        health = await backend.health()
    assert health.ok
    assert health.loading
    (tmp_path / "open").touch()
    await until(lambda: loaded(backend))
    assert (await backend.capabilities()).models[0].title == "Flat colours"
    assert (await backend.capabilities()).slots == 2
    await backend.aclose()


async def loaded(backend: Backend) -> bool:
    health = await backend.health()
    return health.ok and not health.loading


async def test_jobs_given_while_loading_say_so_and_are_made(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, engine="create_slowly")
    ref = await backend.submit(make_request(seed=5), job_id="j")
    stream = backend.events(ref)
    first = await anext(stream)
    assert isinstance(first, Progress)
    assert first.phase
    (tmp_path / "open").touch()
    rest = await collect(stream)
    assert isinstance(rest[-1], Done)
    await backend.aclose()


async def test_a_long_load_keeps_telling_that_it_goes_on(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, replace(OPTIONS, job_timeout=0.2), engine="create_slowly")
    stream = backend.events(await backend.submit(make_request(), job_id="j"))
    async with asyncio.timeout(PATIENCE):
        told = [await anext(stream) for _ in range(4)]
    assert all(isinstance(event, Progress) and event.phase for event in told)
    await backend.aclose()


async def test_a_job_that_waits_behind_another_keeps_hearing_its_place(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, replace(OPTIONS, job_timeout=0.4))
    held = await backend.submit(make_request("hold", steps=1000), job_id="held")
    await started(backend, held)
    stream = backend.events(await backend.submit(make_request(), job_id="waiting"))
    async with asyncio.timeout(PATIENCE):
        told = [await anext(stream) for _ in range(4)]
    assert told[-1] == Queued(1)
    await backend.aclose()


def test_the_program_imports_no_engine(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from tests.test_local_backend import make_backend, make_request, made
async def main():
    backend = make_backend(Path(sys.argv[1]))
    assert await made(backend, await backend.submit(make_request(seed=3), job_id="j")) == [3]
    await backend.aclose()
asyncio.run(main())
engines = {"torch", "diffusers", "transformers", "numpy", "safetensors", "huggingface_hub"}
print(sorted(engines & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stdout.strip() == "[]", done.stderr


# --- refusing early ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scheduler": "Flow Euler"}, "scheduler"),
        ({"scheduler": "Eulr"}, "scheduler"),
        ({"model": "other"}, "model"),
        ({"mask_image": Image(b"", "image/png", 1, 1)}, "mask_image"),
        ({"init_image": Image(b"", "image/png", 1, 1), "strength": 0.1}, "strength"),
    ],
)
async def test_what_the_model_cannot_do_is_refused_by_name(
    backend: LocalBackend, change: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await backend.submit(replace(make_request(), **change), job_id="j")  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.message.endswith(".")


async def test_input_pictures_reach_the_worker_whole(backend: LocalBackend) -> None:
    picture = Image(flat_png(300, 200, 9), "image/png", 300, 200)
    request = replace(make_request(), init_image=picture, mask_image=picture, strength=0.9)
    assert await made(backend, await backend.submit(request, job_id="j")) == [7]


# --- cancelling -------------------------------------------------------------------------------------------


async def test_a_running_job_is_left_by_the_worker_when_cancelled(
    tmp_path: Path, backend: LocalBackend
) -> None:
    held = await backend.submit(make_request("hold"), job_id="held")
    await started(backend, held)
    following = await backend.submit(make_request(seed=8), job_id="following")
    assert await backend.cancel(held) is CancelOutcome.CANCELLED
    with pytest.raises(Cancelled):
        await collect(backend.events(held))
    assert await made(backend, following) == [8]


# --- recovering -------------------------------------------------------------------------------------------


async def test_a_crash_gives_running_jobs_back_and_keeps_waiting_ones(backend: LocalBackend) -> None:
    crashing = await backend.submit(make_request("crash"), job_id="crashing")
    waiting = await backend.submit(make_request(seed=9), job_id="waiting")
    with pytest.raises(Unavailable) as caught:
        await collect(backend.events(crashing))
    assert caught.value.accepted is False
    assert "-9" in caught.value.detail
    assert await made(backend, waiting) == [9]


async def test_a_job_that_was_there_at_a_crash_shares_no_call_when_it_comes_again(
    tmp_path: Path, backend: LocalBackend
) -> None:
    with pytest.raises(Unavailable):
        await collect(backend.events(await backend.submit(make_request("crash"), job_id="j")))
    await collect(backend.events(await backend.submit(make_request(), job_id="j")))
    lines = (tmp_path / "steps").read_text().splitlines()
    assert not lines[0].endswith("alone")
    assert all(line.endswith("alone") for line in lines[1:])


async def test_a_worker_killed_from_outside_is_replaced(backend: LocalBackend) -> None:
    await made(backend, await backend.submit(make_request(), job_id="j1"))
    first = backend.worker_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert await made(backend, await backend.submit(make_request(seed=4), job_id="j2")) == [4]
    assert backend.worker_pid != first


async def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, replace(OPTIONS, job_timeout=0.5))
    await until(lambda: loaded(backend))
    hanging = await backend.submit(make_request("hang"), job_id="hanging")
    with pytest.raises(Unavailable) as caught:
        await collect(backend.events(hanging))
    assert "0.5 s" in caught.value.message
    assert caught.value.accepted is False
    assert await made(backend, await backend.submit(make_request(seed=6), job_id="next")) == [6]
    await backend.aclose()


async def test_new_jobs_do_not_hide_a_hang(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, replace(OPTIONS, job_timeout=0.5))
    await until(lambda: loaded(backend))
    watching = asyncio.ensure_future(
        collect(backend.events(await backend.submit(make_request("hang"), job_id="hanging")))
    )
    count = 0
    async with asyncio.timeout(PATIENCE):
        while not watching.done():
            await backend.submit(make_request(), job_id=f"j{(count := count + 1)}")
            await asyncio.sleep(0.05)
    with pytest.raises(Unavailable):
        await watching
    await backend.aclose()


async def test_an_idle_worker_is_not_taken_for_one_that_hangs(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, replace(OPTIONS, job_timeout=0.05))
    await until(lambda: loaded(backend))
    pid = backend.worker_pid
    await asyncio.sleep(0.3)
    assert backend.worker_pid == pid
    await backend.aclose()


async def test_loading_that_hangs_is_ended(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, replace(OPTIONS, load_timeout=0.3), engine="create_slowly")
    ref = await backend.submit(make_request(), job_id="j")
    with pytest.raises(Unavailable) as caught:
        await collect(backend.events(ref))
    assert "0.3 s" in caught.value.message
    await backend.aclose()


async def test_two_crashes_while_loading_are_survived(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, engine="create_after_two_crashes")
    assert await made(backend, await backend.submit(make_request(seed=2), job_id="j")) == [2]
    await backend.aclose()


async def test_a_crash_loop_while_loading_is_told_and_fails_jobs_at_once(tmp_path: Path) -> None:
    options = replace(OPTIONS, pause=lambda falls: 0.0 if falls < 3 else 3600.0)
    backend = make_backend(tmp_path, options, engine="create_never")
    ref = await backend.submit(make_request(), job_id="j")
    with pytest.raises(Unavailable) as caught:
        await collect(backend.events(ref))
    assert "on fire" in caught.value.message
    health = await backend.health()
    assert not health.ok
    assert "on fire" in health.detail
    with pytest.raises(Unavailable) as again:
        await backend.submit(make_request(), job_id="k")
    assert again.value.accepted is False
    assert (tmp_path / "openings").read_text() == "xxx"
    await backend.aclose()


async def test_a_configuration_error_is_not_tried_three_times(tmp_path: Path) -> None:
    options = replace(OPTIONS, pause=lambda falls: 3600.0)
    backend = make_backend(tmp_path, options, engine="create_refused")
    with pytest.raises(Unavailable) as caught:
        await collect(backend.events(await backend.submit(make_request(), job_id="j")))
    assert caught.value.message == "The model is incomplete. Download it again."
    assert (tmp_path / "openings").read_text() == "x"
    await backend.aclose()


def test_pauses_between_restarts_grow_and_are_bounded() -> None:
    pauses = [pause_before_restart(falls) for falls in range(20)]
    assert pauses[:4] == [0.0, 0.0, 0.5, 1.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60.0


# --- no orphans -------------------------------------------------------------------------------------------

PARENT = """
import asyncio, sys
from pathlib import Path
from tests.test_local_backend import make_backend, make_request
async def main():
    backend = make_backend(Path(sys.argv[1]))
    await backend.submit(make_request(sys.argv[2]), job_id="j")
    while not (Path(sys.argv[1]) / "steps").exists():
        await asyncio.sleep(0.01)
    print(backend.worker_pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.parametrize("prompt", ["hold", "hang"])
async def test_a_killed_program_leaves_no_orphan(tmp_path: Path, prompt: str) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), prompt, stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    async with asyncio.timeout(PATIENCE):
        worker = int(await program.stdout.readline())
    assert is_alive(worker)
    program.kill()
    await program.wait()

    async def gone() -> bool:
        return not is_alive(worker)

    await until(gone)


async def test_signals_of_the_terminal_do_not_reach_the_worker(backend: LocalBackend) -> None:
    await made(backend, await backend.submit(make_request(), job_id="j1"))
    pid = backend.worker_pid
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert await made(backend, await backend.submit(make_request(), job_id="j2")) == [7]
    assert backend.worker_pid == pid


async def test_closing_ends_the_worker(backend: LocalBackend) -> None:
    await made(backend, await backend.submit(make_request(), job_id="j"))
    pid = backend.worker_pid
    await backend.aclose()
    assert pid is not None
    assert not is_alive(pid)


# --- settings ---------------------------------------------------------------------------------------------


def settings_with(tmp_path: Path, target: str, **options: str) -> Settings:
    return Settings(data_dir=tmp_path, backends=(BackendEntry("local", target, options),))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"slots": "0"}, "1 to 64"),
        ({"slots": "many"}, "1 to 64"),
        ({"dtype": "int8"}, "dtype"),
        ({"x": "1"}, "'x'"),
    ],
)
def test_wrong_options_are_configuration_errors(tmp_path: Path, options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        create("some/model", settings_with(tmp_path, "some/model", **options))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/nowhere/at/all", "no model folder"),
        ("model.ckpt", "pickle"),
        ("weights/model.PT", "pickle"),
        ("gone.safetensors", "no file"),
        ("a b c", "no model folder"),
    ],
)
def test_targets_that_cannot_be_models_are_configuration_errors(
    tmp_path: Path, target: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        create(target, settings_with(tmp_path, target))


def test_a_folder_with_only_pickled_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "diffusion_pytorch_model.bin").touch()
    with pytest.raises(ConfigurationError, match="pickle"):
        create(str(tmp_path), settings_with(tmp_path, str(tmp_path)))


async def test_slots_of_the_entry_are_what_is_offered(tmp_path: Path) -> None:
    options = LocalOptions.from_entry(BackendEntry("local", "flat", {"slots": "3"}), Settings(tmp_path))
    backend = make_backend(tmp_path, replace(options, pause=lambda falls: 0.0), engine="create_slowly")
    assert (await backend.capabilities()).slots == 3
    await backend.aclose()
