"""Links to pictures: made by nobody else, over after a week, and never to what was deleted or withheld."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from bot.app import build
from bot.core.links import LASTING, Links, link_base
from bot.core.ports import Clock
from bot.core.request import ImageResult, Requester
from bot.core.settings import BackendEntry, Secret, Settings
from bot.core.studio import Submission
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import HandClock
from tests.fakes.house import House
from tests.fakes.memory_store import MemoryStore
from tests.fakes.notebook import Notebook

NAME = "A" * 32 + ".png"
KEY = Secret("k" * 32)
ANN = Requester("notebook", "g1", "ann")


# --- signing ----------------------------------------------------------------------------------------------


def links(now: float = 1000.0, key: Secret = KEY) -> Links:
    return Links(key, "https://bot.example", lambda: now)


def parts(link: str | None) -> tuple[str, str, str]:
    """Name, expiry and signature of a link."""
    assert link is not None
    address = urlsplit(link)
    query = parse_qs(address.query)
    return address.path.rpartition("/")[2], query["expires"][0], query["signature"][0]


def test_a_link_holds_for_a_week() -> None:
    link = links().link(NAME)
    assert link is not None
    assert link.startswith(f"https://bot.example/pictures/{NAME}?expires={1000 + LASTING}&signature=")
    assert links(now=1000.0 + LASTING).holds(*parts(link))
    assert not links(now=1001.0 + LASTING).holds(*parts(link))


def test_a_link_leads_where_the_operator_says_and_else_where_we_were_reached() -> None:
    for public, known, reached, begins in (
        (
            "https://bot.example",
            "https://bot.example",
            "http://10.0.0.7:8765",
            "https://bot.example/pictures/",
        ),
        ("", "http://192.0.2.7:80", "http://127.0.0.1:8765/", "http://127.0.0.1:8765/pictures/"),
        ("", "", "http://127.0.0.1:8765", "http://127.0.0.1:8765/pictures/"),
        ("", "http://192.0.2.7:80", None, "http://192.0.2.7:80/pictures/"),
    ):
        link = Links(KEY, known, lambda: 1000.0, public=public).link(NAME, base=reached)
        assert link is not None
        assert link.startswith(begins)
        assert links().holds(*parts(link))


@pytest.mark.parametrize(("seconds", "lasts"), [(60, 60), (0, 1), (10 * LASTING, LASTING), (None, LASTING)])
def test_a_link_may_be_over_sooner_and_never_later(seconds: int | None, lasts: int) -> None:
    _, expires, _ = parts(links().link(NAME, seconds=seconds))
    assert int(expires) == 1000 + lasts


def test_a_link_that_was_changed_does_not_hold() -> None:
    name, expires, signature = parts(links().link(NAME))
    assert links().holds(name, expires, signature)
    assert not links().holds("B" * 32 + ".png", expires, signature)
    assert not links(key=Secret("another key, as long as it must be")).holds(name, expires, signature)
    for other in (
        "",
        expires[:-1],
        f"{expires}0",
        f" {expires}",
        f"+{expires}",
        f"{expires}\n",
        "9" * 5000,
        "é",
        "٣",
    ):
        assert not links().holds(name, other, signature)
    for other in ("", signature[:-1], signature.upper(), f"{signature}0", "é", "\udcff", "x" * 5000):
        assert not links().holds(name, expires, other)


def test_without_a_key_nothing_is_linked_and_nothing_holds() -> None:
    none = links(key=Secret(""))
    assert none.link(NAME) is None
    assert not none.holds(*parts(links().link(NAME)))
    unkeyed = hmac.new(b"", f"{NAME}\n2000".encode(), "sha256").hexdigest()
    assert not none.holds(NAME, "2000", unkeyed)


@pytest.mark.parametrize(
    ("host", "port", "public", "base"),
    [
        ("127.0.0.1", 8765, "", ""),
        ("::1", 8765, "", ""),
        ("localhost", 8765, "", ""),
        ("0.0.0.0", 8765, "", ""),  # noqa: S104 - nothing is bound
        ("::", 8765, "", ""),
        ("", 8765, "", ""),
        ("192.0.2.7", 8765, "", "http://192.0.2.7:8765"),
        ("192.0.2.7", 0, "", ""),
        ("2001:db8::7", 80, "", "http://[2001:db8::7]:80"),
        ("bot.lan", 8765, "", "http://bot.lan:8765"),
        ("127.0.0.1", 8765, "https://bot.example/fairbrush", "https://bot.example/fairbrush"),
    ],
)
def test_links_begin_with_an_address_that_others_reach_or_there_are_none(
    tmp_path: Path, host: str, port: int, public: str, base: str
) -> None:
    assert link_base(Settings(tmp_path, host=host, port=port, public_url=public)) == base


# --- served -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[House, aiohttp.ClientSession]]:
    """The program with its server, and a client whose addresses begin there."""
    clock, notebook, store = HandClock(), Notebook(), MemoryStore()
    real: Clock = clock.clock
    settings = Settings(folder, port=0, backends=(BackendEntry("fake", ""),), public_url="http://bot.example")
    app = build(settings, adapters=[notebook], backends=[FakeBackend()], clock=real, store=store)
    try:
        await app.start()
        async with aiohttp.ClientSession(app.url) as session:
            yield House(app, clock, notebook, store), session
    finally:
        await app.aclose()


async def a_result(home: House) -> ImageResult:
    await home.studio.submit(Submission(ANN, "k", {"page": "k"}, text="a flat colour --seed 7"))
    return await home.notebook.delivered("k")


def path_of(home: House, result: ImageResult) -> str:
    """The link to the first picture, without its host."""
    link = home.studio.link(result.pictures[0])
    assert link is not None
    return link.removeprefix("http://bot.example")


async def test_a_linked_picture_is_the_file_and_nothing_a_browser_would_run(tmp_path: Path) -> None:
    async with served(tmp_path) as (home, client):
        result = await a_result(home)
        async with client.get(path_of(home, result)) as answer:
            assert answer.status == 200
            assert await answer.read() == result.pictures[0].path.read_bytes()
            assert answer.headers["Content-Type"] == "image/png"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "private, max-age=3600"
            assert answer.headers["Content-Disposition"] == 'inline; filename="fairbrush-7.png"'
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        async with client.head(path_of(home, result)) as answer:
            assert (answer.status, await answer.read()) == (200, b"")


async def test_forged_and_expired_links_are_refused_in_words(tmp_path: Path) -> None:
    async with served(tmp_path) as (home, client):
        path = path_of(home, await a_result(home))
        bare = path.partition("?")[0]
        wrong = (bare, f"{bare}?expires=9999999999", f"{path}0", path.replace("expires=", "expires=9"))
        for address in wrong:
            async with client.get(address) as answer:
                assert answer.status == 403
                assert "link is over" in await answer.text()
                assert answer.headers["Content-Type"].startswith("text/plain")
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
        home.clock.time += LASTING + 1
        async with client.get(path) as answer:
            assert answer.status == 403


async def test_what_was_deleted_or_withheld_is_not_there(tmp_path: Path) -> None:
    async with served(tmp_path) as (home, client):
        result = await a_result(home)
        path, group = path_of(home, result), result.group_id
        stored = await home.store.group(group)
        assert stored is not None
        (job,) = stored.jobs
        hidden = tuple(dataclasses.replace(picture, withheld=True) for picture in job.pictures)
        kept = dataclasses.replace(stored, jobs=(dataclasses.replace(job, pictures=hidden),))
        home.store.data.groups[group] = kept  # type: ignore[attr-defined]
        async with client.get(path) as answer:
            assert answer.status == 404
        assert home.studio.link(dataclasses.replace(result.pictures[0], withheld=True)) is None
        home.store.data.groups[group] = stored  # type: ignore[attr-defined]
        result.pictures[0].path.unlink()  # by hand, say
        async with client.get(path) as answer:
            assert (answer.status, await answer.text()) == (404, "This picture was deleted.\n")
        await home.studio.delete(group, ANN)
        async with client.get(path) as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    "name", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "x.png", "fairbrush.sqlite3", "a" * 5000]
)
async def test_other_files_are_out_of_reach(tmp_path: Path, name: str) -> None:
    async with served(tmp_path) as (home, client):
        signer = home.studio._links  # even where the link is signed
        link = signer.link(name)
        assert link is not None
        async with client.get(link.removeprefix("http://bot.example")) as answer:
            assert answer.status == 404
