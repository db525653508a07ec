"""Runs a parser of foreign bytes in a child that holds no key, no network and no more than its limits.

The child gets open files, and no path but of a folder that was copied for it. Before it imports the parser it leaves
the network (its own user and network namespace), drops every capability, sets no_new_privs, keeps of the file system
what Python loads (`confined_files`), is refused the system calls that reach other processes (`confined_calls`) and
takes the limits. It first reports which of these walls are missing; where the kernel does not grant one the work
still runs, `Confined.missing` says why and a warning is logged, so that the operator sees it. What comes back from a
child is foreign too: it is bounded and parsed strictly.
"""

from __future__ import annotations

import json
import logging
import os
import re
import selectors
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

from bundler.confined_child import FIRST_LINE_BYTES
from bundler.files import staged
from bundler.format import errors, strict_json
from bundler.format.errors import BadInput, LifeboatError
from bundler.format.limits import GIB, MIB

# -I: neither the working folder nor PYTHON* variables decide what is imported; the parent's own path does.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from bundler.confined_child import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
# One thread each: thread pools reserve memory that RLIMIT_AS counts, and RLIMIT_NPROC forbids them.
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# What a child can do where a wall is missing.
_OPEN = {
    "network": "can reach the network",
    "files": "can open this user's files",
    "calls": "can start processes and reach those of this user",
}
_STDERR_TAIL_BYTES = 2_000
_FACT_CHARS = 20_000
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Confinement:
    """What a child may use at most; `open_files` counts beyond the given inputs and outputs.

    `threads` of them are there when the parser starts (`confined_child.pool`); it can start none, unless
    `starts_threads` lets a library have its own: memory still bounds them.
    """

    memory_bytes: int = 2 * GIB
    cpu_s: int = 120
    wall_s: float = 180
    output_bytes: int = 2 * GIB  # of each output
    open_files: int = 64
    result_bytes: int = 64 * MIB
    threads: int = 0
    starts_threads: bool = False


@dataclass(frozen=True)
class Confined:
    """What a child returned, and which walls were missing: "network", "files" or "calls", each with the reason."""

    result: Any
    missing: Mapping[str, str]

    @property
    def gaps(self) -> list[str]:
        """What the child could do, each with the reason, in words."""
        return [f"{_OPEN[wall]}: {reason}" for wall, reason in self.missing.items()]


DEFAULT = Confinement()


def run_confined(
    target: str,
    request: Mapping[str, Any],
    *,
    inputs: Mapping[str, Path] | None = None,
    outputs: Mapping[str, Path] | None = None,
    folders: Sequence[Path] = (),
    confinement: Confinement = DEFAULT,
) -> Any:
    """Calls `module:function` in a confined child as `function(request, inputs, outputs)`; returns its JSON result.

    Args:
        target: The function; it gets the request and two dicts of open binary files.
        request: JSON values.
        inputs: Files to read, by the names that the function knows.
        outputs: Files to write; each appears under its path only if the child ends well.
        folders: Absolute paths of folders whose files the child may read, make, change and remove: private copies.
        confinement: Limits of the child.

    Raises:
        LifeboatError: What the function raised, as the same class.
        BadInput: The child crashed, met a limit, or raised anything else; the fact names the file and what happened.
    """
    done = run_reported(target, request, inputs=inputs, outputs=outputs, folders=folders, confinement=confinement)
    warn_of_gaps(done)
    return done.result


def run_reported(
    target: str,
    request: Mapping[str, Any],
    *,
    inputs: Mapping[str, Path] | None = None,
    outputs: Mapping[str, Path] | None = None,
    folders: Sequence[Path] = (),
    confinement: Confinement = DEFAULT,
) -> Confined:
    """As `run_confined`; the report on the confinement comes with the result instead of as a warning."""
    inputs, outputs = inputs or {}, outputs or {}
    subject = ", ".join(path.name for path in list(inputs.values())[:3]) or target
    with ExitStack() as stack:
        reads = {name: stack.enter_context(open_input(path)) for name, path in inputs.items()}
        writes = {name: stack.enter_context(staged(path, mode=0o600)) for name, path in outputs.items()}
        order = {
            "target": target,
            "request": dict(request),
            "inputs": {name: file.fileno() for name, file in reads.items()},
            "outputs": {name: file.fileno() for name, file in writes.items()},
            "folders": [str(folder.absolute()) for folder in folders],
            "limits": asdict(confinement),
        }
        return _Run(subject, confinement, order_file(stack, order)).finish([*reads.values(), *writes.values()])


def check_isolation() -> Confined:
    """Starts an idle child and returns what its confinement is worth on this machine (for `doctor`)."""
    return run_reported("bundler.confined_child:nothing", {})


def warn_of_gaps(done: Confined) -> None:
    """Says once what children can do here for want of a wall."""
    for gap in done.gaps:
        _warn(gap)


@cache
def _warn(gap: str) -> None:
    logging.getLogger(__name__).warning("foreign files are read by a process that %s", gap)


def open_input(path: Path) -> IO[bytes]:
    """Opens a regular file for a child; raises BadInput for anything else."""
    try:
        # O_NONBLOCK: a FIFO must not hang the builder.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def order_file(stack: ExitStack, order: dict[str, Any]) -> IO[bytes]:
    """Returns what tells a child its work, in memory."""
    file = stack.enter_context(os.fdopen(os.memfd_create("order", os.MFD_CLOEXEC), "w+b"))
    file.write(json.dumps(order).encode())
    file.flush()
    file.seek(0)
    return file


@dataclass
class _Run:
    """One child from start to end."""

    subject: str
    confinement: Confinement
    order: IO[bytes]
    answer: bytearray = field(default_factory=bytearray)
    said: bytearray = field(default_factory=bytearray)

    def finish(self, files: list[IO[bytes]]) -> Confined:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(read_end, "rb", buffering=0) as answer:
            try:
                process = start_child(self.order, write_end, [file.fileno() for file in files], subprocess.PIPE)
            finally:
                os.close(write_end)
            with process:
                try:
                    self._listen(process, answer)
                    process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    raise BadInput(f"{self.subject}: the reading process did not end") from None
                finally:
                    end_child(process)
        return self._judge(process.returncode)

    def _listen(self, process: subprocess.Popen[bytes], answer: IO[bytes]) -> None:
        deadline = time.monotonic() + self.confinement.wall_s
        with selectors.DefaultSelector() as selector:
            selector.register(answer, selectors.EVENT_READ, self._hear_answer)
            selector.register(cast("IO[bytes]", process.stderr), selectors.EVENT_READ, self._hear_words)
            while selector.get_map():
                ready = selector.select(deadline - time.monotonic())
                if not ready and time.monotonic() >= deadline:
                    raise BadInput(f"{self.subject}: reading took longer than {self.confinement.wall_s:g} s")
                for key, _ in ready:
                    data = os.read(key.fd, MIB)
                    key.data(data)
                    if not data:
                        selector.unregister(key.fileobj)

    def _hear_answer(self, data: bytes) -> None:
        self.answer += data
        if len(self.answer) > self.confinement.result_bytes + FIRST_LINE_BYTES:
            raise BadInput(f"{self.subject}: the result is longer than {self.confinement.result_bytes} bytes")

    def _hear_words(self, data: bytes) -> None:
        self.said = (self.said + data)[-_STDERR_TAIL_BYTES:]

    def _judge(self, code: int) -> Confined:
        first, _, rest = bytes(self.answer).partition(b"\n")
        if code != 0 or not rest:
            raise BadInput(f"{self.subject}: {cause_of(code, self.confinement, bytes(self.said))}")
        missing, result = reported(first, self.subject), result_of(rest, self.subject)
        return Confined(result, missing)


def start_child(order: IO[bytes], answer: int, files: list[int], stderr: int) -> subprocess.Popen[bytes]:
    """Starts a child that reads its order, keeps `files` open and writes what came of it to `answer`."""
    path = json.dumps([entry for entry in sys.path if Path(entry).is_absolute()])
    return subprocess.Popen(
        [sys.executable, "-I", "-B", "-c", _BOOT, path, str(order.fileno()), str(answer)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        pass_fds=(order.fileno(), answer, *files),
        env=_ENVIRONMENT,
        cwd="/",
        umask=0o077,
        start_new_session=True,
    )


def reported(line: bytes, subject: str) -> dict[str, str]:
    """Reads the first line of a child: the walls that are missing, each with the reason."""
    missing = _parse(line, subject).get("missing")
    if not isinstance(missing, dict) or not missing.keys() <= _OPEN.keys():
        raise BadInput(f"{subject}: the reading process did not say what it gave up")
    return {wall: _plain(reason) for wall, reason in missing.items()}


def result_of(answer: bytes, subject: str) -> Any:
    """Returns the result in a child's answer, or raises what it tells of."""
    outcome = _parse(answer, subject)
    if "error" in outcome:
        raise _error(outcome["error"])
    if "fault" in outcome:
        raise BadInput(f"{subject}: cannot be read: {_plain(outcome['fault'])}")
    return outcome.get("result")


def cause_of(code: int, limits: Confinement, said: bytes) -> str:
    """Says why a child ended with this code."""
    known = {
        -signal.SIGXCPU: f"reading used more than {limits.cpu_s} s of processor time",
        -signal.SIGXFSZ: f"reading wrote more than {limits.output_bytes} bytes",
        -signal.SIGKILL: "the reading process was killed, perhaps for want of memory",
    }
    last = _plain(said.decode(errors="replace")).strip().rsplit("\n", 1)[-1]
    what = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return known.get(code, f"the reading process ended with {what}" + (f": {last}" if last else ""))


def end_child(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of the child's session; a child that has ended well has nobody left in it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _parse(data: bytes, subject: str) -> dict[str, Any]:
    return strict_json.read_object(data, f"{subject}: the answer of the reading process", BadInput)


def _error(value: Any) -> LifeboatError:
    """Rebuilds what the child raised; a class that `bundler.format.errors` does not have becomes BadInput."""
    fields = value if isinstance(value, dict) else {}
    kind = getattr(errors, str(fields.get("class")), BadInput)
    if not (isinstance(kind, type) and issubclass(kind, LifeboatError)):
        kind = BadInput
    error = kind.__new__(kind)
    LifeboatError.__init__(error, _plain(fields.get("fact")), _plain(fields.get("hint")))
    if isinstance(error, errors.BadInputs):
        issues = fields.get("issues")
        error.issues = tuple(_plain(issue) for issue in issues) if isinstance(issues, list) else ()
    return error


def _plain(text: object) -> str:
    """Returns foreign text without control characters, which could steer the operator's terminal."""
    return _CONTROL.sub("?", text[:_FACT_CHARS]) if isinstance(text, str) else ""
