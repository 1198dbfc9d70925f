"""Attacks on the readers and on state files, each outcome counted (`make soak`).

An outcome is "read" (as what it was, where that is known), "one line" (a `SteerError`), or a
failure: a raw exception, a changed record, more than the time allowed. `make soak` prints the table
of docs/reliability.md; a small part of it is a test.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet

from steer.config import RunConfig
from steer.data.catalog import load_task
from steer.data.corpus import load_corpus
from steer.data.patterns import matches
from steer.errors import SteerError
from steer.experiments.comparison import Comparison
from steer.runs.exporting import export
from steer.runs.generation import generate
from steer.runs.measured import measured_table
from steer.runs.roundfile import _digest
from steer.runs.store import Run
from tests import stub
from tests.soakcommands import fill_disks, kill_commands

SECONDS = 30
PART = 100
"""Attacks of one kind that a process makes before another may have its turn."""
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1.5, "", "x", "\ud83d", "10", [], {}, [[]], {"a": 1}, "\x1b[31m",
)  # fmt: skip
PIECES = (
    b"\0", b"\xff", b"\xed\xa0\xbd", b'"', b"{", b"[" * 5000, b"*a", b"!!python/x ", b"\n",
    b"1e999", b"2026-13-45", b",", b"\t", b"=", b"\x1b]0;x\x07", b"&a", b"9" * 5000, b"PAR1",
    b"\\ud800",
)  # fmt: skip

Table = dict[str, Counter[str]]


def outcome(attempt: Callable[[], Any], before: Any = None) -> str:
    """Says how an attempt ended; where it is known what was there `before`, that is to be read."""
    try:
        with _in_time():
            found = attempt()
    except SteerError as error:
        return "one line" if "\n" not in str(error) else "FAILED: several lines"
    except TimeoutError:
        return "FAILED: too slow"
    except Exception as error:
        return f"FAILED: {type(error).__name__}: {str(error)[:80]}"
    return "read" if before is None or found == before else "FAILED: something else was read"


@contextmanager
def _in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def flip_bits(count: int, draw: random.Random, folder: Path) -> Counter[str]:
    """Flips one bit of a file of a run."""
    out, records = _made(folder)
    return _changed(out, count, draw, _flipped, lambda: Run.open(out).records, records)


def edit_states(count: int, draw: random.Random, folder: Path) -> Counter[str]:
    """Changes, removes or doubles a value somewhere in a state file, and sets the digest right."""
    out, _ = _made(folder)
    found = _changed(out, count // 2, draw, _edited, lambda: _read_all(out))
    _write_comparison(folder)
    for name, read in (
        ("comparison.json", lambda: Comparison.open(folder)),
        ("evaluation.json", lambda: measured_table(folder / "evaluation.json")),
    ):
        path = folder / name
        kept = path.read_bytes()
        for _ in range(count // 4):
            path.write_bytes(_edited_json(kept, draw))
            found[outcome(read)] += 1
        path.write_bytes(kept)
    return found


def fuzz_readers(count: int, draw: random.Random, folder: Path) -> Counter[str]:
    """Gives each reader files of its own kind with pieces changed, under odd names."""
    found = Counter[str]()
    seeds = _seeds(folder)
    for number in range(count):
        suffix, content = draw.choice(seeds)
        name = os.fsdecode(b"odd-\xff\x1b[" if number % 3 == 0 else b"plain") + suffix
        path = folder / name
        path.write_bytes(_mutated(content, draw))
        read = load_task if suffix == ".yaml" else load_corpus
        label = {"label_column": "label"} if suffix != ".yaml" and number % 2 else {}
        found[outcome(lambda read=read, path=path, label=label: read(str(path), **label))] += 1
        path.unlink()
    return found


def fuzz_words(count: int, draw: random.Random, folder: Path) -> Counter[str]:
    """Gives addresses, patterns, and settings that are odd."""
    found = Counter[str]()
    heads = ("reference://", "zip://", "memory://", "file://", "::", "tar://x::", "", "nonsense://")
    signs = [
        "a",
        "[",
        "]",
        "(",
        ")",
        "*",
        "+",
        "{9}",
        "\\",
        "|",
        "?",
        ".",
        "\0",
        "\udcff",
        "é",
        "/",
    ]
    for number in range(count):
        odd = "".join(draw.choices(signs, k=draw.randrange(1, 30)))
        number %= 3
        if number == 0:
            found[outcome(lambda odd=odd: Run.open(draw.choice(heads) + odd))] += 1
        elif number == 1:
            found[outcome(lambda odd=odd: matches(odd, "a[é]/" * 9))] += 1
        else:
            name = draw.choice(sorted(RunConfig.model_fields))
            value = draw.choice(VALUES)
            found[
                outcome(lambda name=name, value=value: RunConfig(**{"n": 1} | {name: value}))
            ] += 1
    return found


ATTACKS: dict[str, tuple[Callable[[int, random.Random, Path], Counter[str]], int]] = {
    "bit flips in a run": (flip_bits, 500),
    "edits of state files": (edit_states, 2000),
    "files for every reader": (fuzz_readers, 5000),
    "addresses, patterns, settings": (fuzz_words, 3000),
    "kills of a command": (kill_commands, 1000),
    "a full disk under a command": (fill_disks, 200),
}


def soak(
    share: float, seed: int = 0, say: Callable[[str], None] | None = None, processes: int = 1
) -> Table:
    """Runs every attack, so large a `share` of its usual size, in so many processes. What is
    attacked depends on the seed alone, as attacks are cut into parts of their own seeds."""
    work = [
        (name, min(PART, size - begin), f"{seed} {name} {begin}")
        for name, (_, usual) in ATTACKS.items()
        for size in [max(4, round(usual * share))]
        for begin in range(0, size, PART)
    ]
    table: Table = {name: Counter() for name in ATTACKS}
    spent = Counter[str]()
    with _mapped(processes) as mapped:
        for (name, *_), (ends, seconds) in zip(work, mapped(_part, work), strict=True):
            table[name].update(ends)
            spent[name] += round(seconds)
            if say:
                said = ", ".join(f"{count} {end}" for end, count in table[name].most_common())
                say(f"| {name} | {table[name].total()} | {said} | {spent[name]} s |")
    return table


@contextmanager
def _mapped(processes: int) -> Iterator[Callable[..., Iterable[tuple[Counter[str], float]]]]:
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield pool.map


def _part(work: tuple[str, int, str]) -> tuple[Counter[str], float]:
    name, size, seed = work
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        ends = ATTACKS[name][0](size, random.Random(seed), Path(folder))
    return ends, time.monotonic() - began


def failures(table: Table) -> list[str]:
    """Lists the outcomes that must not be."""
    return [f"{name}: {end}" for name, ends in table.items() for end in ends if "FAILED" in end]


def _made(folder: Path) -> tuple[Path, tuple[Any, ...]]:
    config = RunConfig(labels={"a": 12, "b": 8}, round_size=8, rows_per_panel=4)
    real, expert = stub.corpus(labels=("a", "b")), stub.StubExpert(("a", "b"), "A {label} line:")
    run = generate(config, real, expert, stub.StubEngine(real), folder / "run")
    return folder / "run", run.records


def _read_all(out: Path) -> None:
    run = Run.open(out)
    if run.records:
        target = out.parent / "out.csv"
        target.unlink(missing_ok=True)
        export(out, target)


def _changed(
    out: Path,
    count: int,
    draw: random.Random,
    change: Callable[[Path, bytes, random.Random], bytes],
    read: Callable[[], Any],
    before: Any = None,
) -> Counter[str]:
    found = Counter[str]()
    files = sorted(path for path in out.rglob("*.json*"))
    for _ in range(count):
        path = draw.choice(files)
        kept = path.read_bytes()
        path.write_bytes(change(path, kept, draw))
        found[outcome(read, before)] += 1
        path.write_bytes(kept)
    return found


def _flipped(path: Path, content: bytes, draw: random.Random) -> bytes:
    flipped = bytearray(content)
    flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
    return bytes(flipped)


def _edited(path: Path, content: bytes, draw: random.Random) -> bytes:
    if path.suffix == ".json":
        return _edited_json(content, draw)
    lines = content.splitlines()[1:]
    row = draw.randrange(len(lines))
    lines[row] = _edited_json(lines[row], draw)
    if draw.random() < 0.2:
        lines.insert(row, draw.choice(lines))
    body = b"".join(line.replace(b"\n", b" ") + b"\n" for line in lines)
    header = json.loads(content.splitlines()[0]) | {"sha256": _digest(body), "attempts": len(lines)}
    return json.dumps(header).encode() + b"\n" + body


def _edited_json(content: bytes, draw: random.Random) -> bytes:
    values = json.loads(content)
    place: Any = values
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw.choice(keys)
        inner = place[key]
        if isinstance(inner, dict | list) and inner and draw.random() < 0.7:
            place = inner
            continue
        if draw.random() < 0.2:
            del place[key]
        else:
            place[key] = draw.choice(VALUES)
        return json.dumps(values).encode()


def _mutated(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(changed) + 1)
        if draw.random() < 0.5:
            changed[at:at] = draw.choice(PIECES)
        elif draw.random() < 0.5:
            del changed[at : at + draw.randrange(1, 20)]
        elif at < len(changed):
            changed[at] = draw.randrange(256)
    return bytes(changed)


def _seeds(folder: Path) -> list[tuple[str, bytes]]:
    rows = [{"text": f"A line, number {n}.", "label": "ab"[n % 2]} for n in range(20)]
    table = pyarrow.table(
        {
            "text": [row["text"] for row in rows],
            "label": [row["label"] for row in rows],
            "when": pyarrow.array(range(20), pyarrow.timestamp("us", "Europe/Berlin")),
            "day": pyarrow.array(range(20), pyarrow.date32()),
        }
    )
    pyarrow.parquet.write_table(table, folder / "seed.parquet")
    pyarrow.feather.write_feather(table, folder / "seed.arrow", compression="uncompressed")
    lines = [json.dumps(row) for row in rows]
    cells = "".join(f'"{row["text"]}",{row["label"]}\n' for row in rows)
    task = "prompt: 'A {label} line:'\nlabels: [yes, 1.0, b]\nmin_chars: 5\npattern: '.+'\n"
    return [
        (".jsonl", "\n".join(lines).encode()),
        (".json", f"[{','.join(lines)}]".encode()),
        (".csv", f"text,label\n{cells}".encode()),
        (".tsv", f"text\tlabel\n{cells}".replace(",", "\t").encode()),
        (".txt", "\n".join(row["text"] for row in rows).encode()),
        (".yaml", f"{task}hub: {{dataset: a/b, names: {{0: no}}}}\n".encode()),
        (".parquet", (folder / "seed.parquet").read_bytes()),
        (".arrow", (folder / "seed.arrow").read_bytes()),
    ]


def _write_comparison(folder: Path) -> None:
    entry = {"name": "a", "run": "runs/a", "settings": {"eta": 0.1}, "wanted": 5, "cell": None}
    whole = {"format": 1, "command": "c", "expert": "e", "task": {"name": None}, "grid": None}
    (folder / "comparison.json").write_text(json.dumps(whole | {"methods": [entry]}))
    columns = [{"key": "k", "group": "g", "title": "K", "aim": "lower", "format": ".3f"}]
    row = {"name": "a", "k": {"value": 1.0, "low": 0.5, "high": 2.0}}
    table = {"n": 3, "embedder": "e", "columns": columns, "rows": [row], "notes": ["x"]}
    (folder / "evaluation.json").write_text(json.dumps(table))


def main() -> int:
    """Runs all attacks and prints the table; 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the usual sizes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: one a core")
    given = parser.parse_args()
    began = time.monotonic()
    table = soak(given.share, given.seed, _say, given.processes)
    _say(f"{time.monotonic() - began:.0f} seconds in all")
    for failure in failures(table):
        _say(failure)
    return 1 if failures(table) else 0


def _say(line: str) -> None:
    print(ascii(line)[1:-1], flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
