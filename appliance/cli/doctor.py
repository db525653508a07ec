"""`lifeboat-appliance doctor`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.cli.options import machine_command
from bundler.terminal import EXIT_FINDINGS, Terminal


@click.command()
@click.option("--online", is_flag=True, help="Ask each provider for its models, with our key.")
@click.option("--port", type=click.IntRange(1, 65_535), help="The service's port.  [default: its unit's, or 8443]")
@click.option(
    "--support-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write what a supporter needs into this new .tar.gz: no secrets, no questions, no content.",
)
@machine_command
def doctor(terminal: Terminal, *, online: bool, port: int | None, support_file: Path | None, state: Path) -> None:
    """Examine this machine and this box; exit code 8 where something is wrong."""
    from appliance.host.doctor import Asked, examine
    from appliance.host.finding import BAD, GOOD
    from appliance.host.support import check_target, write_support_file

    if support_file is not None:
        check_target(support_file)
    asked = Asked(state, datetime.now(UTC), port, online)
    findings = examine(asked)
    if support_file is not None:
        names = write_support_file(support_file, asked, findings)
        terminal.note(f"wrote {support_file}: {', '.join(names)}. Look through it before you send it")
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:5} {finding.subject}: {finding.fact}")
        if finding.hint:
            lines.append(f"      hint: {finding.hint}")
    terminal.result({"findings": [asdict(finding) for finding in findings]}, lines)
    for finding in findings:
        if finding.subject == "seal" and finding.state != GOOD:
            terminal.alarm(f"{finding.fact}")
    if any(finding.state == BAD for finding in findings):
        sys.exit(EXIT_FINDINGS)
