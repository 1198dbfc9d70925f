"""Tokens a second that a judge reads: `python -m benchmarks.judging DATA --judge gemma3-270m`.

Reads the same texts, nothing cached, in two ways in turns: as it is, with the head's logits summed
part by part, and with all logits of a batch kept, as a model that does more to its logits needs.
Prints the median, the lowest and the highest of the repeats, and of the ratio of each pair.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from unittest import mock

from rich.console import Console

from benchmarks.command import run
from benchmarks.machine import machine
from benchmarks.pairs import Ratio
from steer.data.corpus import load_corpus
from steer.errors import SteerError
from steer.models.judge import Judge, load_judge
from steer.models.machine import use_cpus
from steer.models.packaged import GEMMA
from steer.models.reading import Reader


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judging")
    parser.add_argument("data", help="texts to read: a file, or a dataset's name")
    parser.add_argument("--judge", default=GEMMA, help=f"an expert or a model ({GEMMA})")
    parser.add_argument("--prompt", help="what a judge that is no expert reads first")
    parser.add_argument("--texts", type=int, default=128, help="how many texts (128)")
    parser.add_argument("--repeats", type=int, default=5, help="how often each way (5)")
    options = parser.parse_args(arguments)
    return run(lambda: _measure(options), Console(stderr=True))


def _measure(options: argparse.Namespace) -> None:
    use_cpus()
    texts = list(dict.fromkeys(load_corpus(options.data).texts))[: options.texts]
    judge = load_judge(options.judge, options.prompt)
    if not isinstance(judge, Judge):
        raise SteerError(f"the judge {options.judge} is no language model; name one (--judge)")
    tokens = int(judge.read(texts).tokens.sum())
    print(f"{len(texts)} texts, {tokens} tokens; {machine(judge.model.device.type)}")
    pairs = [_pair(judge, texts) for _ in range(options.repeats)]
    parts, whole = ([tokens / pair[side] for pair in pairs] for side in (0, 1))
    _show("tokens a second, summed part by part", parts)
    _show("tokens a second, all logits kept", whole)
    _show("ratio", [a / b for a, b in zip(parts, whole, strict=True)])


def _pair(judge: Judge, texts: list[str]) -> tuple[float, float]:
    """Seconds of both ways, one right after the other."""
    parts = _seconds(lambda: judge.read(texts))
    with mock.patch.object(Reader, "_head", None):
        return parts, _seconds(lambda: judge.read(texts))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _show(what: str, values: list[float]) -> None:
    found = Ratio.of(values)
    print(f"{what}: {found.median:.2f} ({found.low:.2f} to {found.high:.2f})")


if __name__ == "__main__":
    sys.exit(main())
