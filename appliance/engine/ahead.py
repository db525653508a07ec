"""Reads ahead: while the child takes in one piece of the model, the next ones are decrypted and checked beside it.

Rules:
1. A piece is what is signed as one: so nothing is decrypted twice because a loader goes from tensor to tensor.
2. Pieces lie in slots of one buffer that both processes see; it is used again and again: fresh pages cost more than
   the cipher.
3. The slot that was handed out last is not written to before the next one is asked for.
4. What is fetched before it is asked for is a guess (`appliance.engine.foresight`), and never pushes out of the slots
   what was asked for last.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

from appliance.engine.foresight import Foresight
from appliance.engine.reading import ReadAt

SLOT_BYTES = 4 * 2**20
SLOTS = 8
BUFFER_BYTES = SLOT_BYTES * SLOTS
_AHEAD = 4
_THREADS = 2


@dataclass(frozen=True)
class Piece:
    """Bytes `start` to `end` of the model, and the slot that holds them."""

    start: int
    end: int
    slot: int


class Ahead:
    """The pieces of one model.

    Args:
        reader: The model; each read is checked.
        buffer: BUFFER_BYTES of memory.
    """

    def __init__(self, reader: ReadAt, buffer: memoryview) -> None:
        self._reader, self._buffer = reader, buffer
        self._bounds = bounds(reader.starts, reader.size)
        self._foresight = Foresight(self._bounds, SLOT_BYTES)
        self._slots: OrderedDict[int, int] = OrderedDict()  # piece -> slot, the least recently used first
        self._free = list(range(SLOTS))
        self._faults: dict[int, BaseException] = {}
        self._asked = -1
        self._want: list[int] = []
        self._filling: set[int] = set()
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._run, name="ahead", daemon=True) for _ in range(_THREADS)]
        for thread in self._threads:
            thread.start()

    def get(self, offset: int) -> Piece:
        """Returns the piece that holds a byte; its slot stays as it is until the next call.

        Raises:
            LifeboatError: The piece is not what was signed.
            OSError: It cannot be read now.
            ValueError: There is no such byte, or nothing is read any more.
        """
        if not 0 <= offset < self._reader.size:
            raise ValueError(f"byte {offset} of {self._reader.size}")
        number = bisect_right(self._bounds, offset) - 1
        with self._changed:
            self._wish(number)
            self._changed.wait_for(lambda: number in self._slots or number in self._faults or self._closed)
            if self._closed:
                raise ValueError("the model has been read")
            if (fault := self._faults.pop(number, None)) is not None:
                raise fault
            self._slots.move_to_end(number)
            return Piece(self._bounds[number], self._bounds[number + 1], self._slots[number])

    def close(self) -> None:
        """Ends reading ahead and lets go of the buffer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._buffer.release()

    def _wish(self, number: int) -> None:
        self._asked = number
        self._foresight.note(number)
        here = {*self._slots, *self._faults, *self._filling}
        self._want = [wanted for wanted in (number, *self._foresight.next(_AHEAD)) if wanted not in here]
        self._changed.notify_all()

    def _run(self) -> None:
        while (found := self._next()) is not None:
            self._fill(*found)

    def _next(self) -> tuple[int, int] | None:
        """Waits for a piece that is wanted; returns it and the slot for it, or None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._want or self._closed)
            if self._closed:
                return None
            number = self._want.pop(0)
            self._filling.add(number)
            if not self._free:
                oldest = next(other for other in self._slots if other != self._asked)
                self._free.append(self._slots.pop(oldest))
            return number, self._free.pop()

    def _fill(self, number: int, slot: int) -> None:
        start, size = self._bounds[number], self._bounds[number + 1] - self._bounds[number]
        fault: BaseException | None = None
        try:
            with self._buffer[slot * SLOT_BYTES : slot * SLOT_BYTES + size] as part:
                self._reader.read_at(start, part)
        except BaseException as error:  # noqa: BLE001 - raised by the `get` that asks for the piece
            # Its frames hold views of the shared memory, which could not be let go of.
            fault = error.with_traceback(None)
        with self._changed:
            self._filling.remove(number)
            if fault is None:
                self._slots[number] = slot
            else:
                self._free.append(slot)
                self._faults[number] = fault
            self._changed.notify_all()


def bounds(starts: tuple[int, ...], size: int) -> list[int]:
    """Returns where pieces begin and end; what is signed as one and longer than a slot is cut."""
    cut: list[int] = []
    for start, end in pairwise((*starts, size)):
        cut.extend(range(start, end, SLOT_BYTES))
    return [*cut, size]
