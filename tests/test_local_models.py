"""The batch engine over tiny models of random weights: seeds, batches, samplers, sizes, masks, failures."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from backends.local.board import Slot, Work
from backends.local.engine import BatchEngine
from backends.local.loading import load
from backends.local.opening import Job, Opening
from backends.local.plan import make_plan
from backends.local.profile import Profile, read_profile
from backends.local.rendering import AfterCall, Renderer
from backends.local.reporting import Reporter, preview_steps
from backends.local.sources import find_source
from bot.core.errors import ConfigurationError, InvalidRequest, Unavailable
from bot.core.ports import ImageReady, ImageRejected, Preview, Progress
from bot.core.request import Image
from tests.fakes.backend import flat_png
from tests.fakes.bench import Bench, distance, made, make_request, open_renderer, pixels_of
from tests.fakes.single_file import save_single_file
from tests.fakes.tiny_model import SIDE, save_tiny_model, tiny_pipeline, tiny_xl_pipeline

# diffusers and its parts use what numpy and transformers have deprecated; ours to see, not to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


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


# --- seeds ------------------------------------------------------------------------------------------------


def test_the_same_command_gives_the_same_pixels(renderer: Renderer) -> None:
    first, second = made(renderer, make_request(5)), made(renderer, make_request(5))
    assert np.array_equal(first[0], second[0])


def test_another_seed_gives_another_picture(renderer: Renderer) -> None:
    first, second = made(renderer, make_request(5), make_request(6))
    assert distance(first, second) > 20


@pytest.mark.parametrize(
    "scheduler",
    [None, "Euler a", "DPM++ 2M Karras", "DPM++ 2M SDE", "DPM++ SDE", "Heun", "PLMS", "UniPC", "LCM"],
)
def test_a_picture_does_not_depend_on_its_neighbours(renderer: Renderer, scheduler: str | None) -> None:
    request = make_request(7, scheduler=scheduler)
    neighbours = (
        make_request(8, scheduler=scheduler, prompt="blue", guidance_scale=9.0),
        make_request(9, scheduler=scheduler, negative_prompt="green"),
    )
    alone = made(renderer, request)[0]
    together = made(renderer, neighbours[0], request, neighbours[1])[1]
    assert distance(alone, together) <= 1


def test_pictures_of_one_request_have_consecutive_seeds(renderer: Renderer) -> None:
    bench = Bench(renderer)
    bench.run(make_request(11, count=2))
    assert distance(bench.pixels()[1], made(renderer, make_request(12))[0]) <= 1


def test_it_makes_what_plain_diffusers_makes(renderer: Renderer) -> None:
    picture = tiny_pipeline()(
        "a red star",
        negative_prompt="blue",
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
    ).images[0]
    ours = made(renderer, make_request(3, negative_prompt="blue"))[0]
    assert distance(ours, np.asarray(picture).astype(np.int64)) <= 1


def test_stable_diffusion_xl_makes_what_plain_diffusers_makes(tmp_path: Path) -> None:
    pipe = tiny_xl_pipeline()
    pipe.save_pretrained(tmp_path / "xl")
    expected = pipe(
        "a red star",
        negative_prompt="blue",
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
        width=SIDE,
        height=SIDE,
    ).images[0]
    renderer = open_renderer(tmp_path / "xl")
    requests = [make_request(3, negative_prompt="blue"), make_request(4, prompt="x" * 100)]
    requests += [make_request(5, init_image=PHOTO, mask_image=mask_of(255, 0), strength=0.8)]
    pictures = made(renderer, *requests)
    assert distance(pictures[0], np.asarray(expected).astype(np.int64)) <= 1
    assert (pictures[2][:, SIDE // 2 :] == np.array([0xF0, 0x80, 0x20])).all()


# --- prompts ----------------------------------------------------------------------------------------------


def test_words_beyond_the_text_encoders_window_count(renderer: Renderer) -> None:
    long = "abcdefghijklmno " * 5
    short, longer = made(renderer, make_request(prompt=long), make_request(prompt=f"{long} zzz"))
    assert distance(short, longer) > 0


def test_prompts_and_negatives_of_any_lengths_go_together(renderer: Renderer) -> None:
    bench = Bench(renderer)
    bench.run(
        make_request(prompt="x" * 200, negative_prompt="y"),
        make_request(prompt="x", negative_prompt="y" * 200),
        make_request(prompt="", negative_prompt=""),
    )
    assert [bench.kinds(str(number))[-1] for number in range(3)] == ["Done"] * 3


def test_guidance_is_kept_for_each_picture_of_a_batch(renderer: Renderer) -> None:
    weak, strong = make_request(guidance_scale=1.5), make_request(guidance_scale=12.0)
    both = made(renderer, weak, strong)
    assert distance(both[0], made(renderer, weak)[0]) <= 1
    assert distance(both[1], made(renderer, strong)[0]) <= 1
    assert distance(both[0], both[1]) > 1


# --- batches ----------------------------------------------------------------------------------------------


def test_waiting_jobs_that_agree_share_model_calls(renderer: Renderer) -> None:
    bench = Bench(renderer)
    bench.run(make_request(1), make_request(2, count=2), make_request(3, prompt="other"))
    assert bench.calls == 3


def test_jobs_that_differ_in_size_or_steps_do_not(renderer: Renderer) -> None:
    bench = Bench(renderer)
    bench.run(make_request(1), make_request(2, steps=2), make_request(3, width=2 * SIDE))
    assert bench.calls == 3 + 2 + 3


def test_device_seconds_are_split_by_pictures(renderer: Renderer) -> None:
    bench = Bench(renderer)
    bench.run(make_request(1), make_request(2, count=3))
    assert bench.done("1").device_seconds == pytest.approx(3 * bench.done("0").device_seconds, rel=0.01)


def test_more_pictures_than_fit_one_call_are_made_in_several(renderer: Renderer) -> None:
    bench = Bench(renderer)
    bench.run(make_request(1, count=10))
    assert bench.calls == 6
    assert len(bench.pixels()) == 10


# --- progress, previews, cancelling -----------------------------------------------------------------------


def test_progress_counts_model_calls(renderer: Renderer) -> None:
    bench = Bench(renderer)
    bench.run(make_request(scheduler="Heun", steps=4))
    progress = [event for event in bench.events() if isinstance(event, Progress)]
    assert progress[-1].fraction == 1
    assert (progress[-1].step, progress[-1].total) == (7, 7)


@pytest.mark.parametrize("vae", ["tiny", "kl"])
@pytest.mark.parametrize("scheduler", ["DDIM", "Euler"])
def test_previews_are_small_pictures(tmp_path: Path, vae: Any, scheduler: str) -> None:
    renderer = open_renderer(save_tiny_model(tmp_path / "m", vae=vae))
    ticking = itertools.count(step=30.0)
    bench = Bench(renderer)
    bench.engine = BatchEngine(
        renderer, bench.frames.append, lambda: None, model_id="tiny", clock=lambda: next(ticking)
    )
    bench.run(make_request(scheduler=scheduler))
    previews = [event for event in bench.events() if isinstance(event, Preview)]
    assert previews
    assert all(len(preview.data) <= 20_000 and preview.mime == "image/jpeg" for preview in previews)
    assert pixels_of(previews[0].data).std() > 0


def test_previews_cost_a_small_share_of_the_time_and_come_at_most_four_times_a_second() -> None:
    now = 0.0
    shown: list[float] = []

    def look() -> list[bytes]:
        nonlocal now
        shown.append(now)
        now += 0.02
        return [b"preview"]

    work = Work(Job("0", make_request()), make_plan(make_request(), Profile(title="")))
    reporter = Reporter([Slot(work, 0)], lambda frame: None, lambda: now)
    for step in range(1, 501):
        now += 0.01
        reporter.tell(step, 500, look)
    assert shown
    gaps = [after - before for before, after in itertools.pairwise(shown)]
    assert min(gaps) >= 0.25
    assert 0.02 * len(shown) <= 0.05 * now


def previews_of(bench: Bench, ticket: str = "0") -> list[tuple[int, int]]:
    """(index of the picture, after which step) of a job's previews, in order."""
    found, step = [], 0
    for event in bench.events(ticket):
        if isinstance(event, Progress):
            step = event.step or 0
        elif isinstance(event, Preview):
            found.append((event.index, step))
    return found


def unhurried(renderer: Renderer) -> Bench:
    """A bench on which every progress is told and no preview is due by time."""
    bench = Bench(renderer)
    ticking = itertools.count(step=0.06)
    bench.engine = BatchEngine(
        renderer, bench.frames.append, bench.poll, model_id="tiny", clock=lambda: next(ticking)
    )
    return bench


@pytest.mark.parametrize(
    ("wanted", "steps", "shown"),
    [(1, 4, [2]), (2, 9, [3, 6]), (3, 10, [2, 5, 8]), (3, 4, [1, 2, 3]), (5, 4, [1, 2, 3]), (2, 1, [])],
)
def test_so_many_previews_as_are_asked_for_come_evenly_over_the_steps(
    wanted: int, steps: int, shown: list[int]
) -> None:
    assert sorted(preview_steps(wanted, steps)) == shown


def test_jobs_of_one_batch_have_the_previews_that_each_asked_for(renderer: Renderer) -> None:
    bench = unhurried(renderer)
    bench.run(
        make_request(1, steps=6, previews=2, count=2),
        make_request(2, steps=6, previews=1),
        make_request(3, steps=6),
    )
    assert bench.calls == 6
    assert previews_of(bench, "0") == [(0, 2), (1, 2), (0, 4), (1, 4)]
    assert previews_of(bench, "1") == [(0, 3)]


def test_pictures_of_a_job_that_takes_several_batches_all_have_their_previews(renderer: Renderer) -> None:
    bench = unhurried(renderer)
    bench.run(make_request(1, steps=3, previews=1, count=10))
    assert sorted(previews_of(bench)) == [(index, 2) for index in range(10)]


def test_previews_from_a_picture_count_the_steps_that_are_really_made(renderer: Renderer) -> None:
    bench = unhurried(renderer)
    picture = flat_png(SIDE, SIDE, 77)
    bench.run(
        make_request(steps=20, strength=0.5, previews=4, init_image=Image(picture, "image/png", SIDE, SIDE))
    )
    assert [step for _, step in previews_of(bench)] == [2, 4, 6, 8]


def test_a_batch_that_is_made_again_in_smaller_parts_shows_no_preview_twice(folder: Path) -> None:
    class Cramped(Renderer):
        def render(self, batch: Sequence[Slot], after_call: AfterCall) -> list[ImageReady | ImageRejected]:
            made = super().render(batch, after_call)
            if len(batch) > 1:
                raise MemoryError
            return made

    bench = unhurried(Cramped(open_renderer(folder).loaded, previews=True))
    bench.run(make_request(1, previews=1, count=2))
    assert previews_of(bench) == [(0, 2), (1, 2)]
    assert len(bench.pixels()) == 2


def test_a_model_says_that_it_gives_previews_only_where_it_does(folder: Path) -> None:
    loaded = open_renderer(folder).loaded
    for previews in (True, False):
        told = Bench(Renderer(loaded, previews=previews)).engine.ready()["params"]
        assert isinstance(told, list)
        assert ("previews" in told) is previews


def test_a_cancelled_batch_stops_within_one_model_call(renderer: Renderer) -> None:
    bench = Bench(renderer, lambda engine: engine.cancel("0") if bench.calls == 3 else None)
    bench.run(make_request(steps=50))
    assert bench.calls == 3
    assert bench.kinds()[-1] == "cancelled"


def test_a_cancelled_job_leaves_the_batch_and_the_others_are_made(renderer: Renderer) -> None:
    bench = Bench(renderer, lambda engine: engine.cancel("0") if bench.calls == 2 else None)
    bench.run(make_request(1), make_request(2))
    assert bench.kinds("0")[-1] == "cancelled"
    assert distance(bench.pixels("1")[0], made(renderer, make_request(2))[0]) <= 1


def test_a_job_that_comes_while_a_batch_runs_is_made_afterwards(renderer: Renderer) -> None:
    late = Job("late", make_request(9))
    bench = Bench(renderer, lambda engine: engine.submit(late) if bench.calls == 1 else None)
    bench.run(make_request(1))
    assert bench.kinds("late")[-1] == "Done"


# --- sizes ------------------------------------------------------------------------------------------------

NATIVE: Mapping[str, Any] = {"native_pixels": SIDE * SIDE, "min_side": 16, "max_side": 64}


@pytest.mark.parametrize("size", [(512, 512), (512, 128), (16, 16), (128, 512), (200, 120)])
def test_pictures_are_made_at_the_native_size_and_fitted_exactly(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    renderer = open_renderer(save_tiny_model(tmp_path / "m", **NATIVE))
    bench = Bench(renderer)
    bench.run(make_request(width=size[0], height=size[1]))
    assert bench.pixels()[0].shape == (size[1], size[0], 3)
    applied = bench.done().applied
    width, height = int(str(applied["width"])), int(str(applied["height"]))
    assert 0.7 <= width * height / (SIDE * SIDE) <= 1.4
    assert width / height == pytest.approx(size[0] / size[1], rel=0.35)
    assert any(f"made at {width}×{height}" in note for note in bench.done().notes)


def test_a_size_that_the_model_does_well_is_left_alone(renderer: Renderer) -> None:
    bench = Bench(renderer)
    bench.run(make_request())
    assert "width" not in bench.done().applied
    assert bench.done().notes == ()


def test_guidance_is_mapped_and_the_recipe_says_so(tmp_path: Path) -> None:
    points = [[1, 1], [7.5, 2.5], [20, 3.5]]
    renderer = open_renderer(save_tiny_model(tmp_path / "m", guidance_points=points))
    bench = Bench(renderer)
    bench.run(make_request(guidance_scale=7.5), make_request(guidance_scale=30.0))
    assert bench.done("0").applied["guidance_scale"] == 2.5
    assert bench.done("1").applied["guidance_scale"] == 3.5
    assert bench.done("0").applied["scheduler"] == "DDIM"
    assert bench.done("0").applied["scheduler_class"] == "DDIMScheduler"


# --- pictures as input ------------------------------------------------------------------------------------

PHOTO = Image(flat_png(50, 40, 0x2080F0), "image/png", 50, 40)


def mask_of(left: int, right: int) -> Image:
    """White over the left half."""
    mask = Pillow.new("L", (64, 64), right)
    mask.paste(left, (0, 0, 32, 64))
    data = io.BytesIO()
    mask.save(data, "PNG")
    return Image(data.getvalue(), "image/png", 64, 64)


@pytest.mark.parametrize("vae", ["tiny", "kl"])
def test_image_to_image_keeps_more_with_less_strength(tmp_path: Path, vae: Any) -> None:
    renderer = open_renderer(save_tiny_model(tmp_path / "m", vae=vae))
    requests = [make_request(init_image=PHOTO, steps=10, strength=s) for s in (0.1, 0.5, 1.0)]
    weak, middle, full = made(renderer, *requests)
    assert distance(weak, middle) > 0
    assert distance(weak, full) > distance(weak, middle)
    assert distance(middle, made(renderer, requests[1])[0]) == 0


def test_image_to_image_does_not_depend_on_neighbours(renderer: Renderer) -> None:
    one = make_request(1, init_image=PHOTO, strength=0.7)
    other = make_request(2, init_image=replace(PHOTO, data=flat_png(32, 32, 5)), strength=0.7)
    assert distance(made(renderer, one, other)[1], made(renderer, other)[0]) <= 1


@pytest.mark.parametrize("scheduler", ["DDIM", "Euler", "DPM++ 2M", "Heun"])
def test_inpainting_leaves_what_is_not_masked_alone(renderer: Renderer, scheduler: str) -> None:
    request = make_request(init_image=PHOTO, mask_image=mask_of(255, 0), strength=0.9, scheduler=scheduler)
    picture = made(renderer, request)[0]
    half = SIDE // 2
    assert (picture[:, half:] == np.array([0xF0, 0x80, 0x20])).all()
    assert distance(picture[:, :half], np.broadcast_to([0xF0, 0x80, 0x20], (SIDE, half, 3))) > 5


def test_a_picture_that_cannot_be_read_fails_its_own_job_only(renderer: Renderer) -> None:
    bench = Bench(renderer)
    bad = make_request(1, init_image=Image(b"no picture", "image/png", 8, 8), strength=0.5)
    bench.run(bad, make_request(2, init_image=PHOTO, strength=0.5))
    assert isinstance(bench.error("0"), InvalidRequest)
    assert bench.error("0").field == "init_image"
    assert bench.kinds("1")[-1] == "Done"


# --- failures ---------------------------------------------------------------------------------------------


class CrampedRenderer(Renderer):
    """Runs out of memory beyond `room` pictures at a time."""

    def __init__(self, renderer: Renderer, room: int, error: Callable[[], Exception]) -> None:
        super().__init__(renderer.loaded, previews=False)
        self.room = room
        self.error = error
        self.sizes: list[int] = []

    def render(self, batch: Sequence[Slot], after_call: AfterCall) -> list[ImageReady | ImageRejected]:
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise self.error()
        return super().render(batch, after_call)


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError,
        lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_halves_the_batch_and_remembers(folder: Path, error: Callable[[], Exception]) -> None:
    renderer = CrampedRenderer(open_renderer(folder), 2, error)
    bench = Bench(renderer)
    bench.run(make_request(1, count=8))
    assert renderer.sizes == [8, 4, 2, 2, 2, 2]
    assert len(bench.pixels()) == 8
    assert bench.kinds()[-1] == "Done"


def test_one_picture_that_does_not_fit_is_refused_with_its_size(folder: Path) -> None:
    bench = Bench(CrampedRenderer(open_renderer(folder), 0, MemoryError))
    bench.run(make_request(1, width=64, height=48))
    assert isinstance(bench.error(), InvalidRequest)
    assert bench.error().field == "size"
    assert "64×48" in bench.error().message


def test_a_fault_of_one_job_does_not_take_its_neighbours_along(folder: Path) -> None:
    class Allergic(Renderer):
        def render(self, batch: Sequence[Slot], after_call: AfterCall) -> list[ImageReady | ImageRejected]:
            if any(slot.seed == 2 for slot in batch):
                raise IndexError("index 21 is out of bounds")
            return super().render(batch, after_call)

    bench = Bench(Allergic(open_renderer(folder).loaded, previews=False))
    bench.run(make_request(1), make_request(2), make_request(3))
    assert [bench.kinds(str(n))[-1] for n in range(3)] == ["Done", "failed", "Done"]
    assert isinstance(bench.error("1"), Unavailable)
    assert "out of bounds" in bench.error("1").detail


def test_a_lost_device_ends_the_worker(folder: Path) -> None:
    def lost() -> Exception:
        return RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory"):
        Bench(CrampedRenderer(open_renderer(folder), 0, lost)).run(make_request())


# --- the content check ------------------------------------------------------------------------------------


def test_what_the_models_own_checker_flags_is_kept_back(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "m", vae="kl", checker=True)
    renderer = open_renderer(folder)
    bench = Bench(renderer)
    assert bench.engine.ready()["checks_content"] is True
    assert bench.engine.ready()["previews"] is False
    bench.run(make_request(count=2))
    assert [e.index for e in bench.events() if isinstance(e, ImageRejected)] == [0, 1]
    assert not bench.pixels()
    assert bench.kinds()[-1] == "Done"


def test_without_the_setting_the_checker_is_not_loaded(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "m", vae="kl", checker=True)
    bench = Bench(open_renderer(folder, safety_checker=False))
    assert bench.engine.ready()["checks_content"] is False
    bench.run(make_request())
    assert len(bench.pixels()) == 1


# --- where models come from -------------------------------------------------------------------------------


def opening_of(target: str, cache: Path | None = None) -> Opening:
    source = find_source(target, cache)
    return Opening(
        source.kind,
        source.location,
        source.model_id,
        str(source.folder) if source.folder else None,
        cache_dir=str(cache) if cache else None,
    )


def test_a_single_file_is_opened_with_the_configuration_beside_it(tmp_path: Path) -> None:
    file = save_single_file(tmp_path / "mine")
    renderer = Renderer(load(opening_of(str(file))), previews=False)
    assert renderer.loaded.profile.title == "mine"
    expected = tiny_pipeline(vae="kl")(
        "a red star", num_inference_steps=3, guidance_scale=4.0, generator=torch.Generator().manual_seed(1)
    ).images[0]
    assert distance(made(renderer, make_request(1))[0], np.asarray(expected).astype(np.int64)) <= 1


def test_a_broken_file_is_told_from_a_missing_configuration(tmp_path: Path) -> None:
    file = save_single_file(tmp_path / "mine")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ConfigurationError, match="does not fit"):
        load(opening_of(str(file)))


def test_a_folder_that_lacks_a_part_says_so(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "m")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="complete and in safetensors"):
        load(opening_of(str(folder)))


@pytest.mark.parametrize(
    ("name", "pipeline", "scheduler", "expected"),
    [
        ("z-image-turbo", "ZImagePipeline", "FlowMatchEulerDiscreteScheduler", (1024, 9, 0.0, "Flow Euler")),
        ("flux-schnell", "FluxPipeline", "FlowMatchEulerDiscreteScheduler", (1024, 4, 0.0, "Flow Euler")),
        ("sdxl", "StableDiffusionXLPipeline", "EulerDiscreteScheduler", (1024, 30, 7.0, "Euler")),
        ("sd-turbo", "StableDiffusionPipeline", "EulerDiscreteScheduler", (512, 4, 0.0, "Euler")),
    ],
)
def test_what_a_model_does_best_is_read_from_its_configuration(
    tmp_path: Path, name: str, pipeline: str, scheduler: str, expected: tuple[int, int, float, str]
) -> None:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "model_index.json").write_text(f'{{"_class_name": "{pipeline}"}}')
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(f'{{"_class_name": "{scheduler}"}}')
    profile = read_profile(tmp_path, name)
    assert expected == (
        profile.default_width,
        profile.default_steps,
        profile.default_guidance,
        profile.default_scheduler,
    )
    assert ("Flow Euler" in profile.schedulers) is profile.flow
    assert not profile.flow or profile.schedulers == ("Flow Euler",)


def test_weights_are_counted_as_one_model(renderer: Renderer) -> None:
    assert renderer.loaded.small
    assert renderer.loaded.slots == 8
