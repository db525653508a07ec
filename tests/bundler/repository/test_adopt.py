"""A home rebuilt from cards: which chain of roots it takes from a folder that anybody may have written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from bundler.files import FileLayer
from bundler.format.errors import BadBundle, BadInput, Busy, LifeboatError, UnknownRoot
from bundler.format.limits import ROOT_BYTES
from bundler.format.trust.verify import digest
from bundler.repository.ceremony import adopt
from bundler.repository.keyring import Keyring, Msp
from bundler.repository.publish import Publisher
from bundler.repository.roots import DUTIES, Change, Roots, changed_root, first_root
from bundler.repository.rotation import take_root

NOW, QUICK = datetime(2026, 11, 21, 12, tzinfo=UTC), 10


def rotate(publisher: Publisher, keyring: Keyring, duty: str) -> None:
    """Gives a duty to a fresh key and takes it from the old one."""
    roots = Roots(keyring.home)
    fresh = keyring.new_key(f"{duty}-new", QUICK)
    change = Change(duty, [fresh], [keyring.public(duty).keyid])
    take_root(changed_root(roots.newest(), [change], NOW), keyring, roots, None, NOW)
    publisher.resign()


def rebuilt(tmp_path: Path, keyring: Keyring) -> Keyring:
    """Another home with the same keys, and nothing else yet."""
    ring = Keyring(tmp_path / "rebuilt", lambda: "correct horse")
    for name in keyring.names():
        ring.restore(name, keyring.sealed(name))
    ring.restore("ledger", keyring.sealed("ledger"))
    return ring


def adopted(ring: Keyring, publisher: Publisher, root: bytes, layer: FileLayer | None = None) -> int:
    roots = Roots(ring.home, layer or FileLayer())
    return adopt(ring, roots, "Northquay", publisher.folder, digest(root), NOW)


@pytest.mark.parametrize("duty", ["root", "release"])
@pytest.mark.parametrize("card", [0, 1, 2])
def test_any_root_of_the_chain_stands_for_all(
    tmp_path: Path, publisher: Publisher, keyring: Keyring, duty: str, card: int
) -> None:
    """Cards name the root that was the newest when they were printed: each gives the home the whole chain."""
    rotate(publisher, keyring, duty)
    rotate(publisher, keyring, "refresh")
    chain = Roots(keyring.home).all()
    ring = rebuilt(tmp_path, keyring)
    assert adopted(ring, publisher, chain[card]) == 3
    assert Roots(ring.home).all() == chain
    assert ring.msp() == keyring.msp()
    Publisher(publisher.folder, ring, NOW).resign()


class Stopping(FileLayer):
    """Fails when a file of this name is put in place."""

    def __init__(self, name: str) -> None:
        self.name = name

    def rename(self, source: Path, target: Path) -> None:
        if target.name == self.name:
            raise OSError(5, "Input/output error")
        super().rename(source, target)


@pytest.mark.parametrize("at", ["1.root.json", "2.root.json", "msp.json"])
def test_a_stopped_call_is_finished_by_the_same_call(
    tmp_path: Path, publisher: Publisher, keyring: Keyring, at: str
) -> None:
    """What is there and equal is left; the rest is added."""
    rotate(publisher, keyring, "release")
    chain = Roots(keyring.home).all()
    ring = rebuilt(tmp_path, keyring)
    stopped = Keyring(ring.home, lambda: "correct horse", Stopping(at))
    with pytest.raises(OSError, match="Input/output"):
        adopted(stopped, publisher, chain[1], Stopping(at))
    assert adopted(ring, publisher, chain[1]) == 2
    assert Roots(ring.home).all() == chain
    with pytest.raises(Busy, match="holds a keyring already"):
        adopted(ring, publisher, chain[1])


def test_another_chain_in_the_home_is_left(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> None:
    """Roots of somebody else are not mixed with these."""
    ring, other = rebuilt(tmp_path, keyring), Keyring(tmp_path / "other", lambda: "theirs")
    other.create(Msp("Other", "ef" * 16), QUICK)
    theirs = first_root(other, NOW)
    Roots(ring.home).add(theirs, NOW)
    with pytest.raises(Busy, match="another chain of roots"):
        adopted(ring, publisher, publisher.first_root())
    assert Roots(ring.home).all() == [theirs]
    assert not ring.exists


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def link_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to("elsewhere")


def outgrow(path: Path) -> None:
    path.write_bytes(path.read_bytes().ljust(ROOT_BYTES + 1))


def no_metadata(path: Path) -> None:
    path.write_bytes(b"{}")


def lose_the_first(path: Path) -> None:
    path.with_name("1.root.json").unlink()


@pytest.mark.parametrize(
    ("change", "card", "error"),
    [
        (link, 0, BadBundle),
        (link, 1, BadBundle),
        (link_folder, 0, BadBundle),
        (outgrow, 0, BadBundle),
        (outgrow, 1, BadBundle),
        (no_metadata, 0, BadBundle),
        (no_metadata, 1, UnknownRoot),
        (lose_the_first, 1, UnknownRoot),
        (Path.unlink, 1, UnknownRoot),
    ],
)
def test_a_folder_that_was_tampered_with_is_refused(
    tmp_path: Path,
    publisher: Publisher,
    keyring: Keyring,
    change: Callable[[Path], None],
    card: int,
    error: type[LifeboatError],
) -> None:
    """No link is followed, nothing long is read, and nothing is written to the home."""
    rotate(publisher, keyring, "release")
    chain = Roots(keyring.home).all()
    ring = rebuilt(tmp_path, keyring)
    change(publisher.folder / "metadata/2.root.json")
    with pytest.raises(error):
        adopted(ring, publisher, chain[card])
    assert not Roots(ring.home).exist
    assert not ring.exists


def forged_first_root(keyring: Keyring, thief: Keyring) -> bytes:
    """A first root with our root key and the thief's, and with the thief's own keys for all else."""
    forged = Metadata[Root].from_bytes(first_root(thief, NOW))
    forged.signed.unrecognized_fields = {"x-lifeboat-msp": keyring.msp().id}
    forged.signed.add_key(keyring.public("root"), DUTIES["root"][0])
    forged.signatures.clear()
    forged.sign(thief.signer("root"))
    return forged.to_bytes()


def test_a_forged_root_before_the_one_of_the_card_is_refused(
    tmp_path: Path, publisher: Publisher, keyring: Keyring
) -> None:
    """The true second root follows a first one in which a thief stands beside us; it does not prove that one."""
    rotate(publisher, keyring, "release")
    thief = Keyring(tmp_path / "thief", lambda: "theirs")
    thief.create(Msp("Thief", "ef" * 16), QUICK)
    (publisher.folder / "metadata/1.root.json").write_bytes(forged_first_root(keyring, thief))
    ring = rebuilt(tmp_path, keyring)
    with pytest.raises(UnknownRoot, match="root version 1 is not proved"):
        adopted(ring, publisher, Roots(keyring.home).all()[1])
    assert not Roots(ring.home).exist


@pytest.mark.parametrize("typed", ["", "12ab", "g" * 64])
def test_what_is_no_digest_is_refused(tmp_path: Path, publisher: Publisher, keyring: Keyring, typed: str) -> None:
    """A mistyped digest is the operator's and not the repository's fault."""
    ring = rebuilt(tmp_path, keyring)
    with pytest.raises(BadInput, match="64 hexadecimal digits"):
        adopt(ring, Roots(ring.home), "Northquay", publisher.folder, typed, NOW)
