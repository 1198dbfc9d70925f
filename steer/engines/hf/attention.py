"""Attention by PyTorch's operators: of a context that is prefilled, over one that lanes share, and
over the lanes' own tokens."""

import torch
from torch import Tensor, nn

from steer.models import machine

FUSED_ROWS = 48  # query rows a key head, of all lanes
BLOCKED = {torch.bfloat16}  # prefilled on a CPU by plain products, `BLOCK` queries at a time
BLOCK = 128


def prefill(q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    """Computes causal self-attention, (1, heads, length, head_dim); k and v have kv_heads."""
    if q.is_cpu and q.dtype in BLOCKED and q.shape[2] > BLOCK:
        return _causal(q, k, v, scaling)
    return nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=True, scale=scaling, enable_gqa=True
    )


def _causal(q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    """Causal self-attention, (1, heads, length, head_dim): a block of queries sees the keys up to
    its own end. In bf16 these products take half the time of PyTorch's fused kernel."""
    kv_heads, length, dim = k.shape[1:]
    grouped, out = (q * scaling).view(kv_heads, -1, length, dim), torch.empty_like(q)
    read = out.view(grouped.shape)
    hidden = q.new_full((BLOCK, BLOCK), -torch.inf).triu(1)
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        rows = grouped[:, :, start:end]
        keys, values = k[0, :, :end].contiguous(), v[0, :, :end]  # see `_scores`
        scores = rows.flatten(1, 2) @ keys.transpose(1, 2)
        scores.view(*rows.shape[:3], end)[..., start:] += hidden[: end - start, : end - start]
        read[:, :, start:end] = (scores.softmax(dim=-1) @ values).view(rows.shape)
    return out


def read_shared(q: Tensor, k: Tensor, v: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Computes attention of q (kv_heads, lanes, rep, head_dim) over a context, for all lanes at
    once, and the log-sum-exp of the scores (kv_heads, lanes, rep) in fp32. k and v, the context's,
    are (1, kv_heads, length, head_dim).

    PyTorch's fused kernel gives both. Otherwise the log-sum-exp is a token's score less the log of
    its weight: of the likeliest, which has the largest of both, and no rounding error for a weight.
    """
    rows = q.reshape(1, len(q), -1, q.shape[-1])
    if _is_fused(rows):
        out, total = machine.fused_attention(rows, k, v, scaling)
    else:
        scores = _scores(rows, k, scaling)
        weights = scores.softmax(dim=-1)
        out, total = weights.to(q.dtype) @ v, scores.amax(dim=-1) - weights.amax(dim=-1).log()
    return out.view(q.shape), total.view(q.shape[:-1])


def read_own(q: Tensor, k: Tensor, v: Tensor, scaling: float, mask: Tensor) -> Tensor:
    """Attention of q (batch, kv_heads, rows, head_dim) over k and v (batch, kv_heads, length,
    head_dim), with `mask` added to the scores."""
    if _is_fused(q):
        return machine.fused_attention(q, k, v, scaling, mask)[0]
    scores = _scores(q, k, scaling).add_(mask)
    return scores.softmax(dim=-1).to(q.dtype) @ v


def _is_fused(q: Tensor) -> bool:
    """Whether PyTorch's fused kernel for CPUs reads for q (batch, kv_heads, rows, head_dim): for
    many rows plain products are faster (docs/performance.md)."""
    small = q.is_cpu and len(q) * q.shape[2] <= FUSED_ROWS
    return small and q.dtype in machine.processor().fused


def _scores(q: Tensor, k: Tensor, scaling: float) -> Tensor:
    """Attention scores of each of q's rows with each of the keys, in fp32."""
    # A CPU's product copies keys that have gaps between lanes, element by element if transposed.
    k = k.contiguous() if k.is_cpu else k
    return ((q * scaling) @ k.transpose(-1, -2)).float()
