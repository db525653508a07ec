"""Credentials for registries, from the files that `podman login`, `skopeo login` and `docker login` write.

Programs that such a file names (credential helpers) are not run. Nothing here is ever logged or shown.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundler.format.errors import BadInput
from bundler.format.limits import MIB
from bundler.registries.reference import HUB


@dataclass(frozen=True)
class Login:
    """A name and a password, or a token that is exchanged for others."""

    user: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)


def files(environment: Mapping[str, str], home: Path) -> Iterator[Path]:
    """Yields where credentials lie, in the order of containers-auth.json(5); the first that knows a host counts."""
    if named := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
        return
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"
    yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers" / "auth.json"
    yield Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"


def find(host: str, name: str, environment: Mapping[str, str], home: Path) -> Login | None:
    """Returns the credentials for a repository of a registry, or None.

    Raises:
        BadInput: A file of credentials is damaged.
    """
    for path in files(environment, home):
        auths = _auths(path)
        for key in _keys(host, name):
            if login := _login(auths.get(key), path):
                return login
    return None


def _keys(host: str, name: str) -> Iterator[str]:
    """The names that an entry may stand under, the closest one first."""
    segments = name.split("/")
    hosts = HUB if host in HUB else (host,)
    for one in hosts:
        for depth in range(len(segments), 0, -1):
            yield "/".join([one, *segments[:depth]])
        yield from (one, f"https://{one}", f"https://{one}/v1/", f"https://{one}/v2/")


def _auths(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:  # the operator's own file, and a link where they like
            data = file.read(MIB)
        auths = json.loads(data).get("auths") or {}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read as a file of credentials", "log in anew: `skopeo login HOST`") from error
    return auths if isinstance(auths, dict) else {}


def _login(entry: object, path: Path) -> Login | None:
    if not isinstance(entry, dict):
        return None
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Login("", "", token)
    if not isinstance(entry.get("auth"), str) or not entry["auth"]:
        return None
    try:
        user, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise BadInput(f"{path} holds credentials that are not base64", "log in anew: `skopeo login HOST`") from error
    return Login(user, password.rstrip("\0")) if colon else None
