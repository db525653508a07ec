"""`lifeboat-appliance install`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from appliance.cli.options import first_command, programs_option
from bundler.terminal import Terminal, size

if TYPE_CHECKING:
    from appliance.host.handover import Handover
    from appliance.store.install import InstallReport
    from appliance.store.layout import StateLayout
    from appliance.store.programs import Programs
    from appliance.store.proof import Proof
    from bundler.format.bundle import Bundle


@dataclass
class _Code:
    """The code of the site card: asked for once, and handed on to a program that takes over."""

    file: Path | None
    known: list[str] = field(default_factory=list)

    def __call__(self) -> str:
        if not self.known:
            self.known.append(self._asked() if self.file is None else self._written(self.file))
        return self.known[0]

    @staticmethod
    def _written(file: Path) -> str:
        from bundler.format.site import find_code

        return find_code(file.read_text(encoding="utf-8", errors="replace"))

    def _asked(self) -> str:
        return str(click.prompt("Site code (on the site card)", err=True))

    def words(self) -> list[str]:
        """Returns the options that tell the code to a program that takes over, where it was asked for."""
        if not self.known:
            return []
        # In memory, open for that program: neither a file nor a command line may show it.
        number = os.memfd_create("code", 0)
        os.write(number, self.known[0].encode())
        return ["--site-code-file", f"/dev/fd/{number}"]


@click.command()
@click.argument("medium", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--site", help="The site's name, where the medium holds several.")
@click.option(
    "--site-code-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File that holds the site card, or the code on it alone; asked for otherwise. First contact only.",
)
@click.option(
    "--again",
    is_flag=True,
    help="Read everything again, mend what the disk damaged, and install also a bundle that was rolled back.",
)
@programs_option
@click.option("--keep-program", is_flag=True, help="Leave out newer software of the medium.")
@click.option("--images/--no-images", default=True, help="Load container images into podman or docker, where here.")
@click.option(
    "--restore",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Backup of this site, as the MSP handed it on; onto an empty state.",
)
@first_command
def install(
    terminal: Terminal,
    *,
    medium: Path,
    state: Path,
    site: str | None,
    site_code_file: Path | None,
    again: bool,
    programs: Path,
    keep_program: bool,
    images: bool,
    restore: Path | None,
) -> None:
    """Verify the newest bundle of the repository in MEDIUM, check that it answers, and switch to it."""
    from appliance.host.authority import authority_fingerprint
    from appliance.host.switching import Switcher, is_served
    from appliance.store.backup import restorer
    from appliance.store.enrol import Enroller
    from appliance.store.install import Installer
    from appliance.store.layout import StateLayout
    from appliance.store.programs import Programs
    from appliance.store.slots import KEY_FILE
    from appliance.store.systemd_creds import best_key

    code, layout, here = _Code(site_code_file), StateLayout(state), Programs(programs)
    layout.make()
    told = {"--site": site, "--restore": None if restore is None else str(restore)}
    said = {"--again": again, "--json": terminal.json_output, "--no-images": not images}
    words = ["install", str(medium), "--state", str(state), "--programs", str(programs), *_flags(told, said)]
    now = datetime.now(UTC)
    installer = Installer(
        layout,
        Enroller(site, code),
        lambda bundle: _proved(bundle, layout.run, models=not is_served(layout)),
        Switcher(layout, terminal).switch,
        terminal,
        again=again,
        program=_handover(here, lambda: [*words, *code.words()], terminal, keeps=keep_program, now=now),
        machine=lambda: best_key() or KEY_FILE,
        restore=None if restore is None else restorer(restore, terminal),
    )
    report = installer.install(medium, now)
    served = is_served(layout)
    after = [*_images(layout, terminal, now, wanted=images), *_tidied(layout, here, served=served)]
    _tell(terminal, report, [*_told(report), *after], authority_fingerprint(layout, now), served=served)


def _flags(told: Mapping[str, str | None], said: Mapping[str, bool]) -> list[str]:
    values = (word for name, value in told.items() if value for word in (name, value))
    return [*values, *(name for name, value in said.items() if value)]


def _images(layout: StateLayout, terminal: Terminal, now: datetime, *, wanted: bool) -> list[str]:
    from appliance.host.images import after_switch

    return [f"  {line}" for line in after_switch(layout, terminal, now, wanted=wanted)]


def _tidied(layout: StateLayout, here: Programs, *, served: bool) -> list[str]:
    from appliance.host.handover import tidy

    return [f"  program {version} is removed: nothing uses it" for version in tidy(layout, here, served=served)]


def _handover(
    here: Programs, words: Callable[[], list[str]], terminal: Terminal, *, keeps: bool, now: datetime
) -> Handover:
    from appliance.host.handover import Handover
    from appliance.store.pinned import PinnedRoot

    return Handover(here, words, terminal, keeps=keeps, vouched=PinnedRoot(here.folder, now).vouched)


def _proved(bundle: Bundle, run: Path, *, models: bool) -> Proof:
    # Only here: engines and embeddings take most of a second to import, and most refreshes find nothing new.
    from appliance.host.prove import Prover
    from appliance.store.owner import as_root

    with ExitStack() as held:
        if os.getuid() == 0 != os.geteuid():
            # The processes of a proof are root's; their sockets lie where nobody else puts links.
            held.enter_context(as_root())
            run = Path(held.enter_context(TemporaryDirectory(prefix="lifeboat-")))
        return Prover(run, models=models)(bundle)


def _tell(terminal: Terminal, report: InstallReport, lines: list[str], ca_sha256: str, *, served: bool) -> None:
    lines.append(f"  this box's CA (TLS off loopback, /ca.crt): SHA-256 {ca_sha256}")
    if not report.model_tested:
        terminal.warn("the local model was not tested: see the self-test lines")
    terminal.result({**asdict(report), "ca_sha256": ca_sha256}, lines)
    if served:
        terminal.good(f"GREEN: version {report.version} serves")
    else:
        terminal.good(
            "GREEN: this box can answer. Next: lifeboat-appliance token create NAME, lifeboat-appliance serve"
        )


def _told(report: InstallReport) -> list[str]:
    if report.changed:
        first = [f"installed bundle {report.bundle} as version {report.version} ({size(report.copied_bytes)} copied)"]
    else:
        first = [f"bundle {report.bundle} is installed already, as version {report.version}: nothing to do"]
        first += ["its last self-test, which was not run again now:"]
    return [*first, *(f"  {line}" for line in report.selftest)]
