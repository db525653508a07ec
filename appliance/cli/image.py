"""`lifeboat-appliance image`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from appliance.cli.options import command
from bundler.terminal import Terminal, size


@click.group()
def image() -> None:
    """Container images of the serving version: loaded into podman or docker, never started."""


@image.command("list")
@command
def list_images(terminal: Terminal, *, state: Path) -> None:
    """List the images of the serving version, and what became of them."""
    from appliance.host.images import Images
    from appliance.store.layout import StateLayout

    found = Images(StateLayout(state), terminal).shown()
    lines = [f"{item.name}  {item.platform}  {item.digest}  {size(item.length_bytes)}" for item in found]
    told = [f"  {item.told}" for item in found if item.told]
    terminal.result({"images": [asdict(item) for item in found]}, [*(lines or ["no images"]), *told])


@image.command()
@click.option("--engine", type=click.Choice(["podman", "docker"]), help="The first of these that is here.")
@command
def load(terminal: Terminal, *, engine: str | None, state: Path) -> None:
    """Load the images of the serving version, where `install` did not; root's images are root's alone."""
    from appliance.host.container_engine import find_engine
    from appliance.host.images import Images
    from appliance.store.layout import StateLayout
    from bundler.format.errors import SystemFailed

    images = Images(StateLayout(state), terminal, partial(find_engine, engine or ""))
    record = images.load(datetime.now(UTC))
    told = record.images if record is not None else ()
    terminal.result({"images": [asdict(item) for item in told]}, [item.line for item in told] or ["no images"])
    if failed := [item.name for item in told if item.problem]:
        raise SystemFailed(f"not loaded: {', '.join(failed)}", "the box serves all the same; see the lines above")


@image.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@command
def export(terminal: Terminal, *, name: str, folder: Path, state: Path) -> None:
    """Write the image NAME as an OCI layout into FOLDER, in the clear, with its signatures."""
    from appliance.host.images import Images
    from appliance.store.layout import StateLayout

    length = Images(StateLayout(state), terminal).export(name, folder)
    lines = [f"{folder}: {size(length)}, an OCI layout", f"  skopeo copy oci:{folder}:{name} DESTINATION"]
    terminal.result({"image": name, "folder": str(folder), "length_bytes": length}, lines)
