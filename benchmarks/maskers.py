"""Engines of masks side by side: `python -m benchmarks.maskers`.

For each engine that is installed (llguidance, xgrammar, outlines-core): how long a schema takes to
compile, how long a mask takes while real records are read token by token, on one thread, and which
parts of JSON Schema it knows. A part counts where a right value is taken and a wrong one is not.

`--share` measures our engine instead: what part of its decoding steps all masks take, with so many
rows at once.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast
from unittest import mock

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from benchmarks.command import run
from steer.config import Guidance, Sampling
from steer.engines import masks, scoring
from steer.engines.hf.engine import HFEngine
from steer.engines.interface import Request
from steer.errors import SteerError
from steer.guidance import Shown, steer_streams
from steer.models.base import load_tokenizer
from steer.models.packaged import default_model
from steer.seeds import derive
from steer.shapes import Shape, write_value

TURNS = 20
PROMPT = "A record:"
NAMES = {"llguidance": "llguidance", "xgrammar": "xgrammar", "outlines-core": "outlines_core"}


class Masker(Protocol):
    """One engine with its vocabulary."""

    def start(self, schema: dict[str, Any]) -> Any:
        """Compiles a schema. Raises `ValueError` for one that it cannot."""
        ...

    def mask(self, state: Any) -> None: ...

    def read(self, state: Any, token: int) -> bool: ...

    def ended(self, state: Any) -> bool: ...

    def again(self, state: Any) -> None:
        """Goes back to the beginning."""
        ...


class LLGuidance:
    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        import llguidance
        import llguidance.hf
        import llguidance.numpy

        self._library, self._fill = llguidance, llguidance.numpy.fill_next_token_bitmask
        self._tokenizer = llguidance.hf.from_tokenizer(tokenizer)  # type: ignore[arg-type]
        self._bits = llguidance.numpy.allocate_token_bitmask(1, self._tokenizer.vocab_size)

    def start(self, schema: dict[str, Any]) -> Any:
        compact: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        grammar = self._library.LLMatcher.grammar_from_json_schema(schema, overrides=compact)
        state = self._library.LLMatcher(self._tokenizer, grammar, log_level=0)
        if state.is_error():
            raise ValueError(state.get_error())
        return state

    def mask(self, state: Any) -> None:
        self._fill(state, self._bits)

    def read(self, state: Any, token: int) -> bool:
        return bool(state.try_consume_tokens([token]) == 1)

    def ended(self, state: Any) -> bool:
        return bool(state.is_accepting())

    def again(self, state: Any) -> None:
        state.reset()


class XGrammar:
    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        import xgrammar

        self._library = xgrammar
        self._info = xgrammar.TokenizerInfo.from_huggingface(tokenizer)
        self._bits = xgrammar.allocate_token_bitmask(1, self._info.vocab_size)

    def start(self, schema: dict[str, Any]) -> Any:
        compiler = self._library.GrammarCompiler(self._info, max_threads=1, cache_enabled=False)
        try:
            compiled = compiler.compile_json_schema(
                json.dumps(schema), any_whitespace=False, separators=(", ", ": ")
            )
        except RuntimeError as error:
            raise ValueError(str(error)) from None
        return self._library.GrammarMatcher(compiled)

    def mask(self, state: Any) -> None:
        state.fill_next_token_bitmask(self._bits)

    def read(self, state: Any, token: int) -> bool:
        return bool(state.accept_token(token))

    def ended(self, state: Any) -> bool:
        return bool(state.is_completed())

    def again(self, state: Any) -> None:
        state.reset()


class OutlinesCore:
    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        import outlines_core
        from outlines_core.json_schema import build_regex_from_schema

        self._library, self._regex = outlines_core, build_regex_from_schema
        vocabulary: dict[bytes, list[int]] = {}
        for token, number in tokenizer.get_vocab().items():
            if number not in tokenizer.all_special_ids:
                text = tokenizer.convert_tokens_to_string([token])
                vocabulary.setdefault(text.encode(), []).append(number)
        self._vocabulary = outlines_core.Vocabulary(int(tokenizer.eos_token_id), vocabulary)
        self._bits = np.zeros((1, len(tokenizer) // 32 + 1), dtype=np.int32)

    def start(self, schema: dict[str, Any]) -> Any:
        pattern = self._regex(json.dumps(schema), " ?")
        return self._library.Guide(self._library.Index(pattern, self._vocabulary))

    def mask(self, state: Any) -> None:
        state.write_mask_into(self._bits.ctypes.data, self._bits.size, 4)

    def read(self, state: Any, token: int) -> bool:
        if not state.accepts_tokens([token]):
            return False
        state.advance(token, return_tokens=False)
        return True

    def ended(self, state: Any) -> bool:
        return bool(state.is_finished())

    def again(self, state: Any) -> None:
        state.reset()


MASKERS = {"llguidance": LLGuidance, "xgrammar": XGrammar, "outlines-core": OutlinesCore}

REFUSED = object()
"""Stands for the value that fits where a schema is to be refused."""

_STRING, _INTEGER = {"type": "string"}, {"type": "integer"}


def record(**properties: Any) -> dict[str, Any]:
    """A closed object of required properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SPEED: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "question and options": (
        record(
            question=_STRING,
            options={"type": "array", "items": _STRING, "minItems": 5, "maxItems": 5},
            answer={"enum": list("ABCDE")},
        ),
        [
            {
                "question": "Where would you keep milk so that it stays cold?",
                "options": ["shelf", "fridge", "car", "the deep blue sea", "desk"],
                "answer": "B",
            },
            {
                "question": "What do people do when they don't know the way?",
                "options": ["ask someone", "sing", "cook “dinner”", "sleep", "fly"],
                "answer": "A",
            },
        ],
    ),
    "ticket": (
        record(
            title=_STRING,
            priority={"type": "integer", "minimum": 1, "maximum": 5},
            hours={"type": "number"},
            open={"type": "boolean"},
            kind={"enum": ["bug", "wish", "question"]},
            author=record(name=_STRING, team={"type": ["string", "null"]}),
        ),
        [
            {
                "title": "The export button does nothing on a narrow screen",
                "priority": 3,
                "hours": 1.5,
                "open": True,
                "kind": "bug",
                "author": {"name": "Kim", "team": None},
            }
        ],
    ),
}

# A part of JSON Schema: a schema, a value that fits, one that does not.
PARTS: dict[str, tuple[Any, Any, Any]] = {
    "enum": ({"enum": ["a", 1, None]}, 1, 2),
    "const": ({"const": "x"}, "x", "y"),
    "nullable type": ({"type": ["string", "null"]}, None, 3),
    "integer range": ({"type": "integer", "minimum": 3, "maximum": 120}, 99, 121),
    "number range": ({"type": "number", "minimum": 0.5, "exclusiveMaximum": 2}, 1.25, 2.5),
    "multipleOf": ({"type": "integer", "multipleOf": 5}, 15, 16),
    "string length": ({"type": "string", "minLength": 2, "maxLength": 4}, "abc", "abcde"),
    "pattern": ({"type": "string", "pattern": "^[A-Z]{3}-[0-9]+$"}, "ABC-12", "AB-12"),
    "format date": ({"type": "string", "format": "date"}, "2026-11-26", "26.11.2026"),
    "array length": ({"type": "array", "minItems": 2, "maxItems": 3}, [1, 2], [1]),
    "tuple": ({"type": "array", "prefixItems": [_STRING, _INTEGER], "items": False}, ["a", 1], [1]),
    "optional property": (
        {"type": "object", "properties": {"a": _STRING, "b": _STRING}, "required": ["b"],
         "additionalProperties": False},
        {"b": "x"},
        {"a": "x"},
    ),
    "typed other keys": (
        {"type": "object", "properties": {"a": _INTEGER}, "required": ["a"],
         "additionalProperties": _INTEGER},
        {"a": 1, "z": 2},
        {"a": 1, "z": "2"},
    ),
    "pattern of keys": (
        {"type": "object", "patternProperties": {"^x_": _INTEGER}, "additionalProperties": False},
        {"x_a": 1},
        {"y": 1},
    ),
    "anyOf": ({"anyOf": [_STRING, _INTEGER]}, 3, True),
    "oneOf": ({"oneOf": [record(a=_STRING), record(b=_INTEGER)]}, {"b": 1}, {"b": "1"}),
    "allOf": (
        {"allOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 5}]}, 4, 6,
    ),
    "$ref": ({"$ref": "#/$defs/n", "$defs": {"n": _INTEGER}}, 7, "7"),
    "recursion": (
        {"$ref": "#/$defs/tree", "$defs": {"tree": {
            "type": "object", "properties": {"n": _INTEGER,
            "under": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
            "required": ["n", "under"], "additionalProperties": False}}},
        {"n": 1, "under": [{"n": 2, "under": [{"n": 3, "under": []}]}]},
        {"n": 1, "under": [{"n": 2}]},
    ),
    "impossible is refused": ({"type": "integer", "minimum": 5, "maximum": 3}, REFUSED, 4),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what is installed, or our engine, and prints tables; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.maskers", description=__doc__)
    parser.add_argument("--share", type=int, metavar="ROWS", help="rows that decode at once")
    parser.add_argument("--tokens", type=int, default=40, help="most tokens of a record (40)")
    options = parser.parse_args(arguments)
    console = Console()
    if options.share:
        return run(lambda: _share(options.share, options.tokens, console), console)
    return run(lambda: _run(console), console)


def _share(rows: int, tokens: int, console: Console) -> None:
    """Times the masks of records of each schema, begun anew and with matchers used before."""
    table = Table("schema", "call", "a step, ms", "masks, ms a step", "their share")
    engine = HFEngine(default_model(), rows=rows)
    for name, (schema, values) in SPEED.items():
        panel = Shown(tuple(map(write_value, values * 3)), PROMPT)
        streams = steer_streams(Guidance(), PROMPT, panel)
        shape = Shape.of({"schema": schema})
        asked = [Request(i, streams, derive(0, i), 0.001, shape=shape) for i in range(rows)]
        for call in ("first", "second"):
            took, spent, steps = _timed(engine, asked, Sampling(max_new_tokens=tokens))
            each = f"{1e3 * took / steps:.0f}", f"{1e3 * spent / steps:.1f}"
            table.add_row(name, call, *each, f"{spent / took:.1%}")
    console.print(table)


def _timed(
    engine: HFEngine, requests: Sequence[Request], sampling: Sampling
) -> tuple[float, float, int]:
    """Times a call of the engine: all of it, its masks (s), and the number of steps."""
    spent: list[float] = []
    steps: list[object] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*given: Any) -> Any:
            begun = time.perf_counter()
            result = function(*given)
            spent.append(time.perf_counter() - begun)
            return result

        return inner

    places = ((masks.Masks, "allowed"), (masks.Written, "add"), (scoring, "_held"))
    patches = [mock.patch.object(of, name, timed(getattr(of, name))) for of, name in places]
    for patch in patches:
        patch.start()
    begun = time.perf_counter()
    try:
        engine.generate(requests, sampling, steps.append)
    finally:
        mock.patch.stopall()
    return time.perf_counter() - begun, sum(spent), len(steps)


def _run(console: Console) -> None:
    found = [name for name, module in NAMES.items() if importlib.util.find_spec(module)]
    if not found:
        raise SteerError(f"none of {', '.join(NAMES)} is installed; install one")
    tokenizer = load_tokenizer(default_model())
    speed = Table(
        "engine",
        "schema",
        "compiled, ms",
        "slowest mask of the first record, ms",
        "later masks, median µs",
        "99th of 100, µs",
    )
    parts = Table("engine", "parts known", "not known")
    for name in found:
        masker = cast(Masker, MASKERS[name](tokenizer))
        for schema in SPEED:
            speed.add_row(name, schema, *_speed(masker, tokenizer, *SPEED[schema]))
        missing = [part for part in PARTS if not _knows(masker, tokenizer, *PARTS[part])]
        known = f"{len(PARTS) - len(missing)} of {len(PARTS)}"
        parts.add_row(name, known, ", ".join(missing) or "-")
    console.print(speed, parts)


def _speed(
    masker: Masker, tokenizer: PreTrainedTokenizerBase, schema: dict[str, Any], values: list[Any]
) -> Iterator[str]:
    begun = time.perf_counter()
    state = masker.start(schema)
    yield f"{1e3 * (time.perf_counter() - begun):.1f}"
    records = [_ids(tokenizer, value) for value in values]
    yield f"{1e3 * max(_walk(masker, state, records[0])):.1f}"
    times: list[float] = []
    for tokens in records * TURNS:
        masker.again(state)
        times += _walk(masker, state, tokens)
    cuts = statistics.quantiles(times, n=100)
    yield from (f"{1e6 * cuts[place]:.0f}" for place in (49, 98))


def _walk(masker: Masker, state: Any, tokens: Sequence[int]) -> Iterator[float]:
    for token in tokens:
        begun = time.perf_counter()
        masker.mask(state)
        yield time.perf_counter() - begun
        if not masker.read(state, token):
            raise SteerError(f"{type(masker).__name__} does not take a record that fits")


def _ids(tokenizer: PreTrainedTokenizerBase, value: Any) -> list[int]:
    return list(tokenizer(json.dumps(value, ensure_ascii=False)).input_ids)


def _knows(
    masker: Masker, tokenizer: PreTrainedTokenizerBase, schema: Any, right: Any, wrong: Any
) -> bool:
    """Whether a part of JSON Schema does what it says; a schema without a `right` value is to be
    refused."""
    try:
        took = [_takes(masker, schema, _ids(tokenizer, value)) for value in (right, wrong)]
    except Exception:  # each engine has its own
        return right is REFUSED
    return took == [True, False]


def _takes(masker: Masker, schema: Any, tokens: Sequence[int]) -> bool:
    state = masker.start(schema)
    return all(masker.read(state, token) for token in tokens) and masker.ended(state)


if __name__ == "__main__":
    sys.exit(main())
