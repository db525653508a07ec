"""`lifeboat-appliance unit`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from appliance.cli.options import command
from bundler.terminal import Terminal


@click.command()
@click.option("--user", default="lifeboat", show_default=True, help="Whom the service runs as.")
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen on.")  # noqa: S104 - with TLS
@click.option("--port", type=click.IntRange(1024, 65_535), default=8443, show_default=True, help="Port to listen on.")
@click.option("--gpu", is_flag=True, help="Let the service reach a GPU of NVIDIA.")
@command
def unit(terminal: Terminal, *, user: str, host: str, port: int, gpu: bool, state: Path) -> None:
    """Print the systemd unit for this box, for /etc/systemd/system/lifeboat.service."""
    from appliance.host.unit import Service, unit_text
    from bundler.format.errors import BadInput

    program = Path(sys.executable).absolute().with_name("lifeboat-appliance")
    try:
        text = unit_text(Service(program, state, user, host, port, gpu))
    except ValueError as error:
        raise BadInput(str(error), "choose another --state, --user or --host") from error
    terminal.result({"unit": text}, [text.rstrip("\n")])
