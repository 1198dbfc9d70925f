"""A small part of `make soak`: whatever is given is read, or refused in one line."""

from tests import soak


def test_no_attack_ends_in_a_raw_exception_or_a_loss() -> None:
    table = soak.soak(0.005, seed=1)
    assert set(table) == set(soak.ATTACKS)
    assert soak.failures(table) == []
