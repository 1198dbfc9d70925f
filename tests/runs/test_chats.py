"""Answers in chats: each text has a prompt of its own, from reading to the export."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from steer.cli.main import main
from steer.config import Guidance, RunConfig
from steer.data.corpus import Corpus, load_corpus
from steer.data.tasks import Task
from steer.errors import SteerError
from steer.guidance import Shown
from steer.models.examples import encode
from steer.models.prompts import render_chats
from steer.runs.exporting import ExportSettings, export
from steer.runs.generation import generate
from steer.runs.lineage import held, lineage
from steer.runs.store import Run, Stream
from tests import stub, tiny

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "[assistant]{{ '\n' }}"
)
TASK = Task("{chat}", whitespace="exact")


def chat(*said: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]


def rows(answers: tuple[str, ...] = tiny.TEXTS) -> list[dict[str, object]]:
    return [
        {"messages": chat(f"Ask {n}", "Yes?", f"No {n}", text)} for n, text in enumerate(answers)
    ]


SYSTEM = {"role": "system", "content": "s"}
A = ("user", "a")
SHARED = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"messages": chat("a", "b", "c", "d")}, (A, ("assistant", "b"), ("user", "c"))),
        ({"messages": [SYSTEM, *chat("a", "b")]}, (("system", "s"), A)),
        ({"messages": chat("a", "b", "c")}, (A,)),
        ({"conversations": SHARED}, (A,)),
        ({"instruction": "a", "input": "x", "output": "b"}, (("user", "a\n\nx"),)),
        ({"instruction": "a", "input": "", "output": "b"}, (A,)),
        ({"instruction": "a", "context": "x", "response": "b"}, (("user", "a\n\nx"),)),
        ({"prompt": "a", "completion": "b"}, (A,)),
        ({"prompt": chat("a"), "completion": chat("", "b")[1:]}, (A,)),
        ({"prompt": [SYSTEM, *chat("a")], "response": "b"}, (("system", "s"), A)),
        ({"prompt": "no", "chosen": chat("a", "b")}, (A,)),
        ({"id": 1, "messages": json.dumps(chat("a", "b"))}, (A,)),
        ({"messages": chat("a", "b")[1:]}, None),
        ({"messages": [{"role": "user", "content": None}, *chat("a", "b")]}, None),
        ({"text": "b"}, None),
    ],
)
def test_what_was_said_before(row, turns):
    assert Corpus.of_rows([row]).turns == (None if turns is None else (turns,))


def test_columnar_files_give_both(tmp_path: Path):
    row = {"instruction": "a", "input": "x", "output": "b", "n": 1}
    datasets.Dataset.from_list([row]).to_parquet(str(tmp_path / "x.parquet"))
    assert load_corpus(tmp_path / "x.parquet", "output").turns == ((("user", "a\n\nx"),),)


def test_prompts_are_the_models_own():
    """The template's, with the begin-of-text token once; without a template, plain lines."""
    corpus, tokenizer = Corpus.of_rows(rows()[:1]), tiny.make_tokenizer()
    assert render_chats(corpus, Task("Say:"), tokenizer) is None
    assert render_chats(corpus, TASK, tokenizer) == (
        "User:\nAsk 0\n\nAssistant:\nYes?\n\nUser:\nNo 0\n\nAssistant:\n",
    )
    tokenizer.chat_template = TEMPLATE
    written = "[user] Ask 0\n[assistant] Yes?\n[user] No 0\n[assistant]\n"
    assert render_chats(corpus, TASK, tokenizer) == (f"{tiny.BOS}{written}",)
    (example,) = encode(corpus, TASK, tokenizer)
    assert tokenizer.decode(example["input_ids"]) == f"{tiny.BOS}{written}{tiny.TEXTS[0]}{tiny.EOS}"
    assert TASK.parse(tiny.TEXTS[0]) == tiny.TEXTS[0]
    tokenizer.chat_template = "{{ raise_exception('no such role') }}"
    with pytest.raises(SteerError, match=r"text 1 .*no such role.*--base"):
        render_chats(corpus, TASK, tokenizer)
    with pytest.raises(SteerError, match=r"\{chat\}.*no turn comes before.*--text-column"):
        render_chats(Corpus.of(["a"]), TASK, tokenizer)


class Engine(stub.StubEngine):
    tokenizer = tiny.make_tokenizer()


@pytest.fixture(scope="module")
def real() -> Corpus:
    return Corpus.of_rows(rows(stub.corpus(30).texts))


def make(real: Corpus, out: Path, pause: Callable[[], None] = lambda: None, **settings):
    engine, expert = Engine(real, pause), stub.StubExpert(prompt="{chat}")
    config = RunConfig(n=12, round_size=8, guidance=Guidance(gamma=0.2, eta=0.2), **settings)
    return generate(config, real, expert, engine, out), engine


def test_records_answer_real_questions(real: Corpus, tmp_path: Path):
    run, engine = make(real, tmp_path / "run")
    prompts = render_chats(real, TASK, engine.tokenizer) or ()
    for record in run.records:
        row = int(str(record.asked).removeprefix("real:"))
        assert record.turns == (real.turns or ())[row] and record.prompt == prompts[row]
        assert record.asked in held(record, run.sources)
    assert len({record.asked for record in run.records}) > 5
    for request in engine.requests:
        own = request.streams[0].context
        (read,) = (s.context for s in request.streams if s.name == "negative")
        assert isinstance(read, Shown) and own in prompts
    assert run.sources.data_fingerprint == real.chat_fingerprint != real.fingerprint


def test_each_text_of_a_panel_is_under_its_own_prompt(real: Corpus, tmp_path: Path):
    _, engine = make(real, tmp_path / "run", panel_form="prompted")
    prompts = render_chats(real, TASK, engine.tokenizer) or ()
    asked = dict(zip(real.texts, prompts, strict=True))
    for request in engine.requests[:8]:
        (read,) = (s.context for s in request.streams if s.name == "negative")
        assert isinstance(read, Shown)
        assert read.prompt == request.streams[0].context
        assert read.own == tuple(asked[text] for text in read.texts)


def test_a_stopped_run_asks_the_same(real: Corpus, tmp_path: Path):
    whole, _ = make(real, tmp_path / "whole")
    left = iter(range(11))
    with pytest.raises(StopIteration):
        make(real, tmp_path / "parts", lambda: next(left) and None)
    parts, _ = make(real, tmp_path / "parts")
    assert [(r.asked, r.text) for r in parts.records] == [(r.asked, r.text) for r in whole.records]


def test_chats_are_exported_whole(real: Corpus, tmp_path: Path):
    run, _ = make(real, tmp_path / "run")
    expected = [[*({"role": a, "content": b} for a, b in r.turns),
                 {"role": "assistant", "content": r.text}] for r in run.records]  # fmt: skip
    export(run.path, tmp_path / "out.md")
    first = (tmp_path / "out.md").read_text("utf-8").splitlines()[2]
    assert first.startswith(f"1. *{run.records[0].turns[-1][1]}*<br>")
    for name in ("out.jsonl", "out.parquet", "out.csv", "out"):
        export(run.path, tmp_path / name)
    for name in ("out.jsonl", "out.parquet", "out.csv", "out"):
        read = load_corpus(tmp_path / name, "messages")
        assert read.texts == tuple(run.texts)
        assert read.turns == tuple(record.turns for record in run.records)
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        assert [json.loads(row["messages"]) for row in csv.DictReader(file)] == expected
    mapped = datasets.load_from_disk(str(tmp_path / "out"))["train"]
    assert mapped["messages"][:] == expected == run.to_dataset()["messages"][:]
    assert "turns before it are real" in (tmp_path / "out" / "README.md").read_text("utf-8")
    gone = str(run.records[0].asked)
    stream = Stream.open(run.path)
    assert f"it answers the turns before {gone}" in lineage(stream, run.records[0].id)[0]
    assert "or answer what it answers" in lineage(stream, gone)[1]
    done = export(run.path, tmp_path / "kept.jsonl", ExportSettings(without=(gone,)))
    assert done.dropped >= 1


def test_what_a_record_answers_is_shown_above_it(
    real: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, _ = make(real, tmp_path / "run")
    assert main(["show", str(run.path), "--records", "3"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for record in run.records[:3]:
        place = lines.index(f"{record.id}  {record.turns[-1][1]}")
        assert record.text.startswith(lines[place + 1])


def test_from_a_file_to_chats(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, expert, run = tmp_path / "x.jsonl", tmp_path / "expert", tmp_path / "run"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    fast = ["--base", str(tiny_model), "--epochs", "1", "--rank", "2"]
    assert main(["fit", str(path), "--prompt", "{chat}", *fast, "--out", str(expert)]) == 0
    words = ["generate", str(expert), "--real", str(path), "--n", "3", "--out", str(run)]
    assert main([*words, "--panel-size", "1", "--candidates", "1", "--min-chars", "1"]) in (0, 3)
    attempts = [*Run.open(run).records, *Run.open(run).rejects]
    assert attempts and all(each.asked and each.turns for each in attempts)
    capsys.readouterr()
    assert main(["fit", str(path), "--text", "{messages}", "--prompt", "{chat}", *fast,
                 "--out", str(tmp_path / "no")]) == 2  # fmt: skip
    assert "no turn comes before" in capsys.readouterr().err
    assert main(["look", str(path), "--base", str(tiny_model)]) == 0
    assert "--prompt '{chat}'" in capsys.readouterr().out
