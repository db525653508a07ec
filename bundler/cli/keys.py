"""`lifeboat keys`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bundler.cli.options import command, home_option, keyring_of, new_passphrase, passphrase_option
from bundler.cli.token import token
from bundler.terminal import Terminal

_duty = click.argument("duty", type=click.Choice(["root", "release", "refresh"]))
_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_request = click.option(
    "--request", type=click.Path(path_type=Path, dir_okay=False), help="Write what is to be signed to this file."
)


@click.group()
def keys() -> None:
    """Signing keys: who may sign what, rotation, cards, and signing by file; tokens of hubs."""


keys.add_command(token)


@keys.command("list")
@home_option
@command
def list_keys(terminal: Terminal, *, home: Path) -> None:
    """Show who signs for what by the newest root, and which keys are here."""
    from bundler.repository.keyring import Keyring
    from bundler.repository.roots import DUTIES, Roots

    ring, root = Keyring(home, str), Roots(home).newest().signed
    here = {ring.public(name).keyid: (name, ring.has_secret(name)) for name in ring.names()}
    lines = [f"root version {root.version}, expires {root.expires:%Y-%m-%d}"]
    rows: list[dict[str, Any]] = []
    for duty, roles in DUTIES.items():
        role = root.roles[roles[0]]
        lines.append(f"{duty}: {role.threshold} of {len(role.keyids)} must sign")
        for keyid in role.keyids:
            name, secret = here.get(keyid, ("", False))
            place = "here" if secret else "elsewhere"
            lines.append(f"  {keyid[:32]}  {place:9}  {name}")
            rows.append({"duty": duty, "key": keyid, "name": name, "here": secret, "threshold": role.threshold})
    signing = {row["key"] for row in rows}
    idle = [name for keyid, (name, secret) in here.items() if secret and keyid not in signing]
    if idle:
        lines.append(f"signs for nothing any more, or not yet: {', '.join(idle)}")
    terminal.result({"root": root.version, "keys": rows, "idle": idle}, lines)


@keys.command("new")
@click.argument("name")
@home_option
@passphrase_option
@command
def new(terminal: Terminal, *, name: str, home: Path, passphrase_file: Path | None) -> None:
    """Make one more signing key NAME; it counts once `keys change` gives it a duty."""
    ring = keyring_of(home, passphrase_file)
    key = ring.new_key(name)
    public = ring.folder / f"{name}.pub"
    lines = [f"key {key.keyid}", f"public half: {public}", f"next: lifeboat keys change DUTY --add {public}"]
    terminal.result({"name": name, "key": key.keyid, "public": str(public)}, lines)


@keys.command("change")
@_duty
@click.option("--add", "added", multiple=True, type=_file, help="Public key file of a key that may sign from now on.")
@click.option("--remove", "removed", multiple=True, metavar="KEY", help="Id, or its beginning, of a key that may not.")
@click.option("--threshold", type=click.IntRange(1), help="How many keys must sign.")
@_request
@home_option
@passphrase_option
@command
def change(
    terminal: Terminal,
    *,
    duty: str,
    added: tuple[Path, ...],
    removed: tuple[str, ...],
    threshold: int | None,
    request: Path | None,
    home: Path,
    passphrase_file: Path | None,
) -> None:
    """Make the next root, which changes who signs for DUTY; without options it renews the root's expiry."""
    from bundler.repository.keyring import read_public
    from bundler.repository.roots import Change, Roots, changed_root
    from bundler.repository.rotation import full_key_ids, take_root

    ring, roots, now = keyring_of(home, passphrase_file), Roots(home), datetime.now(UTC)
    newest = roots.newest()
    gone = full_key_ids(newest, duty, removed)
    wanted = Change(duty, [read_public(path) for path in added], gone, threshold)
    metadata = changed_root(newest, [wanted] if added or removed or threshold else [], now)
    _tell(terminal, take_root(metadata, ring, roots, request, now))


@keys.command("request")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--repository", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@home_option
@command
def request_targets(terminal: Terminal, *, file: Path, repository: Path, home: Path) -> None:
    """Write the repository's targets, as they are with a new expiry, to FILE to be signed elsewhere.

    A change of policy goes by `lifeboat policy change --request`.
    """
    from bundler.files import write_atomic
    from bundler.repository.keyring import Keyring
    from bundler.repository.publish import Publisher

    publisher = Publisher(repository, Keyring(home, str), datetime.now(UTC))
    metadata = publisher.next_targets(publisher.policy())
    write_atomic(file, metadata.to_bytes())
    lines = [f"wrote {file}; sign it with `lifeboat keys sign`, then `lifeboat keys merge`"]
    terminal.result({"request": str(file), "version": metadata.signed.version}, lines)


@keys.command("sign")
@click.argument("file", type=_file)
@click.option("--yes", is_flag=True, help="Sign without asking.")
@home_option
@passphrase_option
@command
def sign_file(terminal: Terminal, *, file: Path, yes: bool, home: Path, passphrase_file: Path | None) -> None:
    """Show what FILE asks for, and sign it with every key here that may."""
    from bundler.files import write_atomic
    from bundler.format.errors import NotReady
    from bundler.repository import signing
    from bundler.repository.roots import Roots

    roots = Roots(home)
    metadata = signing.read_request(file)
    for line in signing.describe(metadata, roots):
        terminal.note(line)
    if not yes:
        click.confirm("Sign this?", abort=True, err=True)
    signed = signing.sign(metadata, keyring_of(home, passphrase_file), roots)
    if not signed:
        raise NotReady("no key here may sign this", "see `lifeboat keys list`")
    write_atomic(file, metadata.to_bytes())
    found = signing.count(metadata, roots)
    lines = [f"signed with {len(signed)} keys; it has {found.valid} of {found.needed} signatures"]
    terminal.result({"signed": signed, "valid": found.valid, "needed": found.needed}, lines)


@keys.command("merge")
@click.argument("files", nargs=-1, required=True, type=_file)
@click.option("--repository", type=click.Path(path_type=Path, exists=True, file_okay=False), help="For targets.")
@home_option
@passphrase_option
@command
def merge_files(
    terminal: Terminal, *, files: tuple[Path, ...], repository: Path | None, home: Path, passphrase_file: Path | None
) -> None:
    """Join the signatures in copies of one request, and publish it once they are enough."""
    from bundler.repository import signing
    from bundler.repository.roots import Roots
    from bundler.repository.rotation import publish_merged

    metadata = signing.merge([signing.read_request(path) for path in files], Roots(home))
    done = publish_merged(metadata, keyring_of(home, passphrase_file), repository, datetime.now(UTC))
    terminal.result({"published": done}, [done])


@keys.command("card")
@click.argument("name")
@home_option
@passphrase_option
@command
def card(terminal: Terminal, *, name: str, home: Path, passphrase_file: Path | None) -> None:
    """Print the card of a key (or of `ledger`): what it may do, and the encrypted key itself."""
    from bundler.repository.cards import key_card
    from bundler.repository.keyring import LEDGER

    ring = keyring_of(home, passphrase_file)
    key = str(ring.ledger_identity().recipient) if name == LEDGER else ring.public(name).keyid
    text = key_card(ring.msp().name, name, str(ring.folder / f"{name}.key"), key, ring.sealed(name))
    terminal.result({"card": text}, [text])


@keys.command("restore")
@click.argument("name")
@click.argument("file", type=click.File("r", encoding="utf-8", errors="replace"))
@home_option
@passphrase_option
@command
def restore(terminal: Terminal, *, name: str, file: Any, home: Path, passphrase_file: Path | None) -> None:
    """Take the key NAME back from the lines of its card, typed into FILE (or `-`)."""
    from bundler.repository.cards import read_secret_lines

    told = keyring_of(home, passphrase_file).restore(name, read_secret_lines(file.read(65_536)))
    terminal.result({"name": name, "key": told}, [f"key {name} is back: {told}"])


@keys.command("passphrase")
@click.option("--new-passphrase-file", type=click.Path(path_type=Path, dir_okay=False), help="Its first line.")
@home_option
@passphrase_option
@command
def change_passphrase(
    terminal: Terminal, *, new_passphrase_file: Path | None, home: Path, passphrase_file: Path | None
) -> None:
    """Encrypt every key and token here with another passphrase; cards that were printed keep the old one."""
    from bundler.repository.hub_tokens import HubTokens

    ring = keyring_of(home, passphrase_file)
    names = ring.change_passphrase(lambda: new_passphrase(new_passphrase_file))
    lines, tokens = [f"encrypted anew: {', '.join(names)}; print their cards again"], HubTokens(ring).addresses()
    lines += [f"and the tokens for {', '.join(tokens)}"] if tokens else []
    terminal.result({"keys": names, "tokens": tokens}, lines)


def _tell(terminal: Terminal, taken: Any) -> None:
    for line in taken.lines:
        terminal.note(line)
    if taken.request is None:
        lines = [f"root version {taken.version} is signed; take it up with `lifeboat policy resign` in each repository"]
    else:
        lines = [f"{taken.valid} of {taken.needed} signatures: have {taken.request} signed, then `lifeboat keys merge`"]
    request = None if taken.request is None else str(taken.request)
    terminal.result({"version": taken.version, "published": request is None, "request": request}, lines)
