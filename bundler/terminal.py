"""What a person at a terminal sees: results on stdout, everything else on stderr, and the exit table."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from bundler.format import errors

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
}
EXIT_INTERNAL = 1
EXIT_FINDINGS = 8  # `doctor` found something wrong
EXIT_INTERRUPTED = 130

_RED, _GREEN, _YELLOW, _BOLD, _OFF = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"


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
        quiet: Show no progress (a job, or not a terminal).
    """

    def __init__(self, *, json_output: bool = False, quiet: bool | None = None) -> None:
        self.json_output = json_output
        self._live = sys.stderr.isatty() and not json_output if quiet is None else not quiet
        self._colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ

    def result(self, value: dict[str, Any], lines: Iterable[str]) -> None:
        """Prints the command's outcome: `value` for machines, `lines` for people."""
        text = json.dumps(value, indent=2, sort_keys=True, default=str) if self.json_output else "\n".join(lines)
        print(text, file=sys.stdout, flush=True)  # noqa: T201 - the one place that prints results

    def note(self, text: str) -> None:
        """Says something on stderr that is not part of the result."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - the one place that speaks

    def good(self, text: str) -> None:
        self.note(self._paint(_GREEN, text))

    def warn(self, text: str) -> None:
        self.note(self._paint(_YELLOW, f"warning: {text}"))

    def alarm(self, text: str) -> None:
        """Says in red what an operator must know although the command did its work."""
        self.note(self._paint(_RED, text))

    def error(self, error: errors.LifeboatError) -> None:
        """Prints `error:` with the fact and `hint:` with the way out; with --json also on stdout."""
        code = exit_code(error)
        self.note(self._paint(_RED, f"error: {error.fact}"))
        if error.hint:
            self.note(f"hint: {error.hint}")
        if self.json_output:
            self.result({"error": error.fact, "hint": error.hint, "exit_code": code}, ())

    def progress(self, label: str, total: int, unit: str = "bytes") -> Progress:
        return Progress(self, label, total, unit, live=self._live)

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_OFF}" if self._colour else text


class Progress:
    """A monotone progress line with time left; silent where nobody watches, until the work exceeds a second.

    Args:
        terminal: Where to write.
        label: What is being done.
        total: How much work there is, in `unit`s.
        unit: "bytes", "files", "texts".
        live: Whether somebody watches.
    """

    def __init__(self, terminal: Terminal, label: str, total: int, unit: str, *, live: bool) -> None:
        self._terminal, self._label, self._total, self._unit, self._live = terminal, label, total, unit, live
        self._done = 0
        self._start = self._shown = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live and self._shown != self._start:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def advance(self, amount: int) -> None:
        """Adds finished work."""
        self._done += amount
        now = time.monotonic()
        if self._live and now - self._start > 1 and now - self._shown > 0.2:
            self._shown = now
            self._draw(now - self._start)

    def _draw(self, elapsed_s: float) -> None:
        share = min(1.0, self._done / max(1, self._total))
        left_s = elapsed_s / share - elapsed_s if share else 0.0
        done = size(self._done) if self._unit == "bytes" else f"{self._done} {self._unit}"
        sys.stderr.write(f"\r\x1b[K{self._label}  {share:4.0%}  {done}  {left_s:.0f} s left")
        sys.stderr.flush()


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


def disk_error(error: OSError) -> errors.LifeboatError:
    """Says what the system refused, in words for a person."""
    name = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.NoSpace(f"{name}the disk is full", "free some space and run it again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return errors.BadInput(f"{name}{error.strerror}", "check who may read and write there")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return errors.BadInput(f"{name}{error.strerror}", "name another place")
    return errors.SystemFailed(f"{name}{error.strerror or error}", "check the disk, the cable or the share")


def size(length_bytes: int) -> str:
    """Returns a size as people read it, in decimal units as on the label of a stick."""
    value, units = float(length_bytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
