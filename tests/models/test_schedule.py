"""Steps of a fit: every text once an epoch, and a rate that ends at 0."""

import random

import pytest

from steer.models.schedule import Schedule, default_batch, default_epochs, default_rate

LENGTHS = random.Random(0).choices(range(1, 61), k=203)


def schedule(**given) -> Schedule:
    return Schedule(LENGTHS, **{"batch": 8, "epochs": 3, "lr": 1e-3, "seed": 0} | given)


@pytest.mark.parametrize("batch", [1, 8, 203, 500])
def test_every_text_is_in_one_step_of_an_epoch(batch: int) -> None:
    found = schedule(batch=batch)
    steps = found.batches(1)
    assert len(steps) == found.epoch_steps
    assert sorted(row for step in steps for row in step) == list(range(203))
    assert max(map(len, steps)) <= batch


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    assert schedule().batches(1) == schedule(lr=1.0, epochs=9).batches(1)
    assert schedule().batches(1) != schedule().batches(2)
    assert schedule().batches(1) != schedule(seed=1).batches(1)


def test_texts_of_a_step_are_about_equally_long() -> None:
    def padding(steps: list[list[int]]) -> int:
        return sum(max(LENGTHS[row] for row in step) * len(step) for step in steps) - sum(LENGTHS)

    apart = [list(range(start, min(start + 8, 203))) for start in range(0, 203, 8)]
    assert padding(schedule().batches(1)) < padding(apart) / 4


def test_the_rate_rises_shortly_and_falls_to_nothing() -> None:
    found = schedule()
    rates = [found.rate(step) for step in range(found.steps)]
    top = rates.index(max(rates))
    assert max(rates) == 1e-3
    assert 0 < top <= 0.05 * found.steps
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 2e-5


def test_fewer_texts_are_read_more_often() -> None:
    found = [default_epochs(texts) for texts in (1, 100, 200, 300, 540, 10_000)]
    assert found == [4, 4, 2, 2, 1, 1]


def test_steps_of_fewer_texts_read_fewer() -> None:
    assert [default_batch(texts) for texts in (1, 999, 1000, 50_000)] == [4, 4, 8, 8]


def test_wider_models_and_texts_read_again_have_lower_rates() -> None:
    rates = [default_rate(width, 1) for width in (64, 576, 2048, 4096)]
    assert rates == pytest.approx([2e-3, 1.4e-3, 5.199e-4, 3.026e-4], rel=1e-3)
    assert default_rate(576, 4) == pytest.approx(4.95e-4, rel=1e-3)
