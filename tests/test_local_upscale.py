"""Upscales: a second diffusion pass at twice the size, in parts, over tiny models and the embedded one."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from backends.local import sources
from backends.local.board import Slot
from backends.local.engine import BatchEngine
from backends.local.holding import Hold
from backends.local.loading import SECOND_UNET
from backends.local.opening import params_of
from backends.local.plan import make_plan
from backends.local.profile import Profile
from backends.local.rendering import AfterCall, Renderer
from backends.local.samplers import build_scheduler
from backends.local.second_pass import starts
from backends.local.tiling import TiledUnet
from backends.local.wire import Frame, request_frame, request_of
from bot.core.errors import InvalidRequest
from bot.core.ports import ImageReady, ImageRejected, Preview, Progress
from bot.core.request import Image, ImageRequest
from tests.fakes.backend import flat_png
from tests.fakes.bench import Bench, distance, made, make_request, open_renderer, pixels_of
from tests.fakes.tiny_model import SIDE, save_tiny_model, tiny_pipeline, tiny_xl_pipeline
from training import checker
from training.scenes import Scene, Thing
from training.upscales import edges_of, sharpness

# diffusers and its parts use what numpy and transformers have deprecated; ours to see, not to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

TWICE = 2 * SIDE


def stripes(side: int = SIDE) -> Image:
    """A picture with something in it."""
    pixels = np.zeros((side, side, 3), dtype=np.uint8)
    pixels[:, ::8] = (240, 40, 40)
    pixels[side // 2 :, :, 2] = 200
    data = io.BytesIO()
    Pillow.fromarray(pixels).save(data, "PNG")
    return Image(data.getvalue(), "image/png", side, side)


def upscale(seed: int = 1, **changes: Any) -> ImageRequest:
    request = make_request(seed, width=TWICE, height=TWICE, steps=10, init_image=stripes(), upscale=True)
    return replace(request, **changes)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """More threads than free cores make every step slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", title="Tiny")


@pytest.fixture(scope="module")
def renderer(folder: Path) -> Renderer:
    return open_renderer(folder)


# --- the plan ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [8, 16, 64, 128])
@pytest.mark.parametrize("factor", [1.0, 1.2, 2.0, 3.0, 7.6])
def test_parts_cover_a_side_and_neighbours_share_a_quarter(part: int, factor: float) -> None:
    side = round(part * factor)
    begins = starts(side, part)
    assert begins[0] == 0
    assert begins[-1] + part == side
    steps = [after - before for before, after in itertools.pairwise(begins)]
    assert all(0 < step <= 0.75 * part + 0.5 for step in steps)
    assert max(steps, default=0) - min(steps, default=0) <= 1


def profile(**changes: Any) -> Profile:
    return replace(Profile(title="M", default_width=SIDE, default_height=SIDE), **changes)


def test_what_an_upscale_was_made_with_is_told() -> None:
    plan = make_plan(upscale(), profile())
    assert (plan.width, plan.height, plan.steps) == (TWICE, TWICE, 12)
    assert plan.applied["strength"] == 0.35
    assert plan.applied["steps"] == 12
    assert plan.notes == ("second pass at 64×64 in 9 overlapping parts, strength 0.35",)
    assert plan.prompt == "a red star"


def test_a_size_that_the_model_was_made_for_is_one_part() -> None:
    small = upscale(width=SIDE, height=SIDE, init_image=stripes(SIDE // 2))
    plan = make_plan(small, profile())
    assert plan.second is not None
    assert plan.second.parts == 1
    assert plan.notes == ("second pass at 32×32, strength 0.35",)


def test_a_native_area_does_not_shrink_an_upscale() -> None:
    plan = make_plan(upscale(), profile(native_pixels=SIDE * SIDE, max_side=48))
    assert (plan.width, plan.height) == (TWICE, TWICE)


@pytest.mark.parametrize(("asked", "strength"), [(1, 0.35), (4, 0.35), (9, 0.5), (20, 0.2), (50, 0.1)])
def test_few_steps_are_raised_so_that_some_are_run(asked: int, strength: float) -> None:
    plan = make_plan(upscale(steps=asked, strength=strength), profile())
    assert int(plan.steps * strength) >= 4
    assert plan.steps >= asked
    assert ("steps" in plan.applied) is (plan.steps != asked)


@pytest.mark.parametrize(
    ("request_", "profile_", "field"),
    [
        (upscale(init_image=None), profile(), "upscale"),
        (upscale(mask_image=stripes(TWICE)), profile(), "mask_image"),
        (upscale(width=TWICE + 8), profile(), "size"),
        (upscale(strength=0.001), profile(), "strength"),
        (upscale(), profile(flow=True), "upscale"),
    ],
)
def test_an_upscale_that_cannot_be_made_names_what_is_wrong(
    request_: ImageRequest, profile_: Profile, field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_plan(request_, profile_)
    assert caught.value.field == field


def test_it_is_offered_where_it_can_be_made() -> None:
    assert "upscale" in params_of(profile())
    assert "upscale" not in params_of(profile(flow=True))
    assert "upscale" not in params_of(profile(), stable=False)


def test_the_request_crosses_the_pipe_whole() -> None:
    request = upscale(strength=0.4)
    assert request_of(request_frame("t", request)) == request


# --- parts and their blending -----------------------------------------------------------------------------


class FakeUnet(torch.nn.Module):
    """Predicts by a rule of (sample, how many calls before)."""

    def __init__(self, rule: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
        super().__init__()
        self.rule = rule
        self.seen: list[dict[str, Any]] = []

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, **given: Any) -> tuple[torch.Tensor]:
        self.seen.append({**given, "rows": len(sample)})
        return (self.rule(sample, len(self.seen) - 1),)


def run_tiled(
    unet: FakeUnet, sample: torch.Tensor, part: tuple[int, int], at_once: int = 4, **given: Any
) -> torch.Tensor:
    tiled = TiledUnet(unet, 8)
    tiled.reset(part, at_once)
    text = torch.zeros(len(sample), 3, 4)
    blended: torch.Tensor = tiled(sample, torch.tensor(500), text, **given)[0]
    return blended


@pytest.mark.parametrize("size", [(32, 32), (40, 24), (17, 50), (10, 16)])
def test_blending_changes_nothing_where_the_parts_agree(size: tuple[int, int]) -> None:
    sample = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(1))
    blended = run_tiled(FakeUnet(lambda cut, _: 3 * cut), sample, (16, 16))
    assert torch.allclose(blended, 3 * sample, atol=1e-5)


def test_parts_that_disagree_blend_without_a_seam() -> None:
    sample = torch.zeros(1, 1, 64, 64)
    blended = run_tiled(FakeUnet(lambda cut, n: torch.full_like(cut, n % 2)), sample, (32, 32), at_once=1)
    jumps = torch.cat([blended.diff(dim=-1).abs().flatten(), blended.diff(dim=-2).abs().flatten()])
    assert blended.max() - blended.min() > 0.9
    assert jumps.max() < 0.15


def test_parts_go_several_at_a_time_evenly() -> None:
    unet = FakeUnet(lambda cut, _: cut)
    tiled = TiledUnet(unet, 8)
    calls: list[int] = []
    tiled.reset((16, 16), 8, between=calls.append)
    tiled(torch.zeros(2, 4, 32, 32), torch.tensor(1), torch.zeros(2, 3, 4))
    assert [seen["rows"] for seen in unet.seen] == [10, 8]
    assert calls == [1]
    assert tiled.calls(32, 32) == 2


def test_stable_diffusion_xl_is_told_where_each_part_was_cut() -> None:
    unet = FakeUnet(lambda cut, _: cut)
    times = torch.tensor([[256.0, 128.0, 0.0, 0.0, 256.0, 128.0]]).repeat(2, 1)
    added = {"text_embeds": torch.zeros(2, 8), "time_ids": times}
    run_tiled(unet, torch.zeros(2, 4, 32, 16), (16, 16), at_once=9, added_cond_kwargs=added)
    told = unet.seen[0]["added_cond_kwargs"]
    assert told["text_embeds"].shape == (6, 8)
    assert told["time_ids"][:, 2].tolist() == [0, 0, 64, 64, 128, 128]
    assert told["time_ids"][:, 3].tolist() == [0] * 6
    assert told["time_ids"][:, :2].tolist() == [[256.0, 128.0]] * 6
    assert times[:, 2].tolist() == [0, 0]


# --- the composition --------------------------------------------------------------------------------------


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("timestep", [40, 333.4, 900])
def test_what_is_coarse_stays_and_what_is_fine_is_the_models(
    renderer: Renderer, predicts: str, timestep: float
) -> None:
    scheduler = build_scheduler(renderer.loaded.pipe.scheduler, profile(), "DDIM", 0)
    scheduler.register_to_config(prediction_type=predicts)
    random = torch.Generator().manual_seed(3)
    original, noisy, predicted = (torch.randn(1, 4, 16, 16, generator=random) for _ in range(3))
    hold = Hold(original, scheduler)
    signal = float(np.interp(timestep, range(1000), scheduler.alphas_cumprod))
    kept, noise = signal**0.5, (1 - signal) ** 0.5

    def clean(prediction: torch.Tensor) -> torch.Tensor:
        if predicts == "epsilon":
            result = (noisy - noise * prediction) / kept
        elif predicts == "sample":
            result = prediction
        else:
            result = kept * noisy - noise * prediction
        return torch.as_tensor(result)

    change = clean(hold(predicted, noisy, torch.tensor(timestep))) - clean(predicted)
    means = torch.nn.functional.avg_pool2d(original - clean(predicted), 2)
    wanted = torch.nn.functional.interpolate(means, scale_factor=2, mode="bilinear")
    assert torch.allclose(change, wanted, atol=0.02 * float(wanted.abs().max()))


def test_it_may_be_applied_before_guidance() -> None:
    scheduler = build_scheduler(_ddim(), profile(), "DDIM", 0)
    random = torch.Generator().manual_seed(4)
    original, noisy, without, by = (torch.randn(1, 4, 8, 8, generator=random) for _ in range(4))
    hold, at = Hold(original, scheduler), torch.tensor(300)
    both = hold(torch.cat([without, by]), torch.cat([noisy, noisy]), at)
    before = both[:1] + 7 * (both[1:] - both[:1])
    after = hold(without + 7 * (by - without), noisy, at)
    assert torch.allclose(before, after, atol=1e-3)


def _ddim() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler()


# --- through the engine -----------------------------------------------------------------------------------


@pytest.mark.parametrize("vae", ["tiny", "kl"])
def test_it_is_a_second_diffusion_pass_at_the_full_size(tmp_path: Path, vae: Any) -> None:
    renderer = open_renderer(save_tiny_model(tmp_path / "m", vae=vae))
    requests = [upscale(1), upscale(1), upscale(2), upscale(1, prompt="b"), upscale(1, strength=0.7)]
    first, again, seed, prompt, strength = made(renderer, *requests)
    assert first.shape == (TWICE, TWICE, 3)
    assert np.array_equal(first, again)
    for other in (seed, prompt, strength):
        assert distance(first, other) > 0
    assert renderer.loaded.pipe.vae.use_tiling is False


def test_stable_diffusion_xl_makes_upscales(tmp_path: Path) -> None:
    tiny_xl_pipeline().save_pretrained(tmp_path / "xl")
    bench = Bench(open_renderer(tmp_path / "xl"))
    bench.run(upscale(negative_prompt="blue"), make_request(width=TWICE, height=TWICE))
    assert [bench.kinds(str(n))[-1] for n in range(2)] == ["Done", "Done"]
    assert bench.pixels()[0].shape == (TWICE, TWICE, 3)


def test_a_model_may_bring_a_unet_for_its_upscales(tmp_path: Path, renderer: Renderer) -> None:
    folder = save_tiny_model(tmp_path / "m")
    other = tiny_pipeline().unet
    for parameter in other.parameters():
        parameter.data.mul_(-1)
    other.save_pretrained(folder / SECOND_UNET)
    brought = made(open_renderer(folder), make_request(2), upscale(2))
    usual = made(renderer, make_request(2), upscale(2))
    assert np.array_equal(brought[0], usual[0])
    assert distance(brought[1], usual[1]) > 0


@pytest.mark.parametrize("scheduler", ["Euler", "Euler a", "Heun", "DPM++ 2M Karras", "DPM++ SDE", "LCM"])
def test_every_sampler_makes_it(renderer: Renderer, scheduler: str) -> None:
    bench = Bench(renderer)
    bench.run(upscale(scheduler=scheduler), upscale(scheduler=scheduler))
    assert bench.kinds()[-1] == "Done"
    assert np.array_equal(bench.pixels("0")[0], bench.pixels("1")[0])
    assert bench.pixels()[0].std() > 0


@pytest.mark.parametrize("size", [(48, 32), (24, 72), (40, 56)])
def test_a_result_has_exactly_the_size_asked(renderer: Renderer, size: tuple[int, int]) -> None:
    width, height = size
    picture = Image(flat_png(width, height, 7), "image/png", width, height)
    picture_made = made(renderer, upscale(width=2 * width, height=2 * height, init_image=picture))[0]
    assert picture_made.shape == (2 * height, 2 * width, 3)


def test_jobs_beside_it_are_made_as_without_it(renderer: Renderer) -> None:
    others = [make_request(8), upscale(3, steps=20), make_request(9, steps=5)]
    bench = Bench(renderer)
    bench.run(others[0], upscale(1), others[1], others[2])
    assert [bench.kinds(str(n))[-1] for n in range(4)] == ["Done"] * 4
    for number, request in ((0, others[0]), (2, others[1]), (3, others[2])):
        assert distance(bench.pixels(str(number))[0], made(renderer, request)[0]) <= 1


def test_progress_counts_the_calls_of_the_model_and_previews_come(folder: Path) -> None:
    renderer = open_renderer(folder)
    ticking = itertools.count(step=30.0)
    bench = Bench(renderer)
    bench.engine = BatchEngine(
        renderer, bench.frames.append, lambda: None, model_id="tiny", clock=lambda: next(ticking)
    )
    bench.run(upscale(steps=20))
    told = [event for event in bench.events() if isinstance(event, Progress)]
    assert [(event.step, event.total) for event in told] == [(n, 14) for n in range(1, 15)]
    assert told[-1].fraction == 1
    assert any(isinstance(event, Preview) for event in bench.events())


def test_previews_of_an_upscale_count_its_steps_and_not_the_calls_of_the_model(folder: Path) -> None:
    renderer = open_renderer(folder)
    bench = Bench(renderer)
    ticking = itertools.count(step=0.06)
    bench.engine = BatchEngine(
        renderer, bench.frames.append, lambda: None, model_id="tiny", clock=lambda: next(ticking)
    )
    bench.run(upscale(steps=20, previews=2))
    told = [event for event in bench.events() if isinstance(event, Progress | Preview)]
    before = [a for a, b in itertools.pairwise(told) if isinstance(b, Preview)]
    assert [event.step for event in before if isinstance(event, Progress)] == [
        4,
        10,
    ]  # of 7 steps the 2nd, 5th


def test_it_can_be_cancelled_in_the_middle_of_a_step(renderer: Renderer) -> None:
    bench = Bench(renderer, lambda engine: engine.cancel("0") if bench.calls == 3 else None)
    bench.run(upscale(), make_request(5))
    assert bench.kinds("0")[-1] == "cancelled"
    assert bench.calls == 3 + 3
    assert distance(bench.pixels("1")[0], made(renderer, make_request(5))[0]) <= 1


class Cramped(Renderer):
    """Runs out of memory with more than `room` parts at a time."""

    room = 0

    def render(self, batch: Sequence[Slot], after_call: AfterCall) -> list[ImageReady | ImageRejected]:
        self._pipe(batch[0].work.plan.kind)
        assert self._upscaler is not None
        self.tried = [*getattr(self, "tried", []), self._upscaler.at_once]
        if self._upscaler.at_once > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().render(batch, after_call)


def test_out_of_memory_takes_fewer_parts_at_a_time_then_refuses_the_size(folder: Path) -> None:
    cramped = Cramped(open_renderer(folder).loaded, previews=False)
    cramped.room = 2
    bench = Bench(cramped)
    bench.run(upscale())
    assert cramped.tried == [8, 4, 2]
    assert distance(bench.pixels()[0], made(open_renderer(folder), upscale())[0]) <= 1
    cramped.room = 0
    bench = Bench(cramped)
    bench.run(upscale())
    assert isinstance(bench.error(), InvalidRequest)
    assert (bench.error().field, "64×64" in bench.error().message) == ("size", True)


# --- the content check ------------------------------------------------------------------------------------


def test_a_flagged_picture_comes_as_it_was_made(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "m", vae="kl", checker=True)
    bench = Bench(open_renderer(folder))
    requests = (make_request(11, count=2), upscale(12))
    bench.run(*requests)
    free = Bench(open_renderer(folder, safety_checker=False))
    free.run(*requests)
    for ticket in ("0", "1"):
        rejected = [event for event in bench.events(ticket) if isinstance(event, ImageRejected)]
        ready = [event for event in free.events(ticket) if isinstance(event, ImageReady)]
        assert rejected
        assert [(e.data, e.mime, e.seed) for e in rejected] == [(e.data, e.mime, e.seed) for e in ready]
        assert all(pixels_of(e.data).std() > 0 for e in ready)
    assert not bench.pixels()


def test_a_rejection_crosses_the_pipe_with_and_without_its_picture() -> None:
    from backends.local.wire import event_frame, event_of

    for rejected in (ImageRejected(1, "why", b"png", "image/png", 5), ImageRejected(0, "why")):
        frame = event_frame("t", rejected)
        assert event_of(Frame(frame.kind, frame.job, frame.data, frame.blobs)) == rejected


# --- the embedded model -----------------------------------------------------------------------------------

embedded = pytest.mark.skipif(
    not (sources.embedded_folder() / "model_index.json").is_file(), reason="a checkout without the weights"
)
SCENES = {
    "a red star on a blue background": Scene(128, 128, "blue", (Thing("star", "red", "plain", 64, 64, 40),)),
    "a yellow heart on a black background": Scene(
        128, 128, "black", (Thing("heart", "yellow", "plain", 64, 64, 40),)
    ),
}


@embedded
def test_the_embedded_models_pictures_stay_exact_and_get_sharper() -> None:
    renderer = open_renderer(sources.embedded_folder())
    first = Bench(renderer)
    first.run(*(ImageRequest(prompt, 128, 128, 12, 7.5, seed=3) for prompt in SCENES))
    for number, (prompt, scene) in enumerate(SCENES.items()):
        data = next(e.data for e in first.events(str(number)) if isinstance(e, ImageReady))
        with Pillow.open(io.BytesIO(data)) as picture:
            plain = np.asarray(picture.resize((256, 256), Pillow.Resampling.LANCZOS)).astype(np.int64)
        image = Image(data, "image/png", 128, 128)
        second = made(
            renderer, ImageRequest(prompt, 256, 256, 12, 7.5, seed=3, init_image=image, upscale=True)
        )[0]
        assert checker.judge(scene, Pillow.fromarray(second.astype(np.uint8)))["exact"]
        enlarged = Pillow.fromarray(plain.astype(np.uint8))
        edges = edges_of(enlarged)
        picture_of_second = Pillow.fromarray(second.astype(np.uint8))
        assert sharpness(picture_of_second, edges) > 1.2 * sharpness(enlarged, edges)
        assert np.abs(second - plain).mean() < 6
