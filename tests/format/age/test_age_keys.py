"""Keys and their strings: Bech32, X25519, scrypt, hybrid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format.age import (
    HeaderFailure,
    HybridIdentity,
    HybridRecipient,
    KeyFailure,
    ScryptIdentity,
    ScryptRecipient,
    X25519Identity,
    X25519Recipient,
    bech32,
)
from bundler.format.age.header import Stanza, encode_base64

# C2SP age, the examples of the spec.
SPEC_IDENTITY = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
SPEC_RECIPIENT = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
SPEC_HYBRID_IDENTITY = "AGE-SECRET-KEY-PQ-1XX76JRALNLXDMEW0CRK45QMCCH4X06SE84UN3VPM33W6HWDX0H3SK3ZQFR"
SPEC_HYBRID_START, SPEC_HYBRID_END = "age1pq1x34nzsvr0rxjsgdn8zgyhfe8j7ceq5r9rdelkjuh3y", "eq0d3fzv49zc0k"
FILE_KEY = bytes(range(16))
# RFC 7748 6.1 and the usual list: points of order 1, 2, 4 and 8.
LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
]


@given(st.binary(max_size=100))
def test_bech32_round_trip(data: bytes) -> None:
    """Any bytes come back, in either case."""
    text = bech32.encode("age", data)
    assert bech32.decode(text, "age") == bech32.decode(text.upper(), "age") == data


@given(
    st.binary(min_size=32, max_size=32), st.integers(0, 61), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l1bioB~ k")
)
def test_bech32_finds_any_wrong_character(data: bytes, at: int, char: str) -> None:
    """One exchanged character is always found (BIP 173 promises four)."""
    text = bech32.encode("age", data)
    wrong = text[:at] + char + text[at + 1 :]
    if wrong != text:
        with pytest.raises(KeyFailure):
            bech32.decode(wrong, "age")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "age1",
        "1qqqqqq",
        SPEC_RECIPIENT[:-1],
        SPEC_RECIPIENT + "q",
        SPEC_RECIPIENT.capitalize(),
        SPEC_IDENTITY,
        "age1" + "q" * 5000,
        SPEC_RECIPIENT.upper().replace("K", "\u212a"),
    ],
)
def test_bech32_of_other_forms(text: str) -> None:
    """Truncated, extended, mixed-case, foreign, overlong and non-ASCII strings are refused."""
    with pytest.raises(KeyFailure):
        bech32.decode(text, "age")


@pytest.mark.parametrize("values", [[0, 1], [0], [0, 0, 0]])
def test_bech32_padding(values: list[int]) -> None:
    """Padding that is not zero, or is a whole character, would give a key a second name."""
    checksum = bech32._checksum("age", values)
    with pytest.raises(KeyFailure, match="padding is not canonical"):
        bech32.decode("age1" + "".join(bech32._ALPHABET[value] for value in values + checksum), "age")


def test_spec_x25519_example() -> None:
    """The key pair of the spec is read, derived and written as printed there."""
    identity = X25519Identity.from_string(SPEC_IDENTITY)
    assert (str(identity), str(identity.recipient)) == (SPEC_IDENTITY, SPEC_RECIPIENT)
    assert X25519Recipient.from_string(SPEC_RECIPIENT) == identity.recipient


def test_spec_hybrid_example() -> None:
    """The hybrid key pair of the spec is read, derived and written as printed there."""
    identity = HybridIdentity.from_string(SPEC_HYBRID_IDENTITY)
    recipient = str(identity.recipient)
    assert str(identity) == SPEC_HYBRID_IDENTITY
    assert recipient.startswith(SPEC_HYBRID_START)
    assert recipient.endswith(SPEC_HYBRID_END)
    assert HybridRecipient.from_string(recipient) == identity.recipient


@pytest.mark.parametrize("identity", [X25519Identity.generate(), HybridIdentity.generate()], ids=["x25519", "hybrid"])
def test_repr_tells_no_secret(identity: X25519Identity | HybridIdentity) -> None:
    """Neither repr nor a traceback of a container shows the secret, and the public key is named."""
    secret = str(identity)
    assert secret.startswith("AGE-SECRET-KEY-")
    shown = repr([identity]).upper()
    assert "SECRET" not in shown
    assert secret.rpartition("1")[2][:8] not in shown
    assert str(identity.recipient)[:20].upper() in shown


def test_repr_of_passphrases() -> None:
    """Neither side of a passphrase shows it."""
    assert "hunter2" not in repr([ScryptRecipient("hunter2"), ScryptIdentity(b"hunter2")])


@pytest.mark.parametrize(
    "text", [SPEC_IDENTITY[:-1] + "Q", SPEC_IDENTITY.replace("AGE-SECRET-KEY-1", "AGE-SECRET-KY-1")]
)
def test_error_tells_no_secret(text: str) -> None:
    """The message about a mistyped identity does not repeat it."""
    with pytest.raises(KeyFailure) as caught:
        X25519Identity.from_string(text)
    assert "GFPYY" not in str(caught.value).upper()
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_low_order_recipient(point: bytes) -> None:
    """A public key that yields the zero secret is refused before a file depends on it."""
    with pytest.raises(KeyFailure, match="low-order"):
        X25519Recipient(point)
    hybrid = HybridIdentity.generate().recipient.public
    with pytest.raises(KeyFailure, match="not a valid"):
        HybridRecipient(hybrid[:1184] + point)


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_low_order_share(point: bytes) -> None:
    """A share that yields the zero secret is a broken header, not somebody else's stanza."""
    identity = X25519Identity.generate()
    stanza = identity.recipient.wrap(FILE_KEY)
    with pytest.raises(HeaderFailure, match="low-order"):
        identity.unwrap([Stanza((stanza.type, encode_base64(point)), stanza.body)])


def test_hybrid_modulus() -> None:
    """An encapsulation key with a coefficient of 4,095 is not one (FIPS 203 7.2)."""
    public = HybridIdentity.generate().recipient.public
    with pytest.raises(KeyFailure, match="not a valid"):
        HybridRecipient(b"\xff" * 1184 + public[1184:])


@pytest.mark.parametrize("size", [0, 31, 33, 1215, 1217])
def test_keys_of_other_sizes(size: int) -> None:
    """Every raw key has one size."""
    for kind in (X25519Recipient, X25519Identity, HybridRecipient, HybridIdentity):
        with pytest.raises(KeyFailure, match=f"of {size} bytes"):
            kind(bytes(size))


@pytest.mark.parametrize("kind", [X25519Identity, HybridIdentity])
def test_wrapping_is_fresh(kind: type[X25519Identity] | type[HybridIdentity]) -> None:
    """Two wrappings of one file key share nothing, and only the owner opens them, in any place."""
    identity, other = kind.generate(), kind.generate()
    one, two = identity.recipient.wrap(FILE_KEY), identity.recipient.wrap(FILE_KEY)
    assert one.args[1] != two.args[1]
    assert one.body != two.body
    assert identity.unwrap([other.recipient.wrap(FILE_KEY), one]) == FILE_KEY
    assert other.unwrap([one, two]) is None
    assert len(one.encode()) == identity.recipient.stanza_bytes


@pytest.mark.parametrize("passphrase", ["grün", "grün".encode()])
def test_scrypt_text_is_utf8(passphrase: str | bytes) -> None:
    """Text and its UTF-8 bytes are one passphrase."""
    recipient = ScryptRecipient(passphrase, 9)
    stanza = recipient.wrap(FILE_KEY)
    assert len(stanza.encode()) == recipient.stanza_bytes
    assert ScryptIdentity("grün").unwrap([stanza]) == FILE_KEY
    assert ScryptIdentity("grau").unwrap([stanza]) is None
    assert ScryptRecipient(passphrase, 10).stanza_bytes == recipient.stanza_bytes + 1


def test_scrypt_work_factor_limit() -> None:
    """A file that asks for more work than allowed is refused before any is done."""
    stanza = ScryptRecipient("p", 10).wrap(FILE_KEY)
    assert ScryptIdentity("p", 10).unwrap([stanza]) == FILE_KEY
    with pytest.raises(HeaderFailure, match="not 1 to 9"):
        ScryptIdentity("p", 9).unwrap([stanza])
    with pytest.raises(HeaderFailure):
        ScryptIdentity("p").unwrap([Stanza((*stanza.args[:2], "9" * 5000), stanza.body)])


@pytest.mark.parametrize("work_factor_log2", [-1, 0, 31])
def test_scrypt_bounds_of_the_caller(work_factor_log2: int) -> None:
    """Work factors that make no sense are the caller's mistake."""
    with pytest.raises(ValueError, match="outside"):
        ScryptRecipient("p", work_factor_log2)
    with pytest.raises(ValueError, match="outside"):
        ScryptIdentity("p", work_factor_log2)


def test_scrypt_empty_passphrase() -> None:
    """An empty passphrase protects nothing."""
    with pytest.raises(ValueError, match="must not be empty"):
        ScryptRecipient("")
    with pytest.raises(ValueError, match="must not be empty"):
        ScryptIdentity(b"")
