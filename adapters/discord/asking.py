"""What can be asked of the core from a command, a button or a form: each as something flow.ask() can run.

Whatever may be slow or refused happens inside, so that one place answers in time and in private.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from adapters.discord.drafts import Draft
from adapters.discord.flow import Act, requester_of
from adapters.discord.modals import options_in, together
from adapters.discord.uploads import Attached
from bot.core.grammar import format_options, parse
from bot.core.intake import Acknowledge, Submission, Ticket
from bot.core.options import Options, merge, options_from_json
from bot.core.ports import StoredGroup

if TYPE_CHECKING:
    from adapters.discord.adapter import Discord
    from adapters.discord.declare import Interaction


def noted(adapter: Discord, act: Act) -> Act:
    """`act`, remembered for /show where it is accepted."""

    async def take(submission: Submission, *, acknowledge: Acknowledge | None = None) -> Ticket:
        ticket = await act(submission, acknowledge=acknowledge)
        adapter.recent.note(submission.requester, ticket.group_id, ticket.requests[0].prompt)
        return ticket

    return take


def from_command(adapter: Discord, draft: Draft) -> Act:
    """A new request: the text typed, native options, and a size that is still to be read."""

    async def take(submission: Submission, *, acknowledge: Acknowledge | None = None) -> Ticket:
        submission = replace(submission, options=_sized(draft))
        submission = await with_picture(adapter, submission, draft)
        return await adapter.studio.submit(submission, acknowledge=acknowledge)

    return noted(adapter, take)


def _sized(draft: Draft) -> Options:
    """Native options with the size read. Raises InvalidRequest."""
    if not draft.size:
        return draft.options
    said = parse(f"--size {''.join(draft.size.split())}")
    return replace(draft.options, width=said.width, height=said.height)


def from_form(adapter: Discord, draft: Draft) -> Act:
    """What a form came back with: a new request, or a remix of the group that it names."""

    async def take(submission: Submission, *, acknowledge: Acknowledge | None = None) -> Ticket:
        studio = adapter.studio
        rules = await studio.rules(submission.requester.tenant, submission.channel)
        limits = studio.limits_of(rules)
        options, problems = options_in(draft, limits, studio.models(), studio.settings.styles)
        if problems:
            raise together(problems)
        submission = replace(submission, text="", options=options)
        if draft.group and not draft.picture:
            return await studio.remake(draft.group, submission, acknowledge=acknowledge)
        submission = await with_picture(adapter, submission, draft)
        return await studio.submit(submission, acknowledge=acknowledge)

    return noted(adapter, take)


def again(adapter: Discord, group: str) -> Act:
    """The same with another seed."""
    return noted(adapter, partial(adapter.studio.redo, group))


def vary(adapter: Discord, group: str, index: int) -> Act:
    """Variations of one picture."""
    return noted(adapter, partial(adapter.studio.vary, group, index))


def upscale(adapter: Discord, group: str, index: int) -> Act:
    """One picture at twice its size."""
    return noted(adapter, partial(adapter.studio.upscale, group, index))


def retry(adapter: Discord, group: str) -> Act:
    """A failed request with the changes that would make it work."""

    async def take(submission: Submission, *, acknowledge: Acknowledge | None = None) -> Ticket:
        await adapter.studio.seen(group, submission.requester)
        result = await adapter.studio.result(group)
        submission = replace(submission, options=options_from_json(result.remedy))
        return await adapter.studio.redo(group, submission, acknowledge=acknowledge)

    return noted(adapter, take)


async def with_picture(adapter: Discord, submission: Submission, draft: Draft) -> Submission:
    """The submission with the picture that came along, fetched. Raises InvalidRequest or Unavailable."""
    if not draft.picture:
        return submission
    most = adapter.studio.limits.max_image_bytes
    data = await adapter.downloads.fetch(Attached(draft.picture, draft.file_name), most=most)
    return replace(submission, init_image=data, file_names=(draft.file_name,))


# --- what a remix begins with -----------------------------------------------------------------------------

_FILLED: Final = ("negative_prompt", "steps", "guidance_scale", "seed", "scheduler", "strength")


async def remix_of(adapter: Discord, interaction: Interaction, group: str, index: int | None) -> Draft:
    """A form's contents for a remix: every field as it was made. Raises NotFound."""
    studio, by = adapter.studio, requester_of(interaction)
    options = await studio.options_of(group, by, index=index)
    if index is None:
        options = _completed(options, await studio.seen(group, by), studio.params(options.model))
    return draft_of_options(options, group=group, index=index)


def draft_of_options(options: Options, *, group: str = "", index: int | None = None) -> Draft:
    """A form with these options in its fields, the prompt written so that it is read back."""
    text = format_options(Options(prompt=options.prompt))
    return Draft(text=text, options=replace(options, prompt=""), group=group, index=index)


def _completed(options: Options, stored: StoredGroup, params: frozenset[str]) -> Options:
    """The options with everything that was not said as it was made, as far as it counts for the model."""
    made = stored.jobs[0].request
    said = {name: made.get(name) for name in _missing(options, params)}
    if options.aspect is None and options.width is None and options.height is None:
        said |= {"width": made["width"], "height": made["height"]}
    said |= {"count": made.get("count", 1), "model": made.get("model")}
    return merge(options_from_json(said), options)


def _missing(options: Options, params: frozenset[str]) -> Sequence[str]:
    return [name for name in _FILLED if name in params and getattr(options, name) is None]
