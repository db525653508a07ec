"""Speaks to `systemd-creds`: a secret that this machine's TPM2 or host key opens, and nothing else (systemd-creds(1)).

No PCR is bound: a Secure Boot certificate update would change what they hold and lock the box (systemd/systemd#42028).
"""

from __future__ import annotations

import base64
import binascii
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from appliance.store.owner import as_root
from bundler.files import read_limited
from bundler.format.errors import BadBundle, FileMissing, NotReady, SystemFailed

# None. Version 252 encrypts so and cannot open it ("PCR bank invalid"); PCR 16 is for debugging, and stays zero.
_PCRS = (("--tpm2-pcrs=",), ("--tpm2-pcrs=16",))
# Bound into the credential: PID 1 hands it out under this name only.
NAME = "lifeboat-seal"
TPM2, HOST = "tpm2", "host"
_PROGRAM, _LIMIT_S, _CREDENTIAL_BYTES = "systemd-creds", 60.0, 65_536
# The first 16 bytes of a credential (systemd 252, src/shared/creds-util.h) say with what it is encrypted.
_KINDS = {
    "5a1c6a86df9d4096b1d5a65e0862f19a": (HOST,),
    "0c7cc07b117645919c4b0bea08bc20fe": (TPM2,),
    "93a894094874449090caf2fc93cab553": (HOST, TPM2),
}


def kind_of(credential: bytes) -> tuple[str, ...]:
    """Returns the keys that are needed together to open a credential; empty where it is of an unknown kind."""
    try:
        head = base64.b64decode(b"".join(credential.split()), validate=True)[:16]
    except binascii.Error:
        return ()
    return _KINDS.get(head.hex(), ())


@as_root()
def best_key() -> str | None:
    """Returns what this machine can seal with, or None where no service manager would open it at boot."""
    # sd_booted(3): without PID 1 nobody hands credentials to the service.
    if os.geteuid() != 0 or not Path("/run/systemd/system").is_dir() or shutil.which(_PROGRAM) is None:
        return None
    return next((key for key in ((TPM2, HOST) if has_tpm2() else (HOST,)) if _works(key)), None)


def has_tpm2() -> bool:
    """Whether firmware, kernel and libraries together reach a TPM2."""
    return subprocess.run([_PROGRAM, "has-tpm2", "--quiet"], timeout=_LIMIT_S, check=False).returncode == 0


@as_root()
def encrypt(secret: bytes, key: str) -> bytes:
    """Encrypts a secret with `TPM2` or `HOST`, and opens it once to see that it will.

    Raises:
        NotReady: The machine has no such key, or what it encrypts does not open again.
    """
    failure = NotReady("what this machine encrypts does not open again", "take another --machine")
    for pcrs in _PCRS if key == TPM2 else ((),):
        credential = _run(["encrypt", f"--name={NAME}", f"--with-key={key}", *pcrs, "-", "-"], secret)
        try:
            if _run(["decrypt", f"--name={NAME}", "-", "-"], credential) == secret:
                return credential
        except NotReady as error:
            failure = error
    raise failure


@as_root()
def decrypt(credential: bytes, environment: Mapping[str, str] = os.environ) -> bytes:
    """Opens a credential: what the service manager has opened for this service, or else as root by the tool.

    Raises:
        NotReady: Neither is there.
        BadBundle: It does not open on this machine.
    """
    if folder := environment.get("CREDENTIALS_DIRECTORY"):
        with suppress(FileMissing):
            return read_limited(Path(folder) / NAME, _CREDENTIAL_BYTES)
    if os.geteuid() != 0 or shutil.which(_PROGRAM) is None:
        hint = "run it as root, or write the unit again with `lifeboat-appliance unit` and start the service"
        raise NotReady(f"the seal opens in a service that is given the credential {NAME}, or for root", hint)
    try:
        return _run(["decrypt", f"--name={NAME}", "-", "-"], credential)
    except NotReady as error:
        hint = "was the TPM cleared, or the disk moved? See docs/box.md, The seal"
        raise BadBundle(f"this machine does not open its seal: {error.fact}", hint) from error


def _works(key: str) -> bool:
    try:
        return bool(encrypt(b"probe", key))
    except (NotReady, SystemFailed):
        return False


def _run(words: list[str], data: bytes) -> bytes:
    """The secret goes through pipes: not through arguments, the environment or a file."""
    try:
        done = subprocess.run([_PROGRAM, *words], input=data, capture_output=True, timeout=_LIMIT_S, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise SystemFailed(f"{_PROGRAM} does not run: {error}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotReady(f"{_PROGRAM} {words[0]}: {lines[-1]}", "choose another --machine")
    return done.stdout
