"""Secrets by name: sealed, replaced whole, and never shown."""

from pathlib import Path

import pytest

from appliance.store.layout import StateLayout
from appliance.store.seal import Seal, SiteSecrets
from appliance.store.secrets import Secrets, stamp
from bundler.format.errors import BadBundle, BadInput

SITE = SiteSecrets("bristol", "msp", "repo", "a" * 64, "AGE-SECRET-KEY-1", "b" * 64, "c" * 64)
KEY = "sk-0123456789abcdef"


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
    ],
)
def test_what_no_header_carries_is_refused(layout: StateLayout, name: str, value: str) -> None:
    """Nothing is written."""
    secrets = Secrets(Seal(layout.keys))
    with pytest.raises(BadInput):
        secrets.put(name, value)
    assert secrets.read() == {}


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
