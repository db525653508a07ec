"""What the commands share: the terminal, `--json` and `--state`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bundler.terminal import EXIT_INTERRUPTED, Terminal, run

F = TypeVar("F", bound=Callable[..., Any])


programs_option = click.option(
    "--programs",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="LIFEBOAT_PROGRAMS",
    default=Path("/opt/lifeboat"),
    show_default=True,
    help="Where the versions of this program are installed.",
)


def command(function: F) -> Callable[..., None]:
    """Gives a command `--state`, `--json` and a `Terminal`, and turns errors into exit codes."""

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
        terminal = Terminal(json_output=json_output)

        try:
            code = run(lambda: function(terminal, *args, **options), terminal, "appliance,cpu")
        except click.Abort:  # Ctrl-C at a question, or nobody to ask
            terminal.note("hint: give the answer by an option where nobody can be asked (see --help)")
            code = EXIT_INTERRUPTED
        if code:
            sys.exit(code)

    return wrapper
