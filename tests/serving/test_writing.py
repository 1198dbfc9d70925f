"""Tokens become the same text and the same answer however many come at a time."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer.engines.hf.live import Wrote
from steer.serving.delivery import Inbox, Post
from steer.serving.refusal import Refusal
from steer.serving.writing import Writing

LETTERS = ["a", "b", " ", "é", "\ufffd"]


def _decode(tokens: list[int]) -> str:
    return "".join(LETTERS[token] for token in tokens)


def _row(tokens: list[int]) -> list[Wrote]:
    *first, last = tokens
    return [Wrote(0, token) for token in first] + [Wrote(0, last, finish="length", means={"e": -1})]


def _take(tokens: list[int], sizes: list[int], **how: object) -> tuple[object, ...]:
    """What a writing says of tokens that come so many at a time."""
    writing, left = Writing(0, _decode, tokens[:1], **how), _row(tokens)
    text, told = "", []
    for size in [*sizes, len(tokens)]:
        some, left = left[:size], left[size:]
        if some and not writing.ended:
            piece = writing.take(some)
            text, told = text + piece.text, [*told, *piece.wrote]
    assert text == writing.sent
    return text, told, writing.ended, writing.written


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=12),
    st.lists(st.integers(1, 5), max_size=6),
    st.sampled_from([(), ("ab",), ("b", "ba")]),
    st.booleans(),
)
def test_how_many_come_at_a_time_changes_nothing(tokens, sizes, stops, echoes) -> None:
    one_by_one = _take(tokens, [1] * len(tokens), stops=stops, echoes=echoes)
    for streams in (True, False):
        found = _take(tokens, sizes, stops=stops, echoes=echoes, streams=streams)
        assert found == one_by_one


def test_the_loop_is_woken_once_for_all_that_lies_there() -> None:
    async def read() -> tuple[list[int], int]:
        loop, post, inboxes = asyncio.get_running_loop(), Post(), [Inbox() for _ in range(5)]
        woken = 0
        real = loop.call_soon_threadsafe

        def count(*given):
            nonlocal woken
            woken += 1
            return real(*given)

        loop.call_soon_threadsafe = count

        def write() -> None:
            for token in range(3):
                for inbox in inboxes:
                    post.put(loop, inbox, [Wrote(0, token)])

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()  # the loop stands still meanwhile
        return [each.token for inbox in inboxes for each in await inbox.next()], woken

    assert asyncio.run(read()) == ([0, 1, 2] * 5, 1)


def test_a_refusal_comes_after_what_was_written_before_it() -> None:
    async def read() -> None:
        inbox = Inbox()
        inbox.put([Wrote(0, 7)])
        inbox.put(Refusal(504, "late"))
        assert [each.token for each in await inbox.next()] == [7]
        for _ in range(2):
            with pytest.raises(Refusal, match="late"):
                await inbox.next()

    asyncio.run(read())
