"""`oci:HOST/NAME[:TAG][@DIGEST]`, as people write where an artifact lies. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from bundler.format.errors import BadInput

SCHEME = "oci:"
TAG = "latest"
HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")  # one registry, by its names
# https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests
_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_REFERENCE = re.compile(
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](?::[0-9]{1,5})?)"
    rf"/(?P<name>{_NAME})(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?"
)
_NAME_BYTES = 255


@dataclass(frozen=True)
class Reference:
    """Where an artifact lies.

    Attributes:
        host: Host and port, as written.
        name: The repository's name in the registry.
        tag: "" where only a digest was given.
        digest: "sha256:..." of its manifest, or "".
    """

    host: str
    name: str
    tag: str
    digest: str = ""

    @property
    def manifest(self) -> str:
        """What the registry is asked for: the digest where there is one."""
        return self.digest or self.tag

    @property
    def origin(self) -> str:
        """Scheme, host and port; plain HTTP is for this machine alone."""
        if self.host.lower() in HUB:
            return "https://registry-1.docker.io"
        return f"{'http' if is_loopback(self.host) else 'https'}://{self.host}"

    def at(self, digest: str) -> Reference:
        """The same with the digest of its manifest."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        return f"{SCHEME}{self.host}/{self.name}{self.tag and ':'}{self.tag}{self.digest and '@'}{self.digest}"


def is_reference(text: str) -> bool:
    """Whether a text is meant as a reference; a folder of such a name is written `./oci:...`."""
    return text.startswith(SCHEME)


def parse(text: str) -> Reference:
    """Reads a reference; without tag and digest the tag is `latest`.

    Raises:
        BadInput: It is none.
    """
    match = _REFERENCE.fullmatch(text.removeprefix(SCHEME))
    hint = "write oci:HOST/NAME:TAG or oci:HOST/NAME@sha256:DIGEST; the host is needed, and NAME is in lower case"
    if match is None or len(match["name"]) > _NAME_BYTES:
        raise BadInput(f"{text!r} is not a reference to a registry", hint)
    digest = match["digest"] or ""
    return Reference(match["host"], match["name"], match["tag"] or ("" if digest else TAG), digest)


def parse_name(text: str) -> str:
    """Reads the name of a repository in a registry.

    Raises:
        BadInput: It is none.
    """
    if not re.fullmatch(_NAME, text) or len(text) > _NAME_BYTES:
        raise BadInput(f"{text!r} is not a name in a registry", "NAME without host and tag, in lower case")
    return text


def is_loopback(host: str) -> bool:
    """Whether a host (with or without its port) is this machine, by its name or address."""
    bare = host.rsplit(":", 1)[0] if re.search(r"(?<!:):[0-9]+$|\]:[0-9]+$", host) else host
    if bare.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare.strip("[]")).is_loopback
    except ValueError:
        return False
