"""Facts of this machine: processors, memory, and the dtypes that it computes in."""

import logging
import math
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import joblib
import psutil
import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

# CPU features, as PyTorch names them, that multiply in a dtype without converting to fp32.
_FEATURES = {
    torch.bfloat16: ("avx512_bf16", "amx_bf16", "bf16"),
    torch.float16: ("avx512_fp16", "amx_fp16", "fp16_arith"),
}


FEW_ROWS = 16
"""Rows up to which a product takes as long as its weight is read from memory."""

_HELD = 2.0**-21
"""Error of a weight, beside the largest, up to which fp16 is taken to hold it."""

_REPEATED = 0.5
"""Share of the columns that may be there twice in `to_half`: with more there is nothing to gain."""

_COLUMNS = 32
"""PyTorch's kernels for int8 read so many columns at a time, also beyond the last."""

_FEW_ROUNDED = 6
"""The same for rounded weights, beside packed ones (`benchmarks.rounding`)."""

GROUP, _PACKED_ROWS = 32, 16
"""Columns that share a scale in int4, and rows that PyTorch packs together."""

_ROWS_ASKED = 256
"""Rows that tell how a weight was stored."""

_SHORT, _BUSY = 0.3, 0.5
"""Seconds that are too few to watch other processes, and processors that they keep busy then which
are worth a word."""

_KINDS = ("user", "nice", "system", "irq", "softirq", "steal")
"""Kinds of processor time that psutil counts, as far as the system knows them."""

_SMALLEST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Processor:
    """Abilities of PyTorch's kernels on this machine's CPU: the dtypes narrower than fp32 that are
    multiplied in hardware, those whose weights `pack` reorders, those that `fused_attention` reads,
    and whether `half_linear` and `int4_linear` multiply."""

    native: frozenset[torch.dtype]
    packed: frozenset[torch.dtype]
    fused: frozenset[torch.dtype]
    halves: bool = False
    quarters: bool = False


@cache
def processor() -> Processor:
    """Processor of this machine, found out once."""
    return find_processor()


def find_processor() -> Processor:
    """Finds out by trying what the processor can do: the features say nothing of the build of
    PyTorch, and nothing of the limits that ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA set."""
    features = dict(getattr(torch.cpu, "get_capabilities", dict)())
    fused = frozenset(dtype for dtype in (torch.float32, *_FEATURES) if _fuses(dtype))
    has = {dtype for dtype, names in _FEATURES.items() if any(map(features.get, names))}
    packed = frozenset({torch.bfloat16} if _packs(torch.bfloat16) else ())
    if features.get("architecture") == "x86_64":  # there the same kernels do both
        has -= {torch.bfloat16} - packed
    return Processor(frozenset(has), packed, fused, _halves(), _quarters())


def computes(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether `device` multiplies `dtype` in hardware; else PyTorch converts, which is slow."""
    if dtype not in _FEATURES:
        return True
    if device.type == "cpu":
        return dtype in processor().native
    if device.type == "cuda" and dtype == torch.bfloat16:
        return bool(torch.cuda.is_bf16_supported(False))
    return True


def can_pack(weight: Tensor) -> bool:
    """Whether `pack` takes the weight of a linear layer."""
    return weight.is_cpu and weight.dtype in processor().packed


def pack(weight: Tensor) -> Tensor:
    """Packs the weight (out, in) into the order that `packed_linear` reads."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """Computes weight x + bias, with a weight from `pack`."""
    operator: Any = torch.ops.mkldnn._linear_pointwise.default
    product: Tensor = operator(x, packed, bias, "none", [], "")
    return product


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds a weight (out, in) to int8, with a scale (out,) in bf16 for each of its rows: the
    nearest of 255 values up to about the row's largest. The columns are filled up with zeros to a
    multiple of `_COLUMNS`."""
    scales = (weight.abs().amax(dim=1).float().clamp(min=_SMALLEST) / 127).bfloat16()
    rounded = (weight.float() / scales.float().unsqueeze(1)).round_().clamp_(-127, 127)
    return _filled(rounded.to(torch.int8), _COLUMNS), scales


def int8_linear(x: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
    """Computes weight x for x (rows, in), with a weight and scales from `to_int8`. For few rows x
    is rounded to bf16, and the weight is read as it is, which is what takes the time; for more rows
    the weight is multiplied out."""
    rows, columns = x.shape
    if rows > FEW_ROWS:
        return nn.functional.linear(x, from_int8(weight, scales, columns).to(x.dtype))
    short = _filled(x, _COLUMNS).bfloat16()
    return _as(torch._weight_int8pack_mm(short, weight, scales), x)


def from_int8(weight: Tensor, scales: Tensor, columns: int) -> Tensor:
    """Gives a weight (out, columns) in fp32 as `to_int8` rounded it."""
    return weight[:, :columns] * scales.float().unsqueeze(1)


def to_int4(weight: Tensor, up: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Rounds a weight (out, in) to int4: which of 16 values each is, from 0 (out, columns), a scale
    and a middle for each `GROUP` of a row's columns (out, groups, 2), in bf16, and the weight as it
    was rounded, (out, in) in fp32. A value is the nearest of 16, from its group's smallest to its
    largest. An adapter's columns `up` (out, ranks) stand beside the weight's, and then what
    rounding lost of them, rounded too: together they are exact to about eight bits. Each part is
    filled up to whole groups."""
    parts = [_rounded(weight)]
    if up is not None:
        parts.append(_rounded(up))
        parts.append(_rounded(up - parts[1][2]))
    steps, scales = (torch.cat([part[place] for part in parts], dim=1) for place in (0, 1))
    twice = [parts[1][2] + parts[2][2]] if up is not None else []
    return steps, scales, torch.cat([parts[0][2], *twice], dim=1)


def pack_int4(steps: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """Orders what `to_int4` made as `int4_linear` reads it."""
    extra = (0, 0, 0, -len(steps) % _PACKED_ROWS)
    operator: Any = torch.ops.aten._convert_weight_to_int4pack_for_cpu
    packed: Tensor = operator(nn.functional.pad(steps, extra, value=8), 1)
    return packed, nn.functional.pad(scales, (0, 0, *extra)).transpose(0, 1).contiguous()


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rounds a weight (out, in): which of 16 values each is (out, columns), the columns filled up
    to whole groups; the groups' scales and middles (out, groups, 2); and the values (out, in)."""
    groups = _filled(weight.float(), GROUP).unflatten(1, (-1, GROUP))
    low, high = groups.aminmax(dim=-1)
    scales = ((high - low) / 15).clamp(min=_SMALLEST).bfloat16()
    both = torch.stack((scales, (low + 8 * scales.float()).bfloat16()), dim=-1)
    scale, middle = both.float().unsqueeze(-2).unbind(-1)
    steps = ((groups - middle) / scale).round_().clamp_(-8, 7)
    rounded = (steps * scale + middle).flatten(1)[:, : weight.shape[1]]
    return (steps + 8).int().flatten(1), both, rounded


def _as(y: Tensor, x: Tensor) -> Tensor:
    """y in the dtype of x; asking first costs less than a call that has nothing to do."""
    return y if y.dtype is x.dtype else y.to(x.dtype)


def _filled(x: Tensor, size: int) -> Tensor:
    """Fills the columns of x up with zeros, to a multiple of `size`."""
    lacks = -x.shape[1] % size
    return nn.functional.pad(x, (0, lacks)) if lacks else x


def rounded_rows(weight: Tensor) -> int:
    """Rows up to which products with rounded weights are faster than those with this one."""
    return _FEW_ROUNDED if can_pack(weight) else FEW_ROWS


def is_int4(weight: Tensor) -> bool:
    """Whether `int4_linear` multiplies here, and rounding a weight (out, in) to int4 changes it no
    more than to int8: as one that was stored in four bits."""
    if not (weight.is_cpu and processor().quarters):
        return False
    exact = weight[:: -(-len(weight) // _ROWS_ASKED)].float()
    by_int8 = from_int8(*to_int8(exact), weight.shape[1])
    return bool((to_int4(exact)[2] - exact).norm() <= (by_int8 - exact).norm())


def in_groups(x: Tensor, low: Tensor | None, copies: int) -> Tensor:
    """Rows that weights in groups read: x (rows, in), and beside it what the columns of an adapter
    are multiplied with, `low` (rows, ranks), as often as those are there."""
    rows = _filled(x, GROUP)
    return rows if low is None else torch.cat((rows, *[_filled(low, GROUP)] * copies), dim=1)


def int4_linear(rows: Tensor, packed: Tensor, scales: Tensor, out: int) -> Tensor:
    """Computes weight x (rows, out), with what `pack_int4` made of a weight (out, in), for `rows`
    from `in_groups`, an adapter's columns twice. They are rounded to bf16."""
    operator: Any = torch.ops.aten._weight_int4pack_mm_for_cpu
    product: Tensor = operator(rows.bfloat16(), packed, GROUP, scales)
    if product.shape[1] > out:
        product = product[:, :out]
    return _as(product, rows)


def can_halve(weight: Tensor) -> bool:
    """Whether `to_half` takes the weight of a linear layer."""
    return weight.is_cpu and weight.dtype == torch.float32 and processor().halves


def to_half(weight: Tensor, bias: Tensor | None) -> tuple[Any, int] | None:
    """Stores a weight (out, in) of fp32 in fp16, in the order that `half_linear` reads, and says
    from which column on there is a second one with what fp16 does not hold. A model's weights that
    were stored in bf16 or fp16 need none, those that were trained since do. None where more than
    `_REPEATED` of the columns would be there twice, or a weight is too large for fp16."""
    half = weight.half().float()
    if not half.isfinite().all():
        return None
    rest = weight - half
    lost = rest.abs().amax(dim=0) > _HELD * weight.abs().max()
    first = int(lost.int().argmax()) if lost.any() else weight.shape[1]
    if weight.shape[1] - first > _REPEATED * weight.shape[1]:
        return None
    both = torch.cat((half, rest[:, first:]), dim=1) if lost.any() else half
    return torch.ops.quantized.linear_prepack_fp16(both, bias), first


def held_by_half(weight: Tensor) -> Tensor | None:
    """A weight of fp32 in fp16; None where that does not hold it, as for `to_half`."""
    half = weight.half()
    lost = (weight - half).abs().max() if weight.numel() else 0.0
    return half if lost <= _HELD * weight.abs().max() else None


def half_linear(x: Tensor, weight: Any, first: int) -> Tensor:
    """Computes weight x + bias in fp32, with what `to_half` made of them."""
    if first < x.shape[-1]:
        x = torch.cat((x, x[..., first:]), dim=-1)
    product: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, weight)
    return product


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What q (batch, heads, rows, head_dim) finds in k and v, with `mask` added to the scores, and
    the log-sum-exp of the scores (batch, heads, rows) in fp32."""
    operator: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    out, total = operator(q, k, v, attn_mask=mask, scale=scale)
    return out, total


def _fuses(dtype: torch.dtype) -> bool:
    """Whether this build of PyTorch has the fused attention of CPUs, and it attends right."""
    q, k = torch.ones(1, 1, 2, 16, dtype=dtype), torch.eye(4, 16, dtype=dtype)[None, None]
    try:
        out, total = fused_attention(q, k, k, 1.0)
    except (AttributeError, RuntimeError):
        return False
    right = torch.full((1, 1, 2), 1 + math.log(4))
    return bool(out[..., :4].allclose(q[..., :4] / 4)) and total.allclose(right, atol=0.02)


def _packs(dtype: torch.dtype) -> bool:
    """Whether this processor and build of PyTorch pack weights of `dtype`, and multiply right."""
    weight, x = torch.eye(32, dtype=dtype), torch.ones(4, 32, dtype=dtype)
    try:
        product = packed_linear(x, pack(weight), None)
    except (AttributeError, RuntimeError):  # NotImplementedError is one of them
        return False
    return torch.equal(product, x)


def _halves() -> bool:
    """Whether this processor and build of PyTorch have weights of fp16, and multiply right."""
    weight, x = torch.eye(32), torch.arange(128.0).view(4, 32)
    try:
        made = to_half(weight, None)
        return made is not None and torch.equal(half_linear(x, *made), x)
    except (AttributeError, RuntimeError):
        return False


def _quarters() -> bool:
    """Whether this processor and build of PyTorch have weights of int4, and multiply right."""
    weight = torch.arange(-8.0, 8.0).repeat(16, 2)
    try:
        steps, scales, rounded = to_int4(weight)
        found = int4_linear(torch.eye(32), *pack_int4(steps, scales), 16)
        return torch.equal(rounded, weight) and torch.equal(found, weight.t())
    except (AttributeError, RuntimeError):
        return False


def total_memory(device: torch.device) -> int:
    """Bytes of memory of `device`. The total, not what is free now: a choice made by it must be the
    same when a run is continued."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def cpus() -> int:
    """Number of processors that this process may run on (affinity, container limits)."""
    return int(joblib.cpu_count())


def use_cpus(threads: int | None = None) -> None:
    """Lets PyTorch use so many `threads` (None: as many as now), but no more than there are
    processors: more wait for each other. Warns where so many were asked for."""
    if threads is not None and threads > cpus():
        log.warning(
            "--threads is %d, but there are %d processors here: so many threads are used",
            threads,
            cpus(),
        )
    torch.set_num_threads(min(threads or torch.get_num_threads(), cpus()))


def warn_of_others() -> None:
    """Warns where other processes keep processors busy that PyTorch's threads want, since the last
    time it was asked, or this module was imported: threads wait for each other at every product, so
    that one that has to wait stops all. Says nothing where a container hides whose the processors
    are."""
    global _seen
    (began, before), _seen = _seen, (time.monotonic(), _others())
    seconds, threads = _seen[0] - began, torch.get_num_threads()
    if threads == 1 or seconds < _SHORT or psutil.cpu_count() != cpus():
        return
    busy = (_seen[1] - before) / seconds
    if busy >= _BUSY and threads + busy > cpus():
        log.warning(
            "other processes keep %.1f of %d processors busy, and %d threads that wait for each "
            "other can then be several times slower than fewer: OMP_NUM_THREADS=%d before the "
            "command",
            busy,
            cpus(),
            threads,
            max(1, int(cpus() - busy)),
        )


def _others() -> float:
    """Processor seconds of all other processes since the system began."""
    spent = psutil.cpu_times()
    return sum(getattr(spent, kind, 0.0) for kind in _KINDS) - time.process_time()


_seen = (time.monotonic(), _others())
