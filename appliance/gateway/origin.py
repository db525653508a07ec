"""Where the box may talk to: the policy's egress list, compared by exact scheme, host and port. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

PORTS = {"https": 443, "http": 80, "smtp": 587, "smtps": 465}


@dataclass(frozen=True)
class Origin:
    """A scheme, a host and a port; nothing else of a URL decides whether the box may talk to it."""

    scheme: str
    host: str
    port: int


def origin_of(url: str) -> Origin:
    """Returns the origin of an http, https, smtp or smtps URL; an entry without a scheme means https.

    Raises:
        ValueError: Another scheme, no host, user information, or a port that is none.
    """
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme not in PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"{url!r} is not the address of an http, https or mail server")
    return Origin(parts.scheme, parts.hostname.lower().rstrip("."), parts.port or PORTS[parts.scheme])


def permitted(url: str, egress: Iterable[str]) -> bool:
    """Says whether the policy lists the origin of `url`; an unreadable entry permits nothing."""
    return origin_of(url) in set(_readable(egress))


def _readable(egress: Iterable[str]) -> Iterable[Origin]:
    for entry in egress:
        try:
            yield origin_of(entry)
        except ValueError:
            continue  # it permits nothing; the policy is checked where it is signed
