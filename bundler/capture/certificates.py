"""A chain of certificates from who signed a model to one that the profile names (RFC 5280, what of it is needed). Pure.

Validity is judged at the time when the leaf began: a signature carries no time, and one that was good stays good.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from bundler.format.errors import BadInput

MOST = 8
T = TypeVar("T", bound=x509.ExtensionType)
_KNOWN = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)


def leading_to(chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]) -> x509.Certificate:
    """Returns the leaf, the first of the chain, if it leads to a trusted certificate and may sign.

    Raises:
        BadInput: It leads nowhere, one of them was not valid, may not issue, or the leaf may not sign.
    """
    if not 0 < len(chain) <= MOST:
        raise BadInput(f"the signature brings {len(chain)} certificates, expected 1 to {MOST}")
    leaf, rest = chain[0], list(chain[1:])
    when = leaf.not_valid_before_utc
    _check_leaf(leaf)
    current, below = leaf, 0
    while current not in trusted:
        issuer = next((each for each in (*trusted, *rest) if _issued(each, current)), None)
        if issuer is None:
            raise BadInput("the certificate of the signer does not lead to one that the profile names")
        _check_issuer(issuer, when, below)
        rest = [each for each in rest if each != issuer]
        current, below = issuer, below + 1
    return leaf


def _issued(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return issuer != subject


def _check_leaf(leaf: x509.Certificate) -> None:
    _check_known(leaf)
    usage, extended = _extension(leaf, x509.KeyUsage), _extension(leaf, x509.ExtendedKeyUsage)
    signs = usage is not None and usage.digital_signature
    if not signs and not (extended is not None and ExtendedKeyUsageOID.CODE_SIGNING in extended):
        raise BadInput("the certificate of the signer may not be used for signing")


def _check_issuer(issuer: x509.Certificate, when: datetime, below: int) -> None:
    _check_known(issuer)
    name = issuer.subject.rfc4514_string()
    constraints, usage = _extension(issuer, x509.BasicConstraints), _extension(issuer, x509.KeyUsage)
    if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
        raise BadInput(f"the certificate {name} may not issue others")
    if constraints.path_length is not None and constraints.path_length < below:
        raise BadInput(f"the certificate {name} may not issue so long a chain")
    if not issuer.not_valid_before_utc <= when <= issuer.not_valid_after_utc:
        raise BadInput(f"the certificate {name} was not valid when the signer's began")


def _check_known(certificate: x509.Certificate) -> None:
    strange = [each for each in certificate.extensions if each.critical and not isinstance(each.value, _KNOWN)]
    if strange:
        raise BadInput(f"a certificate has a rule that is not known here: {strange[0].oid.dotted_string}")


def _extension(certificate: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
