"""The studio: what adapters call. Submit, cancel, look, do again.

Accepted means committed: submit() returns once the group is durable, and whatever it returned is never
lost. Knows no platform; addresses and event keys are the adapter's own business.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence

from bot.core.desk import Desk, LiveGroup, status_of
from bot.core.dispatcher import Dispatcher
from bot.core.errors import Forbidden, NotFound, Unavailable
from bot.core.estimator import Estimator
from bot.core.gallery import Gallery
from bot.core.grammar import parse
from bot.core.intake import Intake, Submission, Ticket, input_names
from bot.core.moderation import Moderation
from bot.core.options import Options, merge, options_from_json
from bot.core.outcomes import result_of
from bot.core.patience import Tasks
from bot.core.ports import (
    Address,
    ApiKey,
    Clock,
    JobStatus,
    Model,
    Store,
    StoredGroup,
    StoredJob,
)
from bot.core.request import (
    JSON,
    MAX_SEED,
    Defaults,
    ImageRequest,
    ImageResult,
    Limits,
    Picture,
    Requester,
)
from bot.core.resolve import differences, resolve
from bot.core.settings import Settings

__all__ = ["Shelf", "Studio", "Submission", "Ticket"]


class Shelf:
    """Durable key and value pairs of one adapter."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name

    async def get(self, key: str) -> JSON:
        """The value, None where there is none."""
        return await self._store.shelf_get(self._name, key)

    async def put(self, key: str, value: JSON) -> None:
        """Set the value; None deletes it."""
        await self._store.shelf_put(self._name, key, value)

    async def put_once(self, key: str, value: JSON) -> bool:
        """Set the value where there is none; False where there was one."""
        return await self._store.shelf_put_once(self._name, key, value)


class Studio:
    """The core's face. open_line: called with each accepted group, to prepare its conversation."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        desk: Desk,
        dispatcher: Dispatcher,
        gallery: Gallery,
        estimator: Estimator,
        moderation: Moderation,
        clock: Clock,
        *,
        open_line: Callable[[StoredGroup, LiveGroup], None],
    ) -> None:
        self.settings = settings
        self._store = store
        self._desk = desk
        self._dispatcher = dispatcher
        self._gallery = gallery
        self._moderation = moderation
        self._tasks = Tasks()
        self._intake = Intake(
            settings.limits,
            store,
            desk,
            dispatcher.lanes,
            gallery,
            estimator,
            clock,
            open_line=open_line,
        )
        self.accepting = True

    @property
    def unsettled(self) -> int:
        """Refused requests whose late commits are still being undone."""
        return self._intake.unsettled

    async def aclose(self) -> None:
        """Take in nothing more."""
        self.accepting = False
        await self._intake.aclose()
        await self._tasks.aclose()

    # --- what is offered ---

    @property
    def limits(self) -> Limits:
        """The ranges of a request."""
        return self.settings.limits

    def models(self) -> tuple[Model, ...]:
        """The models offered now, the default first."""
        found: dict[str, Model] = {}
        for lane in self._dispatcher.lanes:
            for model in lane.capabilities.models:
                found.setdefault(model.id, model)
        return tuple(found.values())

    def defaults(self, model: str | None = None) -> Defaults:
        """What a request gets where it does not say. An unknown model gets the default one's."""
        models = self.models()
        if not models:
            raise Unavailable("No backend is ready to make pictures.", retry_after=10.0)
        best = next((one for one in models if one.id == model), models[0])
        return Defaults(
            best.width,
            best.height,
            best.steps,
            best.guidance_scale,
            scheduler=best.scheduler,
            model=best.id,
            styles=self.settings.styles,
        )

    def params(self, model: str | None) -> frozenset[str]:
        """Names of the optional fields that some backend honours for this model (None: the default one)."""
        lanes = [lane for lane in self._dispatcher.lanes if lane.model(model) is not None]
        return frozenset().union(*(lane.capabilities.params for lane in lanes))

    def shelf(self, adapter: str) -> Shelf:
        """Durable state of an adapter."""
        return Shelf(self._store, adapter)

    # --- submit ---

    async def submit(
        self, submission: Submission, *, acknowledge: Callable[[Ticket], Awaitable[None]] | None = None
    ) -> Ticket:
        """Check, commit and line up a request.

        acknowledge: called once it is committed and before its conversation is prepared, for platforms whose
        acknowledgement is the message itself; a failure of it is logged and changes nothing.
        Raises a Refusal (nothing is queued) or Unavailable (not accepted; try again).
        """
        if not self.accepting:
            raise Unavailable("Fairbrush is restarting. Send it again in a minute.", retry_after=30.0)
        options = self._options(submission)
        requests = await self._resolve(submission, options)
        await asyncio.to_thread(self._check_words, submission, requests)
        told = differences(requests[0], self.defaults(requests[0].model))
        return await self._intake.take(submission, options, requests, told, acknowledge)

    def _options(self, submission: Submission) -> Options:
        base = submission.options or Options()
        if submission.literal or not submission.text:
            return merge(base, Options(prompt=submission.text)) if submission.text else base
        return merge(base, parse(submission.text, limits=self.limits))

    async def _resolve(self, submission: Submission, options: Options) -> tuple[ImageRequest, ...]:
        models = self.models()
        return resolve(
            options,
            defaults=self.defaults(options.model),
            limits=self.limits,
            models=models,
            seed=lambda: secrets.randbelow(MAX_SEED + 1),
            params=self.params(options.model if any(m.id == options.model for m in models) else None),
            init_image=await self._gallery.take_in(submission.init_image),
            mask_image=await self._gallery.take_in(submission.mask_image),
            literal=submission.literal,
        )

    def _check_words(self, submission: Submission, requests: Sequence[ImageRequest]) -> None:
        for request in requests:
            self._moderation.check_request(request, names=submission.file_names)

    # --- look ---

    def status(self, group_id: str) -> JobStatus | None:
        """How an unfinished group stands; None where it is not in hand."""
        group = self._desk.groups.get(group_id)
        return status_of(group) if group else None

    def queue(self, requester: Requester) -> tuple[JobStatus, ...]:
        """The member's unfinished groups, oldest first."""
        return tuple(status_of(group) for group in self._desk.of(requester))

    async def show(self, group_id: str, by: Requester) -> StoredGroup:
        """A group of the requester's own guild and user. Raises NotFound."""
        group = await self._store.group(group_id)
        if group is None or not _own(group.requester, by):
            raise NotFound(f"There is no job {group_id[:16]} of yours here.")
        return group

    async def result(self, group_id: str) -> ImageResult:
        """What came of an ended group. Raises NotFound."""
        group = await self._store.group(group_id)
        if group is None:
            raise NotFound(f"There is no job {group_id[:16]}.")
        return result_of(group, self._gallery)

    async def history(
        self, requester: Requester, *, limit: int = 50, before: int | None = None
    ) -> Sequence[StoredGroup]:
        """The member's groups in the guild, newest first; before: only sequences below it."""
        return await self._store.history(requester, limit=limit, before=before)

    async def picture(self, name: str, by: Requester) -> Picture:
        """A picture of the requester's own. Raises NotFound, also for one that is withheld."""
        found = await self._store.picture(name)
        if found is None or not _own(found[0].requester, by) or found[1].withheld:
            raise NotFound("There is no such picture of yours here.")
        return self._gallery.picture(found[1])

    async def key(self, text: str) -> ApiKey | None:
        """The API key with this text, None where it is unknown or revoked."""
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        return await self._store.key(digest)

    # --- act ---

    async def cancel(self, group_id: str, by: Requester) -> JobStatus:
        """Cancel what is unfinished of a group; a running job is charged what it used.

        Raises NotFound, or Forbidden where it is somebody else's.
        """
        group = self._desk.groups.get(group_id)
        if group is None or group.requester.tenant != by.tenant:
            raise NotFound("That job is not in the queue any more.")
        if group.requester.member != by.member:
            raise Forbidden("Only its author can cancel a job.")
        await self.cancel_group(group, "Cancelled.")
        return status_of(group)

    async def cancel_group(self, group: LiveGroup, message: str) -> None:
        """Cancel every unfinished job of a group, all at once."""
        await asyncio.gather(*(self._dispatcher.cancel(job, message=message) for job in group.jobs))

    async def redo(
        self,
        group_id: str,
        by: Requester,
        *,
        event_key: str,
        address: Address,
        changes: Options | None = None,
    ) -> Ticket:
        """The same again for `by`, with another seed unless `changes` names one."""
        stored = await self._store.group(group_id)
        if stored is None or not _shared(stored.requester, by):
            raise NotFound(f"There is no job {group_id[:16]} here.")
        before = dataclasses.replace(options_from_json(stored.options), seed=None)
        options = merge(before, changes) if changes else before
        init_image, mask_image = await self._read_inputs(stored.jobs[0])
        return await self.submit(
            Submission(by, event_key, address, options=options, init_image=init_image, mask_image=mask_image)
        )

    async def _read_inputs(self, job: StoredJob) -> tuple[bytes | None, bytes | None]:
        def read() -> list[bytes | None]:
            names = [job.request.get(key) for key in ("init_image", "mask_image")]
            return [
                (self._gallery.folder / name).read_bytes() if isinstance(name, str) else None
                for name in names
            ]

        try:
            init_image, mask_image = await asyncio.to_thread(read)
        except OSError:
            raise NotFound("The picture that it started from is gone.") from None
        return init_image, mask_image

    async def delete(self, group_id: str, by: Requester) -> None:
        """Forget a group of one's own with its pictures; an unfinished one is cancelled first.

        Goes on where the caller goes away. Raises NotFound.
        """
        stored = await self.show(group_id, by)
        await asyncio.shield(self._tasks.start(self._delete(stored)))

    async def _delete(self, stored: StoredGroup) -> None:
        live = self._desk.groups.get(stored.group_id)
        if live is not None:
            await self.cancel_group(live, "Deleted.")
            await self._dispatcher.settled(live)
        names = await self._store.forget(stored.group_id)
        if await self._store.group(stored.group_id) is None:
            await self._gallery.remove([*names, *input_names(stored)])


_PRIVATE = frozenset({"dm", "web"})  # guilds that strangers share


def _shared(owner: Requester, by: Requester) -> bool:
    """Whether `by` sees what `owner` does: the members of one guild do."""
    return owner.tenant == by.tenant and (owner.guild not in _PRIVATE or owner.member == by.member)


def _own(owner: Requester, by: Requester) -> bool:
    return (owner.tenant, owner.member) == (by.tenant, by.member)
