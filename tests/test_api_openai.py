"""POST /v1/images/generations with OpenAI's own client, and over the wire."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from adapters.api import openai_stream, waiting
from bot.core.errors import ContentRejected, InvalidRequest, Unavailable
from bot.core.pictures import mime_of, read_recipe, size_of
from bot.core.ports import Price
from bot.core.request import Limits
from bot.core.studio import Submission, Ticket
from tests.fakes.api import OTHER_KEY, House, house
from tests.fakes.backend import FAKE_MODEL, PARAMS, FakeBackend
from tests.fakes.memory_store import MemoryStore

PATH = "/v1/images/generations"
ALIASES = {"stable-diffusion-2": "fake"}


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def home(tmp_path: Path, backend: FakeBackend) -> AsyncIterator[House]:
    async with house(tmp_path, backend=backend, aliases=ALIASES, styles={"ink": "{prompt}, ink"}) as made:
        yield made


@asynccontextmanager
async def client_of(home: House, **more: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    options: dict[str, Any] = {"api_key": home.key, "max_retries": 0, **more}
    async with openai.AsyncOpenAI(base_url=f"{home.url}/v1", **options) as client:
        yield client


async def ask(home: House, status: int, headers: dict[str, str] | None = None, **body: Any) -> Any:
    """A body's answer."""
    given = {"prompt": "a red fox", **body}
    return await home.asked("POST", PATH, status, headers={**home.bearer, **(headers or {})}, json=given)


# --- pictures ---------------------------------------------------------------------------------------------


async def test_the_real_client_gets_pictures_with_their_recipes(home: House) -> None:
    async with client_of(home) as client:
        answer = await client.images.generate(
            model="stable-diffusion-2",
            prompt="a red fox",
            n=2,
            size="128x64",
            extra_body={"seed": 7, "steps": 3, "guidance_scale": 2.5, "negative_prompt": "text"},
        )
    assert answer.data is not None
    assert len(answer.data) == 2
    assert (answer.size, answer.output_format, answer.background) == ("128x64", "png", "opaque")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 0
    for index, item in enumerate(answer.data):
        data = base64.b64decode(item.b64_json or "", validate=True)
        assert size_of(data) == (128, 64)
        found = read_recipe(data)
        assert found is not None
        recipe = found.recipe
        assert (recipe["prompt"], recipe["seed"], recipe["steps"]) == ("a red fox", 7 + index, 3)
        assert (recipe["guidance_scale"], recipe["negative_prompt"]) == (2.5, "text")


async def test_a_blocking_client_in_a_thread_works_as_well(home: House) -> None:
    def draw() -> str:
        with openai.OpenAI(base_url=f"{home.url}/v1", api_key=home.key, max_retries=0) as client:
            answer = client.images.generate(prompt="a red fox", size="auto", user="u1", quality="standard")
        return (answer.data or [])[0].b64_json or ""

    assert size_of(base64.b64decode(await asyncio.to_thread(draw))) == (64, 64)


async def test_a_link_opens_the_picture_without_a_key(home: House) -> None:
    answer = await ask(home, 200, response_format="url")
    url = answer["data"][0]["url"]
    assert url.startswith(f"{home.url}/pictures/")
    async with home.client.get(url) as picture:
        assert picture.status == 200
        assert size_of(await picture.read()) == (64, 64)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "b64_json"),
        ({"model": "gpt-image-1"}, "b64_json"),
        ({"model": "dall-e-3"}, "url"),
        ({"model": "dall-e-3", "response_format": "b64_json"}, "b64_json"),
        ({"model": "dall-e-2", "output_format": "png"}, "b64_json"),
        ({"response_format": "url"}, "url"),
    ],
)
async def test_what_is_said_about_the_form_decides_it(home: House, body: dict[str, Any], field: str) -> None:
    (item,) = (await ask(home, 200, **body))["data"]
    assert {"b64_json", "url"} & set(item) == {field}


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
async def test_each_output_format_keeps_the_recipe(home: House, form: str) -> None:
    answer = await ask(home, 200, output_format=form, seed=5)
    data = base64.b64decode(answer["data"][0]["b64_json"])
    assert (answer["output_format"], mime_of(data)) == (form, f"image/{form}")
    found = read_recipe(data)
    assert found is not None
    assert found.recipe["seed"] == 5
    assert b"trainedAlgorithmicMedia" in data


async def test_compression_makes_a_jpeg_smaller(home: House) -> None:
    sizes = []
    for compression in (100, 0):
        answer = await ask(
            home, 200, output_format="jpeg", output_compression=compression, seed=5, size="256x256"
        )
        sizes.append(len(answer["data"][0]["b64_json"]))
    assert sizes[1] < sizes[0]


async def test_an_unknown_model_is_the_default_one_and_an_alias_what_it_means(
    home: House, backend: FakeBackend
) -> None:
    for model in ("gpt-image-2.5-sunburst", "stable-diffusion-2", "FAKE"):
        assert (await ask(home, 200, model=model))["model"] in ("", "fake")
    assert {request.model for _, request in backend.submitted} <= {None, "fake"}


@pytest.mark.parametrize(
    ("quality", "steps", "told"),
    [("auto", 4, None), ("standard", 4, "medium"), ("low", 2, "low"), ("hd", 6, "high"), ("max", 8, "max")],
)
async def test_quality_is_a_matter_of_steps(
    home: House, backend: FakeBackend, quality: str, steps: int, told: str | None
) -> None:
    answer = await ask(home, 200, quality=quality)
    assert backend.submitted[-1][1].steps == steps
    assert answer.get("quality") == told
    await ask(home, 200, quality=quality, steps=9)
    assert backend.submitted[-1][1].steps == 9


async def test_a_style_of_the_operator_is_told_as_a_revised_prompt(home: House) -> None:
    assert (await ask(home, 200, style="ink"))["data"][0]["revised_prompt"] == "a red fox, ink"
    assert "revised_prompt" not in (await ask(home, 200, style="vivid"))["data"][0]


async def test_a_prompt_is_literal(home: House, backend: FakeBackend) -> None:
    await ask(home, 200, prompt="{a, b} fox --steps 90")
    (made,) = backend.submitted
    assert (made[1].prompt, made[1].steps) == ("{a, b} fox --steps 90", 4)


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_parameter"),
        ({"prompt": "  "}, "prompt", "invalid_value"),
        ({"prompt": ["a", "b"]}, "prompt", "invalid_value"),
        ({"prompt": "x" * 2001}, "prompt", "invalid_value"),
        ({"n": 11}, "n", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": "2"}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_value"),
        ({"size": "big"}, "size", "invalid_value"),
        ({"size": "100x100"}, "size", "invalid_value"),
        ({"size": "100000x64"}, "size", "invalid_value"),
        ({"size": "64x2048"}, "size", "invalid_value"),
        ({"seed": 2**32}, "seed", "invalid_value"),
        ({"steps": 10**9}, "steps", "invalid_value"),
        ({"steps": 2.5}, "steps", "invalid_value"),
        ({"guidance_scale": 99}, "guidance_scale", "invalid_value"),
        ({"scheduler": "nope"}, "scheduler", "invalid_value"),
        ({"style": "nope"}, "style", "invalid_value"),
        ({"quality": "best"}, "quality", "invalid_value"),
        ({"moderation": "none"}, "moderation", "invalid_value"),
        ({"background": "transparent"}, "background", "invalid_value"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"output_compression": 50}, "output_compression", "invalid_value"),
        ({"output_format": "webp", "output_compression": 101}, "output_compression", "invalid_value"),
        ({"response_format": "url", "output_format": "webp"}, "output_format", "invalid_value"),
        ({"response_format": "file"}, "response_format", "invalid_value"),
        ({"stream": True, "n": 2}, "n", "invalid_value"),
        ({"stream": True, "response_format": "url"}, "response_format", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_value"),
        ({"partial_images": 2}, "partial_images", "invalid_value"),
        ({"stream": True, "partial_images": 4}, "partial_images", "invalid_value"),
        ({"model": "/models/x.ckpt"}, "model", "invalid_value"),
        ({"model": "https://example.org/m"}, "model", "invalid_value"),
        ({"user": "u" * 300}, "user", "invalid_value"),
        ({"image": "x"}, "image", "unknown_parameter"),
        ({"frame_count": 3}, "frame_count", "unknown_parameter"),
    ],
)
async def test_what_is_wrong_is_named(
    home: House, backend: FakeBackend, body: dict[str, Any], param: str, code: str
) -> None:
    error = (await ask(home, 400, **body))["error"]
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert param in error["message"]
    assert "--" not in error["message"]
    assert not backend.submitted


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"prompt": "a", "prompt": "b"}', b"\xff", b"[" * 10_000]
)
async def test_a_malformed_body_is_refused(home: House, body: bytes) -> None:
    answer = await home.asked("POST", PATH, 400, headers=home.bearer, data=body)
    assert answer["error"]["type"] == "invalid_request_error"


async def test_a_large_body_is_not_read(home: House) -> None:
    answer = await home.asked("POST", PATH, 413, headers=home.bearer, data=b"x" * 2**20)
    assert answer["error"]["code"] == "request_too_large"


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer wrong", "Basic abc", f"Basic {OTHER_KEY}"])
async def test_without_a_right_key_nothing_is_told(home: House, value: str) -> None:
    answer = await home.asked("POST", PATH, 401, headers={"Authorization": value}, json={"prompt": "a"})
    assert answer["error"]["code"] == "invalid_api_key"


async def test_the_real_client_knows_the_errors_by_their_classes(home: House) -> None:
    async with client_of(home, api_key="wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.images.generate(prompt="a red fox")
    async with client_of(home) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.images.generate(prompt="a red fox", n=11)
        assert (refused.value.param, refused.value.code) == ("n", "invalid_value")


async def test_a_blocked_word_is_a_violation_of_the_content_policy(tmp_path: Path) -> None:
    async with house(tmp_path, blocked_words=("grue",)) as home:
        error = (await ask(home, 400, prompt="a grue in the dark"))["error"]
    assert (error["code"], error["param"]) == ("content_policy_violation", "prompt")
    assert "grue" not in error["message"]


async def test_a_picture_that_is_withheld_is_told_and_not_asked_for_again(tmp_path: Path) -> None:
    backend = FakeBackend(reject=[0])
    async with house(tmp_path, backend=backend) as home, client_of(home, max_retries=2) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.images.generate(prompt="a red fox")
    assert refused.value.code == "content_policy_violation"
    assert len(backend.submitted) == 1


async def test_of_several_the_withheld_one_is_left_out(tmp_path: Path) -> None:
    async with house(tmp_path, backend=FakeBackend(reject=[1])) as home:
        answer = await ask(home, 200, n=3)
    assert len(answer["data"]) == 2
    assert answer["message"].startswith("1 of 3 withheld")


async def test_a_failure_is_told_once_and_the_real_client_does_not_repeat_it(
    home: House, backend: FakeBackend
) -> None:
    backend.fail(InvalidRequest("This cannot be drawn.", field="prompt"), at="start", times=9)
    async with client_of(home, max_retries=2) as client:
        with pytest.raises(openai.InternalServerError) as failed:
            await client.images.generate(prompt="a red fox")
    assert failed.value.status_code == 502
    assert failed.value.code == "generation_failed"
    assert "This cannot be drawn." in failed.value.message
    assert len(backend.submitted) == 1


async def test_a_size_that_does_not_fit_names_one_that_does(home: House, backend: FakeBackend) -> None:
    backend.fail(InvalidRequest("Out of GPU memory at 1024×1024.", field="size"), at="start", times=9)
    error = (await ask(home, 400, size="1024x1024"))["error"]
    assert error["param"] == "size"
    assert error["message"].endswith("Try size 64x64.")


async def test_a_full_queue_says_when_to_come_again(tmp_path: Path, backend: FakeBackend) -> None:
    hold = backend.hold("start")
    limits = Limits(waiting_per_key=1, waiting_per_user=1)
    async with house(tmp_path, backend=backend, limits=limits) as home:
        first = asyncio.create_task(ask(home, 200))
        await hold.reached.wait()
        second = asyncio.create_task(ask(home, 200))
        await home.when(lambda: len(home.studio._desk.groups) == 2)
        body = {"prompt": "a red fox"}
        async with home.client.post(PATH, headers=home.bearer, json=body) as answer:
            assert answer.status == 429
            assert int(answer.headers["Retry-After"]) >= 1
            assert (await answer.json())["error"]["code"] == "rate_limit_exceeded"
        hold.release()
        await asyncio.gather(first, second)


async def test_a_spent_budget_is_told_and_not_asked_for_again(tmp_path: Path) -> None:
    paid = replace(FAKE_MODEL, price=Price(per_image=1.0))
    backend = FakeBackend(models=(paid,))
    async with (
        house(tmp_path, backend=backend, budget=0.5) as home,
        home.client.post(PATH, headers=home.bearer, json={"prompt": "a"}) as answer,
    ):
        assert (answer.status, answer.headers["x-should-retry"]) == (429, "false")
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await answer.json())["error"]["code"] == "insufficient_quota"
    assert not backend.submitted


async def test_a_backend_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    async with (
        house(tmp_path, backend=FakeBackend(models=())) as home,
        home.client.post(PATH, headers=home.bearer, json={"prompt": "a"}) as answer,
    ):
        assert answer.status == 503
        assert "Retry-After" in answer.headers


# --- clients that go away, and that come again --------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_has_its_job_cancelled(
    home: House, backend: FakeBackend, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.02)
    hold = backend.hold("picture")
    asking = asyncio.create_task(ask(home, 200, stream=stream))
    await hold.reached.wait()
    asking.cancel()
    await home.when(lambda: len(backend.cancelled) == 1)
    await home.when(lambda: not home.studio._desk.groups)


async def test_one_that_waits_in_the_queue_is_never_made(
    home: House, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.02)
    hold = backend.hold("start")
    first = asyncio.create_task(ask(home, 200))
    await hold.reached.wait()
    second = asyncio.create_task(ask(home, 200, prompt="another"))
    await home.when(lambda: len(home.studio._desk.groups) == 2)
    second.cancel()
    await home.when(lambda: len(home.studio._desk.groups) == 1)
    hold.release()
    await first
    assert [request.prompt for _, request in backend.submitted] == ["a red fox"]


async def test_with_an_idempotency_key_it_goes_on_and_is_found_again(
    home: House, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.02)
    hold = backend.hold("picture")
    again = {"Idempotency-Key": "order-1"}
    asking = asyncio.create_task(ask(home, 200, again, seed=3))
    await hold.reached.wait()
    asking.cancel()
    second = asyncio.create_task(ask(home, 200, again, seed=3))
    third = asyncio.create_task(ask(home, 200, again, seed=3))
    hold.release()
    answers = await asyncio.gather(second, third)
    assert answers[0]["data"] == answers[1]["data"]
    assert (await ask(home, 200, again, seed=3))["data"] == answers[0]["data"]
    assert len(backend.submitted) == 1
    assert not backend.cancelled


async def test_an_idempotency_key_is_for_one_body_and_one_api_key(home: House, backend: FakeBackend) -> None:
    again = {"Idempotency-Key": "order-1"}
    await ask(home, 200, again)
    error = (await ask(home, 400, again, prompt="another"))["error"]
    assert (error["code"], error["param"]) == ("idempotency_key_reused", "Idempotency-Key")
    await ask(home, 200, {**again, "Authorization": f"Bearer {OTHER_KEY}"}, prompt="another")
    assert [request.prompt for _, request in backend.submitted] == ["a red fox", "another"]
    assert (await ask(home, 400, {"Idempotency-Key": "x" * 256}))["error"]["param"] == "Idempotency-Key"


async def test_a_retry_of_the_real_client_makes_one_picture(
    tmp_path: Path, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time-out closes the first connection; with an idempotency key the second finds the same job."""
    hold = backend.hold("picture")
    async with (
        house(tmp_path, backend=backend) as home,
        client_of(home, max_retries=1, timeout=0.5) as client,
    ):
        submit, asked = home.studio.submit, []

        async def counted(submission: Submission, **more: Any) -> Ticket:
            asked.append(submission)
            return await submit(submission, **more)

        monkeypatch.setattr(home.studio, "submit", counted)
        headers = {"Idempotency-Key": "order-2"}
        asking = asyncio.create_task(client.images.generate(prompt="a red fox", extra_headers=headers))
        await home.when(lambda: len(asked) == 2)
        hold.release()
        answer = await asking
    assert answer.data
    assert len(backend.submitted) == 1


async def test_what_nobody_waits_for_after_a_restart_is_not_made(tmp_path: Path) -> None:
    backend, store = FakeBackend(), MemoryStore()
    backend.hold("start")
    async with house(tmp_path, backend=backend, store=store) as home:
        asking = [
            asyncio.create_task(ask(home, 503)),
            asyncio.create_task(ask(home, 503, {"Idempotency-Key": "order-3"}, prompt="kept")),
        ]
        await home.when(lambda: len(home.studio._desk.groups) == 2)
        closing = asyncio.create_task(home.app.aclose())
        for answer in await asyncio.gather(*asking):
            assert answer["error"]["type"] == "server_error"
        await closing
    second = FakeBackend()
    async with house(tmp_path, backend=second, store=MemoryStore(store.data)) as home:
        await home.when(lambda: not home.studio._desk.groups)
    assert [request.prompt for _, request in second.submitted] == ["kept"]


# --- streams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partials", [0, 1, 2, 3])
async def test_the_real_client_streams_exactly_as_many_partial_pictures(home: House, partials: int) -> None:
    async with client_of(home) as client:
        stream = await client.images.generate(
            prompt="a red fox",
            stream=True,
            partial_images=partials,
            output_format="webp",
            extra_body={"seed": 9},
        )
        events = [event async for event in stream]
    *before, last = events
    assert [event.type for event in before] == ["image_generation.partial_image"] * partials
    assert [getattr(event, "partial_image_index", None) for event in before] == list(range(partials))
    assert last.type == "image_generation.completed"
    assert last.usage.total_tokens == 0
    for event in events:
        assert (event.size, event.output_format, event.background) == ("64x64", "webp", "opaque")
        data = base64.b64decode(event.b64_json)
        assert (mime_of(data), size_of(data)) == ("image/webp", (64, 64))
    found = read_recipe(base64.b64decode(last.b64_json))
    assert found is not None
    assert found.recipe["seed"] == 9


async def test_a_job_that_is_tried_again_shows_no_partial_picture_twice(
    home: House, backend: FakeBackend
) -> None:
    backend.fail(Unavailable("gone", accepted=False, retry_after=0.0), at="done")
    events = await streamed(home, partial_images=3)
    assert [data.get("partial_image_index") for _, data in events] == [0, 1, 2, None]
    assert len(backend.submitted) == 2


async def test_where_results_are_checked_there_are_no_partial_pictures(tmp_path: Path) -> None:
    async with house(tmp_path, backend=FakeBackend(reject=[5])) as home:
        events = await streamed(home, partial_images=3)
    assert [name for name, _ in events] == ["image_generation.completed"]


async def test_where_a_backend_gives_no_previews_there_are_none(tmp_path: Path) -> None:
    backend = FakeBackend(params=PARAMS - {"previews"}, previews=False)
    async with house(tmp_path, backend=backend) as home:
        events = await streamed(home, partial_images=3)
    assert [name for name, _ in events] == ["image_generation.completed"]


async def test_a_failure_within_a_stream_is_an_event_that_the_real_client_raises(
    home: House, backend: FakeBackend
) -> None:
    backend.fail(ContentRejected("Not that."), at="start", times=9)
    async with client_of(home) as client:
        stream = await client.images.generate(prompt="a red fox", stream=True)
        with pytest.raises(openai.APIError) as failed:
            _ = [event async for event in stream]
    assert failed.value.code == "content_policy_violation"


async def test_a_refusal_comes_before_the_stream_begins(home: House) -> None:
    async with client_of(home) as client:
        with pytest.raises(openai.BadRequestError):
            await client.images.generate(prompt="a red fox", stream=True, size="1x1")


async def test_a_silent_stream_says_that_it_is_still_there(
    home: House, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(openai_stream, "SILENCE_MOST", 0.02)
    hold = backend.hold("start")
    body = {"prompt": "a red fox", "stream": True}
    async with home.client.post(PATH, headers=home.bearer, json=body) as answer:
        assert answer.content_type == "text/event-stream"
        assert (await answer.content.readline()).startswith(b": ")
        hold.release()
        assert b"image_generation.completed" in await answer.content.read()


async def streamed(home: House, **body: Any) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream."""
    sent = {"prompt": "a red fox", "stream": True, **body}
    async with home.client.post(PATH, headers=home.bearer, json=sent) as answer:
        assert answer.status == 200
        blocks = (await answer.text()).strip().split("\n\n")
    found = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [(block["event"], json.loads(block["data"])) for block in found]
