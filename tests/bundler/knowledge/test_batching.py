"""Which texts are embedded together: nothing lost, nothing twice, little padding, and nobody waits behind a crowd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from bundler.knowledge.batching import Batcher

LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=60)
BATCH = 256


def batcher(most_tokens: int = 10**9, most_requests: int = 10**9) -> Batcher:
    return Batcher(BATCH, most_tokens, most_requests)


@given(st.lists(LENGTHS, min_size=1, max_size=6), st.integers(0, 5))
def test_every_text_is_taken_once_and_no_batch_is_too_large(requests: list[list[int]], later: int) -> None:
    """Also where requests come while others are half done; a batch is over its size only by one long text."""
    made, taken = batcher(), Counter[tuple[Hashable, int]]()
    waiting = list(enumerate(requests))
    while waiting or made.waiting_requests:
        for key, lengths in waiting[: later + 1]:
            made.add(key, lengths)
        waiting = waiting[later + 1 :]
        batch = made.take()
        taken.update(batch)
        sizes = [requests[int(str(key))][row] for key, row in batch]
        assert len(sizes) == 1 or max(sizes) * len(sizes) <= BATCH
        assert min(sizes) >= 0.8 * max(sizes)
        assert sizes[0] == max(sizes)
    assert taken == Counter((key, row) for key, lengths in enumerate(requests) for row in range(len(lengths)))
    assert (made.take(), made.waiting_tokens) == ([], 0)


@given(st.integers(0, 50), st.integers(1, 200))
def test_a_question_does_not_wait_behind_thousands_of_texts(before: int, length: int) -> None:
    """It is in the batch after the one that runs, however long the large request is."""
    made = batcher()
    made.add("large", [200] * 3000)
    for _ in range(before):
        made.take()
    made.add("question", [length])
    assert ("question", 0) in made.take()


@given(st.integers(1, 6))
def test_a_stream_of_questions_does_not_starve_a_large_request(each: int) -> None:
    """With new questions before every batch the large one still gets a share."""
    made, had = batcher(), 0
    made.add("large", [250] * 400)
    for step in range(300):
        for number in range(each):
            made.add((step, number), [30])
        had += sum(key == "large" for key, _ in made.take())
    assert had >= 10


@given(st.lists(st.integers(1, 512), min_size=2, max_size=2))
def test_two_large_requests_share_alike(lengths: list[int]) -> None:
    """By tokens, whichever texts are longer."""
    made = batcher()
    for number, length in enumerate(lengths):
        made.add(number, [length] * (100_000 // length))
    had = Counter[Hashable]()
    for _ in range(200):
        for key, _row in made.take():
            had[key] += lengths[int(str(key))]
    assert abs(had[0] - had[1]) <= 2 * max(BATCH, *lengths) + 0.2 * max(had.values())


def test_what_was_given_up_is_not_computed() -> None:
    """Dropping an unknown request is nothing."""
    made = batcher()
    made.add("a", [10, 20])
    made.add("b", [10])
    made.drop("a")
    made.drop("nobody")
    assert [made.take(), made.take()] == [[("b", 0)], []]


def test_the_queue_is_bounded_and_small_requests_have_room_longer() -> None:
    """A crowd of texts does not shut out a question; a crowd of requests shuts out all."""
    made = batcher(most_tokens=1000, most_requests=3)
    made.add("large", [100] * 10)
    assert not made.has_room([100] * 3)
    assert made.has_room([100, 156])
    made.add("small", [10])
    made.add("third", [10])
    assert not made.has_room([1])


def test_a_request_without_texts_leaves_nothing() -> None:
    """It is answered elsewhere."""
    made = batcher()
    made.add("empty", [])
    assert made.waiting_requests == 0
