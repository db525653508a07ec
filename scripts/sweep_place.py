"""A builder's home and a small repository for the fault sweeps, and a process of its own for each run."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if TYPE_CHECKING:
    from bundler.files import FileLayer
    from bundler.repository.keyring import Keyring
    from bundler.repository.publish import Publisher
    from bundler.repository.sites import NewSite

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
QUICK, KB = 10, 1_000
EXIT_REFUSED = 3
RECOVERY_CODE = "recovery-code"


@dataclass
class Place:
    """A builder's home, a repository and a stick, all under one folder that is copied for every run."""

    root: Path
    layer: FileLayer

    @property
    def keyring(self) -> Keyring:
        from bundler.repository.keyring import Keyring

        return Keyring(self.root / "home", lambda: "sweep", self.layer)

    @property
    def publisher(self) -> Publisher:
        from bundler.repository.publish import Publisher

        return Publisher(self.root / "repository", self.keyring, NOW, self.layer)

    def write(self, faq: bytes) -> None:
        from bundler.format.service import LadderSpec, LimitsSpec, Service
        from bundler.repository.survey import Captured
        from bundler.repository.write import BundleWriter
        from bundler.terminal import Terminal

        contents = {"model": random.Random(1).randbytes(90 * KB), "faq": faq}
        work = self.root / "work"
        work.mkdir(exist_ok=True)
        for name, data in contents.items():
            (work / name).write_bytes(data)
        captured = tuple(Captured(name, work / name, "gguf", "", f"file:{name}", (), 16 * KB) for name in contents)
        ladder = LadderSpec((), (), (), "", "", "")
        service = Service("s", "S", (), None, (), (), (), (), ladder, LimitsSpec(1, 1, 1), None, ())
        publisher = self.publisher
        with publisher.locked():
            publisher.sweep()
            writer = BundleWriter(publisher, self.keyring, Terminal(quiet=True), 40 * KB, layer=self.layer)
            writer.write("s", captured, service, NOW)


def init(place: Place) -> None:
    from bundler.repository.ceremony import make_keyring
    from bundler.repository.roots import Roots

    if not (place.keyring.exists and Roots(place.root / "home").exist):
        make_keyring(place.keyring, Roots(place.root / "home", place.layer), "Sweep", NOW, QUICK)


def repository(place: Place) -> None:
    from bundler.repository.sites import open_repository

    publisher = place.publisher

    def keep(recovery: NewSite) -> None:
        (place.root / RECOVERY_CODE).write_text(recovery.code)

    with publisher.locked():
        open_repository(publisher, place.keyring, keep, work_factor_log2=QUICK, layer=place.layer)


def in_child(command: Callable[[Place], None], place: Place) -> int:
    """Runs a command in a process of its own; returns its exit code."""
    _wait_for_threads()
    child = os.fork()
    if child == 0:
        code = 0
        try:
            command(place)
        except OSError:
            code = EXIT_REFUSED
        except BaseException as error:  # noqa: BLE001 - the parent reports it as a wrong exit code
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            code = 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _wait_for_threads() -> None:
    """A thread that ends holds a lock of OpenSSL for a moment; a child forked in it would wait for that for ever."""
    until = time.monotonic() + 1
    while len(list(Path("/proc/self/task").iterdir())) > 1 and time.monotonic() < until:
        time.sleep(0.001)
