from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.foresight import Foresight

FULL = 4
# Layers of three tensors, each of two full pieces and a rest.
LAYERS = 5
BOUNDS = [0, *accumulate([FULL, FULL, 1] * 3 * LAYERS)]


def orders() -> list[int]:
    """The pieces as a loader asks for them that takes the last tensor of a layer before the middle one."""
    runs = [3 * layer + tensor for layer in range(LAYERS) for tensor in (0, 2, 1)]
    return [3 * run + piece for run in runs for piece in range(3)]


def test_a_run_goes_on() -> None:
    """Behind a piece of full length comes the next one, behind the end of the first run nothing that is known."""
    sight = Foresight(BOUNDS, FULL)
    sight.note(3)
    assert sight.next(9) == [4, 5]


def test_the_order_of_a_layer_is_learnt() -> None:
    """After two layers all of the third is foreseen, to its jump into the next one."""
    asked, sight = orders(), Foresight(BOUNDS, FULL)
    for number in asked[:19]:
        sight.note(number)
    assert sight.next(20) == asked[19:39]


def test_nothing_is_foreseen_twice() -> None:
    """A piece that was asked for comes again for a small tensor in it at most."""
    sight = Foresight(BOUNDS, FULL)
    for number in (0, 1, 2, 0):
        sight.note(number)
    assert sight.next(4) == []


@given(st.lists(st.integers(0, len(BOUNDS) - 2), min_size=1), st.integers(0, 50))
def test_guesses_are_pieces(asked: list[int], count: int) -> None:
    """Whatever is asked, guesses exist, differ, and were not asked for before."""
    sight = Foresight(BOUNDS, FULL)
    for number in asked:
        sight.note(number)
    found = sight.next(count)
    assert len(found) <= count
    assert len({*found, *asked}) == len(found) + len(set(asked))
    assert all(0 <= number < len(BOUNDS) - 1 for number in found)
