"""The studio in memory, for tests of adapters: it takes requests by the real grammar and limits, and then
waits to be told what happens.

    studio = FakeStudio(settings, adapter)
    ticket = await studio.submit(...)
    await studio.tell(ticket.group_id, state=State.RUNNING, progress=Progress(0.5))
    await studio.finish(ticket.group_id)          # flat pictures, as many as were asked for

tell() and finish() go through the adapter's own Conversation, as the core's do. `keys` holds API keys by
their text, `shelves` what adapters put away. It is never the real Studio's subclass: pass `as_studio()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from bot.core.codec import request_to_json
from bot.core.errors import Forbidden, NotFound, Refusal
from bot.core.grammar import parse
from bot.core.intake import Acknowledge
from bot.core.options import Options, merge, options_from_json, options_to_json
from bot.core.pictures import Found, check_image, read_recipe
from bot.core.ports import Adapter, ApiKey, JobStatus, Model, StoredGroup, StoredJob
from bot.core.recipe import make_recipe
from bot.core.request import JSON, Defaults, ImageResult, Limits, Picture, Requester, State
from bot.core.resolve import differences, resolve
from bot.core.settings import Settings
from bot.core.studio import Studio, Submission, Ticket
from tests.fakes.backend import FAKE_MODEL, PARAMS, flat_png


@dataclass
class FakeShelf:
    """Durable values of one adapter."""

    values: dict[str, JSON] = field(default_factory=dict)

    async def get(self, key: str) -> JSON:
        """The value, None where there is none."""
        return self.values.get(key)

    async def put(self, key: str, value: JSON) -> None:
        """Set the value; None deletes it."""
        self.values.pop(key, None)
        if value is not None:
            self.values[key] = value

    async def put_once(self, key: str, value: JSON) -> bool:
        """Set the value where there is none."""
        return self.values.setdefault(key, value) is value


class FakeStudio:
    """See the module. refuse: an error that the next submit() raises."""

    def __init__(
        self, settings: Settings, adapter: Adapter, *, models: Sequence[Model] = (FAKE_MODEL,)
    ) -> None:
        self.settings = settings
        self.limits: Limits = settings.limits
        self.refuse: Refusal | None = None
        self.keys: dict[str, ApiKey] = {}
        self.shelves: dict[str, FakeShelf] = {}
        self.submissions: list[Submission] = []
        self._adapter = adapter
        self._models = tuple(models)
        self._groups: dict[str, StoredGroup] = {}
        self._statuses: dict[str, JobStatus] = {}
        self._results: dict[str, ImageResult] = {}
        self._tickets: dict[str, Ticket] = {}

    def as_studio(self) -> Studio:
        """Itself, under the type that adapters ask for."""
        return cast(Studio, self)

    # --- what happens, told by the test -------------------------------------------------------------------

    async def tell(self, group_id: str, **changes: object) -> JobStatus:
        """Change how a group stands, and show it."""
        status = replace(self._statuses[group_id], **changes)  # type: ignore[arg-type]
        self._statuses[group_id] = status
        await self._adapter.conversation(self._groups[group_id].address).show(status)
        return status

    async def finish(self, group_id: str, **changes: object) -> ImageResult:
        """End a group: DONE with flat pictures unless `changes` (fields of ImageResult) say otherwise."""
        group, ticket = self._groups[group_id], self._tickets[group_id]
        result = ImageResult(
            group_id,
            group.requester,
            ticket.requests[0].prompt,
            State.DONE,
            self._pictures(group_id, ticket),
            model=self._models[0].id,
            backend="fake:",
            device_seconds=1.5,
        )
        result = replace(result, **changes)  # type: ignore[arg-type]
        jobs = tuple(replace(job, state=result.state) for job in group.jobs)
        self._groups[group_id] = replace(group, jobs=jobs)
        self._statuses.pop(group_id, None)
        self._results[group_id] = result
        await self._adapter.conversation(group.address).deliver(result)
        return result

    def _pictures(self, group_id: str, ticket: Ticket) -> tuple[Picture, ...]:
        self.settings.pictures_dir.mkdir(parents=True, exist_ok=True)
        made: list[Picture] = []
        for request in ticket.requests:
            for index in range(request.count):
                seed = request.seed_of(index)
                path = self.settings.pictures_dir / f"{group_id}-{len(made)}.png"
                path.write_bytes(flat_png(request.width, request.height, seed))
                recipe = make_recipe(
                    request,
                    index=index,
                    seed=seed,
                    backend="fake:",
                    model="",
                    applied={},
                    notes=(),
                    software="Fairbrush",
                    created="2026-01-01T00:00:00+00:00",
                )
                made.append(_picture(path, index, request.width, request.height, seed, recipe))
        return tuple(made)

    # --- the studio ---------------------------------------------------------------------------------------

    def models(self) -> tuple[Model, ...]:
        """The models offered."""
        return self._models

    def defaults(self, model: str | None = None) -> Defaults:
        """The model's own best."""
        best = next((one for one in self._models if one.id == model), self._models[0])
        return Defaults(
            best.width, best.height, best.steps, best.guidance_scale, best.scheduler, model=best.id
        )

    def kinds(self, model: str) -> tuple[str, ...]:
        return ("local",)

    def params(self, model: str | None) -> frozenset[str]:
        """All that the fake backend honours."""
        return PARAMS

    def shelf(self, adapter: str) -> FakeShelf:
        """What an adapter put away."""
        return self.shelves.setdefault(adapter, FakeShelf())

    async def key(self, text: str) -> ApiKey | None:
        """The API key with this text."""
        return self.keys.get(text)

    async def submit(self, submission: Submission, *, acknowledge: Acknowledge | None = None) -> Ticket:
        """Take a request; the same event twice is one."""
        self.submissions.append(submission)
        if self.refuse is not None:
            refusal, self.refuse = self.refuse, None
            raise refusal
        for group in self._groups.values():
            if group.event_key == submission.event_key:
                return replace(self._tickets[group.group_id], repeated=True)
        options = submission.options or Options()
        if submission.text:
            options = merge(options, parse(submission.text))
        image = check_image(submission.init_image, limits=self.limits) if submission.init_image else None
        requests = resolve(
            options,
            defaults=self.defaults(options.model),
            limits=self.limits,
            models=self._models,
            seed=lambda: 1000 + len(self._groups),
            params=PARAMS,
            init_image=image,
            literal=submission.literal,
        )
        group_id = f"G{len(self._groups) + 1:07}"
        ticket = Ticket(
            group_id, requests, options, tuple(differences(requests[0], self.defaults())), repeated=False
        )
        self._tickets[group_id] = ticket
        names = ("input.png" if image else None, None)
        jobs = tuple(
            StoredJob(f"{group_id}-{i}", group_id, i, request_to_json(request, image_names=names), 1.0)
            for i, request in enumerate(requests)
        )
        self._groups[group_id] = StoredGroup(
            group_id,
            submission.event_key,
            submission.requester,
            submission.address,
            options_to_json(options),
            1_700_000_000.0 + len(self._groups),
            sequence=len(self._groups) + 1,
            jobs=jobs,
        )
        total = sum(request.count for request in requests)
        self._statuses[group_id] = JobStatus(group_id, requests[0].prompt, State.ACCEPTED, total=total)
        if acknowledge is not None:
            await acknowledge(ticket)
        return ticket

    async def cancel(self, group_id: str, by: Requester) -> JobStatus:
        """Cancel a group."""
        group = await self.show(group_id, by)
        if group.requester.member != by.member:
            raise Forbidden("Only its author can cancel a job.")
        status = replace(self._statuses[group_id], state=State.CANCELLED)
        await self.finish(group_id, state=State.CANCELLED, pictures=())
        return status

    def status(self, group_id: str) -> JobStatus | None:
        """How an unfinished group stands."""
        return self._statuses.get(group_id)

    def queue(self, requester: Requester) -> tuple[JobStatus, ...]:
        """The member's unfinished groups."""
        return tuple(
            self._statuses[group_id]
            for group_id, group in self._groups.items()
            if group_id in self._statuses and _own(group, requester)
        )

    async def show(self, group_id: str, by: Requester) -> StoredGroup:
        """A group of one's own."""
        group = self._groups.get(group_id)
        if group is None or not _own(group, by):
            raise NotFound(f"There is no job {group_id[:16]} of yours here.")
        return group

    async def result(self, group_id: str) -> ImageResult:
        """What came of an ended group."""
        return self._results[group_id]

    async def history(
        self, requester: Requester, *, limit: int = 50, before: int | None = None
    ) -> Sequence[StoredGroup]:
        """The member's groups, newest first."""
        own = [group for group in self._groups.values() if _own(group, requester)]
        older = [group for group in reversed(own) if before is None or group.sequence < before]
        return older[:limit]

    async def redo(
        self, group_id: str, submission: Submission, *, acknowledge: Acknowledge | None = None
    ) -> Ticket:
        """The same again with another seed."""
        before = replace(options_from_json(self._groups[group_id].options), seed=None)
        options = merge(before, submission.options or Options())
        return await self.submit(replace(submission, options=options), acknowledge=acknowledge)

    async def remake(
        self, group_id: str, submission: Submission, *, acknowledge: Acknowledge | None = None
    ) -> Ticket:
        """With other options."""
        return await self.submit(submission, acknowledge=acknowledge)

    async def vary(
        self, group_id: str, index: int, submission: Submission, *, acknowledge: Acknowledge | None = None
    ) -> Ticket:
        """From one picture of a result."""
        options = replace(await self.options_of(group_id, submission.requester, index=index), seed=None)
        return await self._from_picture(group_id, index, options, submission, acknowledge)

    async def upscale(
        self, group_id: str, index: int, submission: Submission, *, acknowledge: Acknowledge | None = None
    ) -> Ticket:
        """One picture of a result at twice its size."""
        options = await self.options_of(group_id, submission.requester, index=index)
        options = replace(options, width=None, height=None, upscale=True)
        return await self._from_picture(group_id, index, options, submission, acknowledge)

    async def _from_picture(
        self,
        group_id: str,
        index: int,
        options: Options,
        submission: Submission,
        acknowledge: Acknowledge | None,
    ) -> Ticket:
        data = self._results[group_id].pictures[index].path.read_bytes()
        options = replace(options, source=f"{group_id} #{index + 1}", strength=None)
        made = replace(submission, options=options, init_image=data)
        return await self.submit(made, acknowledge=acknowledge)

    async def options_of(self, group_id: str, by: Requester, *, index: int | None = None) -> Options:
        """What was asked; with `index`, that picture's seed."""
        options = options_from_json(self._groups[group_id].options)
        if index is None:
            return options
        pictures = self._results[group_id].pictures
        if not 0 <= index < len(pictures):
            raise NotFound(f"The job {group_id[:16]} has no picture {index + 1}.")
        return replace(options, seed=pictures[index].seed, count=1)

    async def read_recipe(self, data: bytes) -> Found:
        """The recipe in a file."""
        found = read_recipe(data)
        if found is None:
            raise NotFound("There is no recipe in this picture.")
        return found

    def link(self, picture: Picture) -> str | None:
        """A made-up address where the settings name a public one."""
        base = self.settings.public_url
        return f"{base}/pictures/{picture.name}?expires=1&signature=fake" if base else None

    async def delete(self, group_id: str, by: Requester, *, moderator: bool = False) -> None:
        """Forget a group of one's own."""
        if not moderator:
            await self.show(group_id, by)
        for known in (self._groups, self._statuses, self._results):
            cast("dict[str, object]", known).pop(group_id, None)

    async def picture(self, name: str, by: Requester) -> Picture:
        """A picture of one's own."""
        for group_id, result in self._results.items():
            for picture in result.pictures:
                if picture.name == name and not picture.withheld and _own(self._groups[group_id], by):
                    return picture
        raise NotFound("There is no such picture of yours here.")


def _own(group: StoredGroup, by: Requester) -> bool:
    return (group.requester.tenant, group.requester.member) == (by.tenant, by.member)


def _picture(
    path: Path, index: int, width: int, height: int, seed: int, recipe: Mapping[str, JSON]
) -> Picture:
    alt = str(recipe["prompt"])
    return Picture(path.name, index, path, "image/png", width, height, seed, alt, recipe)
