"""The one error tree.

    FairbrushError
    |- Refusal                 the request cannot be taken as it is; shown to its author, nothing is queued
    |  |- InvalidRequest       a field is out of its range (`field` names it)
    |  |- ContentRejected      refused by a content rule, before or after generation
    |  |- QueueFull            a waiting limit is reached
    |  |- Forbidden            somebody else's job, or not allowed here
    |  `- NotFound             no such job, picture, model
    |- Fault                   a backend or a platform failed; retried in one place (dispatcher, delivery)
    |  |- AuthFailed  QuotaExceeded  RateLimited  Unavailable  TimedOut  Cancelled  ProtocolError
    |  |- Gone                 the conversation was deleted: stop quietly
    |  `- Refused              the platform will never take this message
    `- ConfigurationError      the operator must change a setting; exit code 78

The message is safe to show to a user; `detail` is for the log alone.
"""

from __future__ import annotations


class FairbrushError(Exception):
    """Root of all errors that the program raises on purpose.

    message: safe to show; detail: for the log; field: the option that is wrong, where one is;
    retry_after: seconds until another try makes sense, None where unknown;
    accepted: whether a remote took the job (True, False), None where that cannot be known; money: US dollars
    that the failed try surely cost, None where the remote says nothing about it.
    """

    def __init__(
        self,
        message: str,
        *,
        detail: str = "",
        field: str | None = None,
        retry_after: float | None = None,
        accepted: bool | None = None,
        money: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.field = field
        self.retry_after = retry_after
        self.accepted = accepted
        self.money = money


class Refusal(FairbrushError):
    """The request cannot be taken as it is."""


class InvalidRequest(Refusal):
    """A field is missing, malformed or out of its range."""


class ContentRejected(Refusal):
    """A content rule forbids the request or its result. `field` is the rule's id."""


class QueueFull(Refusal):
    """A limit on waiting requests is reached."""


class Forbidden(Refusal):
    """The requester may not do this."""


class NotFound(Refusal):
    """There is no such job, picture or model."""


class Fault(FairbrushError):
    """A backend or a platform failed."""


class AuthFailed(Fault):
    """The credentials were refused; retrying does not help."""


class QuotaExceeded(Fault):
    """A spending or usage cap is reached."""


class RateLimited(Fault):
    """Too many calls; try again after `retry_after`."""


class Unavailable(Fault):
    """Out of reach, crashed or overloaded; another try may work."""


class TimedOut(Fault):
    """No answer within the deadline."""


class Cancelled(Fault):
    """The work was cancelled on request."""


class ProtocolError(Fault):
    """The other side answered something that its protocol does not allow."""


class Gone(Fault):
    """The conversation, channel or message no longer exists."""


class Refused(Fault):
    """The platform will never take this message (no permission, too large in every form)."""


class ConfigurationError(FairbrushError):
    """A setting is wrong; the operator must act."""
