"""Groups that join and leave while others run write what they write alone; part of
`make test-vllm`."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import pytest

from steer.config import Sampling
from steer.engines.choice import EngineSpec
from steer.engines.hf.engine import HFEngine
from steer.engines.live import Order, Wrote
from steer.errors import SteerError
from steer.shapes import Shape
from tests import naive
from tests.engines.contract import reference, save_adapter, varied
from tests.engines.shaped import SHAPES
from tests.engines.vllm.disturbed import preempt_the_last_sequence, resume

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: make test-vllm", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("small_caches")


@pytest.fixture(scope="module")
def adapters(model, adapter, tmp_path_factory):
    """Those of three experts, of several ranks, one for fewer layers."""
    folder, base = tmp_path_factory.mktemp("adapters"), str(model)
    few = save_adapter(base, folder / "few", seed=3, rank=6, layers=["q_proj", "down_proj"])
    return [adapter, save_adapter(base, folder / "other", seed=2, rank=4), few]


@pytest.fixture(scope="module")
def engine(model, adapters, small_caches):
    spec = EngineSpec(
        str(model), adapters[0], "vllm", dtype="float32", rows=8, beside=tuple(adapters[1:])
    )
    return spec.load()


def order(number: int, **settings: float) -> Order:
    """Settings, lengths and samplings differ from order to order."""
    cuts = ({}, {"top_k": 9}, {"min_p": 0.05}, {"top_p": 0.8})[number % 4]
    temperature = (1.0, 0.7, 0.0)[number % 3]
    sampling = Sampling(temperature=temperature, max_new_tokens=8 + 2 * number, **cuts)
    return Order(varied(number, **settings), sampling)


def shaped(number: int, shape: Shape | None, **settings: float) -> Order:
    made = order(number, **settings)
    sampling = Sampling(max_new_tokens=60)
    return replace(made, request=replace(made.request, shape=shape), sampling=sampling)


def run(live, orders: list[Order], between: Callable[[int], None] = lambda step: None):
    """What each order wrote; `between` is called after each step."""
    live.add(orders)
    found: dict[int, list[Wrote]] = {each.request.id: [] for each in orders}
    step = 0
    while live.busy:
        for each in live.step():
            found[each.id].append(each)
        step += 1
        between(step)
    return found


def tokens(wrote: list[Wrote]) -> list[int]:
    return [each.token for each in wrote]


def all_tokens(found: dict[int, list[Wrote]]) -> dict[int, list[int]]:
    return {id: tokens(each) for id, each in found.items()}


def unfinished(engine) -> int:
    return engine.llm.get_num_unfinished_requests()


def test_a_row_writes_the_same_alone_in_company_and_in_a_call(engine):
    orders = [order(number) for number in range(7)]
    together = run(engine.live(64), orders)
    for each in orders:
        mine = together[each.request.id]
        assert tokens(run(engine.live(64), [each])[each.request.id]) == tokens(mine)
        (whole,) = engine.generate([each.request], each.sampling)
        assert whole.text == engine.tokenizer.decode(tokens(mine), skip_special_tokens=True)
        assert (whole.tokens, whole.finish_reason) == (len(mine), mine[-1].finish)
        assert mine[-1].means == pytest.approx(whole.log_probs, abs=1e-4)
        assert not any(one.finish or one.means for one in mine[:-1])


def test_rows_may_come_at_any_step(engine):
    orders, live = [order(number) for number in range(6)], engine.live(64)
    expected = run(engine.live(64), orders)
    found: dict[int, list[int]] = {each.request.id: [] for each in orders}
    for step in range(100):
        live.add(orders[step // 2 : step // 2 + 1] if step % 2 == 0 else [])
        for each in live.step():
            found[each.id].append(each.token)
    assert found == all_tokens(expected)


@pytest.mark.parametrize("after", [0, 5])
def test_a_cancelled_row_leaves_and_no_other_notices(engine, after):
    """Before it has started, too."""
    orders, live = [order(number) for number in range(6)], engine.live(64)
    expected = run(engine.live(64), orders)
    gone = max(expected, key=lambda id: len(expected[id]))
    live.add(orders)
    found: dict[int, list[int]] = {each.request.id: [] for each in orders}
    step = 0
    while live.busy:
        live.cancel([gone, 99] if step == after else [])
        for each in live.step():
            found[each.id].append(each.token)
        step += 1
    told = found.pop(gone)
    assert after // 2 <= len(told) <= after < len(expected[gone])
    assert told == tokens(expected[gone])[: len(told)]
    assert found == {id: each for id, each in all_tokens(expected).items() if id != gone}
    assert not live.rows and live.room.sequences == live.room.blocks == unfinished(engine) == 0


def test_rows_that_do_not_fit_wait_their_turn(engine, monkeypatch):
    orders = [order(number) for number in range(6)]
    expected = run(engine.live(64), orders)
    monkeypatch.setattr(engine, "capacity", replace(engine.capacity, sequences=4))
    live, most = engine.live(64), 0
    live.add(orders)
    found: dict[int, list[int]] = {each.request.id: [] for each in orders}
    while live.busy:
        for each in live.step():
            found[each.id].append(each.token)
        most = max(most, live.room.sequences)
    assert 0 < most <= 4
    assert found == all_tokens(expected)


def test_a_row_goes_on_from_a_beginning_as_if_it_had_written_it(engine):
    orders = [order(number) for number in range(6)]
    whole = run(engine.live(64), orders)
    again = [
        replace(
            each,
            begun=tuple(tokens(whole[each.request.id])[:4]),
            sampling=each.sampling.model_copy(
                update={"max_new_tokens": each.sampling.max_new_tokens - 4}
            ),
        )
        for each in orders
    ]
    assert all_tokens(run(engine.live(64), again)) == all_tokens(whole)


def test_each_row_reads_with_the_adapter_of_its_order_and_says_so(engine, model, adapters):
    """Every score of the first steps, with rows of three experts and of the base model."""
    orders = [replace(order(n), adapter=1 + n % 3, trace=True, top=3) for n in range(9)]
    together = run(engine.live(64), orders)
    for number, folder in enumerate(adapters):
        slow = reference(str(model), folder)
        for each in orders[number::3]:
            wrote = together[each.request.id]
            assert tokens(run(engine.live(64), [each])[each.request.id]) == tokens(wrote)
            for step, one in enumerate(wrote[:5]):
                scores = naive.scores(slow, engine.tokenizer, each.request, tokens(wrote)[:step])
                _assert_as_said(one, scores.log_softmax(-1))


def _assert_as_said(one: Wrote, final) -> None:
    assert one.log_prob == pytest.approx(float(final[one.token]), abs=1e-3)
    assert [value for _, value in one.top] == pytest.approx(final.topk(3).values, abs=1e-3)
    by_token = {candidate.token: candidate for candidate in one.trace}
    assert by_token[one.token].kept
    for token, candidate in by_token.items():
        assert candidate.kept == math.isfinite(float(final[token]))
        if candidate.kept:
            assert candidate.final == pytest.approx(float(final[token]), abs=1e-3)


def test_a_call_reads_with_the_first_adapter(engine, model, adapters):
    slow = reference(str(model), adapters[0])
    asked = order(1)
    (whole,) = engine.generate([asked.request], Sampling(temperature=0, max_new_tokens=4))
    text: list[int] = []
    for _ in range(4):
        text.append(int(naive.scores(slow, engine.tokenizer, asked.request, text).argmax()))
    assert whole.text == engine.tokenizer.decode(text, skip_special_tokens=True)


def test_what_nobody_asks_for_is_not_told(engine):
    orders = [order(1), replace(order(2), top=0), replace(order(4), trace=True)]
    found = run(engine.live(64), orders)
    assert {(each.log_prob, each.top, each.trace) for each in found[1]} == {(None, (), ())}
    assert all(each.log_prob is not None and not each.trace for each in found[2])
    assert all(each.trace for each in found[4])


def test_a_group_that_is_taken_apart_tells_no_token_twice(engine, caplog):
    """Its tokens are those of an undisturbed one, and so are its means."""
    orders = [replace(order(number), top=0) for number in range(4)]
    expected = run(engine.live(64), orders)
    before = engine.restarts
    live = engine.live(64)

    def disturb(step: int) -> None:
        preempt_the_last_sequence(engine) if step == 6 else resume(engine)

    found = run(live, orders, disturb)
    assert engine.restarts == before + 1 and "fell out of step" in caplog.text
    assert all_tokens(found) == all_tokens(expected)
    for id, wrote in found.items():
        assert wrote[-1].means == pytest.approx(expected[id][-1].means, abs=1e-4)
        assert all(each.log_prob is not None for each in wrote)
    assert live.most_now > 1 and unfinished(engine) == 0


def test_a_group_whose_prefills_are_apart_tells_what_it_would_have_told(engine, monkeypatch):
    """No token is told before all its streams have read their contexts."""
    scheduler = engine.llm.engine_core.engine_core.scheduler
    orders = [order(number, gamma=0.3, eta=0.4) for number in range(3)]
    expected = run(engine.live(64), orders)
    engine.llm.reset_prefix_cache()
    before = engine.restarts
    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "max_num_scheduled_tokens", 60)
        found = run(engine.live(64), orders, lambda step: patch.undo() if step == 3 else None)
    assert engine.restarts > before
    assert all_tokens(found) == all_tokens(expected)


def test_a_row_without_a_token_left_fails_alone(engine, monkeypatch):
    from steer.engines.scoring import Rows

    orders = [order(number) for number in (1, 2)]
    expected, score = run(engine.live(64), orders), Rows.score

    def broken(rows, some, part):
        scores, *others = score(rows, some, part)
        for row, request in enumerate(rows.requests[some]):
            if request.seed == 101 and rows.counts[some][row] == 2:
                scores[row] = -math.inf
        return scores, *others

    monkeypatch.setattr(Rows, "score", broken)
    found = run(engine.live(64), orders)
    assert [each.failed for each in found[1]] == [False, False, True]
    assert found[1][-1].finish
    assert tokens(found[2]) == tokens(expected[2])


def test_rows_of_a_shape_write_what_a_call_writes_beside_others(engine):
    orders = [shaped(number, shape) for number, shape in enumerate(SHAPES.values())]
    found = run(engine.live(64), [*orders, order(9)])
    for each in orders:
        (whole,) = engine.generate([each.request], each.sampling)
        text = engine.tokenizer.decode(tokens(found[each.request.id]), skip_special_tokens=True)
        assert text == whole.text


def test_a_shape_holds_what_a_record_begins_with(engine):
    shape = Shape("regex", "Why (does|is) [a-z ]{3,9}[?]", lead=" ")
    begun = tuple(engine.tokenizer(" Why is").input_ids)
    live = engine.live(80)
    made = replace(shaped(1, shape), begun=begun, trace=True)
    live.check(made)
    wrote = run(live, [made])[1]
    text = engine.tokenizer.decode(tokens(wrote), skip_special_tokens=True)
    assert text.startswith(" Why is ") and shape.fits(text)
    cut = [candidate for each in wrote for candidate in each.trace if not candidate.kept]
    assert cut
    with pytest.raises(SteerError, match="no record of that regex begins so"):
        live.check(replace(made, begun=tuple(engine.tokenizer(" How").input_ids)))
    with pytest.raises(SteerError, match="allows no record"):
        live.check(shaped(1, Shape("schema", "false")))


def test_what_can_never_be_served_is_refused(engine, monkeypatch):
    with pytest.raises(SteerError, match="longest is 12"):
        engine.live(12).check(order(6))
    with pytest.raises(SteerError, match="model reads 512"):
        engine.live(600).check(replace(order(0), sampling=Sampling(max_new_tokens=510)))
    monkeypatch.setattr(engine, "capacity", replace(engine.capacity, blocks=3))
    with pytest.raises(SteerError, match=r"does not fit into vLLM's .* 3 cache blocks"):
        engine.live(64).check(order(5))


def test_an_engine_that_fails_is_left_empty(engine, monkeypatch):
    live = engine.live(64)
    live.add([order(number) for number in range(3)])
    live.step()
    with monkeypatch.context() as patch:
        patch.setattr(engine.llm, "step", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            live.step()
    assert unfinished(engine) == 0
    again = run(engine.live(64), [order(1)])
    (whole,) = engine.generate([order(1).request], order(1).sampling)
    assert whole.text == engine.tokenizer.decode(tokens(again[1]), skip_special_tokens=True)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two ranks need two CPUs")
def test_over_two_ranks_each_row_has_its_adapter_and_is_told_as_much(model, adapters, monkeypatch):
    """The last, as it ends the other engine of this process."""
    from vllm import envs

    envs.disable_envs_cache()  # the other engine's
    cores = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", f"{cores[0]}|{cores[1]}")
    spec = EngineSpec(
        str(model),
        adapters[0],
        "vllm",
        dtype="float32",
        rows=4,
        gpus=2,
        beside=tuple(adapters[1:]),
    )
    orders = [replace(order(n), adapter=1 + n % 3, trace=True, top=2) for n in range(5)]
    found = run(spec.load().live(64), orders)
    hf = HFEngine(str(model), adapters, dtype="float32", device="cpu")
    expected = run(hf.live(64), orders)
    assert all_tokens(found) == all_tokens(expected)
    for id, wrote in found.items():
        for one, other in zip(wrote, expected[id], strict=True):
            assert one.log_prob == pytest.approx(other.log_prob, abs=1e-3)
            assert len(one.trace) >= 1 and len(one.top) == 2
