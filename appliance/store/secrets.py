"""The box's own secrets by name, such as keys of providers: one sealed file, replaced whole."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.gateway.trusted import PEM, readable
from appliance.store.seal import Seal
from bundler.format import canonical
from bundler.format.errors import BadBundle, BadInput, NotReady

_FILE = "secrets"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST, _MOST_CHARACTERS = 100, 4096
_CERTIFICATES_CHARACTERS = 200_000  # as of a profile's `ca`


class Secrets:
    """Reads and writes the secrets under a seal."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def read(self) -> dict[str, str]:
        """Returns all of them; raises BadBundle where the file was changed on this disk."""
        try:
            data = self._seal.open_file(_FILE)
        except NotReady:
            return {}
        value = canonical.decode(data, "the sealed secrets")
        if not all(isinstance(secret, str) for secret in value.values()):
            raise BadBundle("the sealed secrets are not texts")
        return dict(value)

    def put(self, name: str, secret: str) -> None:
        """Sets a secret, or replaces it.

        Raises:
            BadInput: The name is none, the secret is neither a header's text nor certificates, or there are too many.
        """
        if not _NAME.fullmatch(name):
            raise BadInput(f"{name!r} is no name for a secret", "letters, digits, '.', '_' and '-', at most 64")
        _demand_readable(secret)
        secrets = {**self.read(), name: secret}
        if len(secrets) > _MOST:
            raise BadInput(f"a box keeps at most {_MOST} secrets", "remove one first")
        self._seal.store_file(_FILE, canonical.encode(secrets))

    def remove(self, name: str) -> None:
        """Removes a secret; raises BadInput where there is none of that name."""
        secrets = self.read()
        if name not in secrets:
            raise BadInput(f"there is no secret {name!r}", "lifeboat-appliance secret list")
        del secrets[name]
        self._seal.store_file(_FILE, canonical.encode(secrets))


def _demand_readable(secret: str) -> None:
    """A key goes into a header; the certificates of an upstream's authority are the only secret of many lines."""
    if PEM in secret:
        fits = len(secret) <= _CERTIFICATES_CHARACTERS and "PRIVATE KEY" not in secret
        if not (fits and readable(secret)):
            most = f"at most {_CERTIFICATES_CHARACTERS} bytes, without a private key"
            raise BadInput("the certificates of an authority cannot be read", f"certificates in PEM, {most}")
    elif not secret or len(secret) > _MOST_CHARACTERS or not secret.isascii() or not secret.isprintable():
        most = f"1 to {_MOST_CHARACTERS} printable ASCII characters"
        raise BadInput(f"a secret is one line of {most}", "or the certificates of an upstream's `ca`, in PEM")


def stamp(keys: Path) -> tuple[int, int]:
    """Returns what changes with the file of secrets in the folder of keys, without reading it."""
    try:
        status = (Seal(keys).folder / f"{_FILE}.age").stat()
    except FileNotFoundError:
        return (0, 0)
    return (status.st_ino, status.st_mtime_ns)
