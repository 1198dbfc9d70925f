"""The bank of lanes, whatever comes and goes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steer.engines.hf import attention as hf_attention
from steer.engines.hf.lanes import SHORT, Bank, Context, Lane


def context(number: int, length: int) -> Context:
    """One whose keys and values are `number` in all of two layers."""
    keys = [torch.full((1, 2, length, 4), float(number)) for _ in range(2)]
    return Context(length, keys, keys)


@given(
    events=st.lists(
        st.one_of(
            st.tuples(st.booleans(), st.integers(1, SHORT + 2)),  # a lane comes: adapter, length
            st.integers(0, 30),  # one leaves
        ),
        max_size=40,
    )
)
def test_the_bank_is_dense_and_the_adapter_leads(events):
    bank = Bank((2, 2, 4), 3, 40, torch.empty(0))
    lanes: list[tuple[int, bool, Lane]] = []
    for number, event in enumerate(events):
        if isinstance(event, tuple):
            adapter, length = event
            lanes.append((number, adapter, bank.add(adapter, context(number, length))))
        elif lanes:
            bank.remove(lanes.pop(event % len(lanes))[2])
        assert sorted(lane.index for _, _, lane in lanes) == list(range(bank.count))
        for mark, adapter, lane in lanes:
            assert bank.lanes[lane.index] is lane
            assert (lane.index < bank.on) == adapter
            own = bank.cache[:, :, lane.index, :, : lane.length]
            assert (own == (0 if lane.apart else mark)).all()


def test_only_long_contexts_are_read_apart():
    bank = Bank((2, 2, 4), 3, 40, torch.empty(0))
    short, long = (bank.add(True, context(1, length)) for length in (SHORT, SHORT + 1))
    assert (short.apart, short.length, short.position) == (False, SHORT, SHORT)
    assert (long.apart, long.length, long.position) == (True, 3, SHORT + 1)


@pytest.mark.parametrize("block", [1, 7, 20, 128])
def test_a_prefill_in_blocks_sees_no_later_token(monkeypatch, block):
    """Against PyTorch's own attention."""
    monkeypatch.setattr(hf_attention, "BLOCK", block)
    numbers = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, 20, 8, generator=numbers) for heads in (6, 2, 2))
    found = []
    for blocked in (set(), {torch.float32}):
        monkeypatch.setattr(hf_attention, "BLOCKED", blocked)
        found.append(Context(20).attend(0, q, k, v, 0.3))
    torch.testing.assert_close(*found)
