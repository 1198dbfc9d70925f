"""Rows that join and leave while others run write what they write alone."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from steer.config import Sampling
from steer.engines.hf import live as live_module
from steer.engines.hf.engine import HFEngine
from steer.engines.hf.live import Live
from steer.engines.live import Order, Wrote
from steer.errors import SteerError
from steer.shapes import Shape
from tests import naive
from tests.engines.contract import BODIES, assert_same, body_of, reference, save_adapter, varied
from tests.engines.shaped import SHAPES
from tests.tiny import PROMPT


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(str(tiny_model), tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module", params=BODIES)
def engine(tiny_model: Path, adapter: Path, request: pytest.FixtureRequest) -> HFEngine:
    with body_of(request.param):
        return HFEngine(str(tiny_model), adapter, dtype="float32", device="cpu")


def order(number: int, **settings: float) -> Order:
    """Settings, lengths and samplings differ from order to order."""
    temperature = (1.0, 0.7, 0.0)[number % 3]
    sampling = Sampling(temperature=temperature, max_new_tokens=10 + 3 * number)
    return Order(varied(number, **settings), sampling)


def run(live: Live, orders: list[Order]) -> dict[int, list[Wrote]]:
    live.add(orders)
    found: dict[int, list[Wrote]] = {each.request.id: [] for each in orders}
    while live.busy:
        for each in live.step():
            found[each.id].append(each)
    return found


def tokens(wrote: list[Wrote]) -> list[int]:
    return [each.token for each in wrote]


def test_a_row_writes_the_same_alone_in_company_and_in_a_call(engine: HFEngine) -> None:
    orders = [order(number) for number in range(7)]
    together = run(engine.live(64), orders)
    for each in orders:
        alone = run(engine.live(64), [each])[each.request.id]
        assert tokens(alone) == tokens(together[each.request.id])
        (whole,) = engine.generate([each.request], each.sampling)
        assert whole.text == engine.tokenizer.decode(tokens(alone), skip_special_tokens=True)
        assert (whole.tokens, whole.finish_reason) == (len(alone), alone[-1].finish)
        assert alone[-1].means == pytest.approx(whole.log_probs, abs=1e-4)


def test_rows_may_come_at_any_step(engine: HFEngine) -> None:
    orders, live = [order(number) for number in range(6)], engine.live(64)
    expected = run(engine.live(64), orders)
    found: dict[int, list[int]] = {each.request.id: [] for each in orders}
    for step in range(200):
        live.add(orders[step // 2 : step // 2 + 1] if step % 2 == 0 else [])
        for each in live.step():
            found[each.id].append(each.token)
    assert found == {id: tokens(each) for id, each in expected.items()}


def test_a_cancelled_row_leaves_and_no_other_notices(engine: HFEngine) -> None:
    orders, live = [order(number) for number in range(6)], engine.live(64)
    expected = run(engine.live(64), orders)
    gone = max(expected, key=lambda id: len(expected[id]))
    live.add(orders)
    found: dict[int, list[int]] = {each.request.id: [] for each in orders}
    for step in range(200):
        for each in live.step():
            found[each.id].append(each.token)
        live.cancel([gone, 99] if step == 5 else [])
    assert found[gone] == tokens(expected[gone])[: len(found[gone])]
    assert 0 < len(found.pop(gone)) < len(expected[gone])
    for id in found:
        assert found[id] == tokens(expected[id])
    assert not live.busy and not live.orders and live.bank.count == 0


def test_waiting_rows_can_be_cancelled(engine: HFEngine) -> None:
    live = Live(engine.lane_model, engine.ends, 3, 64, 10**9)
    live.add([order(1), order(3), order(5)])
    live.step()
    assert len(live.waiting) == 2
    live.cancel([3, 5])
    while live.busy:
        assert {each.id for each in live.step()} == {1}
    assert not live.orders


@pytest.mark.parametrize("limit", ["lanes", "memory"])
def test_rows_that_do_not_fit_wait_their_turn(engine: HFEngine, limit: str) -> None:
    orders = [order(number) for number in range(6)]
    lanes, memory = (4, 10**9) if limit == "lanes" else (99, 60_000)
    live = Live(engine.lane_model, engine.ends, lanes, 64, memory)
    live.add(orders)
    most, found = 0, {each.request.id: [] for each in orders}
    while live.busy:
        for each in live.step():
            found[each.id].append(each)
        most = max(most, live.bank.count)
    assert 0 < most <= (4 if limit == "lanes" else 12)
    expected = run(engine.live(64), orders)
    assert {id: tokens(each) for id, each in found.items()} == {
        id: tokens(each) for id, each in expected.items()
    }


def test_contexts_are_kept_up_to_a_limit(engine: HFEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "KEPT", 40)
    live, orders = engine.live(64), [order(number) for number in range(4)]
    run(live, orders)
    assert sum(each.length for each in live.contexts.values()) <= 40 or len(live.contexts) == 1


def test_room_that_nothing_needs_any_more_is_given_back(engine: HFEngine) -> None:
    live = engine.live(64)
    run(live, [order(number) for number in range(6)])
    assert live.bank.cache.shape[2] > live_module.FEW
    live.step()
    assert live.bank.cache.numel() == 0


def test_a_row_goes_on_from_a_beginning_as_if_it_had_written_it(engine: HFEngine) -> None:
    for number in range(6):
        whole = run(engine.live(64), [order(number)])[number]
        begun = tuple(tokens(whole)[:4])
        rest = order(number).sampling
        short = rest.model_copy(update={"max_new_tokens": rest.max_new_tokens - 4})
        again = replace(order(number), begun=begun, sampling=short)
        assert tokens(run(engine.live(64), [again])[number]) == tokens(whole)


def test_a_trace_says_what_the_formula_says(engine: HFEngine, tiny_model, adapter) -> None:
    slow = reference(str(tiny_model), adapter)
    for number in (1, 3, 4):
        asked = replace(order(number), top=3, trace=True)
        wrote = run(engine.live(64), [asked])[number]
        for step, each in enumerate(wrote[:5]):
            scores = naive.scores(slow, engine.tokenizer, asked.request, tokens(wrote)[:step])
            final = scores.log_softmax(-1)
            assert each.log_prob == pytest.approx(float(final[each.token]), abs=1e-3)
            assert [t for t, _ in each.top] == final.topk(3).indices.tolist()
            by_token = {candidate.token: candidate for candidate in each.trace}
            assert each.token in by_token
            for token, candidate in by_token.items():
                assert candidate.kept == math.isfinite(float(final[token]))
                if candidate.kept:
                    assert candidate.final == pytest.approx(float(final[token]), abs=1e-3)
                expert = naive.stream_log_probs(
                    slow, engine.tokenizer, True, PROMPT, tokens(wrote)[:step]
                )
                assert candidate.streams[0] == pytest.approx(float(expert[token]), abs=1e-3)


def test_a_row_without_a_token_left_fails_alone(
    engine: HFEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, fine = order(1), order(2)
    score = live_module.LiveBatch.score

    def broken(batch, rows, logits):
        scores, *others = score(batch, rows, logits)
        ids = [request.id for request in batch.requests[rows]]
        scores[torch.tensor([id == 1 for id in ids])] = -math.inf
        return scores, *others

    expected = run(engine.live(64), [fine])
    monkeypatch.setattr(live_module.LiveBatch, "score", broken)
    found = run(engine.live(64), [lost, fine])
    assert [each.failed for each in found[1]] == [True]
    assert tokens(found[2]) == tokens(expected[2])


def test_what_can_never_be_served_is_refused(engine: HFEngine) -> None:
    live = engine.live(20)
    with pytest.raises(SteerError, match="longest is 20"):
        live.check(order(6))
    with pytest.raises(SteerError, match="model reads 512"):
        engine.live(600).check(replace(order(0), sampling=Sampling(max_new_tokens=510)))
    with pytest.raises(SteerError, match="3 streams"):
        Live(engine.lane_model, engine.ends, 2, 64, 1).check(order(1))


def test_rows_have_each_the_adapter_of_their_order(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    """Every score, with rows of three experts and of the base model in one batch."""
    base = str(tiny_model)
    others = [save_adapter(base, tmp_path / str(n), seed=n, rank=2 + n) for n in (2, 3)]
    adapters = [adapter, *others]
    engine = HFEngine(base, adapters, dtype="float32", device="cpu")
    orders = [replace(order(n), adapter=1 + n % 3, trace=True, top=0) for n in range(9)]
    together = run(engine.live(64), orders)
    for number, folder in enumerate(adapters):
        slow = reference(base, folder)
        for each in orders[number::3]:
            wrote = together[each.request.id]
            assert tokens(run(engine.live(64), [each])[each.request.id]) == tokens(wrote)
            _assert_as_said(slow, engine, each, wrote[:6])


def test_adapters_of_other_layers_share_a_model(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    base = str(tiny_model)
    few = save_adapter(base, tmp_path / "few", seed=2, layers=["q_proj", "down_proj"])
    engine = HFEngine(base, [few, adapter], dtype="float32", device="cpu")
    asked = replace(order(1), trace=True, top=0)
    wrote = run(engine.live(64), [asked, replace(order(2), adapter=2)])[1]
    _assert_as_said(reference(base, few), engine, asked, wrote)


def _assert_as_said(slow, engine: HFEngine, asked: Order, wrote: list[Wrote]) -> None:
    for step, one in enumerate(wrote):
        scores = naive.scores(slow, engine.tokenizer, asked.request, tokens(wrote)[:step])
        final = scores.log_softmax(-1)
        for candidate in one.trace:
            assert candidate.kept == math.isfinite(float(final[candidate.token]))
            if candidate.kept:
                assert candidate.final == pytest.approx(float(final[candidate.token]), abs=1e-4)


def test_a_call_reads_with_the_first_adapter(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    other = save_adapter(str(tiny_model), tmp_path / "other", seed=2)
    both = HFEngine(str(tiny_model), [adapter, other], dtype="float32", device="cpu")
    alone = HFEngine(str(tiny_model), adapter, dtype="float32", device="cpu")
    requests, sampling = [order(number).request for number in range(4)], Sampling(max_new_tokens=12)
    assert_same(both.generate(requests, sampling), alone.generate(requests, sampling))


def shaped(number: int, shape: Shape | None, **settings: float) -> Order:
    made = order(number, **settings)
    sampling = Sampling(max_new_tokens=60)
    return replace(made, request=replace(made.request, shape=shape), sampling=sampling)


def test_rows_of_a_shape_write_what_a_call_writes_beside_others(engine: HFEngine) -> None:
    orders = [shaped(number, shape) for number, shape in enumerate(SHAPES.values())]
    found = run(engine.live(64), orders)
    for each in orders:
        (whole,) = engine.generate([each.request], each.sampling)
        text = engine.tokenizer.decode(tokens(found[each.request.id]), skip_special_tokens=True)
        assert text == whole.text


def test_a_shape_holds_what_a_record_begins_with(engine: HFEngine) -> None:
    shape = Shape("regex", "Why (does|is) [a-z ]{3,9}[?]", lead=" ")
    begun = tuple(engine.tokenizer(" Why is").input_ids)
    live = engine.live(80)
    made = replace(shaped(1, shape), begun=begun)
    live.check(made)
    text = engine.tokenizer.decode(tokens(run(live, [made])[1]), skip_special_tokens=True)
    assert text.startswith(" Why is ") and shape.fits(text)
    with pytest.raises(SteerError, match="no record of that regex begins so"):
        live.check(replace(made, begun=tuple(engine.tokenizer(" How").input_ids)))
    with pytest.raises(SteerError, match="allows no record"):
        live.check(shaped(1, Shape("schema", "false")))


def test_a_row_whose_shape_cannot_go_on_fails_alone(engine: HFEngine) -> None:
    orders = [shaped(number, SHAPES["choices"]) for number in range(3)]
    expected = run(engine.live(64), orders)
    live = engine.live(64)
    live.add(orders)
    wrote = [each for _ in orders for each in live.step()]
    lost = live.batch.written[1]
    assert lost is not None
    lost.matcher.consume_token(engine.tokenizer("{").input_ids[0])
    while live.busy:
        wrote += live.step()
    failed = [each for each in wrote if each.failed]
    assert [each.id for each in failed] == [1] and failed[0].finish
    for id in (0, 2):
        assert [each.token for each in wrote if each.id == id] == tokens(expected[id])
    assert tokens(run(engine.live(64), orders)[1]) == tokens(expected[1])


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_trace_says_what_a_shape_cuts(engine: HFEngine, adaptive: bool) -> None:
    made = shaped(1, Shape("choices", json.dumps(["Why?", "How?"])), alpha=0)
    request = replace(made.request, adaptive=adaptive)
    (first, *_) = run(engine.live(64), [replace(made, request=request, trace=True, top=4)])[1]
    allowed = {engine.tokenizer(text).input_ids[0] for text in ("W", "Wh", "Why", "H", "How")}
    kept = [each for each in first.trace if each.kept]
    assert {each.token for each in kept} <= allowed and len(kept) < len(first.trace)
    assert sum(math.exp(each.final) for each in kept) == pytest.approx(1, abs=0.06)
    assert {token for token, value in first.top if value > -math.inf} <= allowed
