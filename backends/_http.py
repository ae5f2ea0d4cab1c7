"""HTTP to hosted services: one kit on aiohttp for all of them, to submit, poll, try again and download.

A job is posted again only where the remote provably has not taken it: no connection came about, or it said
429 or 503. The key goes to the configured origins alone. No answer is read beyond its cap, no redirect of an
API is followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from backends._answers import PICTURES as PICTURES
from backends._answers import SMALL as SMALL
from backends._answers import Answer as Answer
from backends._answers import Missing as Missing
from backends._answers import for_people as for_people
from backends._answers import raise_for as raise_for
from backends._download import Downloads, Reach
from backends._download import Expired as Expired
from backends._endpoint import Endpoint, coded
from backends._pacing import REAL_CLOCK as REAL_CLOCK
from backends._pacing import Backoff as Backoff
from backends._pacing import Pace, retry_after
from backends._pacing import poll_delays as poll_delays
from backends._pictures import checked_picture as checked_picture
from backends._pictures import decoded_picture as decoded_picture
from bot.core.errors import (
    Fault,
    ProtocolError,
    RateLimited,
    TimedOut,
    Unavailable,
)
from bot.core.ports import Clock
from bot.core.request import JSON

CONNECT_SECONDS: Final = 10.0  # to one address
REACH_SECONDS: Final = 20.0  # until a call can be sent: names, addresses, TLS
_MOST_MESSAGE: Final = 32 * 2**20

Params = Mapping[str, str | int | float]


class Http(Endpoint):
    """One service. base: the configured origin and path prefix; headers: those with the key, sent to the
    configured origin and `origins` alone; auth: "user:password" for Basic; service: its name for people;
    setting: the variable that holds the address, for error texts; per_minute: calls to it; reach: for tests.
    """

    def __init__(
        self,
        base: str,
        *,
        headers: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        origins: Sequence[str] = (),
        auth: str | None = None,
        service: str = "The service",
        setting: str = "FAIRBRUSH_BACKENDS",
        per_minute: int = 240,
        reach: Reach | None = None,
    ) -> None:
        super().__init__(
            base, headers=headers, clock=clock, origins=origins, auth=auth, service=service, setting=setting
        )
        self.per_minute = per_minute
        self._pace = Pace(per_minute, self._clock)
        self._downloads = Downloads(self.is_own, self._keyed, self._open, reach or Reach(), self._clock)

    # --- calls --------------------------------------------------------------------------------------------

    async def get(
        self,
        url: str,
        *,
        params: Params | None = None,
        seconds: float = 30.0,
        deadline: float = 30.0,
        most: int = SMALL,
        also: Collection[int] = (),
    ) -> Answer:
        """GET, tried again after failures to connect, time-outs, 429 and 5xx for up to `deadline` seconds.

        url: a path behind the base, or an absolute URL of a configured origin; seconds: of one try;
        most: bytes of the body; also: statuses of 300 or more that are returned, not raised. Raises a
        FairbrushError with accepted None (Missing: False).
        """
        return await self._insist(
            lambda: self._call("GET", url, params=params, seconds=seconds, most=most, also=also),
            deadline=deadline,
        )

    async def poll(
        self,
        url: str,
        *,
        params: Params | None = None,
        seconds: float = 30.0,
        most: int = SMALL,
        also: Collection[int] = (),
    ) -> Answer:
        """GET, tried once: for callers that come again anyway."""
        return await self._call("GET", url, params=params, seconds=seconds, most=most, also=also)

    async def post(
        self,
        url: str,
        body: JSON | bytes = None,
        *,
        seconds: float = 60.0,
        idempotent: bool = False,
        accepted_statuses: Collection[int] = (200, 201, 202),
        tries: int = 4,
        deadline: float = 60.0,
        most: int = SMALL,
        also: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """POST JSON, or bytes whose Content-Type is in `headers`. Sent again only if it was surely not taken,
        or where it is idempotent.

        Raises a FairbrushError whose accepted is False where it was surely not taken, and None where that is
        not known: a time-out or a lost connection after sending, a 5xx other than 503.
        """
        return await self._insist(
            lambda: self._call(
                "POST",
                url,
                body=body,
                seconds=seconds,
                most=most,
                also=also,
                good=accepted_statuses,
                headers=headers,
                post=True,
            ),
            tries=tries,
            deadline=deadline,
            idempotent=idempotent,
        )

    async def put(
        self, url: str, body: JSON = None, *, seconds: float = 30.0, also: Collection[int] = ()
    ) -> Answer:
        """PUT, which is idempotent: tried again as GET is."""
        return await self._insist(lambda: self._call("PUT", url, body=body, seconds=seconds, also=also))

    async def delete(
        self, url: str, *, seconds: float = 30.0, most: int = SMALL, also: Collection[int] = ()
    ) -> Answer:
        """DELETE, which is idempotent: tried again as GET is."""
        return await self._insist(lambda: self._call("DELETE", url, seconds=seconds, most=most, also=also))

    @asynccontextmanager
    async def stream(
        self,
        url: str,
        body: JSON | bytes,
        *,
        seconds: float = 600.0,
        also: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """POST as post() does and read the answer as it comes (server-sent events); seconds: of silence. Not
        tried again; an answer with a status in `also` is for whole().

        Tried once. Raises as post() does; what breaks while it is read is Unavailable(accepted=None)."""
        target = self._target(url)
        await self._pace.turn()
        try:
            async with self._open(fresh=True).request(
                "POST",
                target,
                data=coded(body),
                headers={**self._headers(body), **(headers or {})},
                allow_redirects=False,
                timeout=_timeout(sock_read=seconds),
            ) as response:
                if response.status >= 300 and response.status not in also:
                    raise_for(await self._answer(response, SMALL), post=True)
                self._reached()
                yield response
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._lost(error, post=True) from None

    async def whole(self, response: aiohttp.ClientResponse, *, most: int = SMALL) -> Answer:
        """All of an answer that stream() gave. Raises ProtocolError where it is over `most` bytes."""
        answer = await self._answer(response, most)
        self._note(answer)
        return answer

    @asynccontextmanager
    async def websocket(
        self, url: str, *, params: Params | None = None, most: int = _MOST_MESSAGE
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A websocket at a path or URL (http or ws). Raises Unavailable, TimedOut or AuthFailed."""
        target = self._target(url.replace("ws", "http", 1) if url.startswith("ws") else url)
        try:
            async with self._open().ws_connect(
                target.update_query(params or {}),
                headers=self._keyed,
                max_msg_size=most,
                heartbeat=30.0,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
            ) as socket:
                self._reached()
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            answer = Answer(error.status, {}, b"", self.service)
            raise_for(answer)
            raise ProtocolError(f"{self.service} offers no websocket.", detail=str(error.status)) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._lost(error, post=False) from None

    async def picture(self, url: str) -> tuple[bytes, str]:
        """The picture that a link of the service leads to, and its MIME type; see _download.py for what is
        followed. Raises ProtocolError, Expired, Unavailable or TimedOut, all with accepted None."""
        data = await self._downloads.fetch(url)
        return data, await asyncio.to_thread(checked_picture, data)

    async def aclose(self) -> None:
        """Close all connections; calls afterwards are Unavailable."""
        await super().aclose()
        await self._downloads.aclose()

    # --- inside -------------------------------------------------------------------------------------------

    async def _insist(
        self,
        call: Callable[[], Awaitable[Answer]],
        *,
        deadline: float = 30.0,
        tries: int = 1000,
        idempotent: bool = True,
    ) -> Answer:
        until = self._clock.monotonic() + deadline
        backoff = Backoff()
        while True:
            tries -= 1
            try:
                return await call()
            except Fault as fault:
                wait = backoff.wait(fault.retry_after)
                again = _passing(fault) and (idempotent or fault.accepted is False)
                if not again or tries <= 0 or self._clock.monotonic() + wait > until:
                    raise
            await self._clock.sleep(wait)

    async def _call(
        self,
        method: str,
        url: str,
        *,
        body: JSON | bytes = None,
        params: Params | None = None,
        seconds: float,
        most: int = SMALL,
        also: Collection[int] = (),
        good: Collection[int] = range(200, 300),
        headers: Mapping[str, str] | None = None,
        post: bool = False,
    ) -> Answer:
        """One try."""
        target = self._target(url)
        if params:
            target = target.update_query(params)
        await self._pace.turn()
        try:
            async with self._open(fresh=post).request(
                method,
                target,
                data=coded(body),
                headers={**self._headers(body), **(headers or {})},
                allow_redirects=False,
                timeout=_timeout(total=seconds),
            ) as response:
                answer = await self._answer(response, most)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._lost(error, post=post) from None
        self._note(answer)
        if answer.status in also:
            return answer
        raise_for(answer, post=post)
        if answer.status not in good:
            detail = f"{answer.status}: {answer.text()}"
            raise ProtocolError(
                f"{self.service} answered something unexpected.", detail=detail, accepted=None
            )
        return answer

    async def _answer(self, response: aiohttp.ClientResponse, most: int) -> Answer:
        """The whole answer. Raises ProtocolError where it is larger than `most`, packed or unpacked."""
        body = bytearray()
        if (response.content_length or 0) <= most:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > most:
                    break
        if len(body) > most or (response.content_length or 0) > most:
            response.close()
            raise ProtocolError(
                f"{self.service} answered more than can be taken.",
                detail=f"over {most:,} bytes",
                accepted=None,
            )
        wait = retry_after(response.headers.get("Retry-After"), self._clock.now())
        return Answer(
            response.status, response.headers.copy(), bytes(body), self.service, self._secrets, wait
        )


def _timeout(*, total: float | None = None, sock_read: float | None = None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=total, connect=REACH_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=sock_read
    )


def _passing(fault: Fault) -> bool:
    """Whether the same call may work shortly."""
    return isinstance(fault, RateLimited | Unavailable | TimedOut) and not isinstance(fault, Missing)
