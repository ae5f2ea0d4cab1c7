"""Pictures by links that a service names: what is followed, and what is refused."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest
from aiohttp import web

from backends import _download
from backends._download import Reach
from backends._http import Expired, Http
from bot.core.errors import FairbrushError, ProtocolError, TimedOut, Unavailable
from tests.fakes.backend import flat_png
from tests.fakes.clock import HurriedClock
from tests.fakes.tls import Names, contexts

PNG = flat_png(16, 16, 5)
KEY = "canary-key-77120"
CDN = "cdn.example"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Place:
    """A service at http://127.0.0.1 and a content server at https://cdn.example, both local. seen: (server,
    path, key sent); cdn, own: what answers there."""

    http: Http
    names: Names
    clock: HurriedClock
    own_url: str
    cdn_url: str
    reach: Reach
    answers: dict[str, Handler] = field(default_factory=dict)
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)

    def hits(self, server: str) -> int:
        """Requests that came to a server."""
        return sum(name == server for name, _, _ in self.seen)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A certificate of cdn.example."""
    return contexts(tmp_path_factory.mktemp("tls"), CDN, "inward.example", "both.example", "turning.example")


@pytest.fixture
async def place(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> AsyncIterator[Place]:
    """Both servers and an Http whose public internet is 127.0.0.1."""
    server, client = tls
    names = Names(
        {
            CDN: [["127.0.0.1"]],
            "inward.example": [["127.0.0.2"]],
            "both.example": [["127.0.0.1", "10.0.0.7"]],
            "turning.example": [["127.0.0.1"], ["127.0.0.2"]],
        }
    )
    clock = HurriedClock()
    runners = []
    ports = []
    made: list[Place] = []

    def handler(name: str) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            made[0].seen.append((name, request.path, request.headers.get("apiKey")))
            special = made[0].answers.get(request.path)
            return await special(request) if special is not None else web.Response(body=PNG)

        return answer

    for name, context in (("own", None), ("cdn", server)):
        app = web.Application()
        app.router.add_get("/{path:.*}", handler(name))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        runners.append(runner)
        ports.append(runner.addresses[0][1])
    reach = Reach(lambda: names, client, lambda address: address == ip_address("127.0.0.1"))
    own_url = f"http://127.0.0.1:{ports[0]}"
    http = Http(own_url, headers={"apiKey": KEY}, clock=clock.clock, reach=reach)
    made.append(Place(http, names, clock, own_url, f"https://{CDN}:{ports[1]}", reach))
    yield made[0]
    await http.aclose()
    for runner in runners:
        await runner.cleanup()


def redirect(to: str, status: int = 302) -> Handler:
    """A handler that sends people elsewhere."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": to})

    return answer


async def refused(place: Place, link: str, kind: type[FairbrushError] = ProtocolError) -> FairbrushError:
    """A link that must not be followed: nothing of it is asked for again by itself."""
    with pytest.raises(kind) as caught:
        await place.http.picture(link)
    assert caught.value.accepted is None
    assert KEY not in f"{caught.value.message}{caught.value.detail}"
    assert "://" not in caught.value.message
    return caught.value


async def test_the_services_own_link_is_fetched_with_the_key(place: Place) -> None:
    assert await place.http.picture(f"{place.own_url}/a.png?Signature=a%2Fb%3D") == (PNG, "image/png")
    assert place.seen == [("own", "/a.png", KEY)]


async def test_a_link_of_others_is_fetched_without_the_key(place: Place) -> None:
    assert await place.http.picture(f"{place.cdn_url}/a.png") == (PNG, "image/png")
    assert place.seen == [("cdn", "/a.png", None)]


async def test_a_signature_arrives_as_it_was_written(place: Place) -> None:
    queries: list[str] = []

    async def note(request: web.Request) -> web.StreamResponse:
        queries.append(request.raw_path)
        return web.Response(body=PNG)

    place.answers["/a b.png"] = note
    await place.http.picture(f"{place.cdn_url}/a%20b.png?X=a%2Fb%3D%7E&Y=1+2")
    assert queries == ["/a%20b.png?X=a%2Fb%3D%7E&Y=1+2"]


@pytest.mark.parametrize(
    "link",
    [
        "http://cdn.example/a.png",
        "ftp://cdn.example/a.png",
        "file:///etc/passwd",
        "gopher://cdn.example/1",
        "data:image/png;base64,AAAA",
        "//cdn.example/a.png",
        "/a.png",
        "",
        "https://",
        "https://user:word@cdn.example/a.png",
        "https://user@cdn.example/a.png",
        "https://cdn.example\\@evil.example/a.png",
        "https://cdn.example:99999/a.png",
        "https://cdn.example:x/a.png",
        "https://cdn.example/a b.png",
        "https://cdn.example/a\r\nHost: x",
        "https://b\u00fccher.example/a.png",
        "https://127.0.0.2/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://0x7f.1/a.png",
        "https://2130706434/a.png",
        "https://127.2/a.png",
        "https://[::1]/a.png",
        "https://[::ffff:127.0.0.2]/a.png",
        "https://[fe80::1%25eth0]/a.png",
        "https://localhost./",
    ],
)
async def test_a_link_that_may_lure_is_not_followed(place: Place, link: str) -> None:
    place.names.answers["localhost."] = [["127.0.0.2"]]
    await refused(place, link)
    assert place.seen == []


async def test_a_name_that_leads_inward_is_refused_after_it_was_resolved(place: Place) -> None:
    await refused(place, place.cdn_url.replace(CDN, "inward.example") + "/a.png")
    assert place.names.asked == ["inward.example"]
    assert place.seen == []


async def test_a_name_with_one_inward_address_is_refused_whole(place: Place) -> None:
    await refused(place, place.cdn_url.replace(CDN, "both.example") + "/a.png")
    assert place.seen == []


async def test_the_connection_goes_to_the_address_that_was_checked(place: Place) -> None:
    link = place.cdn_url.replace(CDN, "turning.example")
    assert (await place.http.picture(f"{link}/a.png"))[0] == PNG
    assert place.names.asked == ["turning.example"]  # looked up once: what was checked is what is used
    await refused(place, f"{link}/a.png")
    assert place.hits("cdn") == 1


async def test_a_redirect_is_judged_at_every_hop(place: Place) -> None:
    place.answers["/one"] = redirect(f"{place.cdn_url}/two")
    place.answers["/two"] = redirect("/three", 307)
    assert (await place.http.picture(f"{place.cdn_url}/one"))[0] == PNG
    place.answers["/two"] = redirect(place.cdn_url.replace(CDN, "inward.example"))
    before = len(place.seen)
    await refused(place, f"{place.cdn_url}/one")
    assert [path for _, path, _ in place.seen[before:]] == ["/one", "/two"]


@pytest.mark.parametrize("to", ["http://127.0.0.1:1/", "ftp://x/", "", "https://u:p@cdn.example/"])
async def test_a_redirect_to_what_may_not_be_followed_is_refused(place: Place, to: str) -> None:
    place.answers["/one"] = redirect(to)
    await refused(place, f"{place.cdn_url}/one")
    assert place.hits("own") == 0


async def test_a_redirect_from_outside_never_reaches_the_services_own_origin_with_the_key(
    place: Place,
) -> None:
    place.answers["/one"] = redirect(f"{place.own_url}/secret")
    await refused(place, f"{place.cdn_url}/one")
    assert place.hits("own") == 0


async def test_a_redirect_from_outside_to_the_services_own_origin_is_a_link_of_others(place: Place) -> None:
    own = "https://127.0.0.2:1"
    http = Http(own, headers={"apiKey": KEY}, clock=place.clock.clock, reach=place.reach)
    place.answers["/one"] = redirect(f"{own}/secret")
    with pytest.raises(ProtocolError):
        await http.picture(f"{place.cdn_url}/one")
    with pytest.raises(Unavailable):  # its own link is called, wherever it is
        await http.picture(f"{own}/secret")
    await http.aclose()


async def test_the_key_is_left_behind_where_the_service_redirects_elsewhere(place: Place) -> None:
    place.answers["/one"] = redirect(f"{place.cdn_url}/two")
    assert (await place.http.picture(f"{place.own_url}/one"))[0] == PNG
    assert place.seen == [("own", "/one", KEY), ("cdn", "/two", None)]


async def test_redirects_in_a_circle_end(place: Place) -> None:
    place.answers["/one"] = redirect("/one")
    await refused(place, f"{place.cdn_url}/one")
    assert place.hits("cdn") == _download.MAX_HOPS


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_link_that_no_longer_works_has_expired(place: Place, status: int) -> None:
    async def gone(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    place.answers["/a.png"] = gone
    await refused(place, f"{place.cdn_url}/a.png", Expired)
    assert place.hits("cdn") == 1


async def test_a_content_server_that_stumbles_is_asked_three_times(place: Place) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    place.answers["/a.png"] = broken
    await refused(place, f"{place.cdn_url}/a.png", Unavailable)
    assert place.hits("cdn") == _download.TRIES


async def test_a_content_server_that_is_not_there_is_unavailable(place: Place) -> None:
    await refused(place, f"https://{CDN}:1/a.png", Unavailable)
    await refused(place, "https://nowhere.example/a.png", Unavailable)


async def test_a_certificate_of_somebody_else_is_not_trusted(place: Place) -> None:
    place.names.answers["other.example"] = [["127.0.0.1"]]
    await refused(place, place.cdn_url.replace(CDN, "other.example"), Unavailable)
    assert place.seen == []


async def test_an_endless_download_is_cut(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while sent < 2**26:
                await response.write(bytes(2**16))
                sent += 2**16
        except ConnectionError:
            pass
        return response

    place.answers["/a.png"] = endless
    error = await refused(place, f"{place.cdn_url}/a.png")
    assert "20 MB" in error.message
    assert sent < 2**26


async def test_a_large_picture_that_says_so_is_not_read(place: Place) -> None:
    async def large(request: web.Request) -> web.StreamResponse:
        return web.Response(body=bytes(21 * 2**20))

    place.answers["/a.png"] = large
    await refused(place, f"{place.cdn_url}/a.png")


async def test_a_packed_answer_is_not_unpacked(place: Place) -> None:
    async def bomb(request: web.Request) -> web.StreamResponse:
        packer = zlib.compressobj(wbits=31)
        body = packer.compress(bytes(2**24)) + packer.flush()
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    place.answers["/a.png"] = bomb
    await refused(place, f"{place.cdn_url}/a.png")


async def test_a_download_that_trickles_ends_in_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_download, "MAX_SECONDS", 0.1)
    released = asyncio.Event()

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(PNG[:9])
        await released.wait()
        return response

    place.answers["/a.png"] = trickle
    await refused(place, f"{place.cdn_url}/a.png", TimedOut)
    released.set()
