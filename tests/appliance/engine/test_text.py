import itertools

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.text import TextOut

letters = st.text("abcé€😀", max_size=40)


def fed(text: str, stops: list[str], cuts: list[int]) -> str:
    """Feeds the bytes of a text in pieces cut anywhere, as tokens cut them."""
    data, out = text.encode(), TextOut(stops)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    return "".join(out.feed(piece) for piece in pieces) + out.finish()


@given(letters, st.lists(st.integers(0, 200)))
def test_text_comes_out_whole_however_it_is_cut(text: str, cuts: list[int]) -> None:
    """Characters that are split over tokens are put together again."""
    assert fed(text, [], cuts) == text


@given(letters, st.lists(st.text("abcé", min_size=1, max_size=3), max_size=3), st.lists(st.integers(0, 200)))
def test_nothing_of_a_stop_string_is_sent(text: str, stops: list[str], cuts: list[int]) -> None:
    """However the stream is cut, it ends where the first stop string would begin."""
    places = [text.find(stop) for stop in stops if stop in text]
    sent = fed(text, stops, cuts)
    assert text.startswith(sent)
    assert not any(stop in sent for stop in stops)
    assert places == [] or len(sent) <= max(places)
    assert places != [] or sent == text


def test_an_unfinished_character_is_told() -> None:
    """A stream that ends inside a character shows the replacement character, not nothing."""
    out = TextOut([])
    assert out.feed("é".encode()[:1]) == ""
    assert out.finish() == "\ufffd"
