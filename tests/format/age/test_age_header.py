"""The header ring: one header has one encoding, and everything else is refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format.age import HeaderFailure, header
from bundler.format.age.header import Stanza

ARGUMENT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80)
STANZA = st.builds(Stanza, st.lists(ARGUMENT, min_size=1, max_size=4).map(tuple), st.binary(max_size=200))
MAC = bytes(range(32))
STANZAS = [Stanza(("X25519", "abcd"), bytes(32)), Stanza(("grease",), b"")]


def encode(stanzas: list[Stanza]) -> bytes:
    """A whole header with a fixed MAC."""
    return header.encode_unsigned(stanzas) + header.encode_end(MAC)


@given(st.lists(STANZA, min_size=1, max_size=5))
def test_what_is_written_is_read(stanzas: list[Stanza]) -> None:
    """Any stanzas survive, and the sizes are those that were planned."""
    data = encode(stanzas)
    found = header.parse(data)
    assert (list(found.stanzas), found.mac, found.size_bytes) == (stanzas, MAC, len(data))
    assert header.size_of(sum(len(stanza.encode()) for stanza in stanzas)) == len(data)


@given(st.lists(STANZA, min_size=1, max_size=3), st.data())
def test_a_changed_header_is_refused_or_canonical(stanzas: list[Stanza], data: st.DataObject) -> None:
    """Whatever is accepted after an edit is written back byte for byte."""
    original = encode(stanzas)
    at = data.draw(st.integers(0, len(original) - 1))
    cut = data.draw(st.integers(0, 3))
    edited = original[:at] + data.draw(st.binary(max_size=3)) + original[at + cut :]
    require_refused_or_canonical(edited)


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    """No bytes raise anything but the documented failure."""
    require_refused_or_canonical(b"age-encryption.org/v1\n" + noise)


def require_refused_or_canonical(data: bytes) -> None:
    """Parse; on success the encoding must be the input."""
    try:
        found = header.parse(data)
    except HeaderFailure:
        return
    assert header.encode_unsigned(found.stanzas) + header.encode_end(found.mac) == data


@given(st.binary(max_size=70), st.text("ABCDwxyz+/=", max_size=4))
def test_base64_is_canonical(data: bytes, tail: str) -> None:
    """Only the one unpadded text of some bytes decodes."""
    text = header.encode_base64(data)
    assert text == base64.b64encode(data).decode().rstrip("=")
    assert header.decode_base64(text, len(data)) == data
    try:
        decoded = header.decode_base64(text + tail)
    except HeaderFailure:
        return
    assert header.encode_base64(decoded) == text + tail


@pytest.mark.parametrize("text", ["YQ==", "YR", "Y", "YQ\n", "Y Q", "Y-_Q", "YQé"])
def test_base64_of_other_forms(text: str) -> None:
    """Padding, stray bits, line ends, spaces and the URL alphabet are refused."""
    with pytest.raises(HeaderFailure):
        header.decode_base64(text)


def test_base64_of_another_size() -> None:
    """The message says what was expected and what was found."""
    with pytest.raises(HeaderFailure, match="expected 32 bytes of base64, found 3"):
        header.decode_base64("AAAA", 32)


@pytest.mark.parametrize("length", [0, 1, 47, 48, 49, 95, 96, 97])
def test_body_ends_in_a_short_line(length: int) -> None:
    """Bodies around a full line of 48 bytes end in a line below 64 columns, empty where needed."""
    lines = Stanza(("t",), bytes(length)).encode().split(b"\n")[1:-1]
    assert [len(line) for line in lines[:-1]] == [64] * (length // 48)
    assert len(lines[-1]) < 64


def test_stanza_count_is_bounded_both_ways() -> None:
    """The writer refuses what the reader would refuse."""
    most = [Stanza(("t",), b"")] * header.MAX_STANZAS
    assert len(header.parse(encode(most)).stanzas) == header.MAX_STANZAS
    with pytest.raises(HeaderFailure):
        encode([*most, most[0]])
    with pytest.raises(HeaderFailure):
        encode([])
    one_more = encode(most).replace(b"-> t\n\n", b"-> t\n\n-> t\n\n", 1)
    with pytest.raises(HeaderFailure, match="more than 256 stanzas"):
        header.parse(one_more)


def test_header_size_is_bounded_both_ways() -> None:
    """A header over the byte limit is neither written nor read."""
    stanza = Stanza(("t", "a" * header.MAX_HEADER_BYTES), b"")
    with pytest.raises(HeaderFailure, match="outside the limits"):
        header.encode_unsigned([stanza])
    with pytest.raises(HeaderFailure, match="the limit is"):
        header.parse(b"age-encryption.org/v1\n" + stanza.encode() + b"---" + header.encode_end(MAC))


def test_end_is_found_in_a_longer_file() -> None:
    """The payload after the header is left alone, also where it looks like an end."""
    data = encode(STANZAS)
    assert header.find_end(data + b"\n--- payload\n") == len(data)
    assert all(header.find_end(data[:cut]) is None for cut in range(len(data)))


@pytest.mark.parametrize("start", [b"age-encryption.org/v2\n", b"PK\x03\x04", b"-----BEGIN AGE ENCRYPTED FILE-----\n"])
def test_other_files_are_refused_at_once(start: bytes) -> None:
    """A foreign first line needs no search for an end."""
    with pytest.raises(HeaderFailure, match="unknown first line"):
        header.find_end(start)
