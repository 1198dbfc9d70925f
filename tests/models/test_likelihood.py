import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from steer.data.tasks import Task
from steer.errors import SteerError
from steer.evaluation.coherence import gap
from steer.evaluation.estimate import draws
from steer.models import judge as module
from steer.models import reading
from steer.models.base import load_model, load_tokenizer
from steer.models.cache import Cache
from steer.models.judge import Judge
from tests import tiny

TEXTS = [
    "Why does the moon shine every month?",
    "How often does a comet move after sunset?",
    "Short",
    "Why do stars die, and what is left of them when they have, after all, no fuel?",
    "Why does the moon shine every month?",
]


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Judge:
    model = load_model(str(tiny_model), dtype="float32", device="cpu")
    return Judge("tiny", "1234", model, load_tokenizer(str(tiny_model)))


def by_hand(judge: Judge, text: str, start: list[int], ends: bool) -> np.ndarray:
    """Each token's log-probability after all before it, one pass a token, no batch, no cache."""
    task = judge.task
    ids = judge.tokenizer(task.completion(text) if task else text).input_ids
    ids += [judge.tokenizer.eos_token_id] if ends else []
    found = []
    for i, token in enumerate(ids):
        with torch.no_grad():
            logits = judge.model(torch.tensor([[*start, *ids[:i]]])).logits[0, -1]
        found.append(float(torch.log_softmax(logits, 0)[token]))
    return np.array(found)


def means(*given: np.ndarray) -> list[float]:
    return [float(each.mean()) for each in given]


@pytest.mark.parametrize("ends", [True, False])
def test_likelihood_equals_one_pass_a_token(plain: Judge, ends: bool) -> None:
    judge = replace(plain, task=Task(tiny.PROMPT), ends=ends)
    start = plain.tokenizer(tiny.PROMPT).input_ids
    expected = means(*(by_hand(judge, text, start, ends) for text in TEXTS))
    assert judge.read(TEXTS).mean == pytest.approx(expected, abs=1e-4)
    assert len({round(value, 3) for value in expected}) == 4


def test_readings_by_hand(plain: Judge) -> None:
    found = plain.read(TEXTS)
    expected = [by_hand(plain, text, [0], ends=False) for text in TEXTS]
    assert found.tokens.tolist() == [len(each) for each in expected]
    assert found.mean == pytest.approx(means(*expected), abs=1e-4)
    assert found.sd == pytest.approx([each.std() for each in expected], abs=1e-4)
    assert found.minimum == pytest.approx([each.min() for each in expected], abs=1e-4)
    assert found.rare == pytest.approx([(each < module.RARE).mean() for each in expected])
    assert 0 < found.rare.min() < found.rare.max() < 1
    assert (plain.read(TEXTS).mean == found.mean).all()
    for figures in vars(found).values():
        assert figures.shape == (5,) and figures.dtype == np.float64


def test_a_text_of_no_or_one_token(plain: Judge) -> None:
    found = plain.read(["", "a"])
    assert found.tokens.tolist() == [0, 1]
    assert found.sd[1] == 0 and found.mean[1] == found.minimum[1] < 0
    assert np.isnan([found.mean[0], found.sd[0], found.minimum[0], found.rare[0]]).all()


def test_without_a_prompt_a_text_begins_after_the_begin_of_text(plain: Judge) -> None:
    expected = means(*(by_hand(plain, text, [0], ends=False) for text in TEXTS))
    assert plain.read(TEXTS).mean == pytest.approx(expected, abs=1e-4)


def test_each_text_is_read_after_the_prompt_for_its_label(plain: Judge) -> None:
    task = Task(tiny.LABEL_PROMPT, ("how", "why"))
    judge = replace(plain, task=task)
    labels = ["why", "how", "how", "why", "how"]
    starts = [plain.tokenizer(task.render(label)).input_ids for label in labels]
    expected = means(*(by_hand(judge, t, s, False) for t, s in zip(TEXTS, starts, strict=True)))
    seen: list[tuple[int, int]] = []
    found = judge.read(TEXTS, labels, lambda *step: seen.append(step)).mean
    assert found == pytest.approx(expected, abs=1e-4)
    assert found[0] != found[4]
    assert seen[0] == (0, 5) and seen[-1] == (5, 5)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_labels_mean_nothing_to_a_judge_without_any(plain: Judge) -> None:
    assert (plain.read(TEXTS, [*"abcde"]).mean == plain.read(TEXTS).mean).all()


def test_labels_that_are_needed_and_missing_are_a_clear_error(plain: Judge) -> None:
    judge = replace(plain, task=Task(tiny.LABEL_PROMPT, ("how", "why")))
    with pytest.raises(SteerError, match="a label is needed"):
        judge.read(TEXTS)
    with pytest.raises(SteerError, match="unknown label 'who'"):
        judge.read(TEXTS, ["who"] * 5)


def test_the_batch_has_no_effect(plain: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plain.read(TEXTS).mean
    mixed = plain.read([TEXTS[i] for i in (3, 0, 2, 1)]).mean
    assert mixed == pytest.approx(whole[[3, 0, 2, 1]], abs=1e-5)
    monkeypatch.setattr(reading, "TOKENS", {"cpu": 1})
    assert plain.read(TEXTS).mean == pytest.approx(whole, abs=1e-5)


def test_shuffled_words_are_less_likely(tiny_expert: Path) -> None:
    from steer.models.judge import load_judge

    judge = load_judge(str(tiny_expert))
    draw = random.Random(0)
    texts = list(tiny.TEXTS[:100])
    shuffled = [" ".join(draw.sample(words := text.split(), len(words))) for text in texts]
    counts = draws(100, 200, 0, "row")
    real = judge.read(tiny.TEXTS[100:]).mean
    same = gap(judge.read(texts).mean, real, counts).estimate
    worse = gap(judge.read(shuffled).mean, real, counts).estimate
    assert worse.high < -0.5
    assert worse.high < same.low


def test_what_was_read_once_is_not_read_again(
    plain: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plain.read(TEXTS).mean
    cached = replace(plain, cache=Cache(tmp_path / "cache.sqlite"))
    assert (cached.read(TEXTS).mean == expected).all()
    reads: list[int] = []
    read = reading.Reader.read
    monkeypatch.setattr(
        reading.Reader, "read", lambda self, some: reads.append(len(some)) or read(self, some)
    )
    assert (cached.read(TEXTS[::-1]).mean == expected[::-1]).all()
    assert reads == []
    for other in (
        replace(cached, fingerprint="5678"),
        replace(cached, ends=True),
        replace(cached, task=Task("Question: ")),
        replace(cached, task=Task("Question:")),
    ):
        other.read(TEXTS)
    assert reads == [4] * 4


def test_texts_longer_than_the_model_reads(tmp_path: Path) -> None:
    folder = str(tiny.save_tiny_model(tmp_path / "model", max_positions=24))
    model, tokenizer = load_model(folder, dtype="float32"), load_tokenizer(folder)
    judge = Judge("tiny", "1", model, tokenizer)
    ids = tokenizer(TEXTS[3]).input_ids
    assert len(ids) > 23 >= len(tokenizer(TEXTS[0]).input_ids)
    assert judge.cut(TEXTS) == 1
    read = tokenizer.decode(ids[:23])
    assert judge.read([TEXTS[3]]).mean == pytest.approx(judge.read([read]).mean)


def test_gap_by_hand_and_its_interval() -> None:
    draw = np.random.default_rng(0)
    scores, reference = draw.normal(-3, 1, size=400), draw.normal(-2, 1, size=400)
    found = gap(scores, reference, draws(400, 2000, 0, "row")).estimate
    assert found.value == pytest.approx(scores.mean() - reference.mean())
    # Both means vary: the standard deviation of their difference is sqrt(2) / 20.
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(2) / 20, rel=0.1)


def test_a_set_equal_to_the_reference_is_still_uncertain() -> None:
    scores = np.random.default_rng(0).normal(size=400)
    found = gap(scores, scores, draws(400, 2000, 0, "row")).estimate
    assert found.value == 0
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(2) / 20, rel=0.1)
