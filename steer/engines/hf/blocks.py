"""Weights in the order that compiled products read (`products.c`), and those products."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steer.models.machine import GROUP, from_int8, to_int4, to_int8

_OUTPUTS, _ROWS = 16, 16
"""Rows of a matrix that stand side by side, and rows that are multiplied at once, at most."""

_WHOLE_BYTES, _WORD_BYTES, _RANK_BYTES = 40, 128, 4
"""Memory for a group of columns of a row that is multiplied, as whole numbers or in fp32, and for a
rank of an adapter."""

_SHARE = "GOMP_parallel"
"""Function by which OpenMP shares work among threads: PyTorch loads it for the whole process."""

_POINTER, _COUNT = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS = [_POINTER, _COUNT, _COUNT, _POINTER, _COUNT, _COUNT, *[_POINTER] * 2]
_ARGUMENTS += [_COUNT, _POINTER, _COUNT, _POINTER]


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("values", _POINTER),
        ("scales", _POINTER),
        ("groups", _COUNT),
        ("outputs", _COUNT),
        ("bits", _COUNT),
    )


def share_address() -> int | None:
    """Where that function is; None where there is none."""
    function = getattr(ctypes.CDLL(None), _SHARE, None)
    return ctypes.cast(function, _POINTER).value if function else None


class Blocks:
    """A matrix of `bits` in the order of `products.c`: `values` (blocks of outputs, groups of
    columns, ...), and `scales`, if any, as it has them. All but `outputs` are filled up."""

    def __init__(self, values: Tensor, scales: Tensor | None, outputs: int, bits: int) -> None:
        self.values, self.scales, self.outputs, self.words = values, scales, outputs, bits > 8
        blocks, self.groups = values.shape[:2]
        self.filled = blocks * _OUTPUTS
        at = None if scales is None else scales.data_ptr()
        self._matrix = _Matrix(values.data_ptr(), at, self.groups, self.filled, bits)
        self.address = ctypes.addressof(self._matrix)


def in_four_bits(steps: Tensor, scales: Tensor) -> Blocks:
    """Orders what `machine.to_int4` made: steps (out, columns) and scales (out, groups, 2)."""
    values, scales = (_filled(each) for each in (steps.to(torch.uint8), scales))
    low, high = values.view(-1, _OUTPUTS, scales.shape[1], 2, 4, 4).unbind(3)
    ordered = (low | (high << 4)).permute(0, 2, 3, 1, 4).contiguous()
    beside = scales.view(len(ordered), _OUTPUTS, -1, 2).transpose(1, 2).contiguous()
    return Blocks(ordered, beside, len(steps), 4)


def in_eight_bits(parts: Sequence[Tensor], scales: Tensor) -> Blocks:
    """Orders what `machine.to_int8` made: matrices (out, columns) that stand side by side, and
    scales (out,)."""
    values = (_beside(parts).to(torch.int16) + 128).to(torch.uint8)
    ordered = values.view(len(values) // _OUTPUTS, _OUTPUTS, -1, GROUP // 4, 4)
    ordered = ordered.permute(0, 2, 3, 1, 4).contiguous()
    return Blocks(ordered, _filled(scales.float()), len(scales), 8)


def in_words(parts: Sequence[Tensor]) -> Blocks:
    """Orders matrices (out, columns) that stand side by side, of bf16, fp16 or fp32."""
    values = _beside(parts)
    together = 2 if values.dtype == torch.bfloat16 else 1
    ordered = values.view(len(values) // _OUTPUTS, _OUTPUTS, -1, GROUP // together, together)
    ordered = ordered.permute(0, 2, 3, 1, 4).contiguous()
    return Blocks(ordered, None, len(parts[0]), 8 * values.itemsize)


def from_words(blocks: Blocks, widths: Sequence[int]) -> Tensor:
    """The matrix (out, columns) that `in_words` made of parts of these widths."""
    values = blocks.values.permute(0, 3, 1, 2, 4).flatten(2).flatten(0, 1)[: blocks.outputs]
    filled = values.split([width + -width % GROUP for width in widths], dim=1)
    return torch.cat([part[:, :width] for part, width in zip(filled, widths, strict=True)], dim=1)


def _beside(parts: Sequence[Tensor]) -> Tensor:
    """Puts matrices (out, columns) side by side, each filled up with zeros."""
    padded = (nn.functional.pad(part, (0, -part.shape[1] % GROUP)) for part in parts)
    return _filled(torch.cat([*padded], dim=1))


def _filled(x: Tensor) -> Tensor:
    lacks = -len(x) % _OUTPUTS
    return torch.cat((x, x.new_zeros(lacks, *x.shape[1:]))) if lacks else x


class Multiply:
    """The compiled products: `tiled` those of bf16 by tiles, where the processor has some."""

    def __init__(self, function: Any, tiled: Any, share: int | None) -> None:
        self._function, self._tiled, self._share = function, tiled, share

    @classmethod
    def of(cls, functions: ctypes.CDLL) -> "Multiply | None":
        """Those in a library; None where this processor has none, or they would have one thread
        where PyTorch has more."""
        share = share_address()
        found = [getattr(functions, name, None) for name in ("multiply", "multiply_by_tiles")]
        if found[0] is None or (share is None and torch.get_num_threads() > 1):
            return None
        for function in filter(None, found):
            function.argtypes, function.restype = _ARGUMENTS, None
        tiled = found[1] if found[1] and functions.use_tiles() == 0 else None
        return cls(found[0], tiled, share)

    @property
    def tiles(self) -> bool:
        """Whether any number of rows multiplies words."""
        return self._tiled is not None

    def __call__(
        self, x: Tensor, weight: Blocks, down: Blocks | None = None, on: int = 0, copies: int = 1
    ) -> Tensor:
        """What `weight` makes of x (rows, width), (rows, outputs). With `down`, x has beside it
        what that one makes of its first `on` rows, zeros after them, `copies` times. Each part is
        filled up to whole groups. For weights of four and eight bits rows are rounded, to eight
        bits in groups of `GROUP`."""
        x, (rows, width) = x.contiguous(), x.shape
        out = x.new_empty(rows, weight.outputs)
        room = (_WORD_BYTES if weight.words else _WHOLE_BYTES) * weight.groups
        room += _RANK_BYTES * down.filled if down else 0
        work = torch.empty((rows + -rows % _ROWS) * room, dtype=torch.uint8)
        function = self._tiled if self._tiled and weight.words else self._function
        function(
            x.data_ptr(),
            rows,
            width,
            down.address if down else None,
            on,
            copies,
            weight.address,
            self._share,
            torch.get_num_threads() if self._share else 1,
            work.data_ptr(),
            weight.outputs,
            out.data_ptr(),
        )
        return out


def product_trials(
    multiply: Multiply, draw: Callable[..., Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """What the products make of random numbers, and what PyTorch makes of them in fp32, as shares
    of the largest."""
    x, weight, first, up = draw(2, 70) + 1, draw(40, 70), draw(5, 70), draw(40, 5)
    exact, low = x.float(), nn.functional.linear(x.float(), first.float())
    low[1:] = 0
    right = nn.functional.linear(torch.cat((exact, low), 1), torch.cat((weight, up), 1).float())
    word = weight.dtype if weight.dtype == torch.bfloat16 else torch.float16
    held = [part.to(word) for part in (weight, up, up - up.to(word))]
    found = multiply(x, in_words(held), in_words([first]), 1, 2)
    yield found / right.abs().max(), right / right.abs().max()
    values, scales = to_int8(weight)
    right = nn.functional.linear(exact, from_int8(values, scales, 70))
    found = multiply(x, in_eight_bits([values], scales))
    yield found / right.abs().max(), right / right.abs().max()
    steps, pairs, rounded = to_int4(weight, up)
    values, scales = to_int8(first)
    low[:1] = nn.functional.linear(exact[:1], from_int8(values, scales, 70))
    right = nn.functional.linear(torch.cat((exact, low), 1), rounded)
    found = multiply(x, in_four_bits(steps, pairs), in_eight_bits([values], scales), 1, 2)
    yield found / right.abs().max(), right / right.abs().max()
