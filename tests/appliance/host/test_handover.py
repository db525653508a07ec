"""Which program does a work: a newer one of the medium, the one of the version that serves, or the one that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from appliance.host.handover import HANDED, MOST_TRIES, Handover, came_up, supervise, supervising, tidy
from appliance.store import current
from appliance.store.layout import StateLayout
from appliance.store.programs import Programs
from appliance.store.unpacking import MARKER
from bundler.files import DISK
from bundler.format import canonical
from bundler.format.errors import BadInput, SystemFailed, UnknownRoot
from bundler.format.trust.verify import TargetFile, TrustedRepository
from bundler.terminal import Terminal

QUIET = Terminal(quiet=True)


@dataclass
class Fake:
    """A box whose running program is said to be 1.0, and that notes what would take its place."""

    programs: Programs
    layout: StateLayout
    taken: list[tuple[str, tuple[str, ...], str]] = field(default_factory=list)

    def execute(self, python: Path, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.taken.append((python.parent.parent.name, tuple(words), environment[HANDED]))

    def handover(self, **changed: Any) -> Handover:
        words = ["install", "usb"]
        return Handover(self.programs, lambda: words, QUIET, execute=self.execute, **{"environment": {}, **changed})

    def supervise(self, environment: Mapping[str, str] | None = None) -> None:
        supervise(self.layout, self.programs, ["serve"], QUIET, execute=self.execute, environment=environment or {})

    def version(self, number: int, software: str) -> None:
        folder = self.layout.version(number)
        folder.mkdir(parents=True)
        (folder / "version.json").write_bytes(canonical.encode({"software": software}))
        (folder / "version.mac").write_bytes(b"mac")
        current.activate(self.layout, number)


def program(folder: Path, version: str) -> None:
    (folder / version).mkdir(parents=True, exist_ok=True)
    (folder / version / MARKER).write_text("{}")


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    opt = tmp_path / "opt"
    program(opt, "1.0")
    monkeypatch.setattr("sys.prefix", str(opt / "1.0"))
    layout = StateLayout(tmp_path / "state")
    layout.make()
    return Fake(Programs(opt), layout)


def medium(*versions: str) -> TrustedRepository:
    @dataclass
    class Listed:
        targets: Mapping[str, TargetFile]

    return cast("TrustedRepository", Listed({f"runtime/{v}/x-1-py3-none-any.whl": TargetFile(1, v) for v in versions}))


def test_a_newer_program_of_the_medium_does_the_install(box: Fake, tmp_path: Path) -> None:
    """It is told that it was handed the work, so it hands it on to nobody."""
    program(tmp_path / "opt", "2.0")
    box.handover()(tmp_path, medium("1.5", "2.0"))
    assert box.taken == [("2.0", ("install", "usb"), "2.0")]
    with pytest.raises(SystemFailed, match=r"program 2\.0 was to install this, and 1\.0 does"):
        box.handover(environment={HANDED: "2.0"})(tmp_path, medium("2.0"))


@pytest.mark.parametrize("versions", [(), ("1.0",), ("0.9", "1.0.0"), ("0.9",)])
def test_nothing_else_takes_its_place(box: Fake, tmp_path: Path, versions: tuple[str, ...]) -> None:
    """No software, the same, or older: this program goes on, and the version names it."""
    assert box.handover()(tmp_path, medium(*versions)) == "1.0"
    assert box.taken == []


def test_content_can_be_taken_alone(box: Fake, tmp_path: Path) -> None:
    """Where somebody says so."""
    assert box.handover(keeps=True)(tmp_path, medium("2.0")) == "1.0"


def test_a_program_of_somebody_else_is_not_installed(box: Fake, tmp_path: Path) -> None:
    """Whatever root the state knows; where the medium brings nothing newer it is a warning."""

    def foreign(_medium: Path, _trusted: TrustedRepository) -> TrustedRepository:
        raise UnknownRoot("somebody else")

    with pytest.raises(UnknownRoot):
        box.handover(vouched=foreign)(tmp_path, medium("2.0"))
    assert box.taken == []
    assert box.programs.installed() == ["1.0"]
    assert box.handover(vouched=foreign)(tmp_path, medium("1.0")) == "1.0"


def test_who_may_not_write_programs_is_told(box: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the two ways out; a program that is there already needs nobody's right."""
    monkeypatch.setattr(Programs, "writable", lambda _: False)
    with pytest.raises(BadInput, match="may not install it") as caught:
        box.handover()(tmp_path, medium("2.0"))
    assert "--keep-program" in caught.value.hint
    program(tmp_path / "opt", "2.0")
    box.handover()(tmp_path, medium("2.0"))
    assert box.taken[0][0] == "2.0"


def test_the_program_of_the_version_that_serves_supervises(box: Fake, tmp_path: Path) -> None:
    """Newer or, after a rollback, older; once only, and never where it is this one or none is named."""
    for number, software in enumerate(("", "1.0", "2.0", "0.9"), 1):
        program(tmp_path / "opt", software or "1.0")
        box.version(number, software)
        box.supervise()
    assert [taken[0] for taken in box.taken] == ["2.0", "0.9"]
    box.supervise({HANDED: "0.9"})
    assert len(box.taken) == 2


def test_a_program_that_does_not_come_up_as_supervisor_gives_way(box: Fake, tmp_path: Path) -> None:
    """After its chances the one that starts at boot keeps the service; a program that came up has them anew."""
    program(tmp_path / "opt", "2.0")
    box.version(1, "2.0")
    for _ in range(MOST_TRIES + 2):
        box.supervise()
    assert len(box.taken) == MOST_TRIES
    assert box.programs.own() == "1.0"
    came_up(box.layout, box.programs)
    box.supervise()
    assert len(box.taken) == MOST_TRIES
    (box.layout.root / "supervisor.json").write_bytes(b"damaged")
    box.supervise()
    assert len(box.taken) == MOST_TRIES + 1


@pytest.mark.parametrize("record", [b"{}", b"damaged", b'{"software":"../../evil"}', b'{"software":"9.9"}'])
def test_a_record_that_names_nothing_keeps_this_program(box: Fake, record: bytes) -> None:
    """Serving comes first: what cannot be read, is no version, or is not installed here, takes nobody's place."""
    box.version(1, "")
    (box.layout.version(1) / "version.json").write_bytes(record)
    box.supervise()
    assert box.taken == []


def test_the_service_starts_with_what_has_supervised(box: Fake, tmp_path: Path) -> None:
    """An install moves the link once the new program supervises, and removes what nothing uses any more."""
    opt = tmp_path / "opt"
    for version in ("0.8", "0.9", "2.0"):
        program(opt, version)
    DISK.replace_link(opt / "current", "0.9")
    box.version(1, "0.9")
    box.version(2, "1.0")
    assert tidy(box.layout, box.programs, served=True) == ("0.8",)
    assert box.programs.at_boot() == "0.9"
    came_up(box.layout, box.programs)
    assert supervising(box.layout) == "1.0"
    assert tidy(box.layout, box.programs, served=False) == ()
    assert box.programs.at_boot() == "0.9"
    assert tidy(box.layout, box.programs, served=True) == ()
    assert box.programs.at_boot() == "1.0"
    assert box.programs.installed() == ["0.9", "1.0", "2.0"]


def test_a_program_that_no_version_names_is_not_started_at_boot(box: Fake, tmp_path: Path) -> None:
    """The service's user may write what it likes about who supervises."""
    opt = tmp_path / "opt"
    for version in ("0.9", "1.0"):
        program(opt, version)
    DISK.replace_link(opt / "current", "1.0")
    box.version(1, "1.0")
    box.layout.run.mkdir(exist_ok=True)
    (box.layout.run / "program").write_text("0.9")
    tidy(box.layout, box.programs, served=True)
    assert box.programs.at_boot() == "1.0"
