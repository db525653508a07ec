"""How requests to an `[[upstream]]` are sent: key, query, headers, defaults, proxy, CA; all issues at once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from bundler.format.service import AUTHS, PairSpec, WireSpec
from bundler.format.trust.policy import origin
from bundler.profile.table import Table

FILE = "file:"
CA_BYTES = 200_000
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
# What the box itself sends, what carries keys, and what would change how a message is cut (RFC 9112, 6).
_OWN_HEADERS = frozenset(
    {"authorization", "api-key", "x-api-key", "host", "content-type", "content-length", "content-encoding", "cookie"}
    | {"transfer-encoding", "connection", "upgrade", "te", "trailer", "expect", "accept-encoding", "keep-alive"}
)
_OWN_PREFIXES = ("proxy-", "x-lifeboat-")
# A default of these would answer another question than the caller's.
_OWN_FIELDS = frozenset({"model", "messages", "prompt", "stream", "stream_options"})


def read_wire(table: Table, base: Path) -> WireSpec:
    """Reads what an upstream's table says of the wire.

    Args:
        table: The `[[upstream]]`.
        base: The folder that `file:` starts from.
    """
    body = _table(table, "body")
    if taken := sorted(_OWN_FIELDS & body.keys()):
        table.issue(f"body may not set {', '.join(taken)}: they are the caller's")
    without = table.texts("without", [])
    if taken := sorted(_OWN_FIELDS & set(without)):
        table.issue(f"without may not name {', '.join(taken)}")
    return WireSpec(
        auth=table.choice("auth", AUTHS[1:]) if table.has("auth") else "",
        query=_pairs(table, "query"),
        headers=_headers(table),
        body=_json(table, body),
        without=without,
        proxy=_proxy(table),
        ca=read_ca(table, base),
    )


def _table(table: Table, key: str) -> Mapping[str, object]:
    value = table.value(key) if table.has(key) else {}
    if not isinstance(value, dict):
        table.issue(f"{key} must be a table")
        return {}
    return value


def _pairs(table: Table, key: str) -> tuple[PairSpec, ...]:
    pairs = _table(table, key)
    if not all(isinstance(value, str) and value.isascii() and value.isprintable() for value in pairs.values()):
        table.issue(f"{key} must hold printable ASCII texts only")
        return ()
    return tuple(PairSpec(name, str(value)) for name, value in sorted(pairs.items()))


def _headers(table: Table) -> tuple[PairSpec, ...]:
    pairs = _pairs(table, "headers")
    for pair in pairs:
        name = pair.name.lower()
        if not _HEADER.fullmatch(name) or name in _OWN_HEADERS or name.startswith(_OWN_PREFIXES):
            table.issue(f"headers may not set {pair.name!r}")
    return pairs


def _json(table: Table, body: Mapping[str, object]) -> str:
    try:
        return json.dumps(body, sort_keys=True, allow_nan=False) if body else ""
    except (TypeError, ValueError):  # TOML knows dates, "nan" and "inf"
        table.issue("body holds what JSON has no word for")
        return ""


def _proxy(table: Table) -> str:
    proxy = table.text("proxy", "")
    if proxy:
        try:
            origin(proxy)
            parts = urlsplit(proxy)
        except ValueError as error:
            table.issue(f"proxy {error}")
            return ""
        if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.fragment:
            table.issue(f"proxy {proxy!r} must be http://HOST:PORT: what goes through it is encrypted to the provider")
    return proxy


def read_ca(table: Table, base: Path) -> str:
    """Returns certificates as PEM, or the name of a secret of the box that holds them."""
    ca = table.text("ca", "")
    if not ca.startswith(FILE):
        return ca
    path = base / ca.removeprefix(FILE)
    try:
        with path.open("rb") as file:
            data = file.read(CA_BYTES + 1)
    except OSError as error:
        table.issue(f"ca {ca!r} cannot be read: {error.strerror}")
        return ""
    try:
        found = x509.load_pem_x509_certificates(data) if len(data) <= CA_BYTES else []
    except ValueError:
        found = []
    if not found or b"PRIVATE KEY" in data:
        table.issue(f"ca {ca!r} must hold certificates in PEM, at most {CA_BYTES} bytes, and no private key")
        return ""
    return data.decode("ascii", "replace")
