import math
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.errors import SteerError
from steer.models import training
from steer.models.expert import FitSettings
from steer.models.training import IGNORE, collate, completion_loss, encode, train
from steer.models.training import training_arguments as arguments_for
from tests import tiny

TEXTS = ("Why does the moon shine?", "How?", "Is </s> the end of <pad> or <s>?")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.make_tokenizer()


def test_an_example_is_prompt_then_text_then_end(tokenizer) -> None:
    corpus = Corpus(TEXTS, None, "test")
    for text, example in zip(TEXTS, encode(corpus, Task("Q:"), tokenizer), strict=True):
        ids, prompt = example["input_ids"], example["prompt"]
        assert tokenizer.decode(ids[:prompt]) == "Q:"
        assert tokenizer.decode(ids[prompt:-1]) == f" {text}"
        assert ids[-1] == tokenizer.eos_token_id


def test_a_text_that_spells_the_end_does_not_end(tokenizer) -> None:
    (example,) = encode(Corpus(TEXTS[2:], None, "test"), Task("Q:"), tokenizer)
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert not special & set(example["input_ids"][:-1])


def test_each_text_has_the_prompt_of_its_label(tokenizer) -> None:
    corpus = Corpus(TEXTS, ("why", "how", "why"), "test")
    examples = encode(corpus, Task("A {label} one:", ("how", "why")), tokenizer)
    prompts = [tokenizer.decode(example["input_ids"][: example["prompt"]]) for example in examples]
    assert prompts == ["A why one:", "A how one:", "A why one:"]


def test_only_completions_are_labels_even_where_the_end_is_the_padding() -> None:
    examples = [
        {"input_ids": [5, 6, 7, 9], "prompt": 2},
        {"input_ids": [5, 8, 9], "prompt": 1},
    ]
    batch = collate(examples, pad=9)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 9], [5, 8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["labels"].tolist() == [[IGNORE, IGNORE, 7, 9], [IGNORE, 8, 9, IGNORE]]


def naive_loss(model, example) -> float:
    """Nats of the completion, one token after the other, each from its whole context."""
    ids, nats = example["input_ids"], 0.0
    for position in range(example["prompt"], len(ids)):
        logits = model(input_ids=torch.tensor([ids[:position]])).logits[0, -1]
        nats -= torch.log_softmax(logits, dim=-1)[ids[position]].item()
    return nats


def test_loss_equals_a_naive_one_whatever_is_in_the_batch(tokenizer) -> None:
    model = tiny.make_model(len(tokenizer))
    corpus = Corpus(TEXTS, ("why", "a much longer label", "why"), "test")
    examples = encode(corpus, Task("A {label} one:", corpus.label_names), tokenizer)
    with torch.no_grad():
        loss, count = completion_loss(model, collate(examples, pad=tokenizer.pad_token_id))
        expected = sum(naive_loss(model, example) for example in examples)
    assert count == sum(len(example["input_ids"]) - example["prompt"] for example in examples)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def fitted(tokenizer, folder: Path, **settings):
    """Losses, progress and the model of a short fit in which it soon overfits or not."""
    chosen = FitSettings(**{"epochs": 3, "rank": 4, "batch": 16, "lr": 1e-2} | settings)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(0)
    model = get_peft_model(tiny.make_model(len(tokenizer)), config)
    examples = encode(Corpus(tiny.TEXTS, None, "tiny"), Task(tiny.PROMPT), tokenizer)
    progress = []
    losses = train(
        model,
        examples[:64],
        examples[64:84],
        arguments_for(folder, chosen, torch.device("cpu")),
        pad=tokenizer.pad_token_id,
        patience=chosen.patience,
        on_progress=progress.append,
    )
    return losses, progress, model, examples


def mean_loss(model, examples, tokenizer) -> float:
    with torch.no_grad():
        loss, count = completion_loss(model.eval(), collate(examples, tokenizer.pad_token_id))
    return loss.item() / count


def test_losses_fall_and_are_those_of_the_model(tokenizer, tmp_path: Path) -> None:
    losses, progress, model, examples = fitted(tokenizer, tmp_path)
    held_out = [loss.held_out for loss in losses]
    assert [loss.epoch for loss in losses] == [0, 1, 2, 3]
    assert held_out == sorted(held_out, reverse=True)
    assert held_out[-1] < held_out[0] - 1
    assert losses[0].train is None
    assert mean_loss(model, examples[64:84], tokenizer) == pytest.approx(held_out[-1], rel=1e-4)
    steps = [step for step in progress if step.stage == "train"]
    assert [step.step for step in steps] == list(range(1, 13))
    assert [step.epoch for step in steps] == [1] * 4 + [2] * 4 + [3] * 4
    assert {(step.epochs, step.steps) for step in steps} == {(3, 12)}
    assert steps[3].tokens == sum(len(example["input_ids"]) for example in examples[:64])
    known = [step for step in progress if step.held_out_loss is not None]
    assert [(step.epoch, step.held_out_loss) for step in known] == list(enumerate(held_out))


def test_the_best_epoch_is_kept_and_no_more_are_run(tokenizer, tmp_path: Path) -> None:
    # A rate at which held-out loss falls at first and then rises.
    losses, _, model, examples = fitted(tokenizer, tmp_path, lr=0.2, epochs=20)
    held_out = [loss.held_out for loss in losses[1:]]
    best = held_out.index(min(held_out))
    assert best == len(held_out) - 2
    assert len(held_out) < 20
    assert mean_loss(model, examples[64:84], tokenizer) == pytest.approx(min(held_out), rel=1e-4)


def test_training_says_nothing(tokenizer, tmp_path: Path, capfd) -> None:
    fitted(tokenizer, tmp_path, epochs=1)
    assert capfd.readouterr().out == ""


def test_progress_knows_its_pace(tokenizer, tmp_path: Path) -> None:
    _, progress, _, _ = fitted(tokenizer, tmp_path, epochs=1)
    assert progress[0].tokens_per_second == 0
    last = progress[-1]
    assert last.tokens_per_second == pytest.approx(last.tokens / last.seconds)
    assert math.isfinite(last.tokens_per_second)


def test_a_diverging_fit_says_what_to_do(
    tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(model, batch):
        loss, count = completion_loss(model, batch)
        return loss * math.nan, count

    monkeypatch.setattr(training, "completion_loss", diverged)
    with pytest.raises(SteerError, match=r"became nan .* learning rate lower than 0.01"):
        fitted(tokenizer, tmp_path)
