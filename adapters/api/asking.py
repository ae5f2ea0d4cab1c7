"""From a request as a client wrote it to one of the core, and back: submitting, and errors in its words."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Final

from adapters.api.door import Visit
from bot.core.errors import InvalidRequest
from bot.core.options import Options
from bot.core.request import JSON
from bot.core.studio import Submission, Ticket

log = logging.getLogger(__name__)

_FLAG: Final = re.compile(r"--([a-z]+)")
_FIELDS: Final = {"guidance": "guidance_scale", "negative": "negative_prompt"}
"""Flags of the core's texts that are not called as the field that they set."""
_RUN: Final = secrets.token_hex(4)  # of this run of the program
_numbers = count()  # events in the order of time: the store adds them at one end of an index, at a third less


async def ask(
    visit: Visit,
    owner: str,
    prompts: Sequence[str],
    options: Options,
    *,
    address: Mapping[str, JSON],
    init_image: bytes | None = None,
    mask_image: bytes | None = None,
) -> Ticket:
    """Submit one group: accepted, and in the queue, when this returns. owner: see owner_of(); address: what
    is to be known of it later. Raises as Studio.submit() does."""
    submission = Submission(
        visit.requester,
        f"{owner}:{time.time_ns():x}-{_RUN}-{next(_numbers):x}",
        address,
        options=options,
        init_image=init_image,
        mask_image=mask_image,
        literal=True,
        prompts=tuple(prompts),
        prepared=True,
    )
    ticket = await visit.studio.submit(submission)
    log.debug("%s: request %s, %d prompts", owner.partition("/")[0], ticket.group_id, len(prompts))
    return ticket


def owner_of(visit: Visit, api: str, *path: str) -> str:
    """Whom a public id is given to: a key, with the API and the path that it was asked by. Begins the event's
    key, so that such requests can be listed."""
    return f"{visit.key.key_id}:{api}:{'/'.join(path)}"


@contextmanager
def wording(names: Mapping[str, str]) -> Iterator[None]:
    """Within it, refusals of the core name fields as the client wrote them. names: the core's -> its own."""
    try:
        yield
    except InvalidRequest as error:
        name = names.get(error.field or "")
        if name is None:
            raise
        raise InvalidRequest(f"{name}: {_reworded(error.message, names)}", field=name) from error


def _reworded(message: str, names: Mapping[str, str]) -> str:
    """A text with the client's names for flags: "--steps 30" -> "params.num_inference_steps 30"."""
    return _FLAG.sub(lambda flag: names.get(_FIELDS.get(flag[1], flag[1]), flag[1]), message)
