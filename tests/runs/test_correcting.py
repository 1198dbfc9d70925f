"""Correction in a run: which candidates become records depends on the run alone."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from steer.config import RunConfig
from steer.correction.selector import LEAST, LEAST_LENGTHS
from steer.data.corpus import Corpus
from steer.engines.interface import FinishReason
from steer.errors import SteerError
from steer.runs.correcting import Batch, Corrector
from steer.runs.generation import RunProgress, generate, generate_together, run_rounds
from steer.runs.records import UNLIKE, Record, Reject
from steer.runs.store import Run
from tests import stub
from tests.runs.test_generation import rounds
from tests.runs.test_lag import Crew

REAL = stub.corpus(150)
CONFIG = RunConfig(n=150, round_size=40, rows_per_panel=8, candidates=3, panel_size=3)


class WordEmbedder:
    """Unit rows that count words."""

    name = "words"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        counts = np.array([[0.1 + text.count(word) for word in stub.WORDS] for text in texts])
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


class NarrowEngine(stub.StubEngine):
    """Texts of which half use a third of the words far too often."""

    def _text(self, rng: random.Random) -> tuple[str, FinishReason]:
        if rng.random() < 0.1:
            return super()._text(rng)
        words = stub.WORDS[:10] if rng.random() < 0.5 else stub.WORDS
        return " ".join(rng.choices(words, k=9)), "stop"


@pytest.fixture(autouse=True)
def _embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer.runs.generation.load_embedder", lambda name: WordEmbedder())


def run(out: Path, config: RunConfig = CONFIG, **settings: object) -> Run:
    engine = NarrowEngine(REAL)
    return generate(config, REAL, stub.StubExpert(), engine, out, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steer.runs.generation.load_embedder", lambda name: WordEmbedder())
        return run(tmp_path_factory.mktemp("runs") / "finished")


def narrow(texts: Sequence[str]) -> float:
    """The share of texts of the narrow kind."""
    return float(np.mean([all(w in stub.WORDS[:10] for w in text.split()) for text in texts]))


def test_as_many_records_as_wanted_and_one_in_three(finished: Run) -> None:
    assert finished.complete
    passed = [r for r in finished.rejects if r.reason == UNLIKE]
    assert 1.7 < len(passed) / len(finished.records) < 3
    assert all(record.score is not None for record in finished.records if record.round)
    assert all(reject.score is not None for reject in passed)


def test_the_accepted_are_more_like_the_real_texts(finished: Run) -> None:
    passed = [r for r in finished.rejects if r.reason == UNLIKE]
    assert (
        narrow([r.text for r in finished.records]) < 0.15 < 0.4 < narrow([r.text for r in passed])
    )
    (first,), (last,) = finished.corrections[0], finished.corrections[-1]
    assert first.before is not None and last.after is not None
    assert last.after < first.before - 0.1
    assert 0 < first.effective < 1 and first.exponent <= 1
    assert last.uneven_before is not None and last.uneven_after is not None
    assert last.uneven_after < last.uneven_before - 0.1


def mixed(count: int, seed: int) -> list[str]:
    """Texts of two kinds, by turns."""
    draw = random.Random(seed)
    kinds = stub.WORDS[:10], stub.WORDS[20:]
    return [" ".join(draw.choices(kinds[i % 2], k=9)) for i in range(count)]


def test_regions_with_few_records_get_more_of_the_next() -> None:
    """All candidates are as the real texts are, but so far only those of one kind were taken."""
    real = Corpus(tuple(mixed(160, 0)), None, "real")
    corrector = Corrector(CONFIG, real, WordEmbedder())
    attempts: list[Record | Reject] = []
    for i, text in enumerate(mixed(160, 1)):
        fields = stub.FIELDS | {"id": f"rec:{i}", "text": text}
        attempts.append(Reject(**fields, reason=UNLIKE) if i % 2 else Record(**fields))
    corrector.replay(attempts)
    texts = mixed(600, 2)
    batch = Batch([f"rec:{i}" for i in range(200, 800)], texts, [None] * 600)
    accepted = corrector.choose(batch, {None: 1000}, 3).accepted
    scarce = [id for id in accepted if int(id[4:]) % 2]
    assert len(accepted) == 200
    assert len(scarce) > 0.65 * len(accepted)


@pytest.mark.parametrize("steps", [150, 250, 400])
def test_a_stopped_run_continues_to_the_same_files(
    tmp_path: Path, finished: Run, steps: int
) -> None:
    calls = iter(range(1000))

    def stop(_: RunProgress) -> None:
        if next(calls) == steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", on_progress=stop)
    assert run(tmp_path / "run").complete
    assert rounds(tmp_path / "run") == rounds(finished.path)


def test_a_run_cut_back_to_any_round_continues_to_the_same_files(
    tmp_path: Path, finished: Run
) -> None:
    whole = rounds(finished.path)
    run(tmp_path / "run")
    for kept in range(1, len(whole)):
        for file in sorted((tmp_path / "run" / "rounds").iterdir())[kept:]:
            file.unlink()
        run(tmp_path / "run")
        assert rounds(tmp_path / "run") == whole


@pytest.mark.parametrize("lag", [1, 3])
def test_any_number_of_workers_makes_the_same_run(tmp_path: Path, lag: int) -> None:
    config = RunConfig(**dict(CONFIG) | {"lag": lag})
    here = run(tmp_path / "here", config)
    for workers, seed in [(2, 1), (5, 2)]:
        crew = WordCrew(workers, seed)
        jobs = {tmp_path / f"{workers}": config}
        (there,) = run_rounds(jobs, REAL, stub.StubExpert(), NarrowEngine(REAL), crew)
        assert rounds(there.path) == rounds(here.path)


class WordCrew(Crew):
    engine, real = NarrowEngine, REAL


def test_runs_made_together_are_the_runs_made_alone(tmp_path: Path, finished: Run) -> None:
    jobs = {tmp_path / "a": CONFIG, tmp_path / "b": CONFIG.model_copy(update={"candidates": 1})}
    together = generate_together(jobs, REAL, stub.StubExpert(), NarrowEngine(REAL))
    assert rounds(together[0].path) == rounds(finished.path)
    assert together[1].corrections == () and UNLIKE not in together[1].reasons


def test_each_label_has_its_own_number_and_figures(tmp_path: Path) -> None:
    real = stub.corpus(300, labels=("a", "b", "b"))
    expert = stub.StubExpert(labels=("a", "b"), prompt="A {label} line:")
    config = RunConfig(labels={"a": 30, "b": 60}, round_size=60, panel_size=3, candidates=3)
    made = generate(config, real, expert, NarrowEngine(real), tmp_path / "run")
    assert made.counts == {"a": 30, "b": 60}
    assert {c.label for round in made.corrections for c in round} == {"a", "b"}


class WideEngine(stub.StubEngine):
    """Texts of 3 to 15 words, each as often; the real ones have 9."""

    def _text(self, rng: random.Random) -> tuple[str, FinishReason]:
        return stub.sentence(rng, rng.randint(3, 15)), "stop"


def few_run(out: Path, real: Corpus, **settings: object) -> Run:
    config = RunConfig(n=60, round_size=40, rows_per_panel=8, panel_size=3, candidates=3)
    expert = stub.StubExpert()
    return generate(config, real, expert, WideEngine(real), out, **settings)  # type: ignore[arg-type]


def test_with_few_real_texts_only_lengths_are_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No embedder is loaded, and a run that is continued is the same."""
    monkeypatch.setattr("steer.runs.generation.load_embedder", lambda name: 1 / 0)
    few = stub.corpus(LEAST - 1)
    made = few_run(tmp_path / "run", few)
    assert "only lengths are compared" in caplog.text
    words = [len(record.text.split()) for record in made.records if record.score is not None]
    passed = [len(each.text.split()) for each in made.rejects if each.reason == UNLIKE]
    assert len(made.records) == 60 and len(words) >= 40
    assert np.std(words) < 0.75 * np.std(passed)
    whole = rounds(made.path)
    for file in sorted((tmp_path / "run" / "rounds").iterdir())[2:]:
        file.unlink()
    assert rounds(few_run(tmp_path / "run", few).path) == whole


class EvenEngine(stub.StubEngine):
    """Texts as long as the real ones."""

    def _text(self, rng: random.Random) -> tuple[str, FinishReason]:
        return stub.sentence(rng), "stop"


@pytest.mark.parametrize("lag", [1, 2])
def test_where_lengths_are_alike_already_one_candidate_is_made(tmp_path: Path, lag: int) -> None:
    """After the first rounds, which are made before that is known."""
    few = stub.corpus(LEAST - 1)
    config = RunConfig(n=150, round_size=60, rows_per_panel=8, panel_size=3, candidates=3, lag=lag)
    made = [
        generate(config, few, stub.StubExpert(), engine(few), tmp_path / engine.__name__)
        for engine in (EvenEngine, WideEngine)
    ]
    even, wide = (len(run.records) + len(run.rejects) for run in made)
    assert [len(run.records) for run in made] == [150, 150]
    assert even <= 150 + (2 * LEAST_LENGTHS if lag == 1 else 220) < 400 < wide
    whole = rounds(made[0].path)
    for file in sorted((made[0].path / "rounds").iterdir())[2:]:
        file.unlink()
    again = generate(config, few, stub.StubExpert(), EvenEngine(few), made[0].path)
    assert rounds(again.path) == whole


def test_the_first_round_of_few_real_texts_has_candidates_enough(tmp_path: Path) -> None:
    config = RunConfig(n=4, rows_per_panel=50, panel_size=3, candidates=2)
    few = stub.corpus(LEAST - 1)
    made = generate(config, few, stub.StubExpert(), WideEngine(few), tmp_path / "run")
    assert len(made.records) + len(made.rejects) == 2 * LEAST_LENGTHS
    assert all(record.score is not None for record in made.records)


def test_with_very_few_real_texts_it_says_so_and_does_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = stub.corpus(LEAST_LENGTHS - 1)
    runs = []
    for candidates in (1, 3):
        config = RunConfig(n=20, round_size=16, rows_per_panel=4, candidates=candidates)
        engine = NarrowEngine(few)
        out = tmp_path / str(candidates)
        runs.append(generate(config, few, stub.StubExpert(), engine, out))
    assert "fewer than 20 different texts" in caplog.text
    assert rounds(runs[0].path) == rounds(runs[1].path)


def test_a_small_run_has_enough_candidates_for_a_selector(tmp_path: Path) -> None:
    made = run(tmp_path / "run", RunConfig(n=5, candidates=2, rows_per_panel=50, panel_size=3))
    assert len(made.records) == 5
    assert all(record.score is not None for record in made.records)


def test_the_embedder_of_runs_made_together_is_one(tmp_path: Path) -> None:
    other = CONFIG.model_copy(update={"selector": "another"})
    jobs = {tmp_path / "a": CONFIG, tmp_path / "b": other}
    with pytest.raises(SteerError, match="the same selector"):
        generate_together(jobs, REAL, stub.StubExpert(), NarrowEngine(REAL))


def test_the_setting_is_part_of_the_run(finished: Run) -> None:
    with pytest.raises(SteerError, match="candidates is 3 there and 2 now"):
        run(Path(finished.path), CONFIG.model_copy(update={"candidates": 2}))


def test_without_an_embedder_the_way_on_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str | None) -> WordEmbedder:
        raise SteerError("embedder 'far' cannot be loaded: name one with --embedder")

    monkeypatch.setattr("steer.runs.generation.load_embedder", load)
    with pytest.raises(SteerError, match="--selector; or correct nothing: --candidates 1"):
        run(tmp_path / "run")


def test_the_selectors_libraries_wait_until_a_round_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def load(name: str | None) -> WordEmbedder:
        done.append("loaded")
        return WordEmbedder()

    monkeypatch.setattr("steer.runs.generation.is_packaged", lambda name: True)
    monkeypatch.setattr("steer.runs.generation.load_embedder", load)
    run(
        tmp_path / "run",
        CONFIG.model_copy(update={"n": 60}),
        on_progress=lambda progress: done.append("token") if progress.tokens else None,
    )
    assert done.count("loaded") == 1 and done[0] == "token"
