"""What hosted pictures cost is read on every platform, in the doctor's report and in /readyz."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.discord import render as discord_render
from adapters.discord.address import Place
from adapters.slack import render as slack_render
from adapters.web.wording import outcome_line
from bot import doctor as doctors
from bot.core import messages
from bot.core.errors import QuotaExceeded, Unavailable
from bot.core.ports import Charge, Outcome, Price
from bot.core.request import ImageResult, Picture, Requester, State
from bot.core.settings import BackendEntry, Settings
from bot.store.sqlite import open_store
from tests.fakes.groups import a_group, queue
from tests.fakes.house import House
from tests.fakes.paid import OTHER_MODEL, PRICE, flux, hosted, local

NOTE = "Stability AI Community License: not for commercial use."
PICTURE = Picture("a.png", 0, Path("a.png"), "image/png", 64, 64, 7, "a red fox", {})
MADE = ImageResult(
    "AAAAAAAA",
    Requester("discord", "1", "2"),
    "a red fox",
    State.DONE,
    (PICTURE,),
    (NOTE,),
    backend="local:, fal:flux",
    model="flux",
    device_seconds=18.0,
    money=0.04,
)
LOST = replace(MADE, pictures=(), notes=(), state=State.FAILED, message="No answer came.", reference="7K2Q")
PLACE = Place("1", "2", "token", 0.0, "3", "2", guild="1", prompt="a red fox")


def on_discord(result: ImageResult) -> str:
    """All words of the message."""
    if result.pictures:
        view = discord_render.pictures(PLACE, result, [], first=0, last=True, channel=False)
    else:
        view = discord_render.no_pictures(PLACE, result, channel=False)
    parts = view.to_components()  # type: ignore[no-untyped-call]
    return json.dumps(parts, ensure_ascii=False)


def on_slack(result: ImageResult) -> str:
    """All words of the message."""
    if result.pictures:
        shown = slack_render.finished(result, [(PICTURE, "F1")], user="U1", alone=False)
    else:
        shown = slack_render.unfinished(result, user="U1", alone=False)
    return shown.text + json.dumps(shown.blocks, ensure_ascii=False)


def on_the_page(result: ImageResult) -> str:
    """The line, and the notes below it."""
    return " ".join((outcome_line(result), *result.notes))


@pytest.mark.parametrize("platform", [on_discord, on_slack, on_the_page])
def test_a_receipt_says_who_made_it_what_it_cost_and_what_its_licence_forbids(platform: object) -> None:
    assert callable(platform)
    said = platform(MADE)
    assert "seed 7 · flux · 18 s · local, fal · $0.04" in said
    assert NOTE in said
    assert messages.NOT_CHARGED in platform(replace(LOST, money=None))
    assert messages.NOT_CHARGED not in platform(LOST)


def test_prices_are_read_as_they_are() -> None:
    assert messages.prices(Price(0.04)) == "$0.04 a picture"
    assert messages.prices(Price(0.0, 0.003, 0.00115)) == "$0.003 a megapixel + $0.00115 a second"


async def test_a_status_does_not_say_that_nothing_was_charged_where_it_may_have_been(tmp_path: Path) -> None:
    backend = flux()
    backend.fail(Unavailable("The connection was lost."), at="start")
    async with hosted(tmp_path, backend) as home:
        await home.ask("a flat colour", key="k")
        await home.until_passing(lambda: bool(home.page("k").delivered))
        assert messages.NOT_CHARGED not in messages.ended(home.page("k").delivered[0])
        last = home.page("k").shown[-1] if home.page("k").shown else None
        assert last is None or messages.NOT_CHARGED not in messages.status_line(last)


async def readiness(home: House) -> dict[str, object]:
    """What /readyz says of the backends."""
    await home.until_passing(lambda: len(home.app._health) == 2)
    _, body = home.app._readiness()
    found = body["backends"]
    assert isinstance(found, dict)
    return found


async def test_readyz_says_what_was_spent_of_which_cap(tmp_path: Path) -> None:
    async with hosted(tmp_path, local(), flux(), options={"fal:flux": {"cap": "0.05"}}) as home:
        await home.ask("a flat colour --model flux", key="k")
        await home.until_passing(lambda: bool(home.page("k").delivered))
        backends = await readiness(home)
        assert backends["fal:flux"] == {"state": "ok", "detail": "", "spent_today": PRICE, "cap": 0.05}
        assert backends["local:"] == {"state": "ok", "detail": ""}
        with pytest.raises(QuotaExceeded):
            await home.ask("a flat colour --model flux")


async def test_the_doctor_tells_prices_and_what_is_spent_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=tmp_path, backends=(BackendEntry("fal", "flux"),), budget=0.05)
    store = await open_store(tmp_path / "fairbrush.sqlite3")
    await queue(store, a_group("g", jobs=2))
    failed = Outcome(State.FAILED)
    for job_id, at in (("g-0", time.time()), ("g-1", time.time() - 90_000.0)):
        charge = Charge(at, "fal:flux", "t", "m", job_id, 0, 0.06)
        await store.finish(job_id, attempt=0, outcome=failed, at=at, tags=(), charge=charge)
    await store.aclose()
    monkeypatch.setattr(doctors, "load_backends", lambda settings: [flux()])
    assert await doctors.doctor(settings, as_json=False) == 0
    said = capsys.readouterr().out
    assert "warning spent today (UTC)     $0.06 of $0.05; fal:flux $0.06" in said
    assert f"{OTHER_MODEL.title} ($0.04 a picture)" in said
