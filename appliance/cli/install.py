"""`lifeboat-appliance install`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.cli.options import command
from bundler.terminal import Terminal, size

if TYPE_CHECKING:
    from appliance.store.install import InstallReport, Proof
    from bundler.format.bundle import Bundle


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
@click.option(
    "--restore",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Backup of this site, as the MSP handed it on; onto an empty state.",
)
@command
def install(
    terminal: Terminal,
    *,
    medium: Path,
    state: Path,
    site: str | None,
    site_code_file: Path | None,
    again: bool,
    restore: Path | None,
) -> None:
    """Verify the newest bundle of the repository in MEDIUM, check that it answers, and switch to it."""
    from appliance.host.authority import authority_fingerprint
    from appliance.host.switching import Switcher, is_served
    from appliance.store.backup import restorer
    from appliance.store.enrol import Enroller
    from appliance.store.install import Installer
    from appliance.store.layout import StateLayout
    from appliance.store.slots import KEY_FILE
    from appliance.store.systemd_creds import best_key

    def prove(bundle: Bundle) -> Proof:
        # Only here: engines and embeddings take most of a second to import, and most refreshes find nothing new.
        from appliance.host.prove import Prover

        return Prover(layout.run, models=not is_served(layout))(bundle)

    layout = StateLayout(state)
    layout.make()
    switch = Switcher(layout, terminal).switch
    now = datetime.now(UTC)
    report = Installer(
        layout,
        Enroller(site, lambda: _code(site_code_file)),
        prove,
        switch,
        terminal,
        again=again,
        machine=lambda: best_key() or KEY_FILE,
        restore=None if restore is None else restorer(restore, terminal),
    ).install(medium, now)
    _tell(terminal, report, authority_fingerprint(layout, now))


def _tell(terminal: Terminal, report: InstallReport, fingerprint: str) -> None:
    if report.changed:
        lines = [f"installed bundle {report.bundle} as version {report.version} ({size(report.copied_bytes)} copied)"]
    else:
        lines = [f"bundle {report.bundle} is installed already, as version {report.version}: nothing to do"]
    lines += [f"  {line}" for line in report.selftest]
    lines.append(f"  this box's CA (TLS off loopback, /ca.crt): SHA-256 {fingerprint}")
    if not report.model_tested:
        terminal.warn("the local model was not tested: see the self-test lines")
    terminal.result({**asdict(report), "ca_sha256": fingerprint}, lines)
    terminal.good("GREEN: this box can answer. Next: lifeboat-appliance token create NAME, lifeboat-appliance serve")


def _code(file: Path | None) -> str:
    from bundler.format.site import find_code

    if file is not None:
        return find_code(file.read_text(encoding="utf-8", errors="replace"))
    return str(click.prompt("Site code (on the site card)", err=True))
