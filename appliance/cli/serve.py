"""`lifeboat-appliance serve`."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.cli.options import programs_option, service_command
from bundler.terminal import Terminal


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; TLS where not loopback.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8443, show_default=True, help="0 takes a free one.")
@click.option("--name", "names", multiple=True, help="A further name by which clients reach this box.")
@click.option("--port-file", type=click.Path(path_type=Path, dir_okay=False), help="Write the URL here once it serves.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Serve this certificate chain, PEM, leaf first.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key, PEM, closed to others.")
@programs_option
@click.option("--dense", type=click.Choice(["exact", "chroma"]), default="exact", show_default=True, help="Search.")
@click.option("--attended", is_flag=True, help="Ask for the passphrase of the seal, where nothing else opens it.")
@service_command
def serve(
    terminal: Terminal,
    *,
    host: str,
    port: int,
    names: tuple[str, ...],
    port_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    programs: Path,
    dense: str,
    attended: bool,
    state: Path,
) -> None:
    """Serve the installed version until stopped.

    With --tls-cert and --tls-key every client is shown that certificate, on loopback too, and the names in it are
    names of this box; renewed files are taken within seconds. Without them the box makes its own, off loopback.
    """
    from appliance.host.certificates import with_files
    from appliance.host.listen import Listen
    from appliance.host.serve import serve_box
    from appliance.store.layout import StateLayout
    from appliance.store.seal import Seal

    seal = Seal(StateLayout(state).keys).key() if attended else ""
    serve_box(
        state, with_files(Listen(host, port, names, port_file, dense, seal), tls_cert, tls_key), terminal, programs
    )
