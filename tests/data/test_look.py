"""What a look at texts counts, against counting by hand."""

import json
import random
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steer.cli.main import main
from steer.data import look as looking
from steer.data.corpus import Corpus
from steer.data.look import guessed_prompt, likely_labels, look, suggestion
from steer.data.reading.readers import open_rows
from tests import stub

WORDS = [stub.sentence(random.Random(row)) for row in range(30)]


def count_words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_the_figures() -> None:
    texts = [*WORDS, WORDS[0].upper(), f"{WORDS[1]}s", "kurz", "word " * 50, "为什么呢"]
    corpus = Corpus(tuple(texts), tuple("ab"[row < 4] for row in range(35)), "data.jsonl")
    seen = look(corpus, ("text", "kind"), count_words, max_tokens=20)
    assert (seen.rows, seen.columns, seen.equal, seen.near) == (35, ("text", "kind"), 1, 1)
    assert (seen.too_long, seen.short) == (1, 1)
    assert seen.labels == {"a": 31, "b": 4}
    assert (seen.characters.least, seen.characters.most) == (4, 250)
    assert seen.tokens is not None
    assert (seen.tokens.least, seen.tokens.median, seen.tokens.most) == (1, 9, 50)
    assert seen.scripts == pytest.approx({"Latin": 34 / 35, "Han": 1 / 35})
    assert len(set(seen.samples)) == 5 and set(seen.samples) <= set(texts)
    assert look(corpus, (), count_words, max_tokens=20).samples == seen.samples


def test_large_data_is_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long is done for texts drawn at random; what is quick, for all."""
    for name in ("TOKENISED", "COMPARED", "READ"):
        monkeypatch.setattr(looking, name, 10)
    asked: list[int] = []

    def count(texts: list[str]) -> list[int]:
        asked.append(len(texts))
        return [9 if len(text) < 100 else 99 for text in texts]

    texts = [*(f"{text} {n}" for n in range(20) for text in WORDS), *("long " * 60,) * 200]
    seen = look(Corpus(tuple(texts), None, "big"), count_tokens=count, max_tokens=90)
    assert max(asked) <= 10 and seen.counted == seen.compared == seen.read == 10
    assert (seen.rows, seen.equal) == (800, 199)
    assert 150 <= (seen.too_long or 0) <= 200


TURNS = {
    n: tuple((("system", "user", "assistant")[each % 3], WORDS[each]) for each in range(n))
    for n in (1, 2, 5)
}


def test_chats() -> None:
    """Turns with the answer, roles, and the tokens of answers with what they answer."""
    texts = (WORDS[0], "word " * 15, WORDS[2])
    corpus = Corpus(texts, None, "d", turns=(TURNS[1], TURNS[2], TURNS[5]))
    write = " ".join
    seen = look(corpus, (), count_words, lambda turns: write(said for _, said in turns))
    assert seen.chats is not None and seen.chats.asked is not None
    assert (seen.chats.turns.least, seen.chats.turns.median, seen.chats.turns.most) == (2, 3, 6)
    assert seen.chats.roles == {"assistant": 4, "system": 4, "user": 3}
    before = [sum(len(said.split()) for _, said in turns) for turns in corpus.turns or ()]
    assert (seen.chats.asked.least, seen.chats.asked.most) == (before[0], before[2])
    limit = before[1] + 14
    assert limit > 15 and before[2] + len(WORDS[2].split()) > limit
    long = look(corpus, (), count_words, lambda t: write(s for _, s in t), max_tokens=limit)
    assert long.too_long == 2
    assert seen.samples == texts and seen.asked == tuple(t[-1][1] for t in corpus.turns or ())
    without = look(corpus, (), count_words)
    assert without.too_long == 0 and without.chats and without.chats.asked is None


def test_chats_are_drawn_with_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "TOKENISED", 10)
    pairs = [(f"{text} {n}", f"{text} {n}?") for n in range(4) for text in WORDS]
    turns = tuple((("user", ask),) for _, ask in pairs)
    seen = look(Corpus(tuple(text for text, _ in pairs), None, "d", turns=turns), (), count_words)
    assert len(seen.samples) == 5
    assert [f"{text}?" for text in seen.samples] == list(seen.asked)


def test_no_tokenizer() -> None:
    seen = look(Corpus(tuple(WORDS), None, "d"))
    assert seen.tokens is seen.per_letter is seen.too_long is None


def test_likely_labels() -> None:
    rows = range(200)
    columns = {
        "text": ["same"] * 200,
        "kind": ["ab"[row % 2] for row in rows],
        "id": list(rows),
        "one": [1] * 200,
        "long": ["x" * 50, "y" * 50] * 100,
        "stars": [row % 5 for row in rows],
    }
    assert likely_labels(columns, "text") == {"kind": 2, "stars": 5}


@pytest.mark.parametrize(
    ("source", "labelled", "prompt"),
    [
        ("/a/b/support_tickets.jsonl", False, "A text from support tickets:"),
        ("org/movie-reviews:train", True, "A {label} text from movie reviews:"),
    ],
)
def test_the_prompt_is_guessed_from_the_name(source: str, labelled: bool, prompt: str) -> None:
    assert guessed_prompt(source, labelled) == prompt


def test_the_suggested_command_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    seen = look(Corpus(tuple(WORDS), None, "no such folder/it's.jsonl"))
    words = shlex.split(suggestion(seen, ["--text-column", "body"]))
    assert words[0] == "steer" and main(words[1:]) == 2
    assert "no such file" in capsys.readouterr().err


def counting(function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    """The function, which adds its first argument to `calls`."""
    return lambda first, *rest: (calls.append(first), function(first, *rest))[1]


def test_the_command_on_chats(tmp_path, tiny_model, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "chats.jsonl"
    pairs = [{"prompt": f"Why {text}?", "completion": text} for text in WORDS]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    assert main(["look", str(path), "--base", str(tiny_model), "--max-tokens", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "chats: turns 2 to 2, half have at most 2, 95% at most 2" in "".join(lines)
    assert "fit would drop: 30 of more than 8 tokens with what they answer" in "".join(lines)
    asked = [line for line in lines if line.startswith("  > Why ")]
    answers = [lines[lines.index(line) + 1] for line in asked]
    assert len(asked) == 5
    for ask, answer in zip(asked, answers, strict=True):
        assert answer.startswith("  | ") and ask.startswith(f"  > Why {answer[4:]}"[:60])


def test_the_command(tmp_path, tiny_model, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lines.csv"
    rows = [f"{text},{'ab'[row % 2]}" for row, text in enumerate(WORDS)]
    path.write_text("\n".join(["body,kind", *rows, "esc\x1b[31m red line,a"]))
    arguments = ["look", str(path), "--text-column", "body", "--base", str(tiny_model)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "30 texts; columns body, kind" in shown and "--skip-control" in shown
    assert "--label-column kind (2 values)" in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) <= 14
    assert f"next: steer fit {path}" in shown and "--text-column body" in shown
    assert main([*arguments, "--label-column", "kind"]) == 0
    shown = capsys.readouterr().out
    assert "labels: a 15, b 15" in shown and "{label}" in shown


@pytest.mark.parametrize(
    ("texts", "options", "refused"),
    [
        (["one", "two"], [], False),
        (["one", " ", "two"], ["--skip-blank"], False),
        (["one", "t\x00wo"], ["--skip-control"], False),
        (["one", " ", "t\x00wo"], ["--skip-blank", "--skip-control"], False),
        ([" "], ["--skip-blank"], True),
    ],
)
def test_only_what_helps_is_suggested(
    texts: list[str],
    options: list[str],
    refused: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where nothing is left without the rows that are refused, the refusal is the message."""
    monkeypatch.setattr("steer.cli.look._counter", lambda *_: ("no model", None, None))
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts))
    opened: list[str] = []
    monkeypatch.setattr("steer.data.corpus.open_rows", counting(open_rows, opened))
    assert main(["look", str(path)]) == (2 if refused else 0)
    assert len(opened) == 1 + refused
    shown = capsys.readouterr()
    if refused:
        assert "error: " in shown.err and "line 1 has a blank text" in shown.err
    else:
        words = shlex.split(shown.out.splitlines()[-1])
        assert [word for word in words if word.startswith("--skip")] == options
