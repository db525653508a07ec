"""`lifeboat-appliance unit`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from appliance.cli.options import machine_command, programs_option
from bundler.terminal import Terminal


@click.command()
@click.option("--user", default="lifeboat", show_default=True, help="Whom the service runs as.")
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen on.")  # noqa: S104 - with TLS
@click.option("--port", type=click.IntRange(1024, 65_535), default=8443, show_default=True, help="Port to listen on.")
@click.option("--name", "names", multiple=True, help="A further name by which clients reach this box.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain to serve; see `serve --help`.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key.")
@click.option("--gpu", is_flag=True, help="Let the service reach a GPU of NVIDIA.")
@click.option(
    "--program", type=click.Path(path_type=Path), help="The program to run.  [default: the one that is asked]"
)
@programs_option
@machine_command
def unit(
    terminal: Terminal,
    *,
    user: str,
    host: str,
    port: int,
    names: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    gpu: bool,
    program: Path | None,
    programs: Path,
    state: Path,
) -> None:
    """Print the systemd unit for this box, for /etc/systemd/system/lifeboat.service."""
    from appliance.host.certificates import both
    from appliance.host.unit import Service, check_program, unit_text
    from appliance.store.layout import StateLayout
    from appliance.store.programs import CURRENT, Programs
    from appliance.store.seal import Seal
    from appliance.store.slots import KEY_FILE

    if program is None:
        check_program(Path(sys.executable).resolve())  # a link in /opt may lead to an interpreter under /home
        program = Path(sys.executable).absolute().with_name("lifeboat-appliance")
        if Programs(programs).own():  # a path that stays when the program changes
            program = programs / CURRENT / "bin" / "lifeboat-appliance"
    machine = Seal(StateLayout(state).keys).slots.machine
    sealed = machine not in ((), (KEY_FILE,))
    files = both(tls_cert, tls_key)
    text = unit_text(Service(program, programs, state, user, host, port, gpu, sealed=sealed, names=names, tls=files))
    terminal.result({"unit": text}, [text.rstrip("\n")])
