"""The study's arithmetic and its parts; the study itself is run by hand (docs/study.md)."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.study import pages, parts, tuning
from benchmarks.study.measure import CHARACTERS, REAL, measured
from benchmarks.study.parts import CELLS, cut, part
from benchmarks.study.plan import CHEAP, DEFAULT, METHODS, STEERED
from benchmarks.study.results import Mean, Table, together
from benchmarks.study.selecting import SELECTORS, Task, corrected, likeliest
from benchmarks.study.streams import STREAMS, Text, inside
from benchmarks.study.weights import likeliest as likeliest_weights
from steer.methods import PROPOSAL, find_methods
from steer.runs.records import Record
from steer.seeds import derive


def estimate(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def table(**cells: list[dict[str, float]]) -> Table:
    """Table of one metric: for each set, an estimate in every cell."""
    number = len(next(iter(cells.values())))
    rows = tuple({name: {"auroc": each[i]} for name, each in cells.items()} for i in range(number))
    return Table(tuple("12"[:number]), rows, tuple(cells), 50)


def test_a_mean_over_cells_is_surer_than_each() -> None:
    found = table(a=[estimate(0.6, 0.03), estimate(0.7, 0.04)]).mean("auroc", "a")
    assert found is not None and found.high is not None
    assert (found.mean, found.high - found.mean) == pytest.approx((0.65, 0.05 / 2))


def test_errors_of_a_difference_add() -> None:
    found = table(a=[estimate(0.7, 0.03)], b=[estimate(0.6, 0.04)]).difference("auroc", "a", "b")
    assert found is not None and found.low is not None
    assert (found.mean, found.mean - found.low) == pytest.approx((0.1, 0.05))


def test_what_has_no_value_or_no_interval_pretends_none() -> None:
    found = table(a=[{"value": None}], b=[{"value": 0.5}])
    assert found.mean("auroc", "a") is None
    assert found.mean("auroc", "b") == Mean(0.5)
    assert found.difference("auroc", "a", "b") is None
    assert together([Mean(0.1), Mean(0.2, 0.1, 0.3)]) == Mean(pytest.approx(0.15))


def test_the_default_of_the_study_is_that_of_the_product() -> None:
    default, steered = find_methods(f"{DEFAULT},{STEERED}", labelled=False)
    (product,) = find_methods("steer", labelled=False)
    (usual,) = find_methods(PROPOSAL, labelled=False)
    assert (default.guidance, default.sampling) == (usual.guidance, usual.sampling)
    assert (steered.guidance, steered.sampling) == (product.guidance, product.sampling)
    assert len(find_methods(",".join(METHODS), labelled=False)) == len(METHODS)


def test_every_method_of_the_report_was_tuned_with_as_many_tries() -> None:
    tried = tuning.FAMILIES.values()
    assert len({len(family) for family in tried}) == 1
    assert {*METHODS} <= {name for family in tried for name in family}


@pytest.fixture
def few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of real texts, 20 of which make a part."""
    monkeypatch.setattr(parts, "READ_BEFORE", 100)
    for name in ("FIT", "SELECT", "VALIDATION", "WIDE", "REPORT"):
        monkeypatch.setattr(parts, name, 20)
    monkeypatch.setattr(parts, "REPORTED_BEFORE", range(110, 130))
    for task in parts.TASKS:
        number = 140 if task == "hypotheses" else 300
        texts = "".join(json.dumps({"text": f"{task} {i}"}) + "\n" for i in range(number))
        (tmp_path / f"{task}.jsonl").write_text(texts)
    return tmp_path


def test_no_step_shares_a_row_and_each_row_reports_once(few_rows: Path) -> None:
    reported: list[str] = []
    for cell in CELLS:
        cut(few_rows, few_rows, cell)
        names = ["fit", "select", "judge", "report"]
        names += [] if cell.task == "hypotheses" else ["validation"]
        lines = [rows(few_rows, cell, name) for name in names]
        assert len(set().union(*lines)) == sum(map(len, lines))
        reported += lines[3]
    assert len(set(reported)) == len(reported)
    for task in ("comments", "commonsense"):
        order = np.random.default_rng(derive(0, "study", task)).permutation(300)
        known = [i for n, i in enumerate(order) if n < 100 or n in parts.REPORTED_BEFORE]
        assert not {json.dumps({"text": f"{task} {i}"}) for i in known} & set(reported)
    assert len([line for line in reported if "hypotheses" in line]) == 140 - parts.JUDGE
    first, second = (rows(few_rows, cell, "fit") for cell in (CELLS[0], CELLS[3]))
    assert not set(first) & set(second)


@pytest.mark.parametrize("task", ["comments", "commonsense"])
def test_cuts_are_chosen_on_rows_that_no_cell_reads(task: str, few_rows: Path) -> None:
    read: set[str] = set()
    mine = [cell for cell in CELLS if cell.task == task]
    for cell in mine:
        cut(few_rows, few_rows, cell)
        for name in ("fit", "select", "judge", "validation", "report"):
            read |= set(rows(few_rows, cell, name))
    for cell in tuning.cells(mine[0]):
        cut(few_rows, few_rows, cell)
        chosen = rows(few_rows, cell, "report")
        assert len(set(chosen)) == 20 and not read & set(chosen)
        read |= set(chosen)


def rows(work: Path, cell: parts.Cell, name: str) -> list[str]:
    return part(work, cell.name, name).read_text().splitlines()


def record(number: int, text: str, log_prob: float = -1.0) -> Record:
    unused = {"label": None, "prompt": "", "gamma": 0, "eta": 0, "alpha": 0, "panel": ()}
    unused |= {"weights": "balanced", "seed": 0, "round": 0, "engine": "", "model": ""}
    unused |= {"adapter": "", "tokens": 9, "finish_reason": "stop"}
    log_probs = {"expert": log_prob, "positive": None}
    return Record(id=f"rec:{number}", text=text, log_probs=log_probs, **unused)


def words(draw: np.random.Generator, usual: float) -> str:
    chances = np.where(np.arange(40) < 20, usual / 20, (1 - usual) / 20)
    return " ".join(f"word{number}" for number in draw.choice(40, 12, p=chances))


def given(usual: float) -> Task:
    """Candidates that use half of the words more often than the real texts do."""
    draw = np.random.default_rng(1)
    real = [words(draw, 0.5) for _ in range(200)]
    return Task(real, [record(i, words(draw, usual)) for i in range(300)], 100, seed=0)


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_selector_keeps_different_candidates_the_same_each_time(selector: str) -> None:
    task = given(0.6)
    chosen = SELECTORS[selector](task)
    assert len(set(chosen.tolist())) == task.n
    assert np.array_equal(chosen, SELECTORS[selector](task))
    if selector != "the likeliest third":
        assert not np.array_equal(chosen, SELECTORS[selector](replace(task, seed=1)))


def test_correction_brings_the_words_nearer_to_the_real_ones() -> None:
    def usual(texts: list[str]) -> float:
        found = [int(word[4:]) < 20 for text in texts for word in text.split()]
        return sum(found) / len(found)

    task = given(0.65)
    before = usual([each.text for each in task.candidates])
    after = usual([task.candidates[row].text for row in corrected(task)])
    assert usual(list(task.real)) < after < before - 0.02


def test_the_likeliest_third_is_the_likeliest() -> None:
    records = [record(i, f"text {i}", log_prob) for i, log_prob in enumerate((-3.0, -1.0, -2.0))]
    assert likeliest(Task((), records, 1, seed=0)).tolist() == [1]


def test_the_page_shows_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    (tmp_path / "study.md").write_text("<!-- results: begin -->\nold\n<!-- results: end -->\n")
    names = [f"{proposal} / {each}" for proposal in (CHEAP, STEERED) for each in SELECTORS]
    auroc = dict(zip([REAL, *names], (0.5, 0.7, 0.8, 0.55, 0.72, 0.81, 0.61), strict=True))
    sets = {
        name: dict.fromkeys(pages.ASKED, estimate(1 - value, 0.1))
        | {CHARACTERS: estimate(value, 0.03), "vendi_1": {"value": 20.0}}
        for name, value in auroc.items()
    }
    path = measured(tmp_path, CELLS[0])
    path.parent.mkdir()
    path.write_text(json.dumps({"n": 98, "notes": [], "sets": sets}))
    pages.write(tmp_path)
    page = (tmp_path / "study.md").read_text()
    assert "old" not in page
    assert "| 0.700 (0.670 to 0.730) | 0.800 (0.770 to 0.830) | 0.550 (0.520 to 0.580) |" in page
    gain = "+0.060 (+0.018 to +0.102)"
    assert f"| STEER, corrected | top-k, corrected | {gain} | {gain} |" in page
    found = json.loads((tmp_path / "study.json").read_text())["hypotheses"]
    assert found[names[0]][CHARACTERS] == {"mean": 0.7, "low": 0.67, "high": 0.73}
    assert found[names[0]]["vendi_1"] == {"mean": 20.0}


def test_guidance_is_off_at_the_start_and_at_the_end() -> None:
    expert, base = torch.zeros(4, 3), torch.ones(4, 3)
    expected = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 0]])
    assert torch.equal(inside(expert, base, end=2), expected)


TRUE = torch.tensor([1.3, -0.4])
USED = STREAMS[:2]


def written_texts(number: int, tokens: int = 300, vocab: int = 12) -> list[Text]:
    """Texts drawn from the weights `TRUE` over two streams of random predictions."""
    draw = torch.Generator().manual_seed(number)
    found = []
    for _ in range(number):
        log_probs = torch.randn(2, tokens, vocab, generator=draw).log_softmax(-1)
        p = torch.einsum("s,stv->tv", TRUE, log_probs).softmax(-1)
        found.append(Text(log_probs.half(), p.multinomial(1, generator=draw).squeeze(-1)))
    return found


def test_the_likeliest_weights_are_those_that_wrote_the_texts() -> None:
    found = likeliest_weights(written_texts(40), USED)
    assert list(found.weights.values()) == pytest.approx(TRUE.tolist(), abs=0.06)
    assert found.expert - found.nats > found.low > 0
    assert found.high > found.expert - found.nats


def test_the_expert_alone_has_a_temperature_only() -> None:
    texts = written_texts(20)
    alone = likeliest_weights(texts, ("expert",))
    assert list(alone.weights) == ["expert"]
    assert alone.nats > likeliest_weights(texts, USED).nats


def test_weights_that_gain_nothing_are_seen_as_such() -> None:
    """Each half is measured with the weights of the other: a fit to chance is no gain."""
    draw = torch.Generator().manual_seed(7)
    texts = []
    for _ in range(6):
        log_probs = torch.randn(2, 20, 12, generator=draw).log_softmax(-1)
        tokens = log_probs[0].exp().multinomial(1, generator=draw).squeeze(-1)
        texts.append(Text(log_probs.half(), tokens))
    assert likeliest_weights(texts, USED).low < 0
