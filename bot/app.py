"""The only wiring: settings in, a running program out. Nothing is built at import."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TextIO

from bot import program_version
from bot.core.budget import Budget
from bot.core.delivery import Courier
from bot.core.desk import Desk, LiveGroup
from bot.core.dispatcher import Dispatcher
from bot.core.errors import AuthFailed, ConfigurationError, Unavailable
from bot.core.estimator import Estimator
from bot.core.fairqueue import FairQueue
from bot.core.gallery import Gallery
from bot.core.house_rules import HouseRules
from bot.core.lanes import Lane, tell_of_idle_stand_ins
from bot.core.moderation import Moderation
from bot.core.patience import Tasks
from bot.core.ports import Adapter, Backend, Clock, Health, Store
from bot.core.request import JSON, ImageResult, State
from bot.core.revival import revive
from bot.core.routing import Routing
from bot.core.settings import Settings
from bot.core.studio import Studio
from bot.core.sweep import Sweep
from bot.core.terms import Terms
from bot.secretkey import with_secret_key
from bot.server import Server, linked_pictures

log = logging.getLogger(__name__)

REAL_CLOCK = Clock(now=time.time, monotonic=time.monotonic, sleep=asyncio.sleep)
RESTART_MOST = 300.0
ASK_MOST = 5.0  # seconds at start for backends to say what they can do; a later answer counts too
DELIVER_MOST, CLOSE_MOST = 4.0, 3.0  # seconds for results to be shown, and for each thing to close
KEPT = 10.0  # seconds of a drain that are kept for all that comes after the running jobs


class App:
    """The program. start() returns once jobs are accepted durably; aclose() drains and keeps the rest."""

    def __init__(
        self,
        settings: Settings,
        adapters: Sequence[Adapter],
        backends: Sequence[Backend],
        clock: Clock,
        *,
        serve: bool,
        store: Store | None,
    ) -> None:
        self.settings = settings
        self._serve = serve
        self.studio: Studio
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._adapters = {adapter.name: adapter for adapter in adapters}
        self._backends = list(backends)
        self._clock = clock
        self._tasks = Tasks()
        self._closing: asyncio.Task[None] | None = None
        self._lock: TextIO | None = None
        self._store = store
        self._courier: Courier
        self._dispatcher: Dispatcher
        self._server: Server
        self._health: dict[str, Health] = {}
        self._ready = False

    @property
    def url(self) -> str:
        """Where the web server listens."""
        return self._server.url

    def serves(self, name: str) -> bool:
        """Whether an adapter of this name is loaded."""
        return name in self._adapters

    async def start(self) -> None:
        """Open the data, take up what was left, connect the platforms, serve. Raises ConfigurationError; call
        aclose() then too."""
        self._lock = hold(self.settings.data_dir)
        self._store = self._store or await open_store(self.settings)
        await self._wire(self._store)
        if self._serve:
            routes = [route for adapter in self._adapters.values() for route in adapter.routes()]
            routes.append(linked_pictures(self.studio.linked))
            self._server = Server(self.settings.host, self.settings.port, routes, self._readiness)
            await self._server.start()
        for adapter in self._adapters.values():
            self._tasks.start(self._supervise(adapter))
        for backend in self._backends:
            self._tasks.start(self._watch_health(backend))
        self._tasks.start(self._dispatcher.run())
        self._tasks.start(tell_of_idle_stand_ins(self._lanes, self._clock))
        self._tasks.start(self._keep_estimates_now_and_then())
        self._tasks.start(Sweep(self._store, self.settings.pictures_dir, self._clock).run())
        self._tasks.start(self._house.weights.watch())
        self._tasks.start(self._budget.watch(self._store))
        self._dispatcher.wake()
        self._ready = True

    async def _wire(self, store: Store) -> None:
        settings, clock = self.settings, self._clock
        desk, queue = Desk(), FairQueue()
        self._house = HouseRules(settings, store, queue, desk, clock)
        await self._house.weights.look()
        gallery = Gallery(settings.pictures_dir, settings.limits, f"Fairbrush {program_version()}")
        self._estimator = estimator = _estimator(await store.shelf_get("core", "estimator"))
        limits = settings.limits
        lanes = [Lane(backend, terms=_terms(backend, settings), limits=limits) for backend in self._backends]
        await asyncio.wait([asyncio.ensure_future(lane.refresh(clock)) for lane in lanes], timeout=ASK_MOST)

        budget = Budget(settings, clock)
        await budget.load(store)
        self._budget, self._lanes = budget, lanes

        async def result_of(group_id: str) -> ImageResult:
            return await self.studio.result(group_id)

        courier = Courier(
            store,
            self._adapters,
            clock,
            on_prepared=self._line_up,
            on_gone=lambda group: self.studio.cancel_group(group, ""),
            result_of=result_of,
            on_delivered=desk.remove,
        )
        self._courier = courier
        self._dispatcher = Dispatcher(
            desk,
            queue,
            store,
            Routing(lanes, budget, estimator),
            gallery,
            estimator,
            clock,
            settings,
            on_status=courier.show,
            on_ended=self._tell_end,
        )
        self.studio = Studio(
            settings,
            store,
            desk,
            self._dispatcher,
            gallery,
            estimator,
            Moderation(blocked_words=settings.blocked_words),
            clock,
            self._house,
            open_line=courier.open,
            line_up=self._line_up_prepared,
        )
        left = await revive(store, desk, queue, self._dispatcher, courier, clock, self._house.weigh)
        if left:
            log.info("restarted: %d unfinished requests kept their places", left)

    def _line_up(self, group: LiveGroup) -> None:
        for job in group.jobs:
            if job.state is State.ACCEPTED:
                self._dispatcher.push(job)

    def _line_up_prepared(self, group: LiveGroup) -> None:
        for job in group.jobs:
            self._dispatcher.push(job)

    def _tell_end(self, group: LiveGroup) -> None:
        self._courier.end(group.group_id)
        group.end_watches()

    async def aclose(self, *, drain: float = 0.0) -> None:
        """Take in nothing more, give what runs up to `drain` seconds in all, keep the rest. Once is enough; a
        second call makes the first one hurry."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close(drain))
        elif hasattr(self, "studio"):
            await self._dispatcher.drain(0.0)
            await self._courier.aclose()
        await asyncio.shield(self._closing)

    async def _close(self, drain: float) -> None:
        self._ready = False
        steps: list[Callable[[], Awaitable[None]]] = []
        if hasattr(self, "studio"):
            await self._wind_down(drain)
            steps += [self.studio.aclose, self._courier.aclose]
        steps.append(self._tasks.aclose)
        if hasattr(self, "_server"):
            steps.append(self._server.aclose)
        steps += [adapter.aclose for adapter in self._adapters.values()]
        steps += [backend.aclose for backend in self._backends]
        if self._store is not None:
            steps += [self._keep_estimates, self._store.aclose]
        for step in steps:
            await _closed(step)
        if self._lock is not None:
            self._lock.close()

    async def _wind_down(self, drain: float) -> None:
        """Running jobs get most of the time, and what they made a moment to be shown."""
        self.studio.accepting = False
        await self._dispatcher.drain(max(0.0, drain - KEPT))
        if drain:
            idle = asyncio.ensure_future(self._courier.idle())
            await asyncio.wait({idle}, timeout=DELIVER_MOST)
            idle.cancel()

    async def _supervise(self, adapter: Adapter) -> None:
        """Run an adapter; begin again when it breaks, later each time. A wrong setting ends the program."""
        delay = 1.0
        while True:
            try:
                await adapter.run(self.studio)
                return
            except ConfigurationError as error:
                if not self.failed.done():
                    self.failed.set_exception(error)
                return
            except AuthFailed as error:  # trying again would only be refused again
                log.error("%s stopped for good: %s %s", adapter.name, error.message, error.detail)
                return
            except Exception:  # one platform's trouble must not stop the others
                log.exception("%s stopped; again in %.0f s", adapter.name, delay)
            await self._clock.sleep(delay)
            delay = min(delay * 2, RESTART_MOST)

    async def _keep_estimates(self) -> None:
        """What was learned of costs and waits outlives a restart."""
        if self._store is not None and hasattr(self, "_estimator"):
            await self._store.shelf_put("core", "estimator", self._estimator.to_json())

    async def _keep_estimates_now_and_then(self) -> None:
        while True:
            await self._clock.sleep(60.0)
            try:
                await self._keep_estimates()
            except Unavailable as error:
                log.warning("what was learned of costs is not stored: %s", error.message)

    async def _watch_health(self, backend: Backend) -> None:
        while True:
            try:
                health = await backend.health()
            except Exception as error:  # one backend's bug must not stop the watch over it
                health = Health(False, detail=f"{type(error).__name__}: {error}")
            if health != self._health.get(backend.name) and health.detail:
                log.info("%s: %s", backend.name, health.detail)
            self._health[backend.name] = health
            await self._clock.sleep(1.0)

    def _readiness(self) -> tuple[bool, Mapping[str, JSON]]:
        backends: dict[str, JSON] = {}
        for backend in self._backends:
            health = self._health.get(backend.name)
            state = (
                "starting"
                if health is None
                else "loading"
                if health.loading
                else "ok"
                if health.ok
                else "down"
            )
            said: dict[str, JSON] = {"state": state, "detail": health.detail if health else ""}
            lane = next(lane for lane in self._lanes if lane.backend is backend)
            if lane.hosted:
                said |= {"spent_today": round(self._budget.spent(lane.name), 6), "cap": lane.terms.cap}
            backends[backend.name] = said
        return self._ready, {"ready": self._ready, "adapters": list(self._adapters), "backends": backends}


async def _closed(close: Callable[[], Awaitable[None]]) -> None:
    """Close one thing; its trouble must not keep the others open."""
    try:
        async with asyncio.timeout(CLOSE_MOST):
            await close()
    except Exception:
        log.exception("while closing")


def _terms(backend: Backend, settings: Settings) -> Terms:
    """What its entry in FAIRBRUSH_BACKENDS says about a backend. Raises ConfigurationError."""
    kind, _, target = backend.name.partition(":")
    return Terms.of(settings.entry(kind, target))


def _estimator(kept: JSON) -> Estimator:
    try:
        return Estimator.from_json(kept)
    except ValueError as error:  # it can be learned again
        log.warning("what was learned of costs cannot be read: %s", error)
        return Estimator()


def build(
    settings: Settings,
    adapters: Sequence[Adapter] | None = None,
    backends: Sequence[Backend] | None = None,
    *,
    clock: Clock = REAL_CLOCK,
    serve: bool = True,
    store: Store | None = None,
) -> App:
    """The program for these settings, not started. Call within a running event loop.

    adapters, backends: the installed, enabled ones where None; serve: whether to listen for HTTP; store: the
    one that the settings name where None. Raises ConfigurationError.
    """
    settings = with_secret_key(settings)
    return App(
        settings,
        load_adapters(settings) if adapters is None else adapters,
        load_backends(settings) if backends is None else backends,
        clock,
        serve=serve,
        store=store,
    )


def load_adapters(settings: Settings) -> list[Adapter]:
    """The installed adapters that the settings enable."""
    made: list[Adapter | None] = [
        _load("fairbrush.adapters", name)(settings) for name in installed("fairbrush.adapters")
    ]
    return [adapter for adapter in made if adapter is not None]


def load_backends(settings: Settings) -> list[Backend]:
    """The backends that the settings name. Raises ConfigurationError for a kind that is not installed."""
    known = installed("fairbrush.backends")
    for entry in settings.backends:
        if entry.kind not in known:
            raise ConfigurationError(
                f'FAIRBRUSH_BACKENDS: there is no kind "{entry.kind}". There is: {", ".join(known)}.'
            )
    return [_load("fairbrush.backends", entry.kind)(entry.target, settings) for entry in settings.backends]


def installed(group: str) -> list[str]:
    """Names in an entry-point group. Raises ConfigurationError where the distribution is not installed."""
    names = sorted({point.name for point in entry_points(group=group)})
    if not names:
        raise ConfigurationError("Fairbrush is not installed here. Run: pip install -e '.[local]'")
    return names


def _load(group: str, name: str) -> Callable[..., Any]:
    (point, *_) = entry_points(group=group, name=name)
    loaded: Callable[..., Any] = point.load()
    return loaded


async def open_store(settings: Settings) -> Store:
    """The store that FAIRBRUSH_DATABASE_URL names; by default SQLite in the data folder."""
    from bot.store.sqlite import open_store as open_sqlite

    url = settings.database_url
    if url and not url.startswith("sqlite:///"):
        raise ConfigurationError("FAIRBRUSH_DATABASE_URL: only sqlite:///PATH is known, or leave it empty.")
    path = Path(url.removeprefix("sqlite:///")) if url else settings.data_dir / "fairbrush.sqlite3"
    return await open_sqlite(path)


def hold(data_dir: Path) -> TextIO:
    """Lock the data folder for this process; the lock dies with it. Raises ConfigurationError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        (data_dir / "pictures").mkdir(exist_ok=True, mode=0o700)
        handle = open(data_dir / "lock", "a+", encoding="ascii")  # noqa: SIM115 - held until aclose
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {data_dir} cannot be used: {error.strerror}. Choose another with --data-dir."
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        holder = handle.read().strip() or "another process"
        handle.close()
        raise ConfigurationError(
            f"The data folder {data_dir} is in use by process {holder}. "
            "Stop it, or choose another with --data-dir."
        ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle
