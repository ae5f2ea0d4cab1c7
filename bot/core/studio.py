"""The studio: what adapters call. Submit, cancel, look, do again.

Accepted means committed: submit() returns once the group is durable, and whatever it returned is never
lost. Knows no platform; addresses and event keys are the adapter's own business.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence

from bot.core.desk import Desk, LiveGroup, status_of
from bot.core.dispatcher import Dispatcher
from bot.core.errors import Forbidden, NotFound, Unavailable
from bot.core.estimator import Estimator
from bot.core.gallery import Gallery
from bot.core.grammar import parse
from bot.core.intake import Acknowledge, Intake, Submission, Ticket
from bot.core.links import Links, link_base
from bot.core.moderation import Moderation
from bot.core.options import Options, merge
from bot.core.outcomes import result_of
from bot.core.pictures import Found, read_recipe
from bot.core.ports import (
    ApiKey,
    Clock,
    JobStatus,
    Model,
    Store,
    StoredGroup,
)
from bot.core.remakes import Remakes, own
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
        self._links = Links(settings.secret("FAIRBRUSH_SECRET_KEY"), link_base(settings), clock.now)
        self._remakes = Remakes(
            store,
            desk,
            dispatcher,
            gallery,
            submit=lambda submission, acknowledge: self.submit(submission, acknowledge=acknowledge),
            params=self.params,
            limits=self._limits_for,
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
        await self._remakes.aclose()

    # --- what is offered ---

    @property
    def limits(self) -> Limits:
        """The ranges of a request."""
        return self.settings.limits

    async def _limits_for(self, submission: Submission) -> Limits:
        return self.limits

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

    async def submit(self, submission: Submission, *, acknowledge: Acknowledge | None = None) -> Ticket:
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
        if group is None or not own(group.requester, by):
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
        if found is None or not own(found[0].requester, by) or found[1].withheld:
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

    def link(self, picture: Picture) -> str | None:
        """A picture's address for a week, for anybody who is given it; None where others cannot reach us."""
        return None if picture.withheld else self._links.link(picture.name)

    async def linked(self, name: str, expires: str, signature: str) -> Picture:
        """The picture that a link shows. Raises Forbidden where it is forged or over, NotFound where it is
        gone or withheld."""
        if not self._links.holds(name, expires, signature):
            raise Forbidden("This link is over, or not one of ours. Ask for a new one.")
        found = await self._store.picture(name)
        if found is None or found[1].withheld:
            raise NotFound("This picture was deleted.")
        return self._gallery.picture(found[1])

    async def read_recipe(self, data: bytes) -> Found:
        """The recipe in a picture file. Raises NotFound where there is none, InvalidRequest where it is no
        picture."""
        found = await asyncio.to_thread(read_recipe, data)
        if found is None:
            raise NotFound(
                "There is no recipe in this picture. Send the file as it was made: screenshots and previews "
                "lose it."
            )
        return found

    # --- make again: the submission's requester is whoever pressed, its text is empty ---

    async def redo(
        self, group_id: str, submission: Submission, *, acknowledge: Acknowledge | None = None
    ) -> Ticket:
        """Again: the same with another seed. submission.options: changes to it, or None.

        This and the next three are for any member of the guild, and raise NotFound or as submit() does.
        """
        return await self._remakes.redo(group_id, submission, acknowledge)

    async def vary(
        self, group_id: str, index: int, submission: Submission, *, acknowledge: Acknowledge | None = None
    ) -> Ticket:
        """Variations of a result's picture `index` (0-based, as shown): image to image with a new seed."""
        return await self._remakes.vary(group_id, index, submission, acknowledge)

    async def upscale(
        self, group_id: str, index: int, submission: Submission, *, acknowledge: Acknowledge | None = None
    ) -> Ticket:
        """A second pass over a result's picture `index` (0-based, as shown), at twice its size."""
        return await self._remakes.upscale(group_id, index, submission, acknowledge)

    async def remake(
        self, group_id: str, submission: Submission, *, acknowledge: Acknowledge | None = None
    ) -> Ticket:
        """Remix: submission.options instead of all that was asked; the input picture is kept."""
        return await self._remakes.remake(group_id, submission, acknowledge)

    async def options_of(self, group_id: str, by: Requester, *, index: int | None = None) -> Options:
        """What was asked, for Remix; with `index`, what makes that picture alone. Raises NotFound."""
        return await self._remakes.options_of(group_id, by, index)

    async def delete(self, group_id: str, by: Requester, *, moderator: bool = False) -> None:
        """Forget a group with its pictures; an unfinished one is cancelled first.

        moderator: `by` may delete what others of the guild made. Goes on where the caller goes away.
        Raises NotFound, or Forbidden where it is somebody else's.
        """
        await self._remakes.delete(group_id, by, moderator=moderator)
