"""The ids at the beginning of a server's page, looked at as it comes: one that repeats itself is not asked to the end.

Chroma writes a page's ids first. Of one that does not nothing is known here: the confined child reads every page whole.
"""

from __future__ import annotations

import hashlib
import json
import re

from bundler.capture.stores.rows import ID_CHARS_MAX, printable
from bundler.format.errors import BadInput

_FIRST = re.compile(rb'\s*\{\s*"ids"\s*:\s*(?=\[)')
_DECODER = json.JSONDecoder()


class SeenIds:
    """The ids of the pages so far, as short digests.

    Args:
        page_rows: How many rows a page has at most.
    """

    def __init__(self, page_rows: int) -> None:
        self._seen: set[bytes] = set()
        # An id may be written in escapes of six bytes a character, two of them for one beyond the basic plane.
        self._most_bytes = page_rows * (12 * ID_CHARS_MAX + 4)

    def take(self, page: bytes) -> bool:
        """Notes the ids of a page; False where it has none, so that no more rows come.

        Raises:
            BadInput: An id came before.
        """
        ids = self._read(page)
        for name in ids or ():
            digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).digest()
            if digest in self._seen:
                raise BadInput(
                    f"the id {printable(name)[:80]!r} stands twice",
                    "stop what writes to the server for as long as the snapshot takes",
                )
            self._seen.add(digest)
        return ids != []

    def _read(self, page: bytes) -> list[str] | None:
        """Returns the ids, or None where the page does not begin with a plain list of them."""
        if (begin := _FIRST.match(page)) is None:
            return None
        try:
            found, _ = _DECODER.raw_decode(page[begin.end() :][: self._most_bytes].decode(errors="replace"))
        except (ValueError, RecursionError):
            return None
        return found if all(isinstance(name, str) for name in found) else None
