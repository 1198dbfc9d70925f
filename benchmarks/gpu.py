"""Benchmark on a GPU: random weights of real shapes, and tokens a second beside the hardware's
limits."""

import gc
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.lab import PROMPT, Lab, write_adapter
from benchmarks.ours import Endless, Ours
from benchmarks.pairs import Group, Load, Ratio, Side, synchronize
from benchmarks.shapes import corpus_tokenizer, random_model
from benchmarks.suite import SHARING
from steer.engines.hf.llama import LlamaBody
from steer.models.llama import Llama, read_shape


@dataclass(frozen=True)
class Plan:
    """Plan of the measurements of each shape."""

    shapes: tuple[str, ...] = ("llama-1b", "llama-8b")
    rows: tuple[int, ...] = (1, 32, 128, 256)
    tokens: int = 128
    repeats: int = 3
    probe_mib: int = 1024
    probe_size: int = 8192


QUICK = Plan(tokens=16, repeats=1)


@dataclass(frozen=True)
class Limits:
    """Limits of the device, as measured: bytes a second from a copy, operations a second from a
    matrix product."""

    bytes_per_second: float
    flops: float


@dataclass(frozen=True)
class Work:
    """Work of one decoding step: bytes that must be read and operations that must be done."""

    bytes: float
    flops: float

    def seconds(self, limits: Limits) -> float:
        """Computes the least time: the slower of reading and computing, were they to overlap
        fully."""
        return max(self.bytes / limits.bytes_per_second, self.flops / limits.flops)


def measure(
    plan: Plan, folder: Path, device: str, report: Callable[[str], None]
) -> tuple[dict[str, Ratio], list[dict[str, Any]]]:
    """Measures ratios such as `steer_over_plain_llama_1b_32`, and a row for each shape, rows and
    side.

    `folder` holds a prepared lab, for its texts.
    """
    ratios: dict[str, Ratio] = {}
    measurements: list[dict[str, Any]] = []
    report("the device's own rates")
    limits = probe(plan, device, torch.bfloat16)
    for shape in plan.shapes:
        report(f"{shape}: making random weights")
        ours = random_side(shape, folder, device)
        for rows in plan.rows:
            load = Load(rows, rows, plan.tokens)
            sides = [Side("steer", ours.steer, load), Side("plain", ours.plain, load)]
            group = Group(f"{shape}, {rows} rows", sides)
            group.measure(plan.repeats, plan.tokens, report)
            share = min(1.0, rows / SHARING)
            name = f"steer_over_plain_{shape.replace('-', '_')}_{rows}"
            ratios[name] = group.ratio("steer", "plain", share)
            for row in group.to_json():
                work = step_work(ours, rows, plan.tokens, guided=row["side"] == "steer")
                memory = rows / (work.bytes / limits.bytes_per_second)
                limit = rows / work.seconds(limits)
                measurements.append(
                    row | {"limit_memory": memory, "limit": limit, "device": asdict(limits)}
                )
        del ours, sides, group
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    return ratios, measurements


def random_side(shape: str, folder: Path, device: str) -> Ours:
    """Makes our engine on random weights of `shape`, made on the device and never written."""
    lab = Lab(folder, shape, device)
    model = random_model(shape, device, torch.bfloat16)
    tokenizer = corpus_tokenizer(lab.corpus.texts, shape)
    adapter = folder / f"adapter-{shape}"
    write_adapter(model, adapter)
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    read = Llama(read_shape(config, config["eos_token_id"]), model.state_dict())
    del model  # its weights go one by one, as the engine has its own
    # The engine loads by name, and these models are in no folder: 8B would take 16 GB of disk.
    with patch.multiple(
        "steer.engines.hf.model",
        model_folder=lambda *_: folder,
        read_llama=lambda *_: read,
        open_tokenizer=lambda *_: tokenizer,
        model_fingerprint=lambda *_: shape,
    ):
        return Ours(lab, Endless(shape, adapter, device=device))


def step_work(ours: Ours, rows: int, tokens: int, guided: bool) -> Work:
    """Computes the least work of an average step: every weight once, every distinct context once,
    and each lane's own cache, half full on average."""
    engine = ours.engine
    body = engine.model
    assert isinstance(body, LlamaBody)
    lanes = 3 * rows if guided else rows
    weights = [body.head.product.weight, body.last_norm.weight]
    weights += [weight for joint in body.joints for weight in joint.weights]
    for block in body.blocks:
        weights += [block.before.weight, block.between.weight]
    read = sum(weight.numel() * weight.element_size() for weight in weights)
    width = 2 * math.prod(body.kv_shape)
    contexts = _context_tokens(ours, rows, guided)
    cache = width * body.dtype.itemsize * (lanes * tokens / 2 + contexts)
    products = sum(weight.numel() for weight in weights if weight.dim() == 2)
    return Work(read + cache, 2.0 * lanes * products)


def _context_tokens(ours: Ours, rows: int, guided: bool) -> int:
    """Counts the tokens of the distinct contexts: the prompt, and with guidance again and the
    panels."""
    engine = ours.engine
    prompt = len(engine.lane_model.encode(PROMPT))
    if not guided:
        return prompt
    panels = ours.lab.panels(-(-rows // SHARING), "prompted")
    return 2 * prompt + sum(len(engine.lane_model.encode(panel)) for panel in panels)


def probe(plan: Plan, device: str, dtype: torch.dtype) -> Limits:
    """Measures the rates of a large copy (bytes read and written) and of a square matrix
    product."""
    source = torch.empty(plan.probe_mib * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = _seconds(lambda: target.copy_(source))
    left = torch.randn(plan.probe_size, plan.probe_size, device=device).to(dtype)
    product = _seconds(lambda: left @ left)
    return Limits(2 * source.numel() / copy, 2 * plan.probe_size**3 / product)


def _seconds(run: Callable[[], object], times: int = 10) -> float:
    """Measures the seconds of one call, after a warm-up."""
    run()
    synchronize()
    began = time.perf_counter()
    for _ in range(times):
        run()
    synchronize()
    return (time.perf_counter() - began) / times
