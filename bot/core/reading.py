"""From what somebody sent to requests that are ready to be committed: who may, what was said, what it means.

Everything that is refused before the line is looked at is refused here. Knows no queue and no store.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bot.core.gallery import Gallery
from bot.core.grammar import parse
from bot.core.guilds import Rules, admit, shows_flagged
from bot.core.house_rules import HouseRules
from bot.core.intake import Submission
from bot.core.moderation import Moderation
from bot.core.offer import Offer
from bot.core.options import Options, merge
from bot.core.ports import Model
from bot.core.request import MAX_SEED, Defaults, ImageRequest, Limits
from bot.core.resolve import differences, resolve

SHORT: Final = (
    400  # characters of plain text that are read at once: in a millisecond, less than a thread costs
)


@dataclass(frozen=True, slots=True)
class Read:
    """A submission, read: what was said, the requests that it means, their differences from what is usual
    here (none for whoever gets no receipt), and the limits that hold."""

    options: Options
    requests: tuple[ImageRequest, ...]
    differences: tuple[str, ...]
    limits: Limits


class Reading:
    """See the module."""

    def __init__(self, offer: Offer, gallery: Gallery, moderation: Moderation, house: HouseRules) -> None:
        self._offer = offer
        self._gallery = gallery
        self._moderation = moderation
        self._house = house

    async def read(self, submission: Submission) -> Read:
        """Raises a Refusal, or Unavailable."""
        by = submission.requester
        rules = await self._house.in_force(by, submission.channel)
        admit(by, submission.channel, rules)
        limits = self._offer.limits_of(rules, by.nouns)
        options = _options(submission, limits)
        models = self._offer.models()
        defaults = self._offer.defaults(options.model, rules, models=models)
        requests = await self._resolve(submission, options, defaults, limits, models)
        if shows_flagged(rules, age_restricted=submission.age_restricted):
            requests = tuple(replace(request, show_flagged=True) for request in requests)
        await self._check_words(submission, requests)
        told = (
            () if submission.prepared else differences(requests[0], self._usual(requests[0], rules, models))
        )
        return Read(options, requests, told, limits)

    async def _resolve(
        self,
        submission: Submission,
        options: Options,
        defaults: Defaults,
        limits: Limits,
        models: Sequence[Model],
    ) -> tuple[ImageRequest, ...]:
        return resolve(
            options,
            defaults=defaults,
            limits=limits,
            models=models,
            seed=lambda: secrets.randbelow(MAX_SEED + 1),
            params=self._offer.params(defaults.model),
            init_image=await self._gallery.take_in(submission.init_image),
            mask_image=await self._gallery.take_in(submission.mask_image),
            literal=submission.literal,
            prompts=submission.prompts,
            previews=submission.previews,
        )

    def _usual(self, request: ImageRequest, rules: Rules, models: Sequence[Model]) -> Defaults:
        """What a receipt compares with: the best of the request's own model, and the model usual here."""
        usual = self._offer.defaults(None, rules, models=models)
        if request.model == usual.model:
            return usual
        return replace(self._offer.defaults(request.model, rules, models=models), model=usual.model)

    async def _check_words(self, submission: Submission, requests: Sequence[ImageRequest]) -> None:
        """Raises ContentRejected. What takes some time is read in a thread."""

        def check() -> None:
            for request in requests:
                self._moderation.check_request(request, names=submission.file_names)

        texts = [text for request in requests for text in (request.prompt, request.negative_prompt)]
        if len(said := "".join([*texts, *submission.file_names])) <= SHORT and said.isascii():
            check()
        else:
            await asyncio.to_thread(check)


def _options(submission: Submission, limits: Limits) -> Options:
    base = submission.options or Options()
    if submission.prompts:
        prompt = submission.prompts[0]
        return base if base.prompt == prompt else replace(base, prompt=prompt)
    if submission.literal or not submission.text:
        return replace(base, prompt=submission.text) if submission.text else base
    return merge(base, parse(submission.text, limits=limits))
