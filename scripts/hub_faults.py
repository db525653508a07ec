"""What a local hub can be told to do wrong, and what it counts."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

FAULTS = {
    "status": "answers with `status` and `headers` and no file (500, 429 with Retry-After, 403 with X-Error-Code)",
    "cut": "closes the connection after `at_bytes` of the body",
    "stall": "sends `at_bytes` of the body (-1: not even headers) and then nothing for `stall_s`",
    "drip": "sends one byte of the body each `stall_s`",
    "wrong": "flips one bit of the byte at `at_bytes` of the file",
    "digest": "announces another digest than the file has",
    "body": "answers 200 with `body` and `headers`, whatever was asked for",
    "whole": "ignores Range and sends the whole file with 200",
    "redirect": "redirects to `headers['Location']`",
}


@dataclass
class Fault:
    """Something that goes wrong with requests of one stage.

    Attributes:
        kind: One of FAULTS.
        stage: "info", "tree", "head" (of a file), "get" (of a file at the hub), "store" (of the bytes), or "*".
        path: A pattern of the file's path in its repository; of "store", of its last part.
        times: How many requests it meets; then it is over.
        skip: How many requests it lets pass before.
        at_bytes: Where in the file it happens, counted from its start.
    """

    kind: str
    stage: str = "store"
    path: str = "*"
    times: int = 1
    skip: int = 0
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    at_bytes: int = 0
    body: bytes = b""
    stall_s: float = 60.0

    def meets(self, stage: str, path: str) -> bool:
        if self.stage not in ("*", stage):
            return False
        return fnmatchcase(PurePosixPath(path).name if stage == "store" else path, self.path)


@dataclass(frozen=True)
class Asked:
    """One request as the hub saw it."""

    method: str
    stage: str
    path: str
    authorization: str
    range: str
    agent: str


class Record:
    """Faults to come, requests so far, and how many bytes of files went out; safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.sent_bytes = 0

    def break_(self, *faults: Fault) -> None:
        with self._lock:
            self._faults += faults

    def mend(self) -> None:
        """Forgets faults, requests and counts."""
        with self._lock:
            self._faults, self.asked, self.sent_bytes = [], [], 0

    def note(self, asked: Asked) -> None:
        with self._lock:
            self.asked.append(asked)

    def sent(self, length: int) -> None:
        with self._lock:
            self.sent_bytes += length

    def next_fault(self, stage: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and fault.meets(stage, path):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None
