"""Which tokens a plausibility constraint leaves to be scored."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from steer.engines.scoring import _plausible


@st.composite
def experts(draw) -> torch.Tensor:
    """Logits (rows, vocab) with ties and infinities; at least one token of a row is possible."""
    size = draw(st.integers(1, 40))
    logit = st.sampled_from([-math.inf, -5.0, -1.0, 0.0, 0.5, 3.0])
    rows = draw(st.lists(st.lists(logit, min_size=size, max_size=size), min_size=1, max_size=4))
    logits = torch.tensor(rows)
    logits[:, draw(st.integers(0, size - 1))] = 0.0
    return logits


@given(expert=experts(), alpha=st.sampled_from([1e-4, 0.05, 0.5, 1.0]))
def test_every_plausible_token_is_there_once_and_in_order(expert, alpha):
    tokens = _plausible(expert, torch.full((len(expert),), alpha))
    left = expert >= expert.amax(dim=-1, keepdim=True) + math.log(alpha) - 0.01
    assert tokens.shape[1] == left.sum(dim=-1).max()
    for row, found in enumerate(tokens.tolist()):
        wanted = left[row].nonzero().flatten().tolist()
        assert found[: len(wanted)] == wanted
        assert not any(left[row, token] for token in found[len(wanted) :])


def test_a_row_without_a_constraint_needs_the_whole_vocabulary():
    assert _plausible(torch.zeros(2, 5), torch.tensor([0.1, 0.0])) is None
