"""`signer_key` and `signature` of a model: whose signature of it is checked, and where that lies."""

from __future__ import annotations

from bundler.format.errors import BadInput
from bundler.profile.model import SignerEntry
from bundler.profile.table import Table
from bundler.sources.source import FileSource, parse


def read_signer(table: Table) -> SignerEntry | None:
    """Returns who must have signed the model, or None where nobody is named."""
    key, signature = table.text("signer_key", ""), table.text("signature", "")
    if not key:
        if signature:
            table.issue("signature needs signer_key: a signature alone says only that somebody signed")
        return None
    for name, text in (("signer_key", key), ("signature", signature)):
        try:
            source = parse(text) if text else None
        except BadInput as error:
            table.issue(f"{name}: {error.fact}")
            continue
        if name == "signer_key" and not isinstance(source, FileSource):
            table.issue("signer_key must be file:PATH: a key that comes with what it signed proves nothing")
    return SignerEntry(key, signature)
