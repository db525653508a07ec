"""A confined child that stays and answers: for foreign files that are dear to load and are asked often.

The child is as `bundler.confine` describes it. Its function gets the files, a stream `asked` and a stream `answers`;
on both a message is its length in eight bytes (little-endian) and then the bytes. What it answers is foreign: the
caller says how much it takes and for how long it waits.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from bundler.confine import (
    Confined,
    Confinement,
    cause_of,
    end_child,
    open_input,
    order_file,
    reported,
    result_of,
    start_child,
    warn_of_gaps,
)
from bundler.format.errors import BadInput
from bundler.format.limits import MIB

ASKED, ANSWERS = "asked", "answers"
_LENGTH_BYTES = 8
_LAST_WORDS_S = 10.0


class Session:
    """One child that answers questions, one at a time; it ends with this object, and with this process.

    Args:
        target: `module:function` of the child.
        request: JSON values that it starts with.
        inputs: Files that it reads.
        confinement: Its limits; `wall_s` is that of the first answer.
        subject: Names the child's work in errors.
    """

    def __init__(
        self,
        target: str,
        request: Mapping[str, Any],
        inputs: Mapping[str, Path],
        confinement: Confinement,
        subject: str,
    ) -> None:
        self._confinement, self._subject = confinement, subject
        with ExitStack() as stack:
            files = {name: stack.enter_context(open_input(path)).fileno() for name, path in inputs.items()}
            asked, self._to = _pipe(stack, keeps_reading=False)
            self._from, answers = _pipe(stack, keeps_reading=True)
            self._end, last = _pipe(stack, keeps_reading=True)
            order = {
                "target": target,
                "request": dict(request),
                "inputs": {**files, ASKED: asked},
                "outputs": {ANSWERS: answers},
                "folders": [],
                "limits": asdict(confinement),
            }
            self._said = os.memfd_create("said", os.MFD_CLOEXEC)
            written = order_file(stack, order)
            self._process = start_child(written, last, [*files.values(), asked, answers], self._said)
        self.close = weakref.finalize(self, _close, self._process, (self._to, self._from, self._end, self._said))

    def first(self, most_bytes: int) -> bytes:
        """Returns what the child says unasked once it is ready; raises as `ask`."""
        answer = self._hear(time.monotonic() + self._confinement.wall_s, most_bytes)
        warn_of_gaps(Confined(None, reported(self._line(), self._subject)))
        return answer

    def ask(self, question: bytes, most_bytes: int, wall_s: float) -> bytes:
        """Sends a question and returns the answer.

        Raises:
            LifeboatError: What the child's function raised.
            BadInput: The child crashed, met a limit, took longer than `wall_s`, or answers more than `most_bytes`.
        """
        until = time.monotonic() + wall_s
        view = memoryview(len(question).to_bytes(_LENGTH_BYTES, "little") + question)
        try:
            with self._waiting(self._to, selectors.EVENT_WRITE, until) as wait:
                while view:
                    wait()
                    view = view[os.write(self._to, view[:MIB]) :]
        except BrokenPipeError:
            raise self._failure() from None
        return self._hear(until, most_bytes)

    def _hear(self, until: float, most_bytes: int) -> bytes:
        length = int.from_bytes(self._read(_LENGTH_BYTES, until), "little")
        if length > most_bytes:
            self.close()
            raise BadInput(f"{self._subject}: an answer of {length} bytes, at most {most_bytes} were expected")
        return self._read(length, until)

    def _read(self, length: int, until: float) -> bytes:
        data = bytearray()
        with self._waiting(self._from, selectors.EVENT_READ, until) as wait:
            while len(data) < length:
                wait()
                piece = os.read(self._from, min(MIB, length - len(data)))
                if not piece:
                    raise self._failure()
                data += piece
        return bytes(data)

    @contextmanager
    def _waiting(self, descriptor: int, event: int, until: float) -> Iterator[Callable[[], None]]:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)

            def wait() -> None:
                if not selector.select(until - time.monotonic()):
                    self.close()
                    raise BadInput(f"{self._subject}: no answer in the time that it may take")

            yield wait

    def _line(self) -> bytes:
        """The child writes this line whole before it loads anything."""
        return os.read(self._end, 4096).partition(b"\n")[0]

    def _failure(self) -> Exception:
        """Returns what ended the child."""
        try:
            code = self._process.wait(timeout=_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            end_child(self._process)
            code = self._process.wait()
        said = os.pread(self._said, 2_000, max(0, os.fstat(self._said).st_size - 2_000))
        with os.fdopen(os.dup(self._end), "rb") as last:
            words = last.read(MIB)
        self.close()
        # Where the child failed before its first answer, the line on its confinement still stands before the outcome.
        outcome = words.rsplit(b"\n", 1)[-1]
        try:
            if code == 0 and outcome:
                result_of(outcome, self._subject)
        except Exception as error:  # noqa: BLE001 - whatever the child tells of is what ended it
            return error
        return BadInput(f"{self._subject}: {cause_of(code, self._confinement, said)}")


def send(stream: IO[bytes], message: bytes) -> None:
    """Writes a message; the child's side."""
    stream.write(len(message).to_bytes(_LENGTH_BYTES, "little") + message)
    stream.flush()


def received(stream: IO[bytes]) -> Iterator[Any]:
    """Yields the JSON of each question until the parent closes; the child's side."""
    while head := stream.read(_LENGTH_BYTES):
        yield json.loads(stream.read(int.from_bytes(head, "little")))


def _pipe(stack: ExitStack, *, keeps_reading: bool) -> tuple[int, int]:
    """Returns the two ends; the child's end is closed here when the child has it."""
    read, write = os.pipe2(os.O_CLOEXEC)
    stack.callback(os.close, write if keeps_reading else read)
    os.set_blocking(read if keeps_reading else write, False)
    return read, write


def _close(process: subprocess.Popen[bytes], descriptors: tuple[int, ...]) -> None:
    end_child(process)
    process.wait()
    for descriptor in descriptors:
        os.close(descriptor)
