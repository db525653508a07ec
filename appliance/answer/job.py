"""A job: a request that nobody waits for, as the journal keeps it and as its caller sees it. Pure.

Rules:
1. It is on the disk before its caller is told of it. One key (`Idempotency-Key`) of one tenant is one job; the same key
   with another request is refused (draft-ietf-httpapi-idempotency-key-header-07, 2.6).
2. It ends with an answer, or with the error that the caller would have got; words of regret are no answer. Where no
   rung serves now, it waits, and is tried again until its time is over.
3. A box that dies under it does it once more, and then gives it up.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.gateway.call import Call
from appliance.records.entry import BEGUN, DONE, FAILED, WAITING, Entry

STATUS = {WAITING: "queued", BEGUN: "in_progress", DONE: "completed", FAILED: "failed"}
BEGINS_MOST = 2  # rule 3
OUTCOME_BYTES = 2**20
UNREADABLE = "it cannot be read: it was changed on this disk, or is of another box"
TOO_LATE = "no rung could answer it in time"
TOO_LONG = f"its answer is longer than {OUTCOME_BYTES} bytes"
OUR_FAULT = "a fault of this program, which its log names"


class Asked(msgspec.Struct, frozen=True):
    """A request as it waits.

    Attributes:
        wire: `call.CHAT` or `call.TEXT`.
        body: The request.
        via: The boxes that it has passed before this one.
        regions: Where its tenant lets its data go, as it was when it came.
        digest: Tells it from another request.
        keep_s: How long it is tried, and its outcome kept.
    """

    wire: str
    body: dict[str, Any]
    via: tuple[str, ...]
    regions: tuple[str, ...] | None
    digest: str
    keep_s: int


class Outcome(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        status: What HTTP would have said.
        body: The completion, or the error.
        digest: Of the request.
        keep_s: How long it is kept.
    """

    status: int
    body: dict[str, Any]
    digest: str
    keep_s: int


@dataclass(frozen=True)
class Again:
    """It is to be tried again; `words` are ours and stand on the disk in clear."""

    words: str


@dataclass(frozen=True)
class Job:
    """A job as its caller sees it; `until_s` is when it is forgotten, in Unix seconds."""

    entry: Entry
    until_s: int
    outcome: Outcome | None

    @property
    def over(self) -> bool:
        return self.entry.state in (DONE, FAILED)

    def as_json(self) -> dict[str, Any]:
        """Returns it for the API."""
        entry = self.entry
        found: dict[str, Any] = {
            "id": entry.id,
            "object": "job",
            "status": STATUS[entry.state],
            "created_at": entry.made_s,
            "ended_at": entry.ended_s or None,
            "expires_at": self.until_s,
            "tries": entry.tries,
            "note": entry.words or None,
        }
        if not self.over:
            return found
        if self.outcome is not None and self.outcome.status == 200:
            return found | {"response": self.outcome.body}
        return found | (_error(entry.words) if self.outcome is None else self.outcome.body)


def given_up(words: str, asked: Asked) -> Outcome:
    """Returns the outcome of a job that nobody answers any more."""
    return Outcome(504, _error(words), asked.digest, asked.keep_s)


def asked_of(call: Call) -> Asked:
    """Returns a request as it waits."""
    shape = msgspec.json.encode((call.wire, call.body), order="deterministic")
    digest = hashlib.sha256(shape).hexdigest()
    return Asked(call.wire, call.body, call.via[:-1], call.regions, digest, call.route.jobs_keep_s)


def once_of(call: Call, name: str) -> str:
    """Returns what makes two requests one job: the caller's key, else nothing."""
    return f"key {call.once}" if call.once else f"job {name}"


def encode(record: Asked | Outcome) -> bytes:
    """Returns what the journal seals."""
    return msgspec.json.encode(record)


def decode(entry: Entry, data: bytes) -> Asked | Outcome | None:
    """Reads what `encode` made; None where an ended job left nothing but its words.

    Raises:
        msgspec.DecodeError: It is of another program's form.
    """
    if entry.state not in (DONE, FAILED):
        return msgspec.json.decode(data, type=Asked)
    return msgspec.json.decode(data, type=Outcome) if data else None


def until_s(entry: Entry, record: Asked | Outcome | None, most_s: int) -> int:
    """Returns when a job is over by time: waiting, it is given up then; ended, forgotten.

    Args:
        entry: The job.
        record: What is in it.
        most_s: How long it is kept where nothing says so.
    """
    return (entry.ended_s or entry.made_s) + (record.keep_s if record is not None else most_s)


def _error(words: str) -> dict[str, Any]:
    return {"error": {"message": words, "type": "api_error", "param": None, "code": "job_given_up"}}
