"""Records that a report shows token by token."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steer.cli.main import main
from steer.data.corpus import load_corpus
from steer.engines.hf.engine import HFEngine
from steer.engines.interface import Request
from steer.errors import SteerError
from steer.guidance import Shown
from steer.models.base import load_tokenizer
from steer.models.expert import Expert
from steer.report.report import ReportSettings, write_report
from steer.runs.store import Run
from tests import naive, tiny
from tests.engines.contract import reference
from tests.report.test_report import StubEmbedder


@pytest.fixture(scope="module")
def made(tiny_expert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of the tiny expert, and the real texts."""
    folder = tmp_path_factory.mktemp("traced")
    real = folder / "real.jsonl"
    real.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny.TEXTS))
    how = "--n 2 --max-attempts 60 --max-new-tokens 60 --gamma 0.4 --eta 0.3 --alpha 0.01"
    run = ["generate", str(tiny_expert), "--real", str(real), "--out", str(folder / "run")]
    assert main([*run, "--dtype", "float32", "--candidates", "1", *how.split()]) == 0
    return folder / "run", real


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer.report.report.load_embedder", lambda name, cache: StubEmbedder())
    monkeypatch.setattr("steer.report.features.FEW", 10_000)


def write(made: tuple[Path, Path], out: Path, **settings: Any) -> Any:
    """The data of the page."""
    run, real = made
    write_report(run, load_corpus(str(real)), out, settings=ReportSettings(**settings))
    found = re.search(r'id="data">(.*?)</script>', out.read_text("utf-8"), re.S)
    assert found
    return json.loads(found[1])


def test_a_trace_says_of_each_stream_what_the_reference_says(
    made: tuple[Path, Path], tiny_expert: Path, tmp_path: Path
) -> None:
    data = write(made, tmp_path / "report.html", traces=2)
    expert = Expert.load(tiny_expert)
    slow, tokenizer = reference(expert.base, expert.path), load_tokenizer(expert.base)
    biased = Request(0, (), 0, end_bias=expert.end_bias)
    assert expert.end_bias
    records = {record.id: record for record in Run.open(made[0]).records}
    assert len(data["traces"]) == 2
    for trace in data["traces"]:
        record = records[trace["id"]]
        panel = [f" {tiny.TEXTS[int(id.removeprefix('real:'))]}" for id in record.panel]
        reads = {
            "expert": (True, record.prompt),
            "base": (False, record.prompt),
            "negative": (True, Shown(tuple(panel), record.prompt)),
        }
        assert trace["streams"] == [*reads] and sum(trace["weights"]) == pytest.approx(1)
        ids = [token["id"] for token in trace["tokens"]]
        assert tokenizer.decode(ids[:-1]).strip() == record.text and trace["tokens"][-1]["end"]
        for step in (0, 1, 5, len(ids) - 1):
            for number, read in enumerate(reads.values()):
                free = naive.stream_log_probs(slow, tokenizer, *read, ids[:step])
                expected = naive.biased(free, biased, step, [tokenizer.eos_token_id])
                for each in trace["tokens"][step]["candidates"]:
                    assert each["streams"][number] == pytest.approx(
                        float(expected[each["id"]]), abs=1e-3
                    )


def test_records_are_traced_in_the_dtype_that_wrote_them(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(*given: Any, dtype: str = "auto") -> HFEngine:
        asked.append(dtype)
        return HFEngine(*given, dtype=dtype)

    monkeypatch.setattr("steer.report.tracing.HFEngine", load)
    write(made, tmp_path / "report.html", traces=1)
    assert asked == ["float32"]


def test_a_page_has_no_traces_unless_asked(made: tuple[Path, Path], tmp_path: Path) -> None:
    assert write(made, tmp_path / "report.html")["traces"] == []
    assert 'id="tokens"' not in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("settings", "other", "says"),
    [
        ({"mask": True}, None, "--no-mask"),
        ({}, lambda texts: texts[1:], "the real texts that"),
    ],
)
def test_what_cannot_be_traced_is_said(
    made: tuple[Path, Path], tmp_path: Path, settings: Any, other: Callable[..., Any], says: str
) -> None:
    run, real = made
    if other:
        lines = other(real.read_text().splitlines(keepends=True))
        (real := tmp_path / "other.jsonl").write_text("".join(lines))
    with pytest.raises(SteerError, match=says):
        write((run, real), tmp_path / "report.html", traces=1, **settings)


def test_traces_of_another_expert_are_refused(
    made: tuple[Path, Path], tiny_label_expert: Path, tmp_path: Path
) -> None:
    with pytest.raises(SteerError, match="--expert"):
        write(made, tmp_path / "report.html", traces=1, expert=tiny_label_expert)
