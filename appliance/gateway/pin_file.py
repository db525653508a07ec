"""The file of the pin: written at the command line, read by what serves as soon as it changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from appliance.gateway.pin import AUTO, LONGEST_S, Pin
from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, FileMissing
from bundler.format.record import from_json, to_json

FILE_BYTES_MAX = 1 << 12


class Pinned:
    """The pin of a state as what serves sees it.

    Args:
        path: `STATE/pin.json`; it need not exist. None where there is no state.
        clock: Monotonic seconds.
        unix: The wall clock.
    """

    def __init__(
        self, path: Path | None, clock: Callable[[], float] = time.monotonic, unix: Callable[[], float] = time.time
    ) -> None:
        self._path, self._clock, self._unix = path, clock, unix
        self._seen: tuple[int, int, int] | None = None
        self._pin, self._until_s = Pin(), 0.0

    @property
    def now(self) -> Pin:
        """What holds now."""
        return self._pin if self._clock() < self._until_s else Pin()

    def look(self) -> None:
        """Reads the file where it changed; what cannot be read pins nothing."""
        seen = self._stamp()
        if seen == self._seen:
            return
        self._seen = seen
        self._pin = Pin() if seen is None or self._path is None else read(self._path)
        self._until_s = self._clock() + self._pin.left_s(self._unix())

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        return None if stat is None else (stat.st_ino, stat.st_mtime_ns, stat.st_size)


def read(path: Path) -> Pin:
    """Returns the pin of a file, an empty one where it is not there or not to be read."""
    try:
        found = from_json(Pin, canonical.decode(read_limited(path, FILE_BYTES_MAX), path.name), path.name)
    except (FileMissing, BadBundle, OSError):
        return Pin()
    sound = found.target.isprintable() and 0 <= found.for_s <= LONGEST_S and 0 <= found.set_s < 2**33
    return found if sound else Pin()


def write(path: Path, pin: Pin, layer: FileLayer = DISK) -> None:
    """Writes it; AUTO takes the file away."""
    if pin.target == AUTO:
        if path.exists():
            layer.remove(path)
        return
    write_atomic(path, canonical.encode(to_json(pin)), mode=0o600, layer=layer)
