"""New folders that a person names: one is made, and never a tree of them, which a misspelt path would ask for."""

from __future__ import annotations

from pathlib import Path

from bundler.format.errors import BadInput


def require_place(folder: Path, what: str) -> None:
    """Refuses a folder that is not there where the folder above it is not there either.

    Args:
        folder: Where something will be written.
        what: Names it, such as "the repository".

    Raises:
        BadInput: More than one folder would have to be made.
    """
    above = folder.absolute().parent
    if not folder.exists() and not above.is_dir():
        raise BadInput(
            f"{what} cannot be made at {folder}: {above} is no folder",
            f"look for a misspelt path and name another place, or make the folder first: mkdir -p {above}",
        )
