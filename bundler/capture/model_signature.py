"""OpenSSF model signing (OMS): reads a signature in the confined child; nothing in it is believed before it verifies.

A signature is a Sigstore bundle (v0.3, JSON) around a DSSE envelope around an in-toto statement that lists the files of
a model with their digests: https://github.com/sigstore/model-transparency. Here a key or a certificate that the profile
names decides. A keyless signature needs Sigstore's transparency log and authorities, which an offline check has not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import IO, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bundler.capture.certificates import leading_to
from bundler.format import strict_json
from bundler.format.errors import BadInput
from bundler.format.limits import MIB

SIGNATURE_BYTES, KEY_BYTES = 64 * MIB, MIB
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://model_signing/signature/v1.0"
_HASHES = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}
Public = ec.EllipticCurvePublicKey


def verify(request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], outputs: Mapping[str, IO[bytes]]) -> Any:  # noqa: ARG001
    """Returns `{"signer", "files"}`: who signed, and the SHA-256 of each file by its path in the model.

    Raises:
        BadInput: It is no such signature, keyless, of another key, or it does not add up.
    """
    key, signature = inputs["key"].read(KEY_BYTES + 1), inputs["signature"].read(SIGNATURE_BYTES + 1)
    if len(key) > KEY_BYTES or len(signature) > SIGNATURE_BYTES:
        raise BadInput("the signature or the key is too long")
    try:
        bundle = strict_json.parse(signature)
        _check_type(str(bundle["mediaType"]))
        public, signer = _signer(bundle["verificationMaterial"], key)
        payload = _opened(bundle["dsseEnvelope"], public)
        return {"signer": signer, "files": _files(strict_json.parse(payload))}
    except BadInput:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadInput(f"this is no signature of a model: {type(error).__name__}: {str(error)[:200]}") from error


def _check_type(found: str) -> None:
    if found != BUNDLE:
        raise BadInput(f"the signature is of the type {found[:80]!r}, expected {BUNDLE}")


def _signer(material: Mapping[str, Any], named: bytes) -> tuple[Public, str]:
    """Returns the public key that must have signed, and what to call it."""
    if "certificate" in material or ("x509CertificateChain" not in material and "publicKey" not in material):
        raise BadInput(
            "the signature is keyless: it proves itself by a transparency log, which cannot be asked offline",
            "ask for one that is made with a key or a certificate, or leave signer_key out",
        )
    if b"-----BEGIN CERTIFICATE-----" in named:
        if "x509CertificateChain" not in material:
            raise BadInput("the signature brings no certificate, and the profile names one", "name the signer's key")
        chain = [base64.b64decode(each["rawBytes"]) for each in material["x509CertificateChain"]["certificates"]]
        found = [x509.load_der_x509_certificate(each) for each in chain]
        leaf = leading_to(found, x509.load_pem_x509_certificates(named))
        digest = leaf.fingerprint(hashes.SHA256()).hex()
        return _curve(leaf.public_key()), f"certificate {leaf.subject.rfc4514_string()} ({digest})"
    public = _curve(serialization.load_pem_public_key(named))
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return public, f"key {hashlib.sha256(pem).hexdigest()}"


def _curve(public: object) -> Public:
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name not in _HASHES:
        raise BadInput("the signer's key is not on the curve P-256, P-384 or P-521, as model signing asks for")
    return public


def _opened(envelope: Mapping[str, Any], public: Public) -> bytes:
    """Returns the payload of a DSSE envelope once its one signature holds."""
    signatures: Sequence[Mapping[str, str]] = envelope["signatures"]
    if len(signatures) != 1 or envelope["payloadType"] != PAYLOAD:
        raise BadInput(f"the envelope has {len(signatures)} signatures of a {str(envelope['payloadType'])[:80]!r}")
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(signatures[0]["sig"], validate=True)
    except binascii.Error as error:
        raise BadInput("the envelope is not in base64") from error
    encoded = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)
    try:
        public.verify(signature, encoded, ec.ECDSA(_HASHES[public.curve.name]))
    except InvalidSignature:
        raise BadInput("the signature is not of the signer that the profile names") from None
    return payload


def _files(statement: Mapping[str, Any]) -> dict[str, str]:
    """Returns the digests of a signed statement by path, once it agrees with itself."""
    if (statement["_type"], statement["predicateType"]) != (STATEMENT, PREDICATE):
        raise BadInput(f"the signed statement is a {str(statement['predicateType'])[:80]!r}, expected {PREDICATE}")
    predicate, [subject] = statement["predicate"], statement["subject"]
    how = predicate["serialization"]
    if (how["method"], how["hash_type"]) != ("files", "sha256"):
        raise BadInput(
            f"the files are signed as {how['method']} by {how['hash_type']}, expected files by sha256",
            "sign the model anew without --shard-size and with sha256",
        )
    whole, found = hashlib.sha256(), dict[str, str]()
    for item in predicate["resources"]:
        name, digest = str(item["name"]), str(item["digest"])
        if item["algorithm"] != "sha256" or len(bytes.fromhex(digest)) != 32 or name in found:
            raise BadInput(f"the signed list of files is not sound at {name[:80]!r}")
        whole.update(bytes.fromhex(digest))
        found[name] = digest.lower()
    if whole.hexdigest() != subject["digest"]["sha256"]:
        raise BadInput("the signed list of files does not give the digest of its subject")
    return found
