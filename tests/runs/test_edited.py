"""State files are checked by meaning: an edit that keeps the digest right is found all the same,
and every edit gives one line that names the file."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steer.config import RunConfig
from steer.errors import SteerError
from steer.runs.roundfile import _digest
from steer.runs.store import Run, open_store
from tests.runs.test_store import CONFIG, ROUNDS, SOURCES

Lines = list[dict[str, Any]]


def write(folder: Path, number: int, lines: Lines, **header: Any) -> None:
    """Writes a round as somebody would who knows the digest."""
    body = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    first = {"round": number, "attempts": len(lines), "sha256": _digest(body)} | header
    path = folder / "rounds" / f"{number:06}.jsonl"
    path.write_bytes(json.dumps(first).encode() + b"\n" + body)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with open_store(tmp_path / "run", CONFIG, SOURCES) as store:
        for round, attempts in enumerate(ROUNDS):
            store.commit(round, attempts)
    return tmp_path / "run"


def changed(**values: Any) -> Callable[[Lines], Lines]:
    return lambda lines: [lines[0] | values, *lines[1:]]


EDITS: dict[str, tuple[Callable[[Lines], Lines], str]] = {
    "an id twice": (lambda lines: [lines[0], *lines], "comes after"),
    "another order": (lambda lines: lines[::-1], "comes after"),
    "an id that is none": (changed(id="rec:x"), "id is 'rec:x'"),
    "an id of too many digits": (changed(id="rec:" + "9" * 5000), "id is"),
    "another round": (changed(round=1), "of round 1"),
    "a text that is a number": (changed(text=7), "text is 7"),
    "a number as text": (changed(tokens="4"), "tokens is '4'"),
    "a truth as number": (changed(tokens=True), "tokens is True"),
    "an unknown label": (changed(label="ham"), "label 'ham'"),
    "an unknown reason": (changed(reason="dull"), "reason is 'dull'"),
    "a lone surrogate": (changed(text="half \ud83d"), "hex escape"),
    "a text missing": (lambda lines: [{k: v for k, v in lines[0].items() if k != "text"}], "text"),
    "not a number": (changed(gamma=float("nan")), "gamma"),
    "a panel of numbers": (changed(panel=[1]), "panel"),
    "brackets": (changed(panel=json.loads("[" * 400 + "]" * 400)), "panel|recursion"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_attempt_is_found_though_the_digest_is_right(run: Path, name: str) -> None:
    edit, message = EDITS[name]
    lines = [each.to_json() for each in ROUNDS[0]]
    write(run, 0, edit(json.loads(json.dumps(lines))))
    with pytest.raises(SteerError, match=rf"000000\.jsonl is damaged.*({message})") as raised:
        Run.open(run)
    assert "\n" not in str(raised.value)


def test_a_round_copied_as_the_next_is_found(run: Path) -> None:
    lines = [each.to_json() for each in ROUNDS[0]]
    write(run, 1, lines)
    with pytest.raises(SteerError, match=r"000001\.jsonl.*of round 0"):
        Run.open(run)
    write(run, 1, [line | {"round": 1} for line in lines])
    with pytest.raises(SteerError, match=r"000001\.jsonl.*rec:3 comes after rec:4"):
        Run.open(run)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"attempts": 3}, "says 3 attempts, there are 2"),
        ({"attempts": "2"}, "attempts is '2'"),
        ({"round": False}, "round is False"),
        ({"corrections": [{"candidates": 1}]}, "corrections"),
        ({"corrections": 5}, "corrections is 5"),
    ],
)
def test_an_edited_header_is_found(run: Path, header: dict[str, Any], message: str) -> None:
    write(run, 0, [each.to_json() for each in ROUNDS[0]], **header)
    with pytest.raises(SteerError, match=rf"000000\.jsonl is damaged.*{message}"):
        Run.open(run)


IDENTITIES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "brackets": (lambda _: "[" * 200_000, "nested too deeply"),
    "a list": (lambda _: "[]", "no format"),
    "no settings": (lambda all: all | {"config": None}, "TypeError"),
    "no sources": (lambda all: {k: v for k, v in all.items() if k != "sources"}, "sources"),
    "no version": (lambda all: {k: v for k, v in all.items() if k != "steer"}, "steer"),
    "an unknown setting": (lambda all: all | {"config": all["config"] | {"x": 1}}, "'x'"),
    "a number as text": (lambda all: all | {"config": all["config"] | {"n": "2"}}, "n is '2'"),
    "a number below all": (lambda all: all | {"config": all["config"] | {"n": -2}}, "n is -2"),
    "guidance is a list": (lambda all: all | {"config": all["config"] | {"guidance": []}}, "guid"),
    "a huge number": (lambda _: '{"format": 1, "config": {"n": 1' + "0" * 5000 + "}}", "digits"),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_an_edited_identity_is_one_line(run: Path, name: str) -> None:
    edit, message = IDENTITIES[name]
    path = run / "run.json"
    new = edit(json.loads(path.read_text()))
    path.write_text(new if isinstance(new, str) else json.dumps(new))
    with pytest.raises(SteerError, match=rf"run\.json.*{message}") as raised:
        Run.open(run)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n": 1, "labels": {}, "max_attempts": None}, "may only grow"),
        ({"n": "9", "labels": {}, "max_attempts": None}, "n is '9'"),
        ({"n": 9}, "labels"),
        ({"n": None, "labels": {}, "max_attempts": None}, "neither of n and labels"),
    ],
)
def test_an_edited_growth_is_one_line(run: Path, values: dict[str, Any], message: str) -> None:
    (run / "grown-1.json").write_text(json.dumps({"format": 1, "steer": "0"} | values))
    with pytest.raises(SteerError, match=rf"grown-1\.json.*{message}"):
        Run.open(run)


def test_random_edits_are_read_or_refused_in_one_line(run: Path) -> None:
    """Bytes changed anywhere; what is read is what was there."""
    draw = random.Random(0)
    before = Run.open(run)
    kept = {path: path.read_bytes() for path in run.rglob("*.json*")}
    for _ in range(200):
        path = draw.choice(sorted(kept))
        content = bytearray(kept[path])
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            found = Run.open(run)
        except SteerError as error:
            assert path.name in str(error)
            assert "\n" not in str(error)
        else:
            assert found.records == before.records
        path.write_bytes(kept[path])


def test_a_run_that_was_not_edited_is_read(run: Path) -> None:
    with open_store(run, RunConfig(n=5), SOURCES) as store:
        assert list(store.rounds()) == ROUNDS
    assert Run.open(run).config.n == 5


@pytest.mark.parametrize("name", ["rounds/000000.jsonl", "grown-1.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(run: Path, name: str) -> None:
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    if name.startswith("grown"):
        assert Run.open(run).config == CONFIG  # no file, so no growth
        return
    with pytest.raises(SteerError, match=r"000000\.jsonl: it is no regular file"):
        Run.open(run)
