"""Host and Origin: a browser that another site controls gets nothing here (DNS rebinding, cross-site calls). Pure."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

LOOPBACK_NAMES = frozenset({"localhost"})
HOST_CHARS_MOST = 300  # a DNS name has at most 253, and a port comes behind it


def host_allowed(host: str, names: tuple[str, ...]) -> bool:
    """Says whether a Host header names this box.

    An IP address is always allowed: rebinding needs a name, and a technician types addresses.

    Args:
        host: The header, with or without a port.
        names: The names by which clients reach the box.
    """
    return len(host) <= HOST_CHARS_MOST and _allowed(host, names)


@lru_cache(maxsize=256)
def _allowed(host: str, names: tuple[str, ...]) -> bool:
    name = _hostname(host)
    return name is not None and (_is_address(name) or name in LOOPBACK_NAMES | {each.lower() for each in names})


def origin_allowed(origin: str | None, host: str, scheme: str) -> bool:
    """Says whether a request with this Origin header may be answered: only the box's own pages send one.

    Args:
        origin: The header, or None where the client is no browser or the request is a plain navigation.
        host: The Host header of the same request.
        scheme: http or https, as the request came.
    """
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    own = urlsplit(f"{scheme}://{host}")
    default = 443 if scheme == "https" else 80
    return (parts.scheme, parts.hostname, port or default) == (scheme, own.hostname, own.port or default)


def _hostname(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.netloc != host or "@" in host or parts.path or not parts.hostname:
        return None
    return parts.hostname.rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
