"""Results that are made again: the same with another seed, varied, made larger, changed; and deleted.

Everything ends in an ordinary submission, checked as any other, for the model that was asked for, whichever
stood in for it. Whoever presses is its author; members of a
guild may press on each other's results.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from bot.core.desk import Desk
from bot.core.dispatcher import Dispatcher
from bot.core.errors import Forbidden, NotFound
from bot.core.gallery import Gallery
from bot.core.intake import Acknowledge, Submission, Ticket, input_names
from bot.core.options import Options, merge, options_from_json
from bot.core.patience import Tasks
from bot.core.ports import Store, StoredGroup, StoredJob, StoredPicture
from bot.core.recipe import recipe_options
from bot.core.request import JSON, ImageRequest, Limits, Requester
from bot.core.resolve import UPSCALE_STRENGTH, VARY_STRENGTH, as_options
from bot.core.results import request_of, shown_pictures

Submit = Callable[[Submission, Acknowledge | None], Awaitable[Ticket]]


class Remakes:
    """See the module. submit: takes a submission in; params: what is honoured for a model; limits: those that
    hold for a submission."""

    def __init__(
        self,
        store: Store,
        desk: Desk,
        dispatcher: Dispatcher,
        gallery: Gallery,
        *,
        submit: Submit,
        params: Callable[[str | None], frozenset[str]],
        limits: Callable[[Submission], Awaitable[Limits]],
    ) -> None:
        self._store = store
        self._desk = desk
        self._dispatcher = dispatcher
        self._gallery = gallery
        self._submit = submit
        self._params = params
        self._limits = limits
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Stop deleting."""
        await self._tasks.aclose()

    # --- do again ---

    async def redo(self, group_id: str, submission: Submission, acknowledge: Acknowledge | None) -> Ticket:
        """The same again with another seed, and with the submission's options as changes."""
        stored = await self.seen(group_id, submission.requester)
        typed, request = replace(options_from_json(stored.options), seed=None), request_of(stored.jobs[0])
        changes = submission.options or Options()
        other_model = changes.model not in (None, request.model)
        options = merge(typed if other_model else _exact(typed, request), changes)
        return await self._from_inputs(stored, _kin(options, request), submission, acknowledge)

    async def remake(self, group_id: str, submission: Submission, acknowledge: Acknowledge | None) -> Ticket:
        """With other options, from the same input picture."""
        stored = await self.seen(group_id, submission.requester)
        options = _kin(submission.options or Options(), request_of(stored.jobs[0]))
        return await self._from_inputs(stored, options, submission, acknowledge)

    async def _from_inputs(
        self, stored: StoredGroup, options: Options, submission: Submission, acknowledge: Acknowledge | None
    ) -> Ticket:
        """A submission that starts from what a stored group started from."""
        init_image, mask_image = await self._read_inputs(stored.jobs[0])
        again = replace(submission, text="", options=options, init_image=init_image, mask_image=mask_image)
        return await self._submit(again, acknowledge)

    # --- one picture of a result ---

    async def vary(
        self, group_id: str, index: int, submission: Submission, acknowledge: Acknowledge | None
    ) -> Ticket:
        """Image to image from one picture of a result, with a new seed."""
        stored, job, picture = await self._pictured(group_id, index, submission.requester)
        request = request_of(job)
        options = self._told(request, VARY_STRENGTH, source=_source(stored, index))
        limits = await self._limits(submission)
        each = picture.width * picture.height * (options.steps or 1)
        count = max(1, min(request.count, limits.max_count, limits.max_work // each))
        options = replace(options, width=picture.width, height=picture.height, count=count)
        return await self._from_picture(request, picture, options, submission, acknowledge)

    async def upscale(
        self, group_id: str, index: int, submission: Submission, acknowledge: Acknowledge | None
    ) -> Ticket:
        """A second pass over one picture of a result, at twice its size."""
        stored, job, picture = await self._pictured(group_id, index, submission.requester)
        request = request_of(job)
        options = self._told(request, UPSCALE_STRENGTH, source=_source(stored, index))
        seed = picture.seed if "seed" in self._params(request.model) else None
        options = replace(options, upscale=True, seed=seed, count=1)
        return await self._from_picture(request, picture, options, submission, acknowledge)

    def _told(self, request: ImageRequest, strength: float, *, source: str) -> Options:
        """A request's options but for its size, seed and count. So few steps that `strength` of them would be
        none are made more."""
        params = self._params(request.model)
        steps = max(request.steps, math.ceil(1 / strength)) if "steps" in params else request.steps
        return Options(
            negative_prompt=request.negative_prompt,
            steps=steps,
            guidance_scale=request.guidance_scale,
            scheduler=request.scheduler,
            model=request.model,
            strength=strength if "strength" in params else None,
            spoiler=request.spoiler,
            source=source,
        )

    async def _from_picture(
        self,
        request: ImageRequest,
        picture: StoredPicture,
        options: Options,
        submission: Submission,
        acknowledge: Acknowledge | None,
    ) -> Ticket:
        """The prompt goes as it was made, its braces and styles resolved already."""
        data = await self._read(picture.name)
        made = replace(submission, text="", options=replace(options, prompt=request.prompt), literal=True)
        return await self._submit(replace(made, init_image=data, mask_image=None), acknowledge)

    async def options_of(self, group_id: str, by: Requester, index: int | None) -> Options:
        """What was asked; with `index`, what makes that picture alone."""
        if index is None:
            return options_from_json((await self.seen(group_id, by)).options)
        _, job, picture = await self._pictured(group_id, index, by)
        options = replace(as_options(request_of(job)), seed=picture.seed, count=1)
        return self._as_made(options, picture)

    def _as_made(self, options: Options, picture: StoredPicture) -> Options:
        """With the model that stood in for the one asked for, and its values, where that is offered."""
        made = picture.recipe.get("model")
        swapped = isinstance(made, str) and _changed(picture).get("model") == made
        if not swapped or not any(lane.own(str(made)) for lane in self._dispatcher.lanes):
            return options
        known = recipe_options(picture.recipe)
        return replace(
            options,
            model=known.model,
            steps=known.steps,
            guidance_scale=known.guidance_scale,
            scheduler=known.scheduler,
            strength=None if picture.recipe.get("strength") is None else options.strength,
        )

    # --- delete ---

    async def delete(self, group_id: str, by: Requester, *, moderator: bool) -> None:
        """Forget a group with its pictures; goes on where the caller goes away."""
        stored = await self.seen(group_id, by)
        if not moderator and not own(stored.requester, by):
            raise Forbidden("Only its author or a moderator can delete this.")
        await asyncio.shield(self._tasks.start(self._delete(stored)))

    async def _delete(self, stored: StoredGroup) -> None:
        live = self._desk.groups.get(stored.group_id)
        if live is not None:
            await asyncio.gather(*(self._dispatcher.cancel(job, message="Deleted.") for job in live.jobs))
            await self._dispatcher.settled(live)
        names = await self._store.forget(stored.group_id)
        if await self._store.group(stored.group_id) is None:
            await self._gallery.remove([*names, *input_names(stored)])

    # --- what is stored ---

    async def seen(self, group_id: str, by: Requester) -> StoredGroup:
        """A group that `by` may see. Raises NotFound."""
        stored = await self._store.group(group_id)
        if stored is None or not shared(stored.requester, by):
            raise NotFound(f"There is no job {group_id[:16]} here.")
        return stored

    async def _pictured(
        self, group_id: str, index: int, by: Requester
    ) -> tuple[StoredGroup, StoredJob, StoredPicture]:
        """A picture of a group, counted as its result shows them. Raises NotFound."""
        stored = await self.seen(group_id, by)
        shown = shown_pictures(stored)
        if not 0 <= index < len(shown):
            raise NotFound(f"The job {group_id[:16]} has no picture {index + 1}.")
        job, picture = shown[index]
        return stored, job, picture

    async def _read_inputs(self, job: StoredJob) -> tuple[bytes | None, bytes | None]:
        names = [job.request.get(key) for key in ("init_image", "mask_image")]
        init_image, mask_image = [await self._read(name) if isinstance(name, str) else None for name in names]
        return init_image, mask_image

    async def _read(self, name: str) -> bytes:
        try:
            return await asyncio.to_thread((self._gallery.folder / name).read_bytes)
        except OSError:
            raise NotFound("The picture that it started from is gone.") from None


_PRIVATE: Final = frozenset({"dm", "web"})  # guilds that strangers share


def shared(owner: Requester, by: Requester) -> bool:
    """Whether `by` sees what `owner` does: the members of one guild do."""
    return owner.tenant == by.tenant and (owner.guild not in _PRIVATE or owner.member == by.member)


def own(owner: Requester, by: Requester) -> bool:
    """Whether they are one member of one guild."""
    return (owner.tenant, owner.member) == (by.tenant, by.member)


def _exact(typed: Options, request: ImageRequest) -> Options:
    """What was typed, with all that was filled in then: defaults may be others by now."""
    made = as_options(request)
    return replace(made, prompt=typed.prompt, style=request.style or "", seed=None)


def _kin(options: Options, request: ImageRequest) -> Options:
    """What is made anew from the same picture is of the same kind; of another size it is no upscale."""
    same = options.aspect is None and all(
        said in (None, was)
        for said, was in ((options.width, request.width), (options.height, request.height))
    )
    return replace(options, upscale=request.upscale and same, source=request.source)


def _changed(picture: StoredPicture) -> Mapping[str, JSON]:
    applied = picture.recipe.get("applied")
    return applied if isinstance(applied, Mapping) else {}


def _source(stored: StoredGroup, index: int) -> str:
    """ "7K2QABCD", and which picture of it where there are several."""
    return stored.group_id if len(shown_pictures(stored)) == 1 else f"{stored.group_id} #{index + 1}"
