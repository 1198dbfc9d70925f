from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from steer.config import Guidance, RunConfig, Sampling
from steer.data.corpus import Corpus
from steer.errors import SteerError
from steer.guidance import Shown
from steer.runs.generation import RunProgress, generate, generate_together
from steer.runs.records import Record
from steer.runs.store import Run
from tests import stub

REAL = stub.corpus()
CONFIG = RunConfig(n=60, round_size=16, rows_per_panel=4, guidance=Guidance(alpha=0.001))


def run(out: Path, config: RunConfig = CONFIG, **settings: object) -> Run:
    engine = stub.StubEngine(REAL)
    return generate(config, REAL, stub.StubExpert(), engine, out, **settings)  # type: ignore[arg-type]


def rounds(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((path / "rounds").iterdir())}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("runs") / "finished")


def test_as_many_records_as_wanted(finished: Run) -> None:
    assert finished.complete
    assert len(finished.records) == len({record.text for record in finished.records}) == 60
    numbers = sorted(
        int(attempt.id.removeprefix("rec:")) for attempt in (*finished.records, *finished.rejects)
    )
    assert numbers == list(range(len(numbers)))
    expected = "unfinished unparsed short copy near-copy duplicate near-duplicate"
    assert set(expected.split()) <= set(finished.reasons)


def test_rejects_name_what_they_repeat(finished: Run) -> None:
    texts = {f"real:{row}": text for row, text in enumerate(REAL.texts)}
    texts |= {record.id: record.text for record in finished.records}
    repeats = {"copy", "near-copy", "duplicate", "near-duplicate"}
    for reject in finished.rejects:
        assert (reject.of is not None) == (reject.reason in repeats)
        if reject.reason in ("copy", "duplicate"):
            assert texts[reject.of] == reject.text
            assert reject.of.startswith("real:") == (reject.reason == "copy")


def test_a_record_says_where_it_came_from(finished: Run) -> None:
    record = finished.records[-1]
    assert record.prompt == "Write a line:"
    assert (record.gamma, record.eta, record.alpha) == (0.1, 0.2, 0.001)
    assert (record.weights, record.engine) == ("balanced", "stub")
    assert (record.model, record.adapter) == ("base0", "adapter0")
    assert (record.tokens, record.finish_reason) == (10, "stop")
    assert len(set(record.panel)) == 10
    assert all(record.log_probs[name] < -1 for name in ("expert", "base", "negative"))
    assert record.log_probs["positive"] is record.log_probs["contrast"] is None


@pytest.mark.parametrize("wanted", [True, False])
def test_texts_end_as_the_expert_has_it(tmp_path: Path, wanted: bool) -> None:
    """Unless the run does not want it."""
    engine, bias = stub.StubEngine(REAL), ((0, -2.0), (9, 1.0))
    config = RunConfig(**dict(CONFIG) | {"end_bias": wanted, "n": 8})
    generate(config, REAL, stub.StubExpert(end_bias=bias), engine, tmp_path / "run")
    assert {request.end_bias for request in engine.requests} == {bias if wanted else ()}


def test_panels_come_from_real_texts_and_earlier_rounds(finished: Run) -> None:
    accepted_in = {record.id: record.round for record in finished.records}
    members = [(r.round, member) for r in finished.records for member in r.panel]
    assert all(accepted_in.get(member, -1) < round for round, member in members)
    assert any(member in accepted_in for _, member in members)
    rows = Counter((a.round, a.panel) for a in (*finished.records, *finished.rejects))
    assert max(rows.values()) == 4


def test_requests_carry_the_panel_and_the_guidance(tmp_path: Path) -> None:
    engine = stub.StubEngine(REAL)
    guidance = Guidance(alpha=0.001)
    config = RunConfig(n=4, round_size=4, panel_form="raw", panel_size=3, guidance=guidance)
    made = generate(config, REAL, stub.StubExpert(), engine, tmp_path / "run")
    first = (*made.records, *made.rejects)[0]
    texts = [REAL.texts[int(member.removeprefix("real:"))] for member in first.panel]
    expert, base, negative = engine.requests[0].streams
    assert negative.context == Shown(tuple(texts))
    assert expert.context == base.context == "Write a line:"
    assert (expert.weight, base.weight, negative.weight) == pytest.approx((1.3, -0.1, -0.2))
    assert engine.requests[0].alpha == 0.001
    assert len({request.seed for request in engine.requests}) == len(engine.requests)


def test_a_record_does_not_depend_on_the_round_size(tmp_path: Path) -> None:
    """Without panels nothing but the seed and the attempt's number decides a text."""
    guidance = Guidance(eta=0)
    texts = []
    for size in (5, 64):
        config = RunConfig(n=20, round_size=size, guidance=guidance, panel_size=1000)
        made = run(tmp_path / str(size), config)
        texts.append([record.text for record in made.records])
        assert {record.panel for record in made.records} == {()}
        assert {record.log_probs["negative"] for record in made.records} == {None}
    assert texts[0] == texts[1]


def test_the_seed_decides(tmp_path: Path, finished: Run) -> None:
    again = run(tmp_path / "again")
    assert rounds(again.path) == rounds(finished.path)
    other = run(tmp_path / "other", RunConfig(**dict(CONFIG) | {"seed": 1}))
    common = {r.text for r in other.records} & {r.text for r in finished.records}
    assert len(common) <= 5  # the sentences that the stub repeats


def test_a_finished_run_is_only_read(finished: Run) -> None:
    engine = stub.StubEngine(REAL)
    again = generate(CONFIG, REAL, stub.StubExpert(), engine, finished.path)
    assert engine.calls == 0
    assert again == finished


@pytest.mark.parametrize("steps", [0, 1, 20, 55])
def test_ctrl_c_then_the_same_command(tmp_path: Path, finished: Run, steps: int) -> None:
    calls = iter(range(1000))

    def stop(_: RunProgress) -> None:
        if next(calls) == steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", on_progress=stop)
    stopped = Run.open(tmp_path / "run")
    assert len(stopped.records) < 60
    assert finished.records[: len(stopped.records)] == stopped.records
    assert run(tmp_path / "run").complete
    assert rounds(tmp_path / "run") == rounds(finished.path)


def test_attempts_used_up(tmp_path: Path) -> None:
    config = RunConfig(**dict(CONFIG) | {"max_attempts": 70})
    made = run(tmp_path / "run", config)
    assert not made.complete
    assert len(made.records) + len(made.rejects) == 70
    assert 0 < len(made.records) < 60
    assert run(tmp_path / "run", config) == made


def test_surplus(tmp_path: Path) -> None:
    """A small last round may pass more than is missing; those are kept as rejects."""
    made = run(tmp_path / "run", RunConfig(n=1, max_attempts=8))
    assert len(made.records) == 1
    assert made.reasons["surplus"] >= 1
    assert all(reject.of is None for reject in made.rejects if reject.reason == "surplus")


def test_labels(tmp_path: Path) -> None:
    real = stub.corpus(40, labels=("a", "b"))
    expert = stub.StubExpert(labels=("a", "b", "c"), prompt="A {label} line:")
    config = RunConfig(labels={"b": 12, "a": 30}, round_size=16, panel_size=5)
    engine = stub.StubEngine(real)
    made = generate(config, real, expert, engine, tmp_path / "run")
    assert made.complete
    assert made.counts == {"a": 30, "b": 12}
    label_of: dict[str, str] = {f"real:{row}": "ab"[row % 2] for row in range(40)}
    label_of |= {record.id: str(record.label) for record in made.records}
    for attempt in (*made.records, *made.rejects):
        assert attempt.prompt == f"A {attempt.label} line:"
        assert {label_of[member] for member in attempt.panel} == {attempt.label}


def test_labels_with_real_texts_that_have_none(tmp_path: Path) -> None:
    expert = stub.StubExpert(labels=("a", "b"), prompt="A {label} line:")
    config = RunConfig(labels={"a": 10}, round_size=8)
    made = generate(config, REAL, expert, stub.StubEngine(REAL), tmp_path / "run")
    assert made.counts == {"a": 10}


def test_progress(tmp_path: Path) -> None:
    seen: list[RunProgress] = []
    made = run(tmp_path / "run", on_progress=seen.append)
    assert seen[0].acceptance_rate is None
    assert [p.accepted for p in seen] == sorted(p.accepted for p in seen)
    assert [p.tokens for p in seen] == sorted(p.tokens for p in seen)
    last = seen[-1]
    attempts = len(made.records) + len(made.rejects)
    assert (last.accepted, last.wanted, last.attempts) == (60, 60, attempts)
    assert last.tokens == 10 * attempts
    assert any(0 < p.finished < p.round_size for p in seen)
    passed = 60 + made.reasons.get("surplus", 0)
    assert last.acceptance_rate == passed / attempts


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RunConfig(n=5, panel_size=31), "needs 31 real texts but there are 30"),
        (RunConfig(labels={"a": 5}), "unknown label 'a'"),
        (RunConfig(n=5, pattern="("), "no regular expression"),
    ],
)
def test_user_errors_leave_nothing(tmp_path: Path, config: RunConfig, message: str) -> None:
    with pytest.raises(SteerError, match=message):
        run(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_an_expert_with_labels_needs_them(tmp_path: Path) -> None:
    expert = stub.StubExpert(labels=("a",), prompt="A {label} line:")
    with pytest.raises(SteerError, match="a label is needed"):
        generate(CONFIG, REAL, expert, stub.StubEngine(REAL), tmp_path / "run")


def test_the_pattern_and_length_are_the_runs(tmp_path: Path) -> None:
    config = RunConfig(n=3, pattern=r"b.*", min_chars=40, guidance=Guidance(eta=0), max_attempts=99)
    made = run(tmp_path / "run", config)
    assert all(r.text.startswith("b") and len(r.text) >= 40 for r in made.records)
    assert isinstance(made.records[0], Record)


@pytest.mark.parametrize(("near", "kept"), [(0.3, False), (0.8, False), (0.99, True)])
def test_how_near_is_too_near_is_the_runs(tmp_path: Path, near: float, kept: bool) -> None:
    """The stub also writes sentences that exist already with one letter more."""
    made = run(tmp_path / "run", RunConfig(**dict(CONFIG) | {"near": near, "max_attempts": 240}))
    texts = {*REAL.texts, *made.texts}
    assert any(f"{text}s" in texts for text in texts) == kept


def test_records_in_another_script_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    real = Corpus(tuple(f"今天天气很好我们去公园散步{n}" for n in range(30)), None, "han")
    with caplog.at_level("WARNING"):
        generate(CONFIG, real, stub.StubExpert(), stub.StubEngine(REAL), tmp_path / "run")
    assert caplog.text.count("most records are in Latin script") == 1
    caplog.clear()
    run(tmp_path / "fine")
    assert "script" not in caplog.text


def test_runs_made_together_are_the_runs_made_alone(tmp_path: Path, finished: Run) -> None:
    """Their rounds share batches of at most one round's size; each has its own pool."""
    other = RunConfig(**dict(CONFIG) | {"n": 4, "guidance": Guidance(gamma=0.7)})
    jobs = {tmp_path / "a": CONFIG, tmp_path / "b": other, tmp_path / "c": other}
    engine = stub.StubEngine(REAL)
    together = generate_together(jobs, REAL, stub.StubExpert(), engine)
    assert [made.path for made in together] == list(jobs)
    assert rounds(together[0].path) == rounds(finished.path)
    alone = run(tmp_path / "alone", other)
    assert rounds(together[1].path) == rounds(together[2].path) == rounds(alone.path)
    assert engine.calls < together[0].rounds + 2 * alone.rounds


def test_a_stopped_set_of_runs_continues(tmp_path: Path, finished: Run) -> None:
    jobs = {tmp_path / name: CONFIG for name in "ab"}
    seen: list[RunProgress] = []

    def stop(progress: RunProgress) -> None:
        seen.append(progress)
        if progress.accepted > 40:
            raise KeyboardInterrupt

    engine = stub.StubEngine(REAL)
    with pytest.raises(KeyboardInterrupt):
        generate_together(jobs, REAL, stub.StubExpert(), engine, stop)
    assert seen[-1].wanted == 120
    for made in generate_together(jobs, REAL, stub.StubExpert(), engine):
        assert rounds(made.path) == rounds(finished.path)


def test_runs_made_together_have_one_sampling(tmp_path: Path) -> None:
    cold = RunConfig(**dict(CONFIG) | {"sampling": Sampling(temperature=0.5)})
    jobs = {tmp_path / "a": CONFIG, tmp_path / "b": cold}
    with pytest.raises(SteerError, match="the same sampling"):
        generate_together(jobs, REAL, stub.StubExpert(), stub.StubEngine(REAL))
    assert list(tmp_path.iterdir()) == []


def test_contrasting_labels_needs_labels(tmp_path: Path) -> None:
    config = RunConfig(n=4, guidance=Guidance(contrast="labels"))
    with pytest.raises(SteerError, match="no labels to contrast"):
        run(tmp_path / "run", config)


def test_drafts_for_the_nearest_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The expert alone writes each record first; the embedder is part of the run's identity."""
    monkeypatch.setattr("steer.runs.generation.load_embedder", lambda cache: WordEmbedder())
    engine = stub.StubEngine(REAL)
    config = RunConfig(n=12, round_size=16, rows_per_panel=4, panel_selection="nearest")
    made = generate(config, REAL, stub.StubExpert(), engine, tmp_path / "run")
    assert made.sources.embedder == "words"
    first = engine.requests[:12]
    assert [[stream.name for stream in request.streams] for request in first] == [["expert"]] * 12
    guided = engine.requests[12:24]
    assert [request.seed for request in guided] == [request.seed for request in first]
    assert len(guided[0].streams) == 3


class WordEmbedder:
    name = "words"

    def embed(self, texts: list[str]) -> np.ndarray:
        counts = np.array([[1 + text.count(word) for word in stub.WORDS] for text in texts])
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)
