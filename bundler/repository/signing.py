"""Signing by file, for keys that lie elsewhere: a request is unsigned TUF metadata, a signature goes into a copy of it.

A request may pass through many hands. What it asks for is read from it and shown before anything is signed; what comes
back counts only by its signatures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError

from bundler.files import read_limited
from bundler.format.errors import BadBundle, BadInput
from bundler.format.limits import TARGETS_BYTES
from bundler.format.paths import check_all
from bundler.format.trust.policy import MSP, POLICY, REPOSITORY, read_policy
from bundler.format.trust.verify import CONTENT, CONTENT_PATHS, check_key_ids
from bundler.repository.keyring import Keyring
from bundler.repository.roots import DUTIES, Roots


@dataclass(frozen=True)
class Signatures:
    """How far a request has come: the kind of key that must sign, valid signatures, and how many are needed."""

    duty: str
    version: int
    valid: int
    needed: int

    @property
    def complete(self) -> bool:
        return self.valid >= self.needed


def read_request(path: Path) -> Metadata[Any]:
    """Reads a request or a signed copy of one.

    Raises:
        BadInput: It is neither root nor targets metadata, or holds what this program never asks to be signed.
    """
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(read_limited(path, TARGETS_BYTES))
    except (BadBundle, DeserializationError, RecursionError) as error:
        raise BadInput(f"{path} is no signing request") from error
    if not isinstance(metadata.signed, Root | Targets):
        raise BadInput(f"{path} asks to sign {metadata.signed.type!r}; only roots and targets are signed by file")
    if strange := _strange(metadata.signed):
        raise BadInput(f"{path} asks for what this program never writes: {strange}", "do not sign it")
    return metadata


def _strange(signed: Root | Targets) -> str:
    """Names what a description could not show, or no request of ours holds; "" where there is nothing."""
    try:
        check_key_ids(signed.keys if isinstance(signed, Root) else _delegated_keys(signed))
        if isinstance(signed, Targets):
            check_all(signed.targets)
            policy = read_policy(signed.unrecognized_fields.get(POLICY))
            if policy.repository != signed.unrecognized_fields.get(REPOSITORY):
                return "a policy of another repository"
    except BadBundle as error:
        return error.fact
    if not 0 < signed.version < 10**9:
        return f"version {signed.version}"
    known = {MSP} if isinstance(signed, Root) else {REPOSITORY, POLICY}
    if unknown := set(signed.unrecognized_fields) ^ known:
        return f"fields {', '.join(sorted(unknown))}"
    if isinstance(signed, Root):
        return "" if set(signed.roles) == {role for roles in DUTIES.values() for role in roles} else "other roles"
    delegations = signed.delegations
    roles = {} if delegations is None else dict(delegations.roles or {})
    content = roles.pop(CONTENT, None)
    if roles or content is None or (delegations is not None and delegations.succinct_roles is not None):
        return f"delegations to {', '.join(sorted(roles)) or 'others than content'}"
    if not content.terminating or content.paths != list(CONTENT_PATHS) or content.path_hash_prefixes is not None:
        return f"content for the paths {content.paths}"
    return ""


def sign(metadata: Metadata[Any], keyring: Keyring, roots: Roots) -> list[str]:
    """Adds the signatures of all keys at hand that may sign; returns the ids of those keys."""
    added = []
    for signer in keyring.signers(_may_sign(metadata, roots)):
        metadata.sign(signer, append=True)
        added.append(signer.public_key.keyid)
    return added


def merge(parts: Sequence[Metadata[Any]], roots: Roots) -> Metadata[Any]:
    """Joins the signatures of copies of one request; of two of the same key, the one that holds.

    Raises:
        BadInput: The copies are not of the same request.
    """
    keys: dict[str, Key] = dict(roots.newest().signed.keys)
    if isinstance(parts[0].signed, Root):
        keys |= parts[0].signed.keys
    joined = Metadata(parts[0].signed, dict(parts[0].signatures))
    for other in parts[1:]:
        if other.signed_bytes != joined.signed_bytes:
            raise BadInput("these files are not copies of one request", "sign copies of the same file")
        for keyid, found in other.signatures.items():
            # A copy with a broken signature must not push out the good one of the same key.
            if keyid not in joined.signatures or _holds(joined, found, keys):
                joined.signatures[keyid] = found
    return joined


def _holds(metadata: Metadata[Any], signature: Signature, keys: Mapping[str, Key]) -> bool:
    key = keys.get(signature.keyid)
    if key is None:
        return False
    try:
        key.verify_signature(signature, metadata.signed_bytes)
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True


def count(metadata: Metadata[Any], roots: Roots) -> Signatures:
    """Counts valid signatures by the newest root; a root needs those of the root before it and its own."""
    newest = roots.newest().signed
    by: list[Root] = [newest]
    if isinstance(metadata.signed, Root):
        duty, role = "root", "root"
        by.append(metadata.signed)
    else:
        duty, role = "release", "targets"
    results = [root.get_verification_result(role, metadata.signed_bytes, metadata.signatures) for root in by]
    worst = min(results, key=lambda result: len(result.signed) - result.threshold)
    return Signatures(duty, metadata.signed.version, len(worst.signed), worst.threshold)


def describe(metadata: Metadata[Any], roots: Roots) -> list[str]:
    """Says in words what a request asks for; everything is read from the bytes that will be signed."""
    signed = metadata.signed
    lines = [f"{signed.type} version {signed.version}, expires {signed.expires:%Y-%m-%d}"]
    if isinstance(signed, Root):
        return lines + _describe_root(signed, roots.newest().signed)
    policy = read_policy(signed.unrecognized_fields.get(POLICY))
    lines += [
        f"repository {policy.repository}",
        f"epoch {policy.epoch}, least sequence {policy.min_sequence}",
        f"revoked: {', '.join(policy.revoked) or 'none'}",
        f"boxes may talk to: {', '.join(policy.egress) or 'nobody'}",
    ]
    for path, file in sorted(signed.targets.items()):
        lines.append(f"software: {path}, {file.length} bytes, SHA-256 {file.hashes.get('sha256', 'none')}")
    if not signed.targets:
        lines.append("software: none")
    roles = {} if signed.delegations is None else signed.delegations.roles or {}
    lines += [
        f"{name} ({', '.join(role.paths or [])}) is signed by {role.threshold} of "
        f"{', '.join(keyid for keyid in role.keyids)}"
        for name, role in roles.items()
    ]
    return lines


def _describe_root(signed: Root, newest: Root) -> list[str]:
    lines = [f"MSP {signed.unrecognized_fields.get(MSP)}"]
    for duty, roles in DUTIES.items():
        for role in roles:
            now, then = newest.roles[role], signed.roles[role]
            marks = [f"+{keyid}" for keyid in then.keyids if keyid not in now.keyids]
            marks += [f"-{keyid}" for keyid in now.keyids if keyid not in then.keyids]
            change = f" ({', '.join(marks)})" if marks else ""
            held = ", ".join(keyid for keyid in then.keyids)
            lines.append(f"{duty} ({role}): {then.threshold} of {held}{change}")
    return lines


def _delegated_keys(signed: Targets) -> Mapping[str, Key]:
    return {} if signed.delegations is None else signed.delegations.keys


def _may_sign(metadata: Metadata[Any], roots: Roots) -> set[str]:
    newest = roots.newest().signed
    if isinstance(metadata.signed, Root):
        return {*newest.roles["root"].keyids, *metadata.signed.roles["root"].keyids}
    return set(newest.roles["targets"].keyids)
