"""What the commands share: the terminal, `--json`, and how a passphrase comes in."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bundler.format.errors import BadInput
from bundler.terminal import EXIT_INTERRUPTED, Terminal, run

if TYPE_CHECKING:
    from bundler.repository.keyring import Keyring

LEAST_PASSPHRASE = 12
F = TypeVar("F", bound=Callable[..., Any])


def command(function: F) -> Callable[..., None]:
    """Gives a command `--json` and a `Terminal` as first argument, and turns errors into exit codes."""

    @click.option("--json", "json_output", is_flag=True, help="Print the result as JSON.")
    @functools.wraps(function)
    def wrapper(*args: Any, json_output: bool, **options: Any) -> None:
        terminal = Terminal(json_output=json_output)
        try:
            code = run(lambda: function(terminal, *args, **options), terminal, "bundler,cpu")
        except click.Abort:  # a no, Ctrl-C at a question, or nobody to ask
            terminal.note("stopped: a question was not answered (--yes and --passphrase-file answer them beforehand)")
            code = EXIT_INTERRUPTED
        if code:
            sys.exit(code)

    return wrapper


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="LIFEBOAT_HOME",
    default=lambda: Path.home() / ".lifeboat",
    show_default="~/.lifeboat",
    help="The builder's own folder: keyring, ledger, cache.",
)
repository_option = click.option(
    "--repository",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the customer's repository; made if it is new, in a folder that is there.",
)
passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File whose first line is the keyring's passphrase; asked for on the terminal otherwise.",
)


def keyring_of(home: Path, passphrase_file: Path | None) -> Keyring:
    """Returns the keyring; its passphrase is asked for only when a key is opened."""
    from bundler.repository.keyring import Keyring

    return Keyring(home, lambda: passphrase(passphrase_file))


def new_passphrase(file: Path | None) -> str:
    """Returns a passphrase that keys will be encrypted with; raises BadInput if it is short.

    Keys may be stolen while they lie encrypted: the passphrase is what the thief then has to guess.
    """
    text = passphrase(file, confirm=True)
    if len(text) < LEAST_PASSPHRASE:
        raise BadInput(f"the passphrase has {len(text)} characters, at least {LEAST_PASSPHRASE} are needed")
    return text


def first_line(file: Path, what: str = "the file") -> str:
    """Returns the first line of a file that holds a secret; raises BadInput where it cannot be read as text."""
    try:
        with file.open("rb") as opened:  # a link or a pipe is the operator's own business here
            return opened.readline(4096).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{what} {file} cannot be read: {error}") from error


def passphrase(file: Path | None, *, confirm: bool = False) -> str:
    """Returns the keyring's passphrase from the file or the terminal; raises BadInput if it is empty."""
    if file is None:
        text = str(click.prompt("Passphrase of the keyring", hide_input=True, confirmation_prompt=confirm, err=True))
    else:
        text = first_line(file, "the passphrase file")
    if not text:
        raise BadInput("the passphrase is empty")
    return text
