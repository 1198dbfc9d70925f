"""A fit on disk that is not finished: whose it is, and when it goes."""

from pathlib import Path

import pytest
import torch

from steer.errors import SteerError
from steer.models.expert import CARD, EpochLoss
from steer.models.unfinished import Progress, is_unfinished, unfinished_fit, unfinished_folder

WHAT = {"data": "d1", "prompt": "A:", "epochs": 2, "labels": ("a", "b")}
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3)}


def state(*held_out: float, step: int = 0) -> Progress:
    losses = [EpochLoss(epoch=n, train=0.1, held_out=loss) for n, loss in enumerate(held_out)]
    return Progress(threads=1, step=step, nats=0.1 + 0.2, losses=tuple(losses))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A fit that was stopped after its second epoch, the first of which was the best."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), unfinished_fit(out, WHAT) as kept:
        kept.keep(state(3), {})
        kept.keep_epoch(1, {"weight": TENSORS["weight"] + 1})
        kept.keep(state(3, 1, step=4), TENSORS)
        kept.keep(state(3, 1, 2, step=8), TENSORS)
        raise KeyboardInterrupt
    return out


def test_what_was_kept_is_found_again(out: Path) -> None:
    assert is_unfinished(out)
    with unfinished_fit(out, WHAT) as kept:
        progress, tensors = kept.load()
        assert progress == state(3, 1, 2, step=8)
        assert (progress.epoch, progress.best) == (2, 1)
        assert torch.equal(tensors["weight"], TENSORS["weight"])
        assert torch.equal(kept.load_epoch(1)["weight"], TENSORS["weight"] + 1)
    assert list(out.parent.iterdir()) == []


def test_only_the_best_epoch_stays(out: Path) -> None:
    with pytest.raises(KeyboardInterrupt), unfinished_fit(out, WHAT) as kept:
        kept.keep_epoch(3, TENSORS)
        kept.keep(state(3, 1, 2, 0.5, step=12), TENSORS)
        raise KeyboardInterrupt
    names = sorted(path.name for path in unfinished_folder(out).iterdir())
    assert names == ["epoch-3.safetensors", "fit.json", "lock", "state.safetensors"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"data": "d2"}, r"another data \('d1', now 'd2'\)"),
        ({"epochs": 3}, r"another epochs \(2, now 3\)"),
        ({"labels": ("a",)}, r"another labels \(\['a', 'b'\], now \['a'\]\)"),
    ],
)
def test_another_fit_is_refused_and_nothing_is_lost(out: Path, change: dict, found: str) -> None:
    with (
        pytest.raises(SteerError, match=f"{found}; give another --out, or remove .*unfinished"),
        unfinished_fit(out, WHAT | change),
    ):
        raise AssertionError("must not begin")
    with unfinished_fit(out, WHAT) as kept:
        assert kept.load() is not None


def test_one_process_at_a_time(out: Path) -> None:
    busy = pytest.raises(SteerError, match="out is being fitted by another process")
    with unfinished_fit(out, WHAT), busy, unfinished_fit(out, WHAT):
        pass


@pytest.mark.parametrize("name", ["state.safetensors", "fit.json"])
def test_a_damaged_one_is_one_line_with_advice(out: Path, name: str) -> None:
    (unfinished_folder(out) / name).write_bytes(b"{")
    with (
        pytest.raises(SteerError, match=rf"{name} is damaged.*; remove .* to fit anew") as error,
        unfinished_fit(out, WHAT) as kept,
    ):
        kept.load()
    assert "\n" not in str(error.value)


def test_without_a_state_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), unfinished_fit(tmp_path / "out", WHAT):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_beside_a_finished_expert_goes(out: Path) -> None:
    out.mkdir()
    (out / CARD).touch()
    with pytest.raises(SteerError, match="exists already"), unfinished_fit(out, WHAT):
        raise AssertionError("must not begin")
    assert list(out.parent.iterdir()) == [out]


def test_what_stands_in_the_way_costs_no_work(out: Path) -> None:
    out.mkdir()
    with pytest.raises(SteerError, match="exists already"), unfinished_fit(out, WHAT):
        raise AssertionError("must not begin")
    assert is_unfinished(out)
