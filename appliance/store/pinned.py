"""Whose software may be installed on this machine: a root that lies beside the programs, where only root writes.

The state remembers a root, too, but its owner faces the network. Whoever took that user over could put another root
there, and root would install what this one signs from the next stick.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format.errors import BadBundle, MetadataExpired, TooOld, UnknownRoot
from bundler.format.limits import ROOT_BYTES
from bundler.format.trust.medium import load_repository
from bundler.format.trust.verify import TrustedRepository

NAME = "root.json"


@dataclass(frozen=True)
class PinnedRoot:
    """The root of one folder of programs.

    Attributes:
        folder: Such as /opt/lifeboat.
        now: The clock.
        layer: Where faults can be put.
    """

    folder: Path
    now: datetime
    layer: FileLayer = DISK

    def vouched(self, medium: Path, trusted: TrustedRepository) -> TrustedRepository:
        """Returns the metadata of a medium as this root verifies it; the first root that comes is the one.

        Args:
            medium: The repository's folder.
            trusted: The same metadata, as the state's root verifies it.

        Raises:
            UnknownRoot: Somebody else signed it.
        """
        path = self.folder / NAME
        if not path.exists():
            write_atomic(path, trusted.root, layer=self.layer)
            return trusted
        pinned = read_limited(path, ROOT_BYTES)
        try:
            vouched = load_repository(medium, root=pinned, repository=None, now=self.now, remembered=None)
        except (UnknownRoot, BadBundle, TooOld, MetadataExpired) as error:
            fact = f"the software of this medium is not signed by whom this machine's programs are from: {error.fact}"
            raise UnknownRoot(fact, f"only where the MSP has changed: remove {path}; or --keep-program") from error
        if vouched.root != pinned:
            write_atomic(path, vouched.root, layer=self.layer)
        return vouched
