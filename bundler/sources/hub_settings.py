"""Which hub is asked, and the token for it, from the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bundler.format.errors import BadInput

ENDPOINT = "https://huggingface.co"
TOKEN_BYTES = 4096
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@dataclass(frozen=True)
class HubSettings:
    """The address of the hub or its mirror, and the token; "" asks as nobody."""

    endpoint: str = ENDPOINT
    token: str = field(default="", repr=False)

    @property
    def origin(self) -> tuple[str, str, int]:
        return origin(self.endpoint)


def origin(url: str) -> tuple[str, str, int]:
    """Returns scheme, host and port; a token goes to the endpoint's own alone."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)


def hub_settings(environment: Mapping[str, str]) -> HubSettings:
    """Reads `HF_ENDPOINT`, `HF_TOKEN` and `HF_TOKEN_PATH`, the names that the hub's own programs use.

    Raises:
        BadInput: The address is none, or the token would cross a network in clear, is not printable text, or its file
            cannot be read.
    """
    endpoint = environment.get("HF_ENDPOINT", "").rstrip("/") or ENDPOINT
    token = next((environment[name].strip() for name in TOKENS if environment.get(name, "").strip()), "")
    if not token and (file := environment.get("HF_TOKEN_PATH", "")):
        token = _read_token(Path(file))
    try:
        scheme, host, _ = origin(endpoint)
        parts = urlsplit(endpoint)
        usable = scheme in ("http", "https") and host and not (parts.username or parts.query or parts.fragment)
    except ValueError:
        usable = False
    if not usable:
        raise BadInput(f"HF_ENDPOINT is {endpoint!r}, not the address of a hub", f"for example {ENDPOINT}")
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise BadInput("HF_TOKEN is not a token: it holds spaces or signs that no token has")
    if token and scheme == "http" and not _is_loopback(host):
        raise BadInput(f"HF_TOKEN would go to {endpoint} in clear", "use https, or ask without the token")
    return HubSettings(endpoint, token)


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as file:  # a link or a pipe is the operator's own business here
            return file.readline(TOKEN_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the token file {path} cannot be read: {type(error).__name__}") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
