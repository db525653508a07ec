"""`lifeboat inspect`, `verify`, `diff` and `export`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from bundler.cli.options import command, home_option, passphrase, passphrase_option
from bundler.terminal import Terminal, size

_folder = click.argument("repository", type=click.Path(path_type=Path, exists=True, file_okay=False))
_deep = click.option(
    "--deep/--transport",
    default=False,
    help="Decrypt with the builder's ledger and check every chunk and reference, or only what a courier can.",
)


@click.command()
@_folder
@click.option("--contents", is_flag=True, help="Open the index with the builder's ledger and list the assets.")
@click.option("--sbom", "document", flag_value="sbom", help="Print the bill of materials (CycloneDX) of a bundle.")
@click.option("--provenance", "document", flag_value="provenance", help="Print where a bundle comes from (SLSA).")
@click.option("--public", is_flag=True, help="With these: what lies beside the bundle for who has no key.")
@click.option("--bundle", help="With these: which bundle; the newest otherwise.")
@home_option
@passphrase_option
@command
def inspect(
    terminal: Terminal,
    *,
    repository: Path,
    contents: bool,
    document: str | None,
    public: bool,
    bundle: str | None,
    home: Path,
    passphrase_file: Path | None,
) -> None:
    """Show the bundles in REPOSITORY, or what one of them says of itself."""
    if document is not None:
        _show(terminal, repository, document, bundle, home, None if public else passphrase_file, public=public)
        return
    if public or bundle:
        raise click.UsageError("--public and --bundle go with --sbom or --provenance")
    from bundler.inspection import summaries, trust
    from bundler.repository.software import carried, installer_sha256

    identities = _identities(home, passphrase_file) if contents else None
    root = _own_root(terminal, home)
    found = summaries(repository, root, identities, datetime.now(UTC))
    lines = []
    for item in found:
        mark = "" if item.allowed else "  (revoked, or below the policy's epoch or sequence)"
        lines.append(f"{item.bundle}  made {item.made}  {size(item.length_bytes)} in {item.volumes} volumes{mark}")
        lines += [f"  content {item.content_sha256}"] if item.content_sha256 else []
        lines += [f"  to be read without a key: {', '.join(item.beside)}"] if item.beside else []
        lines += [f"  {asset}" for asset in item.assets]
    trusted = trust(repository, root, datetime.now(UTC))
    software, script = carried(trusted), installer_sha256(trusted)
    lines = [*(lines or ["no bundles"]), *(item.line for item in software)]
    lines += [f"install.sh  SHA-256 {script}"] if script else []
    value = {"bundles": [asdict(item) for item in found], "software": [asdict(item) for item in software]}
    terminal.result({**value, "installer_sha256": script}, lines)


def _show(
    terminal: Terminal,
    repository: Path,
    document: str,
    bundle: str | None,
    home: Path,
    passphrase_file: Path | None,
    *,
    public: bool,
) -> None:
    from bundler.provenance.shown import beside, inside

    root, now = _own_root(terminal, home), datetime.now(UTC)
    if public:
        data = beside(repository, root, bundle, document, now)
    else:
        data = inside(repository, root, bundle, document, _identities(home, passphrase_file), now)
    terminal.result(json.loads(data), data.decode().splitlines())


@click.command()
@_folder
@click.option(
    "--root",
    "root_sha256",
    help="SHA-256 of the root that you trust, as on the site card.  [default: the keyring's own, if any]",
)
@_deep
@home_option
@passphrase_option
@command
def verify(
    terminal: Terminal,
    *,
    repository: Path,
    root_sha256: str | None,
    deep: bool,
    home: Path,
    passphrase_file: Path | None,
) -> None:
    """Check signatures and every file of REPOSITORY; needs no key unless --deep is given."""
    from bundler import inspection

    identities = _identities(home, passphrase_file) if deep else None
    root = _own_root(terminal, home) if root_sha256 is None else root_sha256
    found = inspection.verify(repository, root, identities, datetime.now(UTC), terminal)
    for warning in found.warnings:
        terminal.warn(warning)
    depth = "every chunk opened and checked" if found.deep else "ciphertext checked"
    lines = [f"{found.files} files, {size(found.length_bytes)}: whole; {depth}"]
    if found.software:
        lines.append(f"software: {', '.join(found.software)}")
    if found.left_out:
        lines.append(f"{found.left_out} signed files were not copied here: older bundles, or what the site has")
    terminal.result(asdict(found), lines)


@click.command()
@_folder
@click.argument("old", required=False)
@click.argument("new", required=False)
@home_option
@passphrase_option
@command
def diff(
    terminal: Terminal, *, repository: Path, old: str | None, new: str | None, home: Path, passphrase_file: Path | None
) -> None:
    """Show what changed from bundle OLD to NEW; without names, from the last but one to the newest."""
    from bundler.inspection import difference

    root = _own_root(terminal, home)
    found = difference(repository, root, old, new, _identities(home, passphrase_file), datetime.now(UTC))
    shared = f"{found.old} -> {found.new}: {size(found.new_volume_bytes)} of new volumes, {found.shared_volumes} shared"
    contents = [f"content {found.old_content} -> {found.new_content}"]
    contents = contents if found.old_content != found.new_content else [f"content {found.new_content}, the same"]
    terminal.result(asdict(found), [shared, *contents, *found.lines()])


@click.command()
@_folder
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.argument("assets", nargs=-1)
@click.option("--bundle", help="Which bundle; the newest otherwise.")
@click.option("--vectors", metavar="NAME", help="Write this collection out as a vector store again, with --as.")
@click.option("--as", "form", type=click.Choice(("chroma", "faiss", "jsonl", "npy")), help="The form of that store.")
@home_option
@passphrase_option
@command
def export(
    terminal: Terminal,
    *,
    repository: Path,
    target: Path,
    assets: tuple[str, ...],
    bundle: str | None,
    vectors: str | None,
    form: str | None,
    home: Path,
    passphrase_file: Path | None,
) -> None:
    """Write ASSETS (all, if none is named) of a bundle in REPOSITORY as plain files under TARGET."""
    from bundler import inspection

    if (vectors is None) != (form is None) or (vectors is not None and assets):
        raise click.UsageError("--vectors NAME and --as FORM go together, and without ASSETS")

    root = _own_root(terminal, home)
    opened = inspection.open_listed(repository, root, bundle, _identities(home, passphrase_file), datetime.now(UTC))
    with opened:
        if vectors is not None and form is not None:
            files = inspection.export_store(opened, target, vectors, form, terminal)
        else:
            files = inspection.export_assets(opened, target, assets, terminal)
    terminal.warn(f"{target} now holds plaintext")
    terminal.result({"files": [str(path) for path in files]}, [str(path) for path in files])


def _own_root(terminal: Terminal, home: Path) -> str | None:
    """Returns the digest of the MSP's first root, where its repositories start; warns a courier, who has none."""
    from bundler.format.trust.verify import digest
    from bundler.inspection import NO_ROOT
    from bundler.repository.roots import Roots

    roots = Roots(home)
    if roots.exist:
        return digest(roots.all()[0])
    terminal.warn(NO_ROOT)
    return None


def _identities(home: Path, passphrase_file: Path | None) -> Callable[[str], dict[str, str]]:
    from bundler.repository.keyring import Keyring
    from bundler.repository.ledger import read_ledger

    keyring = Keyring(home, lambda: passphrase(passphrase_file))
    return lambda repository: read_ledger(keyring, repository).identities
