"""Steps and tests of a fit, and going on with one that was stopped."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.errors import SteerError
from steer.models import training as module
from steer.models.examples import encode
from steer.models.layouts import Packed, Padded, completion_loss
from steer.models.schedule import Schedule
from steer.models.training import FitProgress, Training
from steer.models.unfinished import unfinished_fit
from tests import tiny


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.make_tokenizer()


@pytest.fixture(scope="module")
def examples(tokenizer):
    return encode(Corpus(tiny.TEXTS, None, "tiny"), Task(tiny.PROMPT), tokenizer)


def training(
    tokenizer, examples, dropout: float = 0.0, pass_tokens: int = 1024, layout=None, **given
) -> Training:
    """A training in which a tiny model soon overfits, or not."""
    config = LoraConfig(
        r=4, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=dropout
    )
    torch.manual_seed(0)
    model = get_peft_model(tiny.make_model(len(tokenizer)), config)
    chosen = {"batch": 16, "epochs": 3, "lr": 1e-2, "seed": 0} | given
    schedule = Schedule([len(each["input_ids"]) for each in examples[:64]], **chosen)
    layout = layout or Packed(torch.float32)
    return Training(model, examples[:64], examples[64:84], schedule, layout, pass_tokens, 1)


def fitted(job: Training, folder: Path):
    """Losses and progress of a whole training."""
    progress: list[FitProgress] = []
    with unfinished_fit(folder / "out", {}) as kept:
        losses = job.run(kept, progress.append)
    assert list(folder.iterdir()) == []
    return losses, progress


def mean_loss(model, examples, tokenizer) -> float:
    read = Padded(tokenizer.pad_token_id).lay_out(examples)
    with torch.no_grad():
        return completion_loss(model.eval(), read).item() / len(read.targets)


def weights(job: Training) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in job.weights.items()}


def test_losses_fall_and_are_those_of_the_model(tokenizer, examples, tmp_path: Path) -> None:
    job = training(tokenizer, examples)
    losses, progress = fitted(job, tmp_path)
    held_out = [loss.held_out for loss in losses]
    assert [loss.epoch for loss in losses] == [0, 1, 2, 3]
    assert held_out == sorted(held_out, reverse=True)
    assert held_out[-1] < held_out[0] - 1
    assert losses[0].train is None
    found = mean_loss(job.model, examples[64:84], tokenizer)
    assert found == pytest.approx(held_out[-1], rel=1e-4)
    steps = [step for step in progress if step.stage == "train"]
    assert [step.step for step in steps] == list(range(1, 13))
    assert [step.epoch for step in steps] == [1] * 4 + [2] * 4 + [3] * 4
    assert {(step.epochs, step.steps) for step in steps} == {(3, 12)}
    assert steps[3].tokens == sum(len(example["input_ids"]) for example in examples[:64])
    known = [step for step in progress if step.held_out_loss is not None]
    assert [(step.epoch, step.held_out_loss) for step in known] == list(enumerate(held_out))


def test_the_share_that_is_done_grows_to_all(tokenizer, examples, tmp_path: Path) -> None:
    _, progress = fitted(training(tokenizer, examples, pass_tokens=100), tmp_path)
    shares = [step.done / step.total for step in progress]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    before_training = [step for step in progress if step.stage == "evaluate" and not step.step]
    assert len({step.done for step in before_training}) > 3


def test_the_best_epoch_is_kept_and_no_more_are_run(
    tokenizer, examples, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A rate at which held-out loss falls at first and then rises.
    job = training(tokenizer, examples, lr=0.2, epochs=20)
    with caplog.at_level(logging.WARNING):
        losses, _ = fitted(job, tmp_path)
    held_out = [loss.held_out for loss in losses[1:]]
    best = held_out.index(min(held_out))
    assert best == len(held_out) - 2
    assert len(held_out) < 20
    found = mean_loss(job.model, examples[64:84], tokenizer)
    assert found == pytest.approx(min(held_out), rel=1e-4)
    assert f"overfits after epoch {best + 1}" in caplog.text


def test_a_step_read_in_parts_is_the_step_read_at_once(tokenizer, examples) -> None:
    """Gradients are of the mean over all tokens of the step, however it is laid out."""
    counts, grads = [], []
    for layout in (Packed(torch.float32), Padded(tokenizer.pad_token_id)):
        for pass_tokens in (1, 150, 10_000):
            job = training(tokenizer, examples, pass_tokens=pass_tokens, layout=layout)
            parts = job.passes(examples[:16])
            for part in parts:
                job.loss(part).backward()
            counts.append(len(parts))
            grads.append([weight.grad for weight in job.weights.values()])
    assert counts[0] == counts[3] == 16 and counts[2] == counts[5] == 1
    assert 1 < counts[1] < counts[4] < 16
    for other in grads[1:]:
        for one, whole in zip(other, grads[0], strict=True):
            torch.testing.assert_close(one, whole, rtol=1e-4, atol=1e-4)


@contextmanager
def stopped_at(step: int, stage: str) -> Iterator:
    """A report that stops the fit as Ctrl-C does."""

    def report(progress: FitProgress) -> None:
        if (progress.step, progress.stage) == (step, stage):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        yield report


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_stopped_fit_goes_on_to_the_same_bit_for_bit(
    tokenizer, examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every, dropout
) -> None:
    """Stopped in an epoch, in a test, and twice; with a state after each step, or each epoch."""
    monkeypatch.setattr(module, "KEEP_SECONDS", every)
    whole = training(tokenizer, examples, dropout)
    expected, _ = fitted(whole, tmp_path)
    for stop in ((1, "train"), (6, "train"), (8, "evaluate"), (11, "train")):
        job = training(tokenizer, examples, dropout)
        with stopped_at(*stop) as report, unfinished_fit(tmp_path / "out", {}) as kept:
            job.run(kept, report)
    last = training(tokenizer, examples, dropout)
    losses, progress = fitted(last, tmp_path)
    assert losses == expected
    assert progress[0].step == (11 if every == 0 else 9)
    for name, weight in weights(whole).items():
        assert torch.equal(weight, weights(last)[name])


def test_progress_knows_its_pace(tokenizer, examples, tmp_path: Path) -> None:
    _, progress = fitted(training(tokenizer, examples, epochs=1), tmp_path)
    assert progress[0].tokens_per_second == 0
    last = progress[-1]
    assert last.tokens_per_second == pytest.approx(last.tokens / last.seconds)
    assert math.isfinite(last.tokens_per_second)


@pytest.mark.parametrize(
    ("bad", "found"),
    [(0, r"held-out loss became nan after epoch 0"), (2, r"loss became nan at step 2")],
)
def test_a_diverging_fit_says_what_to_do_and_is_not_gone_on_with(
    tokenizer, examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int, found: str
) -> None:
    passes = iter(range(100))

    def diverged(model, read):
        return completion_loss(model, read) * (math.nan if next(passes) >= bad else 1)

    monkeypatch.setattr(module, "completion_loss", diverged)
    with pytest.raises(SteerError, match=rf"{found}; .* learning rate lower than 0.01"):
        fitted(training(tokenizer, examples, pass_tokens=10_000), tmp_path)
    assert list(tmp_path.iterdir()) == []
