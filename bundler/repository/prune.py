"""Removes what a repository needs no more: old bundles, volumes that nobody uses, superseded metadata.

Order, and why: what sites hold is written to the ledger while it is still known; the list without the old bundles is
signed and durable before the first file goes; the files go last. Whatever stops it, a box finds every file that the
metadata names, and the next prune or build removes the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.files import DISK, FileLayer
from bundler.format import paths
from bundler.format.errors import BadBundle
from bundler.format.manifest import Descriptor
from bundler.format.trust.descriptors import read_descriptors
from bundler.format.trust.verify import TrustedRepository
from bundler.repository.keyring import Keyring
from bundler.repository.ledger import Ledger, read_ledger, write_ledger
from bundler.repository.publish import Publisher
from bundler.repository.retention import KEEP, Decision, decide, remembering
from bundler.repository.sites import wrap_keys
from bundler.repository.sweep import Freed, remove, superseded, unlisted, weigh
from bundler.terminal import size

# A repository is worth a hint when more than this share of it would go, and more than this many bytes.
_HINT_SHARE, _HINT_BYTES = 0.5, 100 << 20


@dataclass(frozen=True)
class Proposal:
    """What a prune would do.

    Attributes:
        decision: Which bundles stay, and which go.
        files: What goes, of removed bundles, killed commands and superseded metadata.
        freed: What that frees.
        total_bytes: Of the whole repository, before.
    """

    decision: Decision
    files: tuple[Path, ...]
    freed: Freed
    total_bytes: int

    @property
    def is_worth_it(self) -> bool:
        """Whether a person who does not ask should be told."""
        return self.freed.freed_bytes > max(_HINT_BYTES, _HINT_SHARE * self.total_bytes)


@dataclass(frozen=True)
class _Look:
    """A repository as it is, and what may go."""

    trusted: TrustedRepository
    descriptors: Sequence[Descriptor]
    ledger: Ledger
    proposal: Proposal


def propose(publisher: Publisher, keyring: Keyring, keep: int = KEEP) -> Proposal:
    """Returns what a prune would do; nothing is changed, and volumes are not looked at.

    The caller holds the repository's lock.

    Raises:
        BadBundle, FileMissing: The repository is damaged.
        NotReady, WrongKey: This home does not know the repository's sites.
    """
    return _look(publisher, keyring, keep).proposal


def hint(publisher: Publisher, keyring: Keyring) -> str:
    """Returns a line for whom a prune would pay, else ""."""
    proposal = propose(publisher, keyring)
    if not proposal.is_worth_it:
        return ""
    freed, total = size(proposal.freed.freed_bytes), size(proposal.total_bytes)
    return f"hint: {freed} of {total} are used by no recent bundle; `lifeboat prune {publisher.folder}` removes them"


def prune(
    publisher: Publisher,
    keyring: Keyring,
    keep: int,
    agree: Callable[[Proposal], None],
    layer: FileLayer = DISK,
) -> Proposal:
    """Removes what nothing needs; the caller holds the repository's lock. Takes the refresh key alone.

    Args:
        publisher: Of the repository.
        keyring: Opens the ledger and the refresh key.
        keep: How many of the newest installable bundles stay.
        agree: Shows what would go and asks; it raises to stop. Not called where there is nothing to do.
        layer: Where faults can be put.

    Returns:
        What was done, with what it really freed.

    Raises:
        BadBundle, FileMissing: The repository is damaged; nothing was removed.
        NotReady, WrongKey: This home does not know the repository's sites, or has not the refresh key.
    """
    look = _look(publisher, keyring, keep)
    proposal = look.proposal
    if not proposal.files:
        return proposal
    folder = publisher.folder
    _check_kept(folder, look.trusted, proposal.decision)
    agree(proposal)
    # First, what needs no signature: it makes room for the new metadata on a disk that is full.
    freed = remove(folder, superseded(folder, look.trusted), layer)
    if proposal.decision.dropped:
        write_ledger(keyring, remembering(look.ledger, look.descriptors, proposal.decision), layer)
        publisher.drop_content(proposal.decision.dropped)
    wrap_keys(publisher, look.ledger, (), layer)
    trusted = publisher.trusted()
    freed += remove(folder, [*superseded(folder, trusted), *unlisted(folder, trusted.targets)], layer)
    return Proposal(proposal.decision, proposal.files, freed, proposal.total_bytes)


def _look(publisher: Publisher, keyring: Keyring, keep: int) -> _Look:
    folder, trusted = publisher.folder, publisher.trusted()
    ledger = read_ledger(keyring, trusted.policy.repository)
    descriptors = read_descriptors(folder, trusted)
    decision = decide(descriptors, trusted.targets, trusted.policy, ledger.sites, keep)
    gone = [path for name in decision.dropped if (path := paths.inside(folder, name)).is_file()]
    files = (*gone, *unlisted(folder, trusted.targets), *superseded(folder, trusted))
    whole = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    proposal = Proposal(decision, files, weigh(files), sum(path.stat().st_size for path in whole))
    return _Look(trusted, descriptors, ledger, proposal)


def _check_kept(folder: Path, trusted: TrustedRepository, decision: Decision) -> None:
    """Refuses where a bundle that stays is not whole: one that would go may be the last that a box can take."""
    for path, target in trusted.targets.items():
        if not path.startswith("bundles/") or path in decision.dropped:
            continue
        found = paths.inside(folder, path)
        length = found.stat().st_size if found.is_file() else None
        if length != target.length:
            told = "is missing" if length is None else f"has {length} bytes, {target.length} were signed"
            raise BadBundle(
                f"{path} {told}; nothing was removed", "bring the file back, or build anew, before something is removed"
            )
