import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format import canonical
from bundler.format.errors import BadBundle

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text("abé", max_size=4), inner))


@given(st.dictionaries(st.text("abcé", max_size=5), values))
def test_what_is_encoded_decodes_to_the_same(value: dict[str, object]) -> None:
    """Every value that we write is read back unchanged."""
    assert canonical.decode(canonical.encode(value), "it") == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No input makes the decoder fail in another way than BadBundle, and what it takes is canonical."""
    try:
        value = canonical.decode(data, "it")
    except BadBundle:
        return
    assert canonical.encode(value) == data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not strict JSON"),
        (b"[]", "not a JSON object"),
        (b'{"a":1,"a":2}', "appears twice"),
        (b'{"a":1.5}', "not an integer"),
        (b'{"a":NaN}', "not an integer"),
        (b'{"a": 1}', "canonical"),
        (b'{"b":1,"a":2}', "canonical"),
        (b'{"a":' + b"9" * 30 + b"}", "more than 20 digits"),
        (b'{"a":"\xff"}', "not strict JSON"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nests deeper"),
        (b'{"a":"\\ud800"}', "canonical|strict"),
    ],
)
def test_what_we_would_not_write_is_refused(data: bytes, reason: str) -> None:
    """Each malleable or dangerous form gives BadBundle with its reason."""
    with pytest.raises(BadBundle, match=reason):
        canonical.decode(data, "it")


def test_floats_are_not_written() -> None:
    """A float is our bug: it has no one canonical text."""
    with pytest.raises(TypeError):
        canonical.encode({"a": [0.5]})
