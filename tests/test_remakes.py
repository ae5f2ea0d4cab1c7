"""Results made again: varied, made larger, changed; and deleted, by those who may."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bot.core.errors import Forbidden, InvalidRequest, NotFound, Unavailable
from bot.core.guilds import Rules
from bot.core.options import Options
from bot.core.pictures import read_recipe
from bot.core.request import ImageRequest, ImageResult, Limits, Requester, State
from bot.core.studio import Submission, Ticket
from tests.fakes.backend import FAKE_MODEL, PARAMS, FakeBackend, colour_of, flat_png
from tests.fakes.house import House, house

BOB = Requester("notebook", "g1", "bob")
ELSEWHERE = Requester("notebook", "g2", "eve")


def without(*names: str) -> FakeBackend:
    """A backend that does not honour these."""
    return FakeBackend(params=PARAMS - set(names))


def press(key: str, by: Requester = BOB, options: Options | None = None) -> Submission:
    """What an adapter hands over for a button."""
    return Submission(by, key, {"page": key}, options=options)


async def made(home: House, text: str = "a flat colour --seed 7", key: str = "k") -> tuple[str, ImageResult]:
    """A finished request of Ann's."""
    ticket = await home.ask(text, key=key)
    return ticket.group_id, await home.notebook.delivered(key)


def last(backend: FakeBackend) -> ImageRequest:
    """What the backend was asked for last."""
    return backend.submitted[-1][1]


# --- variations -------------------------------------------------------------------------------------------


async def test_a_variation_starts_from_that_picture_with_all_that_made_it_and_a_new_seed(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        group, result = await made(
            home, "a {red, blue} cat --seed 7 --size 128x64 --steps 3 --cfg 4 --no fog --sampler Euler -n 2"
        )
        ticket = await home.studio.vary(group, 3, press("v"))
        assert ticket.differences[0] == f"variation of {group} #4"
        varied = await home.notebook.delivered("v")
        request = last(backend)
        assert (request.prompt, request.negative_prompt) == ("a blue cat", "fog")
        assert (request.width, request.height, request.count) == (128, 64, 2)
        assert (request.steps, request.guidance_scale, request.scheduler) == (3, 4.0, "Euler")
        assert (request.strength, request.upscale) == (0.55, False)
        assert request.seed != 7
        assert request.init_image is not None
        assert request.init_image.data == flat_png(128, 64, result.pictures[3].seed)
        assert (varied.requester, len(varied.pictures)) == (BOB, 2)


async def test_a_variation_of_so_few_steps_that_none_would_be_made_has_more(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        group, _ = await made(home, "a flat colour --steps 1")
        await home.studio.vary(group, 0, press("v"))
        await home.notebook.delivered("v")
        assert int(last(backend).steps * 0.55) == 1
        await home.studio.upscale(group, 0, press("u"))
        await home.notebook.delivered("u")
        assert int(last(backend).steps * 0.35) == 1


async def test_variations_are_as_many_as_were_asked_for_and_limits_allow(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        group, _ = await made(home, "a flat colour -n 4")
        await home.studio.set_rules(BOB, Rules(max_count=3), admin=True)
        await home.studio.vary(group, 0, press("v"))
        assert len((await home.notebook.delivered("v")).pictures) == 3


async def test_braces_and_flags_in_a_prompt_stay_what_they_were(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        text = "a {red, blue} cat --steps 3 is \\{ written"
        submission = Submission(BOB, "k", {"page": "k"}, text=text, literal=True)
        group = (await home.studio.submit(submission)).group_id
        await home.notebook.delivered("k")
        for button, key in ((home.studio.vary, "v"), (home.studio.upscale, "u")):
            again = (await button(group, 0, press(key))).group_id
            await home.notebook.delivered(key)
            assert last(backend).prompt == text
            await home.studio.redo(again, press(f"{key}2"))
            await home.notebook.delivered(f"{key}2")
            assert last(backend).prompt == text


# --- upscales ---------------------------------------------------------------------------------------------


async def test_an_upscale_is_a_second_pass_over_one_picture_at_twice_its_size(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        group, _ = await made(home, "a flat colour --seed 7 --steps 3 -n 2")
        ticket = await home.studio.upscale(group, 1, press("u"))
        assert ticket.differences == (f"upscale of {group} #2", "128×128", "3 steps")
        (picture,) = (await home.notebook.delivered("u")).pictures
        request = last(backend)
        assert (request.upscale, request.width, request.height, request.count) == (True, 128, 128, 1)
        assert (request.seed, request.steps, request.strength) == (8, 3, 0.35)
        assert request.init_image is not None
        assert request.init_image.data == flat_png(64, 64, 8)
        assert (picture.width, picture.height) == (128, 128)


async def test_an_upscale_of_an_upscale_goes_on_until_the_limit(tmp_path: Path) -> None:
    async with house(tmp_path, limits=Limits(max_side=128)) as home:
        group, result = await made(home)
        assert result.upscale
        larger = await home.studio.upscale(group, 0, press("u"))
        assert not (await home.notebook.delivered("u")).upscale
        with pytest.raises(InvalidRequest, match=r"256×256.*at most 128 pixels.*64×64") as caught:
            await home.studio.upscale(larger.group_id, 0, press("u2"))
        assert caught.value.field == "width"


async def test_an_upscale_over_the_work_limit_says_so(tmp_path: Path) -> None:
    async with house(tmp_path, limits=Limits(max_work=64 * 64 * 150)) as home:
        group, result = await made(home, "a flat colour --steps 150")
        assert not result.upscale
        with pytest.raises(InvalidRequest, match=r"128×128 pixels × 52 steps = 851,968.*614,400"):
            await home.studio.upscale(group, 0, press("u"))
        group, result = await made(home, "a flat colour --steps 100", key="k2")
        assert result.upscale  # 35 of its steps are made
        await home.studio.upscale(group, 0, press("u2"))
        assert (await home.notebook.delivered("u2")).state is State.DONE


async def test_what_no_backend_can_do_is_not_offered_and_refused(tmp_path: Path) -> None:
    async with house(tmp_path, backends=[without("upscale")]) as home:
        group, result = await made(home)
        assert (result.vary, result.upscale) == (True, False)
        with pytest.raises(InvalidRequest, match="larger size") as caught:
            await home.studio.upscale(group, 0, press("u"))
        assert caught.value.field == "upscale"
    async with house(tmp_path / "2", backends=[without("init_image", "upscale")]) as home:
        group, result = await made(home)
        assert (result.vary, result.upscale) == (False, False)
        with pytest.raises(InvalidRequest, match="picture"):
            await home.studio.vary(group, 0, press("v"))


async def test_where_seed_and_strength_are_not_honoured_they_are_left_out(tmp_path: Path) -> None:
    backend = without("seed", "strength", "steps", "guidance_scale", "scheduler", "negative_prompt")
    async with house(tmp_path, backends=[backend]) as home:
        group, _ = await made(home, "a flat colour")
        for button, key in ((home.studio.vary, "v"), (home.studio.upscale, "u")):
            await button(group, 0, press(key))
            assert (await home.notebook.delivered(key)).state is State.DONE
            assert last(backend).strength is None


# --- again ------------------------------------------------------------------------------------------------


async def test_again_on_an_upscale_is_that_upscale_with_another_seed(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        group, _ = await made(home)
        larger = await home.studio.upscale(group, 0, press("u"))
        await home.notebook.delivered("u")
        first = last(backend)
        await home.studio.delete(group, Requester("notebook", "g1", "ann"))  # its picture was kept
        ticket = await home.studio.redo(larger.group_id, press("u2"))
        await home.notebook.delivered("u2")
        assert ticket.differences[0] == f"upscale of {group}"
        assert last(backend) == dataclasses.replace(first, seed=last(backend).seed)
        assert last(backend).seed != first.seed


async def test_again_on_a_variation_starts_from_the_same_picture(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        group, _ = await made(home, "a flat colour --seed 7 -n 2")
        varied = await home.studio.vary(group, 0, press("v"))
        await home.notebook.delivered("v")
        first = last(backend)
        ticket = await home.studio.redo(varied.group_id, press("v2"))
        await home.notebook.delivered("v2")
        assert ticket.differences == (f"variation of {group} #1", "2 pictures")
        assert last(backend) == dataclasses.replace(first, seed=last(backend).seed)


async def test_again_takes_changes_and_is_exact_where_defaults_became_others(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        group, _ = await made(home, "a {red, blue} cat --seed 7")
        backend.models = (dataclasses.replace(FAKE_MODEL, width=128, steps=9),)
        await home.until_passing(lambda: home.studio.defaults().steps == 9)
        ticket = await home.studio.redo(group, press("a", options=Options(guidance_scale=3.0)))
        assert [request.prompt for request in ticket.requests] == ["a red cat", "a blue cat"]
        request = ticket.requests[0]
        assert (request.width, request.steps, request.guidance_scale) == (64, 4, 3.0)


async def test_again_with_another_model_takes_that_models_best(tmp_path: Path) -> None:
    other = dataclasses.replace(FAKE_MODEL, id="other", width=128, steps=9)
    async with house(tmp_path, backends=[FakeBackend(models=(FAKE_MODEL, other))]) as home:
        group, _ = await made(home)
        ticket = await home.studio.redo(group, press("a", options=Options(model="other")))
        assert (ticket.requests[0].width, ticket.requests[0].steps) == (128, 9)


async def test_an_upscale_again_at_another_size_is_a_variation(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        group, _ = await made(home)
        larger = await home.studio.upscale(group, 0, press("u"))
        await home.notebook.delivered("u")
        ticket = await home.studio.redo(larger.group_id, press("a", options=Options(width=96, height=96)))
        assert ticket.differences[0].startswith(f"variation of {group}")
        assert (ticket.requests[0].upscale, ticket.requests[0].width) == (False, 96)


# --- remix ------------------------------------------------------------------------------------------------


async def test_a_remix_says_all_anew_and_keeps_the_picture(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        submission = Submission(
            BOB, "k", {"page": "k"}, text="a cat --strength 0.5 --no fog", init_image=flat_png(64, 64, 9)
        )
        group = (await home.studio.submit(submission)).group_id
        await home.notebook.delivered("k")
        options = await home.studio.options_of(group, BOB)
        assert (options.prompt, options.strength, options.negative_prompt) == ("a cat", 0.5, "fog")
        changed = dataclasses.replace(options, prompt="a dog", negative_prompt=None, seed=3)
        await home.studio.remake(group, press("r", options=changed))
        await home.notebook.delivered("r")
        request = last(backend)
        assert (request.prompt, request.negative_prompt, request.seed) == ("a dog", "", 3)
        assert request.init_image is not None
        assert request.init_image.data == flat_png(64, 64, 9)


async def test_a_remix_of_an_upscale_is_an_upscale_of_the_same_picture(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        group, _ = await made(home)
        larger = (await home.studio.upscale(group, 0, press("u"))).group_id
        await home.notebook.delivered("u")
        ticket = await home.studio.remake(
            larger, press("r", options=Options(prompt="a red cat", strength=0.5))
        )
        assert ticket.differences[:2] == (f"upscale of {group}, strength 0.5", "128×128")
        await home.notebook.delivered("r")
        assert (last(backend).upscale, last(backend).prompt) == (True, "a red cat")


async def test_what_made_one_picture_is_told_with_its_seed(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        group, result = await made(home, "a {red, blue} cat --seed 7 -n 2")
        options = await home.studio.options_of(group, BOB, index=3)
        assert (options.prompt, options.seed, options.count) == ("a blue cat", result.pictures[3].seed, 1)
        ticket = await home.studio.remake(group, press("r", options=options))
        (picture,) = (await home.notebook.delivered("r")).pictures
        assert ticket.requests[0].prompt == "a blue cat"
        assert colour_of(picture.seed) == colour_of(result.pictures[3].seed)


# --- what is not there, and who may -----------------------------------------------------------------------


async def test_a_picture_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        group, result = await made(home)
        for index in (-1, 1):
            with pytest.raises(NotFound, match="no picture"):
                await home.studio.vary(group, index, press("v"))
            with pytest.raises(NotFound):
                await home.studio.options_of(group, BOB, index=index)
        result.pictures[0].path.unlink()
        with pytest.raises(NotFound, match="gone"):
            await home.studio.upscale(group, 0, press("u"))


async def test_withheld_pictures_are_neither_shown_nor_counted(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        group, _ = await made(home, "a flat colour --seed 7 -n 3")
        stored = await home.store.group(group)
        assert stored is not None
        (job,) = stored.jobs
        pictures = tuple(dataclasses.replace(one, withheld=one.index == 0) for one in job.pictures)
        home.store.data.groups[group] = dataclasses.replace(  # type: ignore[attr-defined]
            stored, jobs=(dataclasses.replace(job, pictures=pictures),)
        )
        shown = (await home.studio.result(group)).pictures
        assert [(picture.index, picture.seed) for picture in shown] == [(0, 8), (1, 9)]
        await home.studio.upscale(group, 1, press("u"))
        await home.notebook.delivered("u")
        assert last(backend).seed == 9
        with pytest.raises(NotFound):
            await home.studio.upscale(group, 2, press("u2"))


@pytest.mark.parametrize(("guild", "may"), [("g1", True), ("dm", False), ("web", False)])
async def test_members_of_a_guild_press_on_each_others_results(tmp_path: Path, guild: str, may: bool) -> None:
    async with house(tmp_path) as home:
        group = (await home.ask("a flat colour", key="k", guild=guild)).group_id
        await home.notebook.delivered("k")
        bob = Requester("notebook", guild, "bob")
        buttons: list[Callable[[Requester], Awaitable[object]]] = [
            lambda by: home.studio.vary(group, 0, press("v", by)),
            lambda by: home.studio.upscale(group, 0, press("u", by)),
            lambda by: home.studio.remake(group, press("r", by, Options(prompt="a dog"))),
            lambda by: home.studio.options_of(group, by),
        ]
        for button in buttons:
            with pytest.raises(NotFound):
                await button(ELSEWHERE)
            if may:
                await button(bob)
            else:
                with pytest.raises(NotFound):
                    await button(bob)


@pytest.mark.parametrize("guild", ["g1", "dm"])
async def test_others_results_are_deleted_by_moderators_alone(tmp_path: Path, guild: str) -> None:
    async with house(tmp_path) as home:
        group = (await home.ask("a flat colour", key="k", guild=guild)).group_id
        (picture,) = (await home.notebook.delivered("k")).pictures
        with pytest.raises(NotFound):
            await home.studio.delete(group, ELSEWHERE, moderator=True)
        bob = Requester("notebook", guild, "bob")
        if guild == "dm":  # strangers share it: nobody moderates there
            with pytest.raises(NotFound):
                await home.studio.delete(group, bob, moderator=True)
            return
        with pytest.raises(Forbidden, match="author"):
            await home.studio.delete(group, bob)
        assert picture.path.exists()
        await home.studio.delete(group, bob, moderator=True)
        assert not picture.path.exists()
        assert await home.store.group(group) is None


async def test_one_press_sent_twice_is_one_request(tmp_path: Path) -> None:
    told: list[Ticket] = []

    async def acknowledge(ticket: Ticket) -> None:
        told.append(ticket)

    backend = FakeBackend()
    async with house(tmp_path, backends=[backend]) as home:
        group, _ = await made(home)
        first = await home.studio.vary(group, 0, press("v"), acknowledge=acknowledge)
        again = await home.studio.vary(group, 0, press("v"), acknowledge=acknowledge)
        assert (again.group_id, again.repeated) == (first.group_id, True)
        assert [ticket.group_id for ticket in told] == [first.group_id]
        await home.notebook.delivered("v")
        assert len(backend.submitted) == 2


# --- recipes and remedies ---------------------------------------------------------------------------------


async def test_the_recipe_of_an_upscale_says_so_and_makes_the_smaller_picture(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        group, _ = await made(home, "a cat --seed 7 --steps 3")
        await home.studio.upscale(group, 0, press("u"))
        (picture,) = (await home.notebook.delivered("u")).pictures
        data = picture.path.read_bytes()
        found = await home.studio.read_recipe(data)
        assert (found.recipe["upscale"], found.recipe["source"]) == (True, group)
        assert (found.recipe["width"], found.recipe["strength"]) == (128, 0.35)
        assert "Size: 64x64" in found.text
        assert "Hires upscale: 2" in found.text
        again = await home.studio.submit(press("k2", options=found.options))
        assert (again.requests[0].width, again.requests[0].seed) == (64, 7)
        foreign = read_recipe(flat_png(8, 8, 1))
        assert foreign is None
        with pytest.raises(NotFound, match="no recipe"):
            await home.studio.read_recipe(flat_png(8, 8, 1))


@pytest.mark.parametrize(
    ("asked", "own", "remedy"),
    [
        ("2048x2048", 1024, (1024, 1024)),
        ("2048x1024", 1024, (1440, 720)),  # at most its area, in the same ratio
        ("1024x1024", 1024, (512, 512)),  # its own size already: half the sides
        ("64x64", 64, None),  # nothing is smaller
    ],
)
async def test_a_size_that_does_not_fit_has_a_remedy(
    tmp_path: Path, asked: str, own: int, remedy: tuple[int, int] | None
) -> None:
    backend = FakeBackend(models=(dataclasses.replace(FAKE_MODEL, width=own, height=own),))
    backend.fail(InvalidRequest("Out of GPU memory.", field="size", accepted=True))
    async with house(tmp_path, backends=[backend]) as home:
        group, result = await made(home, f"a cat --size {asked}")
        assert result.state is State.FAILED
        if remedy is None:
            assert (result.remedy, result.remedy_label) == ({}, "")
            return
        width, height = remedy
        assert result.remedy == {"width": width, "height": height}
        assert result.remedy_label == f"{width}×{height}"
        ticket = await home.studio.redo(group, press("a", options=Options(width=width, height=height)))
        assert (ticket.requests[0].width, ticket.requests[0].height) == remedy


async def test_other_failures_have_no_remedy(tmp_path: Path) -> None:
    native = dataclasses.replace(FAKE_MODEL, native_pixels=64 * 64)  # all sizes are made at this one
    backend = FakeBackend(models=(native,))
    async with house(tmp_path, backends=[backend]) as home:
        backend.fail(InvalidRequest("Out of memory.", field="size", accepted=True))
        _, result = await made(home, "a cat --size 128x128")
        assert (result.state, result.remedy) == (State.FAILED, {})
        backend.fail(Unavailable("gone", accepted=None))
        _, result = await made(home, "a cat --size 128x128", key="k2")
        assert (result.state, result.remedy) == (State.FAILED, {})
