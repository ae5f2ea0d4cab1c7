"""The Playground's routes on a real server, over a studio in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.core.errors import ContentRejected, QueueFull, Unavailable
from bot.core.grammar import parse
from bot.core.options import merge, options_from_json
from bot.core.pictures import size_of
from bot.core.ports import Position, Preview, Progress
from bot.core.request import State
from tests.fakes.backend import flat_png
from tests.fakes.web import API, EVENT, House, house


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


# --- the page ---------------------------------------------------------------------------------------------


async def test_the_page_and_its_files_are_served_under_a_strict_policy(home: House) -> None:
    async with home.client.get("/") as page:
        text = await page.text()
        policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    files = [part.split('"')[0] for part in text.split("/playground/static/")[1:]]
    assert {"app.css", "app.js", "mark.svg"} <= set(files)
    for name in files:
        async with home.client.get(f"/playground/static/{name}") as file:
            assert file.status == 200
            assert file.headers["X-Content-Type-Options"] == "nosniff"
            assert file.headers["Content-Security-Policy"] == policy


async def test_no_file_of_the_page_points_elsewhere_or_is_inline(home: House) -> None:
    async with home.client.get("/") as page:
        text = await page.text()
    assert "http://" not in text
    assert "https://" not in text
    assert "<style" not in text
    assert " style=" not in text
    assert " onclick" not in text
    assert text.count("<script") == 1


@pytest.mark.parametrize("name", ["..%2f..%2fplayground.py", "%2e%2e%2fgate.py", "app.py", "etc%2fpasswd"])
async def test_no_other_file_is_served(home: House, name: str) -> None:
    await home.refused("GET", f"/playground/static/{name}", 404)


async def test_a_browser_is_known_by_a_cookie_that_scripts_cannot_read(home: House) -> None:
    async with home.client.get("/") as page:
        cookie = page.cookies["fairbrush_browser"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    async with home.client.get("/") as page:
        assert page.cookies["fairbrush_browser"].value == cookie.value


async def test_before_the_core_is_ready_requests_are_answered_503(tmp_path: Path) -> None:
    async with house(tmp_path, open_now=False) as early, early.client.get(f"{API}/setup") as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert "starting" in (await answer.json())["error"]["message"]


async def test_the_form_is_built_from_what_the_models_offer(home: House) -> None:
    setup = await home.get(f"{API}/setup")
    (model,) = setup["models"]
    assert (model["id"], model["demo"], model["examples"]) == ("fake", True, ["a flat colour"])
    assert setup["defaults"]["fake"]["steps"] == 4
    assert setup["limits"]["steps"] == [1, 150]
    assert "seed" in setup["params"]["fake"]


# --- submitting -------------------------------------------------------------------------------------------


async def test_a_request_is_accepted_with_its_text_options_and_address(home: House) -> None:
    await home.submit("a red fox --seed 7", options={"steps": 9})
    (submission,) = home.studio.submissions
    assert submission.text == "a red fox --seed 7"
    assert submission.options is not None
    assert submission.options.steps == 9
    assert submission.requester.guild == "web"
    assert submission.address == {"guild": "web", "user": submission.requester.user}


async def test_the_stored_user_is_not_the_cookie(home: House) -> None:
    await home.submit()
    cookie = next(cookie.value for cookie in home.client.cookie_jar if cookie.key == "fairbrush_browser")
    assert cookie not in repr(home.studio.submissions)


async def test_the_same_event_sent_twice_is_one_request(home: House) -> None:
    body = {"event": EVENT, "text": "a red fox"}
    ids = set()
    for _ in range(2):
        async with home.client.post(f"{API}/jobs", json=body) as answer:
            ids.add((await answer.json())["id"])
    assert len(ids) == 1


async def test_two_browsers_may_use_the_same_event(home: House) -> None:
    body = {"event": EVENT, "text": "a red fox"}
    ids = set()
    for client in (home.client, await home.browser()):
        async with client.post(f"{API}/jobs", json=body) as answer:
            ids.add((await answer.json())["id"])
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("text", "options", "field"),
    [
        ("a fox", {"steps": 10**9}, "steps"),
        ("a fox", {"steps": 2.5}, "steps"),
        ("a fox", {"steps": True}, "steps"),
        ("a fox", {"seed": 2**64}, "seed"),
        ("a fox", {"seed": "abc"}, "seed"),
        ("a fox", {"width": 100000}, "width"),
        ("a fox", {"count": 9999}, "count"),
        ("a fox --stpes 3", {}, "stpes"),
        ("   ", {}, "prompt"),
    ],
)
async def test_a_bad_value_is_refused_beside_its_field(
    home: House, text: str, options: dict[str, Any], field: str
) -> None:
    body = {"event": EVENT, "text": text, "options": options}
    error = await home.refused("POST", f"{API}/jobs", 400, json=body)
    assert error["field"] == field
    assert error["message"]


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (QueueFull("10 of your 10 places are taken.", field="count", retry_after=3.2), 429),
        (ContentRejected("Refused by a rule.", field="rule-1"), 422),
    ],
)
async def test_a_refusal_keeps_its_words(home: House, refusal: Any, status: int) -> None:
    home.studio.refuse = refusal
    async with home.client.post(f"{API}/jobs", json={"event": EVENT, "text": "a fox"}) as answer:
        assert answer.status == status
        assert (await answer.json())["error"] == {"message": refusal.message, "field": refusal.field}
        assert answer.headers.get("Retry-After") == ("4" if refusal.retry_after else None)


async def test_a_core_that_cannot_take_it_is_answered_503(home: House) -> None:
    home.studio.refuse = Unavailable("The disk is too slow right now.", retry_after=30.0)  # type: ignore[assignment]
    error = await home.refused("POST", f"{API}/jobs", 503, json={"event": EVENT, "text": "a fox"})
    assert error["message"] == "The disk is too slow right now."


@pytest.mark.parametrize("event", [None, "", "short", "x" * 65, "../../../etc", 12345678])
async def test_an_event_is_a_short_plain_name(home: House, event: object) -> None:
    await home.refused("POST", f"{API}/jobs", 400, json={"event": event, "text": "a fox"})


# --- following a request ----------------------------------------------------------------------------------


async def test_a_waiting_request_shows_its_place(home: House) -> None:
    job = await home.submit()
    await home.studio.tell(job, state=State.QUEUED, position=Position(1, 1, 9, 130.0, 350.0))
    view = await home.get(f"{API}/jobs/{job}")
    assert view["state"] == "queued"
    assert view["line"] == "About 9 requests ahead · 2-6 min"


async def test_a_running_request_shows_progress_and_preview(home: House) -> None:
    job = await home.submit()
    preview = Preview(b"\xff\xd8jpeg", "image/jpeg")
    await home.studio.tell(
        job, state=State.RUNNING, progress=Progress(0.4, step=12, total=30), preview=preview
    )
    view = await home.get(f"{API}/jobs/{job}")
    assert view["progress"]["fraction"] == 0.4
    assert view["line"] == "Step 12 of 30"
    assert view["preview"].startswith("data:image/jpeg;base64,")


async def test_a_finished_request_has_its_pictures_and_recipe(home: House) -> None:
    job = await home.submit("a red fox --count 2 --seed 7")
    await home.studio.finish(job)
    view = await home.get(f"{API}/jobs/{job}")
    assert [picture["seed"] for picture in view["pictures"]] == [7, 8]
    assert view["pictures"][1]["recipe"]["prompt"] == "a red fox"
    assert view["line"].startswith("seed 7 · fake")


async def test_remix_gives_back_exactly_one_picture(home: House) -> None:
    job = await home.submit("a {red, blue} fox \\--like this --count 2 --seed 7 --ar 2:1")
    await home.studio.finish(job)
    picture = (await home.get(f"{API}/jobs/{job}"))["pictures"][3]
    options = merge(options_from_json(picture["remix"]["options"]), parse(picture["remix"]["text"]))
    assert options.prompt == "a blue fox --like this"
    assert (options.seed, options.count) == (8, 1)
    assert (options.width, options.height) == (picture["width"], picture["height"])


async def test_a_picture_that_is_withheld_is_not_named(home: House) -> None:
    job = await home.submit()
    result = await home.studio.finish(job)
    name = result.pictures[0].name
    hidden = tuple(replace(picture, withheld=True) for picture in result.pictures)
    await home.studio.finish(job, pictures=hidden, state=State.WITHHELD, message="Withheld: a rule.")
    view = await home.get(f"{API}/jobs/{job}")
    assert name not in json.dumps(view)
    await home.refused("GET", f"/playground/pictures/{name}", 404)


async def test_a_picture_is_served_to_be_kept_and_saved(home: House) -> None:
    job = await home.submit('a "Red" Fox\n\r/../é --seed 7')
    await home.studio.finish(job)
    name = (await home.get(f"{API}/jobs/{job}"))["pictures"][0]["name"]
    async with home.client.get(f"/playground/pictures/{name}?download") as answer:
        assert await answer.read() == flat_png(64, 64, 7)
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="a-red-fox-7.png"'
        assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_a_list_gets_small_pictures(home: House) -> None:
    job = await home.submit("a red fox --size 1024x512 --seed 7")
    await home.studio.finish(job)
    name = (await home.get(f"{API}/jobs/{job}"))["pictures"][0]["name"]
    async with home.client.get(f"/playground/thumbnails/{name}") as answer:
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert size_of(await answer.read()) == (320, 160)
    stranger = await home.browser()
    async with stranger.get(f"/playground/thumbnails/{name}") as answer:
        assert answer.status == 404


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "%2e%2e%2fx.png", "nothing.png"])
async def test_no_other_picture_is_served(home: House, name: str) -> None:
    await home.refused("GET", f"/playground/pictures/{name}", 404)


async def test_another_browser_sees_none_of_it(home: House) -> None:
    job = await home.submit()
    await home.studio.finish(job)
    name = (await home.get(f"{API}/jobs/{job}"))["pictures"][0]["name"]
    stranger = await home.browser()
    for method, path in (
        ("GET", f"{API}/jobs/{job}"),
        ("DELETE", f"{API}/jobs/{job}"),
        ("POST", f"{API}/jobs/{job}/cancel"),
        ("GET", f"/playground/pictures/{name}"),
    ):
        async with stranger.request(method, path) as answer:
            assert answer.status == 404
    async with stranger.post(f"{API}/jobs/{job}/again", json={"event": EVENT}) as answer:
        assert answer.status == 404
    async with stranger.get(f"{API}/jobs") as answer:
        assert (await answer.json())["jobs"] == []


async def test_a_request_is_cancelled(home: House) -> None:
    job = await home.submit()
    async with home.client.post(f"{API}/jobs/{job}/cancel") as answer:
        assert (await answer.json())["state"] == "cancelled"


async def test_again_asks_for_the_same_with_another_seed(home: House) -> None:
    job = await home.submit("a red fox --seed 7 --steps 9")
    async with home.client.post(f"{API}/jobs/{job}/again", json={"event": EVENT}) as answer:
        assert answer.status == 201
    options = home.studio.submissions[-1].options
    assert options is not None
    assert (options.prompt, options.steps, options.seed) == ("a red fox", 9, None)


async def test_a_deleted_request_is_gone(home: House) -> None:
    job = await home.submit()
    await home.studio.finish(job)
    async with home.client.delete(f"{API}/jobs/{job}") as answer:
        assert answer.status == 204
    await home.refused("GET", f"{API}/jobs/{job}", 404)


async def test_history_comes_in_pages(home: House) -> None:
    jobs = [await home.submit(f"picture {number}") for number in range(26)]
    first = await home.get(f"{API}/jobs")
    assert [job["id"] for job in first["jobs"]] == jobs[:1:-1]
    assert first["more"]
    rest = await home.get(f"{API}/jobs?before={first['jobs'][-1]['sequence']}")
    assert [job["id"] for job in rest["jobs"]] == jobs[1::-1]
    assert not rest["more"]


@pytest.mark.parametrize("before", ["x", "-1", "1e9", "9" * 40])
async def test_a_malformed_page_is_refused(home: House, before: str) -> None:
    assert (await home.refused("GET", f"{API}/jobs?before={before}", 400))["field"] == "before"


async def test_the_flags_in_a_prompt_are_named_with_the_command(home: House) -> None:
    body = {"text": "it's a fox --ar 16:9", "options": {"steps": 9, "width": 64}}
    async with home.client.post(f"{API}/check", json=body) as answer:
        checked = await answer.json()
    assert checked["typed"] == {"prompt": "it's a fox", "aspect": [16, 9]}
    assert checked["command"] == ("""fairbrush imagine 'it'"'"'s a fox --ar 16:9 --steps 9' -o picture.png""")


async def test_what_would_be_made_is_told_for_programs_that_ask_for_the_same(home: House) -> None:
    body = {"text": "a {red, blue} fox --ar 2:1 --sampler euler_a", "options": {"steps": 9}}
    async with home.client.post(f"{API}/check", json=body) as answer:
        request = (await answer.json())["request"]
    assert request["prompts"] == ["a red fox", "a blue fox"]
    assert request["width"] == 2 * request["height"]
    assert (request["steps"], request["seed"], request["count"]) == (9, None, 1)
    assert request["scheduler_class"] == "EulerAncestralDiscreteScheduler"


async def test_a_value_out_of_range_is_a_remark_beside_the_command(home: House) -> None:
    async with home.client.post(
        f"{API}/check", json={"text": "a fox --steps 20 --seed 99999999999"}
    ) as answer:
        checked = await answer.json()
    assert "seed" in checked["problem"]
    assert "request" not in checked


async def test_half_a_flag_is_a_remark_and_no_error(home: House) -> None:
    async with home.client.post(f"{API}/check", json={"text": "a fox --steps"}) as answer:
        assert answer.status == 200
        assert "--steps" in (await answer.json())["problem"]
