"""What the commands share: the terminal, `--json` and `--state`."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click

from bundler.terminal import EXIT_INTERRUPTED, Terminal, run

_PASSPHRASE_FILE = "LIFEBOAT_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable
F = TypeVar("F", bound=Callable[..., Any])


programs_option = click.option(
    "--programs",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="LIFEBOAT_PROGRAMS",
    default=Path("/opt/lifeboat"),
    show_default=True,
    help="Where the versions of this program are installed.",
)


def command(function: F, *, stays_root: bool = False, needs_state: bool = True) -> Callable[..., None]:
    """Gives a command `--state`, `--json` and a `Terminal`, and turns errors into exit codes.

    Root runs it as the owner of the state (`appliance.store.owner`), but for a command that `stays_root`. A state that
    is not there is a misspelt one, but for a command that needs none.
    """

    @click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="LIFEBOAT_STATE",
        default=Path("/var/lib/lifeboat"),
        show_default=True,
        help="The box's state folder.",
    )
    @click.option("--json", "json_output", is_flag=True, help="Print the result as JSON.")
    @functools.wraps(function)
    def wrapper(*args: Any, json_output: bool, **options: Any) -> None:
        from appliance.store.memory import keep_in_memory
        from appliance.store.owner import as_owner
        from appliance.store.slots import asking

        terminal = Terminal(json_output=json_output)
        keep_in_memory()

        def called() -> None:
            if needs_state:
                _demand_state(options["state"])
            function(terminal, *args, **options)

        try:
            with asking(_passphrase), nullcontext() if stays_root else as_owner(options["state"]):
                code = run(called, terminal, "appliance,cpu")
        except click.Abort:  # Ctrl-C at a question, or nobody to ask
            terminal.note("hint: give the answer by an option where nobody can be asked (see --help)")
            code = EXIT_INTERRUPTED
        if code:
            sys.exit(code)

    return wrapper


# What begins a state, or says in its own words how a box is that has none.
first_command = functools.partial(command, needs_state=False)
# Of the machine, and not of the state alone.
machine_command = functools.partial(command, stays_root=True, needs_state=False)
# `serve` is told by its unit whom to run as.
service_command = functools.partial(command, stays_root=True)


def _demand_state(state: Path) -> None:
    from bundler.format.errors import NotReady

    if not state.is_dir():
        raise NotReady(
            f"there is no state at {state}",
            "look for a typing error in --state or LIFEBOAT_STATE; `lifeboat-appliance install MEDIUM` begins a state",
        )


def first_line(file: Path) -> str:
    """Returns the first line of a file that holds a secret; raises BadInput where it is no text or empty."""
    from bundler.format.errors import BadInput

    try:
        with file.open("rb") as opened:  # a link or a pipe is the operator's own business here
            line = opened.readline(4096).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
    if not line:
        raise BadInput(f"the first line of {file} is empty")
    return line


def _passphrase() -> str:
    """The passphrase of the seal, asked for only where nothing else opens it."""
    from bundler.format.errors import NotReady

    if name := os.environ.get(_PASSPHRASE_FILE):
        return first_line(Path(name))
    if not sys.stdin.isatty():
        fact = "a passphrase opens the seal of this box, and nobody is there to type it"
        raise NotReady(fact, f"name a file that holds it in {_PASSPHRASE_FILE}")
    return str(click.prompt("Passphrase of the seal", hide_input=True, err=True))
