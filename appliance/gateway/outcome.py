"""What can go wrong with an upstream, as one exception, and what that may mean; `classify` joins the two."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How an attempt ended, before anybody asks what to do."""

    CONNECT = "connection failed"
    UNREACHED = "no connection in time"
    NO_NAME = "its name is not found"
    NO_TRUST = "its certificate is not trusted"
    SILENT = "no first token in time"
    STALLED = "the stream stalled"
    CUT = "the stream was cut"
    STATUS = "answered an error"
    NOT_JSON = "the answer is not of OpenAI's wire"
    IN_BAND = "an error inside the answer"
    EMPTY = "the answer is empty"
    INVALID = "the answer is not what was asked for"
    TOO_LONG = "the answer is longer than the limit"
    CLIENT_GONE = "the caller left"


class Meaning(Enum):
    """What an outcome says, and about whom."""

    SUCCESS = "success"
    FAILURE = "failure"  # of the upstream
    SOFT = "soft failure"  # it answered, and not well: half a failure
    THROTTLED = "throttled"  # it is well and wants to be left alone: says nothing about its health
    CREDENTIAL = "credential"  # our key, account or access is dead, and not the upstream
    RETIRED = "retired"  # the model is gone, and not the upstream
    INCAPABLE = "incapable"  # it can never serve this request
    CALLER = "caller"  # the request itself is at fault: the refusal goes to the caller
    NEUTRAL = "neutral"  # nothing was learned: the caller left


@dataclass(frozen=True)
class Verdict:
    """What to make of an outcome.

    Args:
        meaning: What it says.
        reason: Our own words; a provider's text can echo keys, so it never goes here.
        wait_s: What the upstream asked for by a Retry-After, within the cap; None where it said nothing.
        again: Whether the same upstream may be asked once more at once, and how long to let it be before: the key of
            `classify.PAUSES_S`, or "".
        busy: It has more to do than it takes.
        timed: A clock of ours said so.
    """

    meaning: Meaning
    reason: str
    wait_s: float | None = None
    again: str = ""
    busy: bool = False
    timed: bool = False

    @property
    def propagate(self) -> bool:
        return self.meaning is Meaning.CALLER

    @property
    def incapable(self) -> bool:
        return self.meaning is Meaning.INCAPABLE


SUCCEEDED = Verdict(Meaning.SUCCESS, "")
NOTHING_LEARNED = Verdict(Meaning.NEUTRAL, "")


class Failed(Exception):
    """An attempt failed.

    Args:
        kind: How it ended.
        detail: Our own words for the reason; a provider's text can echo keys, so it never goes here.
        status: The HTTP status, for STATUS.
        code: OpenAI's error code, where the upstream gave one.
        message: The provider's own words, for a refusal that the caller's request caused; shown to that caller only.
        retry_after_s: What the upstream asked for.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str = "",
        *,
        status: int = 0,
        code: str = "",
        message: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail or kind.value)
        self.kind, self.detail, self.status = kind, detail or kind.value, status
        self.code, self.message, self.retry_after_s = code, message, retry_after_s


class Refused(Exception):
    """The caller's request itself is refused by an upstream; no other rung is asked."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Passed(Exception):
    """A rung does not serve this request; the next one is asked.

    Args:
        reason: Shown to the caller.
        incapable: The rung could never serve this request.
        code: OpenAI's error code for that, or "".
        busy: The rung has more to do than it takes.
    """

    def __init__(self, reason: str, *, incapable: bool = False, code: str = "", busy: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.incapable, self.code, self.busy = reason, incapable, code, busy
