"""One worker for a Discord server and a Slack workspace, with both adapters: each gets half of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.discord.adapter import Discord as DiscordAdapter
from adapters.slack.adapter import Slack as SlackAdapter
from adapters.slack.names import SCOPES
from bot.app import App, build
from bot.core.ports import RemoteRef, Store
from bot.core.request import ImageRequest
from bot.core.settings import Settings
from bot.store.sqlite import open_store
from tests.fakes.backend import FakeBackend
from tests.fakes.discord import Discord, pictures
from tests.fakes.discord_house import BRISK, discord_settings
from tests.fakes.slack import Slack
from tests.fakes.slack_house import slack_settings, until

MEMBERS, EACH = 4, 6  # of the server, who ask for one picture so often each
BIG, COUNT = 6, 4  # requests of the workspace, and the pictures of each
SECONDS = 1.0  # of the device for each picture


@dataclass(frozen=True, slots=True)
class Sample:
    """Device-seconds used so far by platform, and the requests of each that wait, at one moment."""

    used: Mapping[str, float]
    waiting: Mapping[str, int]


class Worker(FakeBackend):
    """Takes one job at a time, and looks into the store before each."""

    def __init__(self, store: Store) -> None:
        super().__init__("worker:", slots=1, previews=False, seconds_per_picture=SECONDS)
        self._store = store
        self.waiting = Counter[str]()
        self.samples: list[Sample] = []

    async def submit(self, request: ImageRequest, *, job_id: str) -> RemoteRef:
        """Everything before this job has ended and is stored."""
        used = dict.fromkeys(("discord", "slack"), 0.0)
        for requester, seconds in await self._store.usage(0.0):
            used[requester.platform] += seconds
        self.samples.append(Sample(used, self.waiting.copy()))
        self.waiting[request.prompt.split()[-1]] -= 1
        return await super().submit(request, job_id=job_id)


@dataclass
class Shared:
    """The program, both platforms and the worker."""

    discord: Discord
    slack: Slack
    app: App
    worker: Worker

    async def ask_in_discord(self, times: int) -> None:
        """Four members of a server ask for a picture, so often each."""
        guild = next(iter(self.discord.world.guilds.values()))
        general = self.discord.channel(guild, "general")
        members = [self.discord.member(guild, f"member{number}") for number in range(MEMBERS)]
        self.worker.waiting["discord"] += MEMBERS * times
        for who in members * times:
            await self.discord.imagine(general, who, "a red fox of discord")

    async def ask_in_slack(self) -> None:
        """Bob asks for several pictures each time: in channels of their own, for one takes few messages."""
        self.worker.waiting["slack"] += BIG
        for number in range(BIG):
            channel = self.slack.add_channel(f"foxes{number}")
            done = await self.slack.bob.command(f"a red fox of slack --count {COUNT}", channel)
            assert done.acknowledged, done

    def shown(self) -> Counter[str]:
        """Pictures by platform."""
        messages = [message for message in self.slack.world.messages.values() if message.thread_ts]
        channels = [channel for channel in self.discord.world.channels.values() if channel.parent_id]
        said = [message for channel in channels for message in self.discord.messages(channel)]
        return Counter(
            slack=len(self.slack.images(messages)), discord=sum(len(pictures(message)) for message in said)
        )


@asynccontextmanager
async def shared_worker(folder: Path) -> AsyncIterator[Shared]:
    """Both platforms and the program, with the database of a real one."""
    store = await open_store(folder / "fairbrush.sqlite3")
    worker = Worker(store)
    async with Discord() as discord, Slack(scopes=",".join(SCOPES)) as slack:
        discord.guild()
        settings = both(discord_settings(folder, discord), slack_settings(slack, folder))
        on_discord, on_slack = DiscordAdapter(settings), SlackAdapter(settings)
        on_discord.pace = BRISK
        app = build(settings, adapters=[on_discord, on_slack], backends=[worker], store=store, serve=False)
        try:
            await app.start()
            await discord.ready()
            await slack.connected()
            yield Shared(discord, slack, app, worker)
        finally:
            await app.aclose()


def both(first: Settings, second: Settings) -> Settings:
    """The settings of two platforms in one."""
    return Settings(
        data_dir=first.data_dir,
        backends=first.backends,
        secrets={**first.secrets, **second.secrets},
        platform_urls={**first.platform_urls, **second.platform_urls},
    )


def widest_gap(samples: Sequence[Sample]) -> float:
    """The most that one platform got more than the other, in any interval, in device-seconds."""
    ahead = [sample.used["discord"] - sample.used["slack"] for sample in samples]
    return max(ahead) - min(ahead)


async def test_a_server_and_a_workspace_get_half_of_one_worker_each(tmp_path: Path) -> None:
    """|W_f - W_g| <= (C/w_f + C/w_g)(1 + e(1 + 2W)) over any interval in which both wait. Here the weights
    are 1, and the costs are known, e = 0, once the worker has made a few pictures: so twice the largest job,
    of COUNT pictures."""
    bound = 2 * COUNT * SECONDS
    async with shared_worker(tmp_path) as shared:
        worker, queue = shared.worker, shared.app._dispatcher._queue
        await shared.ask_in_discord(1)
        await until(lambda: worker.running == 0 and shared.shown()["discord"] == MEMBERS)
        hold = worker.hold("start")
        await asyncio.gather(shared.ask_in_discord(EACH), shared.ask_in_slack())
        await until(lambda: len(queue) == MEMBERS * EACH + BIG - 1, seconds=60)
        hold.release()
        everything = Counter(discord=MEMBERS * (EACH + 1), slack=BIG * COUNT)
        await until(lambda: shared.shown() == everything, seconds=60)
        contended = [each for each in worker.samples[MEMBERS + 1 :] if min(each.waiting.values()) > 0]
    first, last = contended[0], contended[-1]
    got = {name: last.used[name] - first.used[name] for name in ("discord", "slack")}
    total, gap = sum(got.values()), widest_gap(contended)
    print(f"\n{got} device-seconds while both waited; widest gap {gap:.1f}, bound {bound:.1f}")
    assert total >= 0.7 * (MEMBERS * EACH + BIG * COUNT) * SECONDS
    assert gap <= bound
    assert all(abs(part - total / 2) <= bound / 2 for part in got.values())
    assert not shared.discord.violations
