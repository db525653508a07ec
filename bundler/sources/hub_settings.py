"""Which hub is asked, and the token for it, from the environment or from the builder's keyring."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bundler.format.errors import BadInput

ENDPOINT = "https://huggingface.co"
TOKEN_BYTES = 4096
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_ADDRESS = re.compile(r"([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?")


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


def hub_settings(environment: Mapping[str, str], kept: Callable[[str], str] | None = None) -> HubSettings:
    """Reads `HF_ENDPOINT`, `HF_TOKEN` and `HF_TOKEN_PATH`, the names that the hub's own programs use.

    Args:
        environment: Its variables.
        kept: Returns the token that is kept for a hub's address (`hub_address`), "" for none; it is asked only where
            the environment names no token.

    Raises:
        BadInput: The address is none, or the token would cross a network in clear, is not printable text, or its file
            cannot be read.
    """
    endpoint = _checked_endpoint(environment.get("HF_ENDPOINT", "").rstrip("/") or ENDPOINT)
    token, file = next((environment[name].strip() for name in TOKENS if environment.get(name, "").strip()), ""), ""
    if not token and (file := environment.get("HF_TOKEN_PATH", "")):
        token = _read_token(Path(file))
    if token:
        checked_token(token, "HF_TOKEN")
        if not hub_address(endpoint):
            raise BadInput(f"HF_TOKEN would go to {endpoint} in clear", "use https, or ask without the token")
    elif not file and kept is not None and (address := hub_address(endpoint)):
        token = kept(address)
    return HubSettings(endpoint, token)


def hub_address(endpoint: str) -> str:
    """Returns HOST of a hub, HOST:PORT where that is not 443; "" where a token would cross a network in clear."""
    scheme, host, port = origin(endpoint)
    if scheme == "https":
        return _address(host, port)
    return f"{_host(host)}:{port}" if _is_loopback(host) else ""


def read_address(text: str) -> str:
    """Returns the address of a hub as `hub_address` writes it, from what a person wrote.

    Raises:
        BadInput: It is not HOST or HOST:PORT. What was written is not repeated: it may be a token in the wrong place.
    """
    found = _ADDRESS.fullmatch(text.lower())
    if found is None or not 0 < (port := int(found[2] or 443)) < 65_536:
        raise BadInput("this is not the host of a hub", "write HOST or HOST:PORT, for example huggingface.co")
    return _address(found[1].strip("[]"), port)


def checked_token(text: str, what: str) -> str:
    """Returns a token that can go into a request; raises BadInput, which does not repeat it, otherwise."""
    if not text:
        raise BadInput("the token is empty")
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise BadInput(f"{what} is not a token: it holds spaces or signs that no token has")
    if len(text) >= TOKEN_BYTES:
        raise BadInput(f"{what} is not a token: it is longer than {TOKEN_BYTES} characters")
    return text


def _address(host: str, port: int) -> str:
    return _host(host) if port == 443 else f"{_host(host)}:{port}"


def _host(host: str) -> str:
    """Returns a host in its one spelling."""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return host
    return f"[{number}]" if number.version == 6 else str(number)


def _checked_endpoint(endpoint: str) -> str:
    try:
        scheme, host, _ = origin(endpoint)
        parts = urlsplit(endpoint)
        usable = scheme in ("http", "https") and host and not ("@" in parts.netloc or parts.query or parts.fragment)
    except ValueError:
        usable = False
    if not usable and "@" in endpoint:  # not repeated, not even masked: what is before the @ may be anything
        fact = "HF_ENDPOINT is not the address of a hub: it holds a login before its host"
        raise BadInput(fact, "write the address alone; a token goes to HF_TOKEN")
    if not usable:
        raise BadInput(f"HF_ENDPOINT is {endpoint!r}, not the address of a hub", f"for example {ENDPOINT}")
    return endpoint


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
