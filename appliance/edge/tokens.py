"""Bearer tokens: random, stored hashed in one file, with scopes and an expiry.

A token has 190 bits of randomness, so one SHA-256 suffices; a slow hash protects guessable secrets only. The file is
read again when it changes, so a token made or revoked at the command line acts at once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from appliance.edge.grant import ANYTHING, Grant, checked
from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, BadInput, FileMissing
from bundler.format.limits import MIB
from bundler.format.record import LATER, from_json, to_json

PREFIX = "lb_"
RANDOM_CHARS = 32
ALPHABET = string.digits + string.ascii_letters
SCOPES = ("use", "monitor")
FILE_FORMAT = 1
FILE_BYTES_MAX = 4 * MIB
LABEL_CHARS_MAX = 100


@dataclass(frozen=True)
class Token:
    """What is stored of a token. Times are Unix seconds; `expires` 0 is never.

    Args:
        id: Names it in `token list` and `token revoke`.
        label: Who or what uses it.
        sha256: Of the whole token text.
        scopes: What it may do, of SCOPES.
        created: When it was made.
        expires: When it ends.
        grant: Its limits.
        before: The SHA-256 of the text that it had before it was rotated, or "".
        before_until: When that text ends.
    """

    id: str
    label: str
    sha256: str
    scopes: tuple[str, ...]
    created: int
    expires: int
    grant: Grant = field(default=ANYTHING, metadata=LATER)
    before: str = field(default="", metadata=LATER)
    before_until: int = field(default=0, metadata=LATER)


class TokenStore:
    """The tokens of a box, in one file.

    Args:
        path: `STATE/tokens.json`; it need not exist yet.
        layer: Where faults can be put.
    """

    def __init__(self, path: Path, layer: FileLayer = DISK) -> None:
        self._path, self._layer = path, layer
        self._seen: tuple[int, int, int] | None = None
        self._tokens: tuple[Token, ...] = ()

    def create(
        self,
        label: str,
        *,
        now_s: int,
        expires_s: int = 0,
        scopes: Sequence[str] = SCOPES,
        grant: Grant = ANYTHING,
    ) -> tuple[str, Token]:
        """Makes a token; its text is returned once and stored nowhere.

        Raises:
            BadInput: An unknown scope, an expiry in the past, or a label that is too long.
        """
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise BadInput(f"a token has no scope {', '.join(unknown) or 'at all'}", f"scopes: {', '.join(SCOPES)}")
        if expires_s and expires_s <= now_s:
            raise BadInput("the token would have expired already")
        if not label.isprintable() or len(label) > LABEL_CHARS_MAX:
            raise BadInput(f"a token's label has at most {LABEL_CHARS_MAX} printable characters")
        text = new_text()
        grant = checked(grant)
        token = Token(secrets.token_hex(4), label, digest(text), tuple(sorted(scopes)), now_s, expires_s, grant)
        self._write((*self.list(), token))
        return text, token

    def list(self) -> tuple[Token, ...]:
        """Returns all tokens, expired ones too.

        Raises:
            BadBundle: The file is damaged; no token is accepted then.
        """
        try:
            stat = os.stat(self._path)  # noqa: PTH116 - once a request; pathlib takes twice as long
        except FileNotFoundError:
            self._seen, self._tokens = None, ()
            return ()
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if seen != self._seen:
            self._tokens, self._seen = self._read(), seen
        return self._tokens

    def rotate(self, name: str, *, now_s: int, grace_s: int, expires_s: int = 0) -> tuple[str, Token]:
        """Gives a token a new text; the one of before still counts for `grace_s`, and no longer than the token did.

        Raises:
            BadInput: No token, or more than one, has this id or label.
        """
        tokens = self.list()
        found = [token for token in tokens if name in (token.id, token.label)]
        if len(found) != 1:
            hint = "`lifeboat-appliance token list` shows them; name the id"
            raise BadInput(f"{len(found) or 'no'} tokens are called {name}", hint)
        old, text = found[0], new_text()
        until = min(now_s + grace_s, old.expires or now_s + grace_s)
        ends = expires_s or old.expires
        fresh = replace(
            old, sha256=digest(text), expires=ends, before=old.sha256 if grace_s else "", before_until=until
        )
        fresh = fresh if grace_s else replace(fresh, before_until=0)
        self._write(tuple(fresh if token.id == old.id else token for token in tokens))
        return text, fresh

    def revoke(self, token_id: str) -> Token:
        """Removes a token.

        Raises:
            BadInput: There is none with this id.
        """
        tokens = self.list()
        found = [token for token in tokens if token.id == token_id]
        if not found:
            raise BadInput(f"there is no token {token_id}", "`lifeboat-appliance token list` shows them")
        self._write(tuple(token for token in tokens if token.id != token_id))
        return found[0]

    def holder(self, text: str, scope: str, *, now_s: float) -> Token | None:
        """Returns the token that `text` is, where it may do `scope` now; takes the same time for any wrong text."""
        asked = digest(text)
        found = None
        for token in self.list():
            now_and_before = hmac.compare_digest(token.sha256, asked), hmac.compare_digest(token.before, asked)
            if now_and_before[0] or (now_and_before[1] and now_s < token.before_until):
                found = token
        if found is None or scope not in found.scopes or (found.expires != 0 and now_s >= found.expires):
            return None
        return found

    def check(self, text: str, scope: str, *, now_s: float) -> bool:
        """Says whether `text` is a token that may do `scope` now."""
        return self.holder(text, scope, now_s=now_s) is not None

    def _read(self) -> tuple[Token, ...]:
        try:
            value = canonical.decode(read_limited(self._path, FILE_BYTES_MAX), self._path.name)
        except FileMissing:
            return ()
        if value.get("format") != FILE_FORMAT or not isinstance(value.get("tokens"), list):
            raise BadBundle(f"{self._path.name} is not a token file of format {FILE_FORMAT}")
        return tuple(_token(item, self._path.name) for item in value["tokens"])

    def _write(self, tokens: tuple[Token, ...]) -> None:
        records = [to_json(token) for token in tokens]
        data = canonical.encode({"format": FILE_FORMAT, "tokens": records})
        write_atomic(self._path, data, mode=0o600, layer=self._layer)


def digest(text: str) -> str:
    """Returns the SHA-256 of a token's text; the text may hold anything that a header can."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def new_text() -> str:
    """Makes the text of a token."""
    return PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARS))


def _token(item: Any, name: str) -> Token:
    """Reads a token; limits that this program does not know let nobody in, rather than everybody."""
    return from_json(Token, item, f"{name} token")
