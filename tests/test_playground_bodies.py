"""Bodies that the Playground takes and refuses: JSON, forms with a picture, pictures to read."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import FormData

from adapters import _incoming
from bot.core.grammar import parse
from bot.core.options import merge, options_from_json
from bot.core.pictures import stamp
from tests.fakes.backend import flat_png
from tests.fakes.web import API, EVENT, House, house


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


# --- bodies -----------------------------------------------------------------------------------------------

DEEP = b'{"text":' + b"[" * 10_000 + b"]" * 10_000 + b"}"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\xff\xfe{}", "UTF-8"),
        (DEEP, "nested"),
        (b'{"text": "a", "text": "b"}', "twice"),
        (b'{"options": {"steps": 1, "steps": 2}}', "twice"),
        (b'{"options": {"steps": NaN}}', "NaN"),
        (b'{"options": {"guidance_scale": 1e400}}', "event"),
        (b'{"text": ' + b"9" * 5000 + b"}", ""),
        (b"[1, 2]", "object"),
        (b"{", "JSON"),
        (b"", "JSON"),
        (b'{"event": "0123456789", "text": 5}', "text"),
        (b'{"event": "0123456789", "text": "a", "options": []}', "options"),
    ],
)
async def test_a_malformed_body_is_refused_by_name(home: House, body: bytes, says: str) -> None:
    error = await home.refused("POST", f"{API}/jobs", 400, data=body)
    assert says in error["message"]


async def test_a_bracket_inside_a_text_is_no_depth(home: House) -> None:
    await home.submit("a fox " + "[" * 100 + '"\\')


async def test_lone_surrogates_do_not_break_an_answer(home: House) -> None:
    async with home.client.post(
        f"{API}/jobs", data=b'{"event": "0123456789", "text": "a \\ud800 fox"}'
    ) as answer:
        assert answer.status == 201
        assert "a" in (await answer.json())["prompt"]


async def test_a_large_body_is_refused_before_it_is_parsed(home: House) -> None:
    await home.refused("POST", f"{API}/jobs", 413, data=b"x" * 70_000)


async def test_a_large_body_without_a_length_is_refused(home: House) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 16_384

    await home.refused("POST", f"{API}/jobs", 413, data=endless())


async def test_a_packed_body_is_measured_unpacked(home: House) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < 64 * 1024
    await home.refused("POST", f"{API}/jobs", 413, data=bomb, headers={"Content-Encoding": "gzip"})


async def test_a_body_that_trickles_in_is_dropped(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_incoming, "_PATIENCE_SECONDS", 0.05)

    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    await home.refused("POST", f"{API}/jobs", 408, data=trickle())


# --- pictures that come in --------------------------------------------------------------------------------


def _form(request: bytes, image: bytes | io.BytesIO | None = None, extra: str = "") -> FormData:
    form = FormData()
    form.add_field("request", request, filename="r.json")
    if image is not None:
        form.add_field("image", image, filename="start.png")
    if extra:
        form.add_field(extra, b"x", filename="x")
    return form


REQUEST = json.dumps({"event": EVENT, "text": "a fox", "options": {}}).encode()


async def test_a_start_picture_comes_with_the_request(home: House) -> None:
    image = flat_png(64, 64, 5)
    async with home.client.post(f"{API}/jobs", data=_form(REQUEST, image)) as answer:
        assert answer.status == 201, await answer.text()
    assert home.studio.submissions[0].init_image == image


async def test_a_start_picture_over_the_cap_is_refused(home: House) -> None:
    most = home.studio.limits.max_image_bytes
    form = _form(REQUEST, io.BytesIO(b"x" * (most + 1)))
    error = await home.refused("POST", f"{API}/jobs", 413, data=form)
    assert "20 MB" in error["message"]


async def test_a_form_with_an_unknown_part_is_refused(home: House) -> None:
    await home.refused("POST", f"{API}/jobs", 400, data=_form(REQUEST, extra="mask"))


@pytest.mark.parametrize(
    "body", [b"", b"no boundary here", b"--b\r\n\r\nx", b"--b\r\nContent-Length: x\r\n\r\n"]
)
async def test_a_malformed_form_is_refused(home: House, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    await home.refused("POST", f"{API}/jobs", 400, data=body, headers=headers)


async def test_a_form_without_a_boundary_is_refused(home: House) -> None:
    headers = {"Content-Type": "multipart/form-data"}
    await home.refused("POST", f"{API}/jobs", 400, data=b"x", headers=headers)


async def test_a_recipe_is_read_from_a_picture(home: House) -> None:
    job = await home.submit("a red fox --no blurry --seed 7 --steps 9")
    await home.studio.finish(job)
    view = await home.get(f"{API}/jobs/{job}")
    stamped = stamp(flat_png(64, 64, 7), view["pictures"][0]["recipe"])
    async with home.client.post(f"{API}/recipe", data=stamped) as answer:
        remix = (await answer.json())["remix"]
    options = merge(options_from_json(remix["options"]), parse(remix["text"]))
    assert (options.prompt, options.negative_prompt, options.seed, options.steps) == (
        "a red fox",
        "blurry",
        7,
        9,
    )


async def test_a_picture_without_a_recipe_has_none(home: House) -> None:
    async with home.client.post(f"{API}/recipe", data=flat_png(8, 8, 1)) as answer:
        assert await answer.json() == {"remix": None}


@pytest.mark.parametrize(
    "data", [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"GIF89a", b"\x89PNG\r\n\x1a\n"]
)
async def test_what_is_no_picture_has_no_recipe(home: House, data: bytes) -> None:
    async with home.client.post(f"{API}/recipe", data=data) as answer:
        assert answer.status in (200, 400)
        body = await answer.json()
    assert body.get("remix") is None
