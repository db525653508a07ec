"""What a person at a terminal sees: results on stdout, everything else on stderr, and the exit table."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.format import errors
from bundler.format.secrets import masked

# The exit codes, also in docs/exit-codes.md. A test holds the two together.
EXIT_CODES: dict[type[BaseException], int] = {
    errors.BadInput: 3,
    errors.SourceFailed: 4,
    errors.PartMissing: 5,
    errors.NotReady: 6,
    errors.Busy: 7,
    errors.UnknownRoot: 11,
    errors.MetadataExpired: 12,
    errors.TooOld: 13,
    errors.FileMissing: 16,
    errors.BadBundle: 14,
    errors.NoSpace: 15,
    errors.WrongKey: 17,
    errors.NewerFormat: 18,
    errors.SystemFailed: 19,
    errors.SelftestFailed: 20,
    errors.TakenBack: 21,
}
EXIT_INTERNAL = 1
EXIT_FINDINGS = 8  # `doctor` found something wrong
EXIT_INTERRUPTED = 130

# How often progress shows: where somebody looks at a terminal, and in a journal or a pipe.
_LIVE_S, _LINES_S = 0.2, 5.0

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_RED, _GREEN, _YELLOW, _OFF = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"


def exit_code(error: BaseException) -> int:
    """Returns the code of the most specific class in the table; 1 is a fault of the program."""
    for kind in type(error).__mro__:
        if kind in EXIT_CODES:
            return EXIT_CODES[kind]
    return EXIT_INTERNAL


def error_of(code: int, fact: str, hint: str) -> errors.LifeboatError:
    """Returns the error that another process of this program ended with, by its exit code."""
    kinds = (kind for kind, number in EXIT_CODES.items() if number == code and issubclass(kind, errors.LifeboatError))
    return next(kinds, errors.SystemFailed)(fact, hint)


class Terminal:
    """One command's voice.

    Args:
        json_output: Print the result as one JSON object instead of text.
        quiet: Show no progress; by itself only with --json.
    """

    def __init__(self, *, json_output: bool = False, quiet: bool | None = None) -> None:
        self.json_output = json_output
        silent = json_output if quiet is None else quiet
        self._watched = "" if silent else "live" if sys.stderr.isatty() else "lines"
        self._lock, self._drawn = threading.Lock(), False
        self._colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ

    def result(self, value: dict[str, Any], lines: Iterable[str]) -> None:
        """Prints the command's outcome: `value` for machines, `lines` for people."""
        text = json.dumps(value, indent=2, sort_keys=True, default=str) if self.json_output else "\n".join(lines)
        print(text, file=sys.stdout, flush=True)  # noqa: T201 - the one place that prints results

    def note(self, text: str) -> None:
        """Says something on stderr that is not part of the result; logins and tokens in addresses are masked."""
        with self._lock:
            self._clear()
            print(masked(text), file=sys.stderr, flush=True)  # noqa: T201 - the one place that speaks

    def good(self, text: str) -> None:
        self.note(self._paint(_GREEN, text))

    def warn(self, text: str) -> None:
        self.note(self._paint(_YELLOW, f"warning: {shown(text)}"))

    def alarm(self, text: str) -> None:
        """Says in red what an operator must know although the command did its work."""
        self.note(self._paint(_RED, text))

    def error(self, error: errors.LifeboatError) -> None:
        """Prints `error:` with the fact and `hint:` with the way out; with --json also on stdout."""
        code = exit_code(error)
        self.note(self._paint(_RED, f"error: {shown(error.fact)}"))
        if error.hint:
            self.note(f"hint: {shown(error.hint)}")
        if self.json_output:
            self.result({"error": error.fact, "hint": error.hint, "exit_code": code}, ())

    def progress(self, label: str, total: int, unit: str = "bytes") -> Progress:
        return self.stages([Stage(label, 0.0, total, unit)])

    def stages(self, stages: Sequence[Stage]) -> Progress:
        """Returns the progress of work of several stages."""
        return Progress(self, stages, self._watched)

    def draw_line(self, text: str) -> None:
        """Shows a line that the next output replaces."""
        with self._lock:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._drawn = True

    def clear_line(self) -> None:
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_OFF}" if self._colour else text


@dataclass(frozen=True)
class Stage:
    """A part of a longer work.

    Attributes:
        label: What is being done.
        expected_s: How long it may take, as far as that is known before; a guess serves.
        total: How much work there is, in `unit`s; 0 where nothing is counted.
        unit: "bytes", "files", "texts".
    """

    label: str
    expected_s: float
    total: int = 0
    unit: str = "bytes"

    def left_s(self, done: int, elapsed_s: float) -> float:
        """Returns the seconds left: by the rate so far, or by the guess, which shrinks and never comes to an end."""
        if self.total:
            return elapsed_s * max(0, self.total - done) / done if done else max(self.expected_s, 99 * elapsed_s)
        return self.expected_s**2 / (self.expected_s + elapsed_s) if self.expected_s else 0.0

    def counted(self, done: int) -> str:
        """Returns what is done in words, or "" where nothing is counted."""
        if not self.total:
            return ""
        return size(done) if self.unit == "bytes" else f"{done} {self.unit}"


class Progress:
    """How far a work is, by time: monotone over all its stages, below 100 % until its block ends, with the time left.

    A thread of its own draws: work that stands still shows that it lives.

    Args:
        terminal: Where to write.
        stages: In order.
        watched: "live" redraws one line, "lines" prints one every few seconds, "" is silent.
    """

    def __init__(self, terminal: Terminal, stages: Sequence[Stage], watched: str) -> None:
        self._terminal, self._stages, self._watched = terminal, list(stages), watched
        self._number = self._done = 0
        self._share = 0.0
        self._began = self._stage_began = time.monotonic()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        if self._watched:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._watched:
            self._thread.join()
            self._terminal.clear_line()

    def advance(self, amount: int) -> None:
        """Adds finished work; from any thread."""
        with self._lock:
            self._done += amount

    def next_stage(self) -> None:
        """Ends the present stage."""
        with self._lock:
            self._number = min(self._number + 1, len(self._stages) - 1)
            self._done, self._stage_began = 0, time.monotonic()

    def go_on(self, stages: Sequence[Stage]) -> None:
        """Ends the present stage and goes on with others, known only now."""
        with self._lock:
            self._stages[self._number + 1 :] = stages
        self.next_stage()

    def look(self, now_s: float) -> tuple[float, float, str]:
        """Returns the share of time passed (0 to 0.99, never less than before), the seconds left, and words.

        Args:
            now_s: On the clock of `time.monotonic`.
        """
        with self._lock:
            stage, later = self._stages[self._number], self._stages[self._number + 1 :]
            left_s = stage.left_s(self._done, now_s - self._stage_began) + sum(other.expected_s for other in later)
            passed_s = now_s - self._began
            share = passed_s / (passed_s + left_s) if passed_s > 0 else 0.0
            self._share = max(self._share, min(0.99, share))
            return self._share, left_s, f"{stage.label}  {self._share:4.0%}  {stage.counted(self._done)}".rstrip()

    def _watch(self) -> None:
        live = self._watched == "live"
        while not self._ended.wait(_LIVE_S if live else _LINES_S):
            now_s = time.monotonic()
            _, left_s, words = self.look(now_s)
            text = f"{words}  {duration(left_s)} left"
            if not live:
                self._terminal.note(text)
            elif now_s - self._began > 1:
                self._terminal.draw_line(text)


def run(body: Callable[[], object], terminal: Terminal, extra: str) -> int:
    """Runs one command and returns its exit code: the one place where errors become words for a person.

    Args:
        body: Parses nothing, makes one call, reports.
        terminal: Where to speak.
        extra: The optional dependency set that this program's full install has, for the hint.

    A fault of ours is not caught: it ends with Python's traceback and exit code 1.
    """
    try:
        body()
    except errors.LifeboatError as error:
        terminal.error(error)
        return exit_code(error)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("bundler", "appliance"):
            raise
        missing = errors.PartMissing(f"{error.name} is not installed", f'pip install "lifeboat-ai[{extra}]"')
        terminal.error(missing)
        return exit_code(missing)
    except OSError as error:
        told = disk_error(error)
        terminal.error(told)
        return exit_code(told)
    except KeyboardInterrupt:
        terminal.note("stopped; nothing half-written was left under a final name")
        return EXIT_INTERRUPTED
    return 0


def shown(text: str) -> str:
    """Returns a message without control characters: what it quotes may be foreign, and steer the terminal."""
    return _CONTROL.sub("?", text)


def disk_error(error: OSError) -> errors.LifeboatError:
    """Says what the system refused, in words for a person."""
    name = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.EDQUOT:
        return errors.NoSpace(f"{name}the quota of disk space is used up", "free some space and run it again")
    if error.errno == errno.ENOSPC:
        return errors.NoSpace(f"{name}the disk is full{_free(error)}", "free some space and run it again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return errors.BadInput(f"{name}{error.strerror}", "check who may read and write there")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return errors.BadInput(f"{name}{error.strerror}", "name another place")
    return errors.SystemFailed(f"{name}{error.strerror or error}", "check the disk, the cable or the share")


def _free(error: OSError) -> str:
    """Says what is left where a write was refused, or "" where that cannot be told."""
    if not isinstance(error.filename, str):
        return ""
    with suppress(OSError, StopIteration):
        folder = next(above for above in Path(error.filename).absolute().parents if above.is_dir())
        return f"; {folder} has {size(shutil.disk_usage(folder).free)} free"
    return ""


def size(length_bytes: int) -> str:
    """Returns a size as people read it, in decimal units as on the label of a stick."""
    value, units = float(length_bytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def duration(seconds: float) -> str:
    """Returns a time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
