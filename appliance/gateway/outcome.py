"""What can go wrong with an upstream, as one exception; `classify` says what to do about it."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """How an attempt ended, before anybody asks what to do."""

    CONNECT = "connection failed"
    SILENT = "no first token in time"
    STALLED = "the stream stalled"
    CUT = "the stream was cut"
    STATUS = "answered an error"
    NOT_JSON = "the answer is not of OpenAI's wire"
    IN_BAND = "an error inside the answer"
    EMPTY = "the answer is empty"
    INVALID = "the answer is not what was asked for"
    TOO_LONG = "the answer is longer than the limit"


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
        hold_s: How long the rung is left alone; 0 for not at all.
        incapable: The rung could never serve this request.
        code: OpenAI's error code for that, or "".
        busy: The rung has more to do than it takes.
    """

    def __init__(
        self, reason: str, *, hold_s: float = 0.0, incapable: bool = False, code: str = "", busy: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.hold_s, self.incapable, self.code, self.busy = reason, hold_s, incapable, code, busy
