"""The studio: what adapters call. Submit, cancel, look, do again.

Accepted means committed: submit() returns once the group is durable, and whatever it returned is never
lost. Knows no platform; addresses and event keys are the adapter's own business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from bot.core.desk import Desk, LiveGroup, status_of
from bot.core.dispatcher import Dispatcher
from bot.core.errors import Forbidden, NotFound, Unavailable
from bot.core.estimator import Estimator
from bot.core.gallery import Gallery
from bot.core.guilds import Rules
from bot.core.house_rules import HouseRules
from bot.core.intake import Acknowledge, Intake, Submission, Ticket
from bot.core.keyring import Keyring
from bot.core.links import Links, link_base
from bot.core.moderation import Moderation
from bot.core.offer import Offer
from bot.core.options import Options
from bot.core.pictures import Found, read_recipe
from bot.core.ports import ApiKey, Clock, JobStatus, Model, Store, StoredGroup
from bot.core.reading import Reading
from bot.core.remakes import Remakes, own
from bot.core.request import USUAL_NOUNS, Defaults, ImageResult, Limits, Nouns, Picture, Requester, State
from bot.core.results import result_of
from bot.core.settings import Settings
from bot.core.shelf import Shelf
from bot.core.usage import HOUR, Why, why
from bot.core.watching import News, watching

__all__ = ["Shelf", "Studio", "Submission", "Ticket"]


class Studio:
    """The core's face. house: the rules of guilds; open_line: called with each accepted group, to prepare its
    conversation; line_up: with one that needs none, to put it into the queue."""

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
        house: HouseRules,
        *,
        open_line: Callable[[StoredGroup, LiveGroup], None],
        line_up: Callable[[LiveGroup], None],
    ) -> None:
        self.settings = settings
        self._store = store
        self._desk = desk
        self._dispatcher = dispatcher
        self._gallery = gallery
        self._clock = clock
        self._house = house
        self._offer = Offer(settings, dispatcher.lanes)
        self._reading = Reading(self._offer, gallery, moderation, house)
        self._intake = Intake(
            settings.limits,
            store,
            desk,
            dispatcher.routing,
            gallery,
            estimator,
            clock,
            open_line=open_line,
            line_up=line_up,
        )
        self._keyring = Keyring(store, clock)
        self._links = Links(
            settings.secret("FAIRBRUSH_SECRET_KEY"),
            link_base(settings),
            clock.now,
            public=settings.public_url,
        )
        self._remakes = Remakes(
            store,
            desk,
            dispatcher,
            gallery,
            submit=lambda submission, acknowledge: self.submit(submission, acknowledge=acknowledge),
            params=self.params,
            limits=self._limits_for,
        )
        self.accepting, self._closed = True, False
        self.deletions = 0  # begun so far: what was remembered of results before the last one may be gone

    @property
    def unsettled(self) -> int:
        """Refused requests whose late commits are still being undone."""
        return self._intake.unsettled

    async def aclose(self) -> None:
        """Take in nothing more."""
        self.accepting, self._closed = False, True
        await self._intake.aclose()
        await self._remakes.aclose()
        await self._keyring.aclose()
        for group in self._desk.groups.values():
            group.end_watches()

    # --- what is offered ---

    @property
    def limits(self) -> Limits:
        """The ranges of a request."""
        return self.settings.limits

    def limits_of(self, rules: Rules, nouns: Nouns = USUAL_NOUNS) -> Limits:
        """The ranges where these rules hold: a guild may tighten them; nouns: what refusals call it."""
        return self._offer.limits_of(rules, nouns)

    async def _limits_for(self, submission: Submission) -> Limits:
        by = submission.requester
        return self.limits_of(await self.rules(by.tenant, submission.channel), by.nouns)

    def models(self) -> tuple[Model, ...]:
        """The models offered now, the default first."""
        return self._offer.models()

    def defaults(self, model: str | None = None, *, rules: Rules | None = None) -> Defaults:
        """What a request gets where it does not say. An unknown model gets the default one's."""
        return self._offer.defaults(model, rules or Rules())

    def params(self, model: str | None) -> frozenset[str]:
        """Names of the optional fields that some backend honours for this model (None: the default one)."""
        return self._offer.params(model)

    def kinds(self, model: str) -> tuple[str, ...]:
        """The kinds of backend that offer a model ("local", "fal"), without where they are."""
        return self._offer.kinds(model)

    def checks_content(self, model: str | None) -> bool:
        """Whether every backend of a model (None: the default one) looks at its pictures itself."""
        return self._offer.checks_content(model)

    def shelf(self, adapter: str) -> Shelf:
        """Durable state of an adapter."""
        return Shelf(self._store, adapter)

    # --- submit ---

    async def submit(self, submission: Submission, *, acknowledge: Acknowledge | None = None) -> Ticket:
        """Check, commit and line up a request.

        acknowledge: called once it is committed and before its conversation is prepared, for platforms whose
        acknowledgement is the message itself; a failure of it is logged and changes nothing.
        Raises a Refusal or QuotaExceeded (nothing is queued), or Unavailable (not accepted; try again).
        """
        if not self.accepting:
            raise Unavailable("Fairbrush is restarting. Send it again in a minute.", retry_after=30.0)
        async with self._intake.coming():
            return await self._submit(submission, acknowledge)

    async def _submit(self, submission: Submission, acknowledge: Acknowledge | None) -> Ticket:
        read = await self._reading.read(submission)
        await self._house.weigh(submission.requester)
        told = read.differences
        if not submission.prepared:  # whoever gets no receipt is not told what it costs
            told = (*told, *self._dispatcher.routing.about(read.requests))
        return await self._intake.take(
            submission, read.options, read.requests, told, acknowledge, read.limits
        )

    # --- a guild's own rules ---

    async def rules(self, tenant: str, channel: str = "") -> Rules:
        """The guild's rules with the channel's over them."""
        return await self._house.rules(tenant, channel)

    async def own_rules(self, tenant: str, channel: str = "") -> Rules:
        """What is said at exactly this level, for a settings form."""
        return await self._house.own_rules(tenant, channel)

    async def set_rules(self, by: Requester, rules: Rules, *, channel: str = "", admin: bool) -> Rules:
        """Replace the rules of `by`'s guild, or of a channel; they hold from the next request on.

        admin: the platform says that `by` may manage the guild. Returns them with names as they are offered.
        Raises Forbidden unless `by` may or is an operator, and InvalidRequest.
        """
        return await self._house.set_rules(by, rules, channel=channel, admin=admin, models=self.models())

    async def rule_problems(self, by: Requester, rules: Rules, *, channel: str = "") -> dict[str, str]:
        """All that set_rules() would refuse about the rules themselves, by field; empty where nothing."""
        return await self._house.problems(by, rules, channel=channel, models=self.models())

    def is_operator(self, by: Requester) -> bool:
        """Whether they run this program: FAIRBRUSH_OPERATORS."""
        return self._house.is_operator(by)

    def weight(self, tenant: str) -> float:
        """A tenant's share among tenants; 1 where none is set."""
        return self._house.weights.of(tenant)

    async def set_weight(self, by: Requester, tenant: str, weight: float) -> None:
        """Set it, 0.1 to 100, for good. Raises Forbidden unless `by` is an operator, and InvalidRequest."""
        await self._house.set_weight(by, tenant, weight)

    async def why(self, by: Requester) -> Why:
        """Why somebody waits: who shares the machines, and what was used of them in the last hour."""
        used = await self._store.usage(self._clock.now() - HOUR)
        return why(by, self._desk.groups.values(), self._dispatcher.lanes, used)

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

    async def seen(self, group_id: str, by: Requester) -> StoredGroup:
        """A group that the requester may see: any of their guild. Raises NotFound."""
        return await self._remakes.seen(group_id, by)

    async def result(self, group_id: str) -> ImageResult:
        """What came of an ended group. Raises NotFound."""
        group = await self._store.group(group_id)
        if group is None:
            raise NotFound(f"There is no job {group_id[:16]}.")
        try:
            limits = self.limits_of(await self.rules(group.requester.tenant))
        except Unavailable:  # of a guild whose rules are damaged, the result is shown all the same
            limits = self.limits
        return result_of(group, self._gallery, self._dispatcher.lanes, limits)

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
        """The API key with this text, None where it is unknown or revoked; asked at every request, for it is
        remembered for half a second."""
        return await self._keyring.find(text)

    async def listed(
        self, by: Requester, prefix: str, *, limit: int, offset: int = 0
    ) -> tuple[Sequence[StoredGroup], int]:
        """The requester's own groups whose event_key, as submitted, begins with `prefix`, newest first, and
        how many there are in all. Raises NotFound where another's are among them."""
        found, total = await self._store.with_events(f"{by.platform}:{prefix}", limit=limit, offset=offset)
        if not all(own(group.requester, by) for group in found):
            raise NotFound("There is no such list of yours here.")
        return found, total

    def place(self, group_id: str) -> int | None:
        """How many jobs go before a group's first waiting one, as the queue stands now: 0 where it is next or
        runs; None where the group is not in hand, or has ended."""
        group = self._desk.groups.get(group_id)
        if group is None:
            return None
        if any(job.state is State.RUNNING for job in group.jobs):
            return 0
        return min((self._dispatcher.ahead(job) for job in group.jobs if not job.state.ended), default=None)

    def watch(self, group_id: str) -> AbstractAsyncContextManager[AsyncIterator[tuple[int, News]]]:
        """Every Preview, Progress and ImageReady of a group's jobs as (job's index, event), to its end.

            async with studio.watch(ticket.group_id) as news:
                async for index, event in news: ...
            result = await studio.result(ticket.group_id)

        It begins with how the running jobs stand; entered in submit()'s `acknowledge`, or before anything
        else is awaited after it, nothing is missed. A reader that is slow loses the oldest progress, previews
        only beyond 256 or 16 MB; there are none where the backend may still withhold the picture. A job that
        failed and is tried again tells anew. The pictures to show are those of result(), with their recipes.
        A group that is not in hand has ended. It also ends when the program stops.
        """
        return watching(None if self._closed else self._desk.groups.get(group_id))

    async def ended(self, group_id: str) -> ImageResult:
        """What came of a group, once it has ended; for whoever waits, where Conversation.deliver() is for
        those who are told. Raises NotFound where there is none, Unavailable where the program stops first."""
        async with self.watch(group_id) as news:
            async for _ in news:
                pass
        group = self._desk.groups.get(group_id)
        if group is not None and not group.ended:
            raise Unavailable("Fairbrush is restarting. The request is kept.", retry_after=30.0)
        return await self.result(group_id)

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

    def link(self, picture: Picture, *, base: str | None = None, seconds: int | None = None) -> str | None:
        """A picture's address for a week, or `seconds`, for anybody who is given it; None where others cannot
        reach us. base: where they reached us ("http://127.0.0.1:8765"), used unless there is a public URL."""
        return None if picture.withheld else self._links.link(picture.name, base=base, seconds=seconds)

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
        self.deletions += 1
        await self._remakes.delete(group_id, by, moderator=moderator)
