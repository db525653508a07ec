"""`lifeboat-appliance doctor`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.cli.options import command
from bundler.terminal import EXIT_FINDINGS, Terminal


@click.command()
@command
def doctor(terminal: Terminal, *, state: Path) -> None:
    """Examine this machine and this box; exit code 8 where something is wrong."""
    from appliance.host.doctor import BAD, examine

    findings = examine(state, datetime.now(UTC))
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:5} {finding.subject}: {finding.fact}")
        if finding.hint:
            lines.append(f"      hint: {finding.hint}")
    terminal.result({"findings": [asdict(finding) for finding in findings]}, lines)
    for finding in findings:
        if finding.subject == "seal":
            terminal.alarm(f"{finding.fact}")
    if any(finding.state == BAD for finding in findings):
        sys.exit(EXIT_FINDINGS)
