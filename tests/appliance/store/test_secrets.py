"""Secrets by name: sealed, replaced whole, and never shown."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.edge.tls import make_ca
from appliance.gateway.trusted import context_of
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal, SiteSecrets
from appliance.store.secrets import Secrets, stamp
from bundler.format.errors import BadBundle, BadInput

SITE = SiteSecrets("bristol", "msp", "repo", "a" * 64, "AGE-SECRET-KEY-1", "b" * 64, "c" * 64)
KEY = "sk-0123456789abcdef"
CA = make_ca("theirs", datetime.now(UTC))


@pytest.fixture
def layout(tmp_path: Path) -> StateLayout:
    made = StateLayout(tmp_path / "state")
    made.make()
    Seal(made.keys).store(SITE)
    return made


def test_a_secret_comes_back_and_lies_nowhere_in_plain_text(layout: StateLayout) -> None:
    """Set, replaced, removed; no file holds the text, and the stamp changes each time."""
    secrets, stamps = Secrets(Seal(layout.keys)), [stamp(layout.keys)]
    assert secrets.read() == {}
    for value in ("first", KEY):
        secrets.put("openai", value)
        stamps.append(stamp(layout.keys))
    assert secrets.read() == {"openai": KEY}
    assert not any(KEY.encode() in path.read_bytes() for path in layout.keys.rglob("*") if path.is_file())
    secrets.remove("openai")
    assert secrets.read() == {}
    assert len({*stamps, stamp(layout.keys)}) == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", KEY),
        ("a b", KEY),
        ("../x", KEY),
        ("x" * 65, KEY),
        ("x", ""),
        ("x", "a\nb"),
        ("x", "schlüssel"),
        ("x", "k" * 5000),
        ("x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("x", CA.cert_pem.decode() * 400),
        ("x", (CA.cert_pem + CA.key_pem).decode()),
    ],
)
def test_what_is_neither_a_key_nor_certificates_is_refused(layout: StateLayout, name: str, value: str) -> None:
    """Nothing is written: no header carries it, or no authority is known by it, or a private key is with it."""
    secrets = Secrets(Seal(layout.keys))
    with pytest.raises(BadInput):
        secrets.put(name, value)
    assert secrets.read() == {}


def test_the_certificates_of_an_authority_are_a_secret_of_many_lines(layout: StateLayout) -> None:
    """As they came, with the comments between them, in whatever language."""
    pem = f"# Zertifizierungsstelle Zürich\r\n{CA.cert_pem.decode()}{CA.cert_pem.decode()}"
    Secrets(Seal(layout.keys)).put("OUR-CA", pem)
    kept = Secrets(Seal(layout.keys)).read()["OUR-CA"]
    assert kept == pem
    assert len(context_of(kept).get_ca_certs()) == 1


def test_an_unknown_secret_cannot_be_removed(layout: StateLayout) -> None:
    """A typing error is told."""
    with pytest.raises(BadInput, match="no secret 'openia'"):
        Secrets(Seal(layout.keys)).remove("openia")


def test_a_changed_file_is_told(layout: StateLayout) -> None:
    """It does not count as no secrets."""
    secrets = Secrets(Seal(layout.keys))
    secrets.put("openai", KEY)
    path = layout.keys / "seal" / "secrets.age"
    sealed = path.read_bytes()
    path.write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(BadBundle):
        secrets.read()
