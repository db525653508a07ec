"""OpenSSF model signatures: those of the real program verify, and whatever does not add up is refused."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bundler.capture.certificates import leading_to
from bundler.confine import run_confined
from bundler.format.errors import BadInput

Document = dict[str, Any]
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def vectors(repo_root: Path) -> Path:
    return repo_root / "tests" / "vectors" / "model_signing"


def verified(signature: Path, key: Path) -> Document:
    inputs = {"signature": signature, "key": key}
    found: Document = run_confined("bundler.capture.model_signature:verify", {}, inputs=inputs)
    return found


@pytest.mark.parametrize(("signature", "key"), [("key", "key.pub"), ("p384", "p384.pub"), ("certificate", "ca.pem")])
def test_signatures_of_the_real_program_verify(vectors: Path, signature: str, key: str) -> None:
    """By a key of either curve and by a certificate: the files are those of the model."""
    found = verified(vectors / f"{signature}.sig", vectors / key)
    files = {path.relative_to(vectors / "model").as_posix(): path for path in (vectors / "model").rglob("*.*")}
    assert found["files"] == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert found["signer"].startswith("certificate CN=Example model signer" if key == "ca.pem" else "key ")


@pytest.mark.parametrize(
    ("signature", "key", "why"),
    [
        ("key", "p384.pub", "not of the signer that the profile names"),
        ("p384", "key.pub", "not of the signer that the profile names"),
        ("key", "ca.pem", "brings no certificate"),
        ("certificate", "key.pub", "not of the signer that the profile names"),
        ("shards", "key.pub", "signed as shards"),
    ],
)
def test_another_signer_or_another_way_is_refused(vectors: Path, signature: str, key: str, why: str) -> None:
    """A key is no certificate, and shards are digests of something else."""
    with pytest.raises(BadInput, match=why):
        verified(vectors / f"{signature}.sig", vectors / key)


def test_a_keyless_signature_cannot_be_checked_offline(vectors: Path, tmp_path: Path) -> None:
    """Said as such, and not taken for one that holds."""
    document = json.loads((vectors / "key.sig").read_bytes())
    document["verificationMaterial"] = {"certificate": {"rawBytes": "AA=="}, "tlogEntries": [{"logIndex": "1"}]}
    (tmp_path / "keyless.sig").write_text(json.dumps(document))
    with pytest.raises(BadInput, match="keyless"):
        verified(tmp_path / "keyless.sig", vectors / "key.pub")


@pytest.fixture
def sign(tmp_path: Path, vectors: Path) -> Callable[[Callable[[Document], None]], tuple[Path, Path]]:
    """Signs the statement of `key.sig`, changed, with a fresh key: `(signature, key)`."""

    def signed(change: Callable[[Document], None]) -> tuple[Path, Path]:
        private = ec.generate_private_key(ec.SECP256R1())
        document = json.loads((vectors / "key.sig").read_bytes())
        statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
        change(statement)
        payload, kind = json.dumps(statement).encode(), b"application/vnd.in-toto+json"
        encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
        signature = base64.b64encode(private.sign(encoded, ec.ECDSA(hashes.SHA256()))).decode()
        document["dsseEnvelope"] |= {"payload": base64.b64encode(payload).decode(), "signatures": [{"sig": signature}]}
        (tmp_path / "made.sig").write_text(json.dumps(document))
        public = private.public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        (tmp_path / "made.pub").write_bytes(public.public_bytes(serialization.Encoding.PEM, form))
        return tmp_path / "made.sig", tmp_path / "made.pub"

    return signed


def _none(_: Document) -> None:
    pass


def _swap_digest(statement: Document) -> None:
    statement["predicate"]["resources"][0]["digest"] = "0" * 64


def _twice(statement: Document) -> None:
    statement["predicate"]["resources"].append(statement["predicate"]["resources"][0])


def _other_predicate(statement: Document) -> None:
    statement["predicateType"] = "https://slsa.dev/provenance/v1"


def _two_subjects(statement: Document) -> None:
    statement["subject"] *= 2


def _no_serialization(statement: Document) -> None:
    del statement["predicate"]["serialization"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_none, ""),
        (_swap_digest, "does not give the digest of its subject"),
        (_twice, "not sound"),
        (_other_predicate, "expected https://model_signing"),
        (_two_subjects, "no signature of a model"),
        (_no_serialization, "no signature of a model"),
    ],
)
def test_a_signed_statement_must_agree_with_itself(
    sign: Callable[..., tuple[Path, Path]], change: Callable[[Document], None], why: str
) -> None:
    """A good signature over a list that does not add up is refused."""
    signature, key = sign(change)
    if not why:
        assert len(verified(signature, key)["files"]) == 3
        return
    with pytest.raises(BadInput, match=why):
        verified(signature, key)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"mediaType": "x"}', b"[" * 100_000, b'{"mediaType": 1}' * 2])
def test_what_is_no_signature_is_told_as_such(tmp_path: Path, vectors: Path, data: bytes) -> None:
    """No traceback, whatever the file holds."""
    (tmp_path / "bad.sig").write_bytes(data)
    with pytest.raises(BadInput, match="signature"):
        verified(tmp_path / "bad.sig", vectors / "key.pub")


class Authority:
    """Issues certificates for a test."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())

    def issue(
        self,
        name: str,
        by: Authority,
        issuer: str,
        *,
        ca: bool,
        signs: bool = True,
        days: int = 30,
        length: int | None = None,
    ) -> x509.Certificate:
        usage = x509.KeyUsage(signs and not ca, False, False, False, False, signs and ca, False, False, False)
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, issuer)]
        made = x509.CertificateBuilder(names[1], names[0], self.key.public_key(), x509.random_serial_number())
        made = made.not_valid_before(NOW - timedelta(days=days)).not_valid_after(NOW - timedelta(days=days - 20))
        made = made.add_extension(x509.BasicConstraints(ca, length if ca else None), critical=True)
        return made.add_extension(usage, critical=True).sign(by.key, hashes.SHA256())


def test_a_chain_leads_to_a_named_certificate_or_nowhere() -> None:
    """An intermediate may stand between; one that may not issue, was over, or is not named leads nowhere."""
    root, middle, leaf = Authority(), Authority(), Authority()
    top = root.issue("root", root, "root", ca=True)
    between = middle.issue("middle", root, "root", ca=True)
    end = leaf.issue("leaf", middle, "middle", ca=False)
    assert leading_to([end, between], [top]) == end
    assert leading_to([end], [end]) == end
    with pytest.raises(BadInput, match="does not lead"):
        leading_to([end, between], [Authority().issue("root", root, "root", ca=True)])
    with pytest.raises(BadInput, match="does not lead"):
        leading_to([end], [top])
    with pytest.raises(BadInput, match="may not issue others"):
        leading_to([end, middle.issue("middle", root, "root", ca=False)], [top])
    with pytest.raises(BadInput, match="was not valid"):
        leading_to([end, middle.issue("middle", root, "root", ca=True, days=90)], [top])
    with pytest.raises(BadInput, match="so long a chain"):
        leading_to([end, between], [root.issue("root", root, "root", ca=True, length=0)])
    with pytest.raises(BadInput, match="may not be used for signing"):
        leading_to([leaf.issue("leaf", middle, "middle", ca=False, signs=False), between], [top])
