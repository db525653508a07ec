"""Which program does a work: the one that runs, or another of this box, which then takes its place by an exec.

An install whose medium brings a newer program is done by that program, so that a newer bundle format can be read. The
service is supervised by the program of the version that serves; one that does not come up as a supervisor gives way,
after MOST_TRIES, to the one that starts at boot, which has supervised before.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.store import current, gc
from appliance.store.layout import StateLayout
from appliance.store.owner import as_root
from appliance.store.programs import Programs, is_newer, newest
from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, BadInput, Busy, FileMissing, LifeboatError, SystemFailed, UnknownRoot
from bundler.format.record import from_json, to_json
from bundler.format.software import is_version
from bundler.format.software import programs as programs_of
from bundler.format.trust.verify import TrustedRepository
from bundler.terminal import Terminal

MOST_TRIES = 3
_RECORD_BYTES = 4096
# Set for the program that takes over: it must not hand over again, whatever it thinks of itself.
HANDED = "LIFEBOAT_HANDED_TO"
Exec = Callable[[Path, Sequence[str], Mapping[str, str]], None]


def execute(python: Path, words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Becomes `python -m appliance WORDS`; locks end with this program, since their files close."""
    os.execve(python, [str(python), "-I", "-m", "appliance", *words], dict(environment))  # noqa: S606 - no shell wanted


def running(programs: Programs) -> str:
    """Returns the version of the program that runs, wherever it lies."""
    return programs.own() or importlib.metadata.version("lifeboat-ai")


@dataclass(frozen=True)
class Handover:
    """Lets the newest program of a medium do its install.

    Attributes:
        programs: Of this box.
        words: The command line for the program that takes over; called once, may keep files open for it.
        terminal: Where to speak.
        keeps: Install with the program that runs, whatever the medium brings.
        execute: Becomes another program.
        environment: Of this process.
        vouched: Returns the medium's metadata as root has it (`appliance.store.pinned`); raises UnknownRoot.
    """

    programs: Programs
    words: Callable[[], Sequence[str]]
    terminal: Terminal
    keeps: bool = False
    execute: Exec = execute
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    vouched: Callable[[Path, TrustedRepository], TrustedRepository] = lambda _medium, trusted: trusted

    def __call__(self, medium: Path, trusted: TrustedRepository) -> str:
        """Returns the program that the new version names ("" is the supervisor's own), or does not return.

        Raises:
            BadInput: The medium brings a newer program, and this user may not install it.
            UnknownRoot: It brings one of somebody else.
            LifeboatError: As `Programs.add`.
        """
        found, own = newest(trusted.targets), running(self.programs)
        if found is not None and is_version(own):
            version = found[0]
            if is_newer(version, own):
                self._follow(medium, version, trusted, own)
            elif version != own:
                self.terminal.warn(f"the medium's newest program is {version}, this box goes on with {own}")
        self._remember(medium, trusted)
        return self.programs.own()

    def _remember(self, medium: Path, trusted: TrustedRepository) -> None:
        """Notes at first contact, and whenever the root changes, whose software this machine takes."""
        if self.programs.own() and self.programs.writable():
            try:
                with as_root():
                    self.vouched(medium, trusted)
            except UnknownRoot as error:  # nothing of it is installed now
                self.terminal.warn(str(error))

    def _follow(self, medium: Path, version: str, trusted: TrustedRepository, own: str) -> None:
        if self.keeps:
            self.terminal.warn(f"program {version} of the medium is left out: this box goes on with {own}")
            return
        if HANDED in self.environment:
            raise SystemFailed(f"program {self.environment[HANDED]} was to install this, and {own} does")
        if not self.programs.has(version) and not self.programs.writable():
            raise BadInput(
                f"the medium brings program {version}, and this user may not install it in {self.programs.folder}",
                "run the install as root, or take the content alone with --keep-program",
            )
        with as_root():
            if not self.programs.has(version):
                files = programs_of(self.vouched(medium, trusted).targets)
                self.programs.add(medium, version, files.get(version, {}), self.terminal)
            self.terminal.note(f"program {version} goes on with the install")
            self.execute(self.programs.python(version), self.words(), {**self.environment, HANDED: version})


@dataclass(frozen=True)
class Tries:
    """How often a program was started as supervisor without coming up."""

    program: str
    starts: int


def supervise(
    layout: StateLayout,
    programs: Programs,
    words: Sequence[str],
    terminal: Terminal,
    *,
    execute: Exec = execute,
    environment: Mapping[str, str] = os.environ,
    layer: FileLayer = DISK,
) -> None:
    """Hands the service to the program of the version that serves, where that is another; else returns.

    Whatever is wrong with that program must not keep this one from serving.
    """
    own, number = programs.own(), current.current_number(layout)
    if not own or number is None or HANDED in environment:
        return
    try:
        wanted = current.software_of(layout, number)
        if wanted in ("", own):
            return
        before = _tries(layout, wanted)
        if before.starts >= MOST_TRIES:
            terminal.warn(f"program {wanted} did not come up {MOST_TRIES} times: {own} supervises it")
            return
        python = programs.python(wanted)
        write_atomic(
            _record(layout), canonical.encode(to_json(Tries(wanted, before.starts + 1))), mode=0o600, layer=layer
        )
        execute(python, words, {**environment, HANDED: wanted})
    except (LifeboatError, OSError) as error:
        terminal.warn(f"{own} supervises: {error}")


def came_up(layout: StateLayout, programs: Programs, layer: FileLayer = DISK) -> None:
    """Notes that this program supervises: for the install that removes programs, and against `MOST_TRIES`."""
    own = programs.own()
    write_atomic(layout.run / "program", own.encode(), mode=0o600, layer=layer)
    if own and _tries(layout, own).starts:
        write_atomic(_record(layout), canonical.encode(to_json(Tries(own, 0))), mode=0o600, layer=layer)


def supervising(layout: StateLayout) -> str:
    """Returns the program that supervises this state, or did last since the folder of sockets was made; "" for none."""
    try:
        text = read_limited(layout.run / "program", _RECORD_BYTES).decode()
    except (FileMissing, BadBundle, UnicodeDecodeError):
        return ""
    return text if is_version(text) else ""


def _record(layout: StateLayout) -> Path:
    return layout.root / "supervisor.json"


def _tries(layout: StateLayout, program: str) -> Tries:
    try:
        data = read_limited(_record(layout), _RECORD_BYTES)
        found = from_json(Tries, canonical.decode(data, "supervisor.json"), "supervisor")
    except (FileMissing, BadBundle, ValueError):
        return Tries(program, 0)
    return found if found.program == program else Tries(program, 0)


@as_root()
def tidy(layout: StateLayout, programs: Programs, *, served: bool) -> tuple[str, ...]:
    """Lets the service start with the program that supervises well now, and removes those that nothing uses.

    Returns:
        The versions of the programs that were removed.
    """
    if not programs.own() or not programs.writable():
        return ()
    supervisor = supervising(layout) if served else ""
    used = {current.software_of(layout, number) for number in gc.kept(layout)}
    # The service writes which one supervises, and it faces the network: only one that a kept version names is believed.
    if supervisor in used and programs.has(supervisor) and supervisor != programs.at_boot():
        programs.start_with(supervisor)
    try:
        return programs.collect({*used, supervisor})
    except Busy:
        return ()  # another install is at work, and removes what this one would
