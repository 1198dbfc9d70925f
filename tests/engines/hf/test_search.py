"""The searches: beam search against Transformers', contrastive search against a naive reference."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from steer.config import Guidance, Sampling
from steer.engines.hf import engine as hf_engine
from steer.engines.hf.beam import BeamSearch
from steer.engines.hf.engine import HFEngine
from steer.engines.hf.generation import Generation
from steer.engines.interface import Request, Step
from steer.engines.sampling import uniforms
from steer.errors import SteerError
from steer.guidance import Stream, steer_streams
from steer.seeds import derive
from tests import naive
from tests.engines.contract import (
    BODIES,
    PANELS,
    PROMPTS,
    body_of,
    reference,
    save_adapter,
    save_padded_model,
)

CONTEXTS = ("Q:", "Write one question about the sky.\nQuestion:", "Why does", "How often", "a")


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory) -> Path:
    return save_adapter(str(tiny_model), tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module", params=BODIES)
def engine(tiny_model, adapter, request) -> HFEngine:
    with body_of(request.param):
        return HFEngine(str(tiny_model), adapter, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def slow(tiny_model, adapter):
    return reference(str(tiny_model), adapter)


@contextmanager
def changed(engine: HFEngine, rows: int, ends: list[int]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "rows", rows)
        patch.setattr(engine, "ends", torch.tensor(ends))
        yield


def written(engine: HFEngine, requests: list[Request], sampling: Sampling, search=None):
    """Completions, and the tokens of each."""
    tokens: dict[int, list[int]] = {}
    original = Generation._complete

    def complete(self, request, drawn, sums):
        tokens[request.id] = drawn
        original(self, request, drawn, sums)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Generation, "_complete", complete)
        if search:
            patch.setattr(hf_engine, "_method", lambda sampling: search)
        done = engine.generate(requests, sampling)
    assert [c.id for c in done] == [r.id for r in requests]
    assert [c.tokens for c in done] == [len(tokens[r.id]) for r in requests]
    return done, [tokens[r.id] for r in requests]


def experts(adapter: bool = True) -> list[Request]:
    return [
        Request(i, (Stream("expert", 1.0, adapter, text),), derive(3, i))
        for i, text in enumerate(CONTEXTS)
    ]


def guided(count: int = 5, gamma: float = 0.5, eta: float = 0.3, alpha: float = 0.0):
    """Requests that differ in panels, and in how many streams they have."""
    streams = steer_streams(Guidance(gamma=gamma, eta=eta), PROMPTS[1], "{}")
    return [
        Request(
            i,
            tuple(
                Stream(s.name, s.weight, s.adapter, s.context.format(PANELS[i % 3]))
                for s in streams[: 3 - i % 2]
            ),
            derive(0, i),
            alpha,
        )
        for i in range(count)
    ]


def assert_means(engine, slow, request, completion, tokens) -> None:
    for stream in request.streams:
        given = [
            naive.stream_log_probs(
                slow, engine.tokenizer, stream.adapter, stream.context, tokens[:step]
            )[token].item()
            for step, token in enumerate(tokens)
        ]
        expected = sum(given) / len(given)
        assert completion.log_probs[stream.name] == pytest.approx(expected, abs=1e-4)


def transformers_beam(slow, ids: list[int], beams: int, length: int, ends: list[int]):
    """What Transformers' beam search writes after `ids`, and its score."""
    found = slow.generate(
        input_ids=torch.tensor([ids]), num_beams=beams, do_sample=False, length_penalty=1.0,
        early_stopping=False, max_new_tokens=length, eos_token_id=ends, pad_token_id=2,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    tokens = found.sequences[0, len(ids) :].tolist()
    end = next((i + 1 for i, token in enumerate(tokens) if token in ends), length)
    return tokens[:end], found.sequences_scores[0].item()


@pytest.mark.parametrize("ends", [[1], list(range(0, 384, 9)), list(range(0, 384, 2))])
@pytest.mark.parametrize(("beams", "length"), [(2, 9), (4, 1), (4, 12), (7, 6)])
def test_beam_search_is_that_of_transformers(engine, slow, beams, length, ends):
    """Records end early, wait for rows, and still each is what it is alone."""
    sampling = Sampling(beams=beams, max_new_tokens=length)
    with changed(engine, 2 * beams + 1, ends):
        done, tokens = written(engine, experts(), sampling)
    for text, completion, ours in zip(CONTEXTS, done, tokens, strict=True):
        ids = engine.tokenizer(text).input_ids
        theirs, score = transformers_beam(slow, ids, beams, length, ends)
        assert ours == theirs
        assert completion.log_probs["expert"] == pytest.approx(score, abs=1e-4)
        assert completion.finish_reason == ("stop" if ours[-1] in ends else "length")


def test_beam_search_without_the_adapter_is_that_of_transformers(engine, slow):
    _, tokens = written(engine, experts(adapter=False), Sampling(beams=3, max_new_tokens=8))
    with slow.disable_adapter():
        theirs = [
            transformers_beam(slow, engine.tokenizer(text).input_ids, 3, 8, [1])[0]
            for text in CONTEXTS
        ]
    assert tokens == theirs


def test_after_an_opening_beam_search_is_that_of_transformers(engine, slow):
    _, drawn = written(engine, experts(), Sampling(max_new_tokens=3))
    _, tokens = written(engine, experts(), Sampling(beams=3, opening=3, max_new_tokens=10))
    for text, opening, ours in zip(CONTEXTS, drawn, tokens, strict=True):
        ids = engine.tokenizer(text).input_ids + opening
        assert ours[:3] == opening
        assert ours[3:] == transformers_beam(slow, ids, 3, 7, [1])[0]


def every_text(engine, slow, request: Request, length: int, ends: list[int], tokens=(), total=0.0):
    """(mean score, tokens) of every text that `request` allows."""
    scores = naive.scores(slow, engine.tokenizer, request, list(tokens)).log_softmax(-1)
    for token in torch.isfinite(scores).nonzero().flatten().tolist():
        text, value = (*tokens, token), total + scores[token].item()
        if token in ends or len(text) == length:
            yield value / len(text), list(text)
        else:
            yield from every_text(engine, slow, request, length, ends, text, value)


def test_a_beam_wide_enough_finds_the_best_of_all_texts(engine, slow):
    """Guided, with a constraint that leaves fewer tokens than there are beams."""
    ends = list(range(0, 384, 5))
    requests = guided(3, alpha=0.6)
    with changed(engine, 64, ends):
        done, tokens = written(engine, requests, Sampling(beams=150, max_new_tokens=3))
    for request, completion, ours in zip(requests, done, tokens, strict=True):
        texts = list(every_text(engine, slow, request, 3, ends))
        assert 3 < len(texts) < 150
        assert ours == max(texts)[1]
        assert_means(engine, slow, request, completion, ours)


def test_a_single_beam_is_greedy(engine):
    requests = guided(alpha=0.01)
    with changed(engine, 3, list(range(0, 384, 20))):
        greedy, expected = written(engine, requests, Sampling(temperature=0, max_new_tokens=10))
        beam, tokens = written(engine, requests, Sampling(max_new_tokens=10), BeamSearch)
    assert tokens == expected
    for one, other in zip(beam, greedy, strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-5)


def hidden_states(slow, adapter: bool, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        if adapter:
            return slow(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
        with slow.disable_adapter():
            return slow(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]


def naive_contrastive(engine, slow, request, sampling: Sampling, ends, opening=()) -> list[int]:
    """Su et al. 2022, equation 5; every context is read again for every candidate."""
    tokens, expert = list(opening), request.streams[0]
    context = engine.tokenizer(expert.context).input_ids
    while len(tokens) < sampling.max_new_tokens and not (tokens and tokens[-1] in ends):
        probs = naive.scores(slow, engine.tokenizer, request, tokens).softmax(-1)
        values = {}
        for token in probs.topk(sampling.candidates).indices.tolist():
            states = hidden_states(slow, expert.adapter, [*context, *tokens, token])
            like = torch.cosine_similarity(states[-1:], states[:-1], dim=-1).max().item()
            value = (1 - sampling.penalty) * probs[token].item() - sampling.penalty * like
            values[token] = value if probs[token] > 0 else -math.inf
        tokens.append(max(values, key=values.__getitem__))
    return tokens


@pytest.mark.parametrize(
    ("penalty", "size", "alpha", "ends"),
    [
        (0.6, 4, 0.0, [1]),
        (0.2, 2, 0.2, [1]),
        (0.9, 12, 0.8, [1]),
        (0.4, 5, 0.0, list(range(0, 384, 7))),
    ],
)
def test_contrastive_search_equals_the_naive_reference(engine, slow, penalty, size, alpha, ends):
    """Any streams, records that end early or wait, fewer tokens allowed than candidates."""
    streams = Stream("base", 1.0, False, "Q:"), Stream("expert", -0.2, True, "Q:")
    requests = [Request(9, streams, 5), *guided(4, alpha=alpha)]
    sampling = Sampling(penalty=penalty, candidates=size, max_new_tokens=6)
    with changed(engine, 2 * size, ends):
        done, tokens = written(engine, requests, sampling)
    for request, completion, ours in zip(requests, done, tokens, strict=True):
        assert ours == naive_contrastive(engine, slow, request, sampling, ends)
        assert_means(engine, slow, request, completion, ours)


def test_contrastive_search_of_one_stream(engine, slow):
    sampling = Sampling(penalty=0.6, candidates=5, max_new_tokens=40)
    with changed(engine, 10, [1]):
        _, tokens = written(engine, experts(), sampling)
    for request, ours in zip(experts()[:2], tokens, strict=False):
        assert ours == naive_contrastive(engine, slow, request, sampling, [1])


def test_one_candidate_is_greedy(engine):
    _, greedy = written(engine, guided(), Sampling(temperature=0, max_new_tokens=10))
    _, tokens = written(engine, guided(), Sampling(penalty=0.6, candidates=1, max_new_tokens=10))
    assert tokens == greedy


def test_after_an_opening_contrastive_search_equals_the_naive_reference(engine, slow):
    _, drawn = written(engine, guided(), Sampling(max_new_tokens=2))
    sampling = Sampling(penalty=0.6, opening=2, max_new_tokens=8)
    _, tokens = written(engine, guided(), sampling)
    for request, opening, ours in zip(guided(), drawn, tokens, strict=True):
        assert ours == naive_contrastive(engine, slow, request, sampling, [1], opening)


METHODS = [{"temperature": 0}, {"beams": 3}, {"penalty": 0.6, "candidates": 3}]


@pytest.mark.parametrize("method", METHODS)
def test_openings_make_records_differ(engine, method):
    """The same request under other seeds: without an opening it is one record again and again."""
    one = guided(1)[0]
    requests = [Request(i, one.streams, derive(1, i)) for i in range(6)]
    _, same = written(engine, requests, Sampling(max_new_tokens=6, **method))
    assert all(tokens == same[0] for tokens in same)
    ends = list(range(0, 384, 3))  # some records end within their opening
    with changed(engine, 4, ends):
        _, drawn = written(engine, requests, Sampling(max_new_tokens=2))
        _, tokens = written(engine, requests, Sampling(max_new_tokens=6, opening=2, **method))
    assert [ours[:2] for ours in tokens] == drawn
    assert any(len(ours) < 3 for ours in tokens)
    assert any(len(ours) > 2 for ours in tokens)


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("opening", [0, 1])
def test_records_do_not_depend_on_the_rows_or_the_order(engine, method, opening):
    sampling = Sampling(max_new_tokens=10, opening=opening, **method)
    ends = list(range(0, 384, 12))
    texts = []
    for rows in (1, 7, 64):
        with changed(engine, rows, ends):
            texts.append(written(engine, guided(6), sampling)[1])
    assert texts[0] == texts[1] == texts[2]
    with changed(engine, 7, ends):
        assert written(engine, guided(6)[::-1], sampling)[1] == texts[0][::-1]
    assert len({len(tokens) for tokens in texts[0]}) > 1


@pytest.mark.parametrize("method", METHODS[1:])
def test_an_interrupt_leaves_the_engine_usable(engine, method):
    sampling = Sampling(max_new_tokens=8, **method)
    steps: list[Step] = []

    def stop(step: Step) -> None:
        steps.append(step)
        if len(steps) == 3:
            raise KeyboardInterrupt

    expected = [c.text for c in engine.generate(guided(4), sampling)]
    with pytest.raises(KeyboardInterrupt):
        engine.generate(guided(4), sampling, stop)
    assert [step.tokens for step in steps] == [4, 8, 12]
    body = engine.model
    assert not (body.module.base_model._forward_hooks if hasattr(body, "module") else body._keep)
    assert [c.text for c in engine.generate(guided(4), sampling, steps.append)] == expected
    assert steps[-1].finished == 4


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_token_that_a_stream_rules_out_is_never_chosen(engine, method):
    def ban(module, inputs, output):
        return output.index_fill(-1, banned, -torch.inf)

    banned = torch.arange(384)[torch.arange(384) % 60 != 8]  # seven are left
    hook = engine.model.head.register_forward_hook(ban)
    try:
        _, tokens = written(engine, guided(4), Sampling(max_new_tokens=4, **method))
        assert all(token % 60 == 8 for ours in tokens for token in ours)
        banned = torch.arange(384)
        with pytest.raises(SteerError, match="rule out every token"):
            engine.generate(guided(1), Sampling(max_new_tokens=4, **method))
    finally:
        hook.remove()


@pytest.mark.parametrize("method", METHODS[1:])
def test_ids_without_a_token_are_never_chosen(tmp_path, method):
    base = save_padded_model(tmp_path / "padded")
    engine, slow = HFEngine(base, dtype="float32", device="cpu"), reference(base, None)
    done, tokens = written(engine, guided(3), Sampling(max_new_tokens=5, **method))
    assert all(max(ours) < len(engine.tokenizer) for ours in tokens)
    for request, completion, ours in zip(guided(3), done, tokens, strict=True):
        assert_means(engine, slow, request, completion, ours)


@pytest.mark.parametrize("method", METHODS[1:])
def test_half_precision(tiny_model, adapter, method):
    engine = HFEngine(str(tiny_model), adapter, dtype="bfloat16", device="cpu")
    for completion in engine.generate(guided(), Sampling(max_new_tokens=6, **method)):
        assert 1 <= completion.tokens <= 6
        assert all(math.isfinite(mean) for mean in completion.log_probs.values())


def test_uniform_numbers_of_an_opening_are_those_of_the_record(engine, slow):
    """By hand: the first token is where the scores' distribution passes the first number."""
    request = guided(1)[0]
    _, tokens = written(engine, [request], Sampling(temperature=0, opening=1, max_new_tokens=1))
    probs = naive.scores(slow, engine.tokenizer, request, []).double().softmax(-1)
    assert tokens[0][0] == int(torch.searchsorted(probs.cumsum(0), uniforms(request.seed, 1)[0]))
