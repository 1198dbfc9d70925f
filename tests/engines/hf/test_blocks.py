"""Compiled products against naive ones, of the same weights and, where they are rounded, rows."""

import shutil
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from steer.engines.hf import blocks as hf_blocks
from steer.engines.hf import compiled
from steer.engines.hf.blocks import (
    Blocks,
    Multiply,
    from_words,
    in_eight_bits,
    in_four_bits,
    in_words,
)
from steer.engines.hf.compiled import kernels_for
from steer.engines.hf.products import TiledProduct
from steer.models.machine import GROUP, from_int8, to_int4, to_int8

WAYS = [(torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True)]
NUMBERS = torch.Generator()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    NUMBERS.manual_seed(0)


@pytest.fixture(params=WAYS)
def way(request) -> tuple[torch.dtype, bool]:
    """A dtype, and whether its words are multiplied by tiles."""
    return request.param


@pytest.fixture
def dtype(way) -> torch.dtype:
    return way[0]


@pytest.fixture
def multiply(way) -> Multiply:
    if not shutil.which("cc") or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("there are no compiled products here")
    dtype, tiles = way
    kernels = kernels_for(torch.empty(0, dtype=dtype))
    assert kernels and kernels.multiply
    found = kernels.multiply
    if tiles and not found.tiles:
        pytest.skip("this processor has no tiles")
    return found if tiles else Multiply(found._function, None, found._share)


@pytest.fixture(params=[1, 2])
def threads(request) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=NUMBERS)


def rounded(x: Tensor) -> Tensor:
    """x (rows, columns) to the nearest of 255 values from minus its group's largest to that."""
    groups = nn.functional.pad(x.double(), (0, -x.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    scale = groups.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 127
    return ((groups / scale).round() * scale).flatten(1)[:, : x.shape[1]]


def of_words(weight: Tensor) -> tuple[Blocks, Tensor]:
    """Words for a product in `weight`'s dtype, and the same weights."""
    held = weight.half() if weight.dtype == torch.float32 else weight
    return in_words([held]), held.double()


def of_bytes(weight: Tensor) -> tuple[Blocks, Tensor]:
    values, scales = to_int8(weight)
    return in_eight_bits([values], scales), from_int8(values, scales, weight.shape[1]).double()


def of_four_bits(weight: Tensor) -> tuple[Blocks, Tensor]:
    steps, scales, dense = to_int4(weight)
    return in_four_bits(steps, scales), dense.double()


KINDS = [of_words, of_bytes, of_four_bits]


def assert_near(found: Tensor, right: Tensor) -> None:
    """`found`, which is as near to `right` as fp32 sums, and then its dtype, can be."""
    least = 2e-6 if found.dtype == torch.float32 else 2**-8
    size = right.abs().max().item()
    torch.testing.assert_close(found.double(), right, atol=least * size, rtol=least)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 11, 20, 33, 63])
@pytest.mark.parametrize(("out", "into"), [(1, 1), (16, 32), (33, 70), (300, 64), (4101, 64)])
def test_a_product_is_that_of_its_weights(multiply, threads, dtype, kind, rows, out, into) -> None:
    blocks, weight = kind(draw(out, into).to(dtype))
    x = draw(rows, into).to(dtype)
    exact = x.double() if kind is of_words else rounded(x)
    found = multiply(x, blocks)
    assert found.dtype == dtype
    assert_near(found, exact @ weight.T)


@pytest.mark.parametrize("widths", [[64], [70, 5], [32, 0]])
def test_words_are_found_again(dtype, widths) -> None:
    parts = [draw(33, width).to(dtype) for width in widths]
    assert torch.equal(from_words(in_words(parts), widths), torch.cat(parts, dim=1))


@pytest.mark.parametrize("on", [0, 1, 3])
@pytest.mark.parametrize(("ranks", "copies"), [(8, 1), (40, 2)])
@pytest.mark.parametrize("words", [True, False])
def test_an_adapter_is_part_of_it(multiply, threads, dtype, on, ranks, copies, words) -> None:
    """Its columns stand beside the weight's, as often as it is told, filled up to whole groups."""
    weight, down = draw(50, 45).to(dtype), draw(ranks, 45).to(dtype)
    ups, x = [draw(50, ranks).to(dtype) for _ in range(copies)], draw(3, 45).to(dtype)
    if words:
        held = torch.bfloat16 if dtype == torch.bfloat16 else torch.float16
        parts = [part.to(held) for part in (weight, *ups)]
        blocks, first = in_words(parts), in_words([down])
        base, *above = (part.double() for part in parts)
        exact, low = x.double(), x.double() @ down.double().T
    else:
        values, scales = to_int8(torch.cat((weight, *ups), dim=1))
        dense = from_int8(values, scales, 45 + copies * ranks)
        sizes = [45] + copies * [ranks]
        blocks = in_eight_bits(values[:, : sum(sizes)].split(sizes, dim=1), scales)
        base, *above = dense.double().split(sizes, dim=1)
        first, below = of_bytes(down)
        exact = rounded(x)
        low = rounded((exact @ below.T).float())
    low[on:] = 0
    right = exact @ base.T + low @ sum(above).T
    found = multiply(x, blocks, first, on, copies)
    # What stands beside is rounded from a sum in fp32, which a tie may send either way.
    least = 1e-5 if dtype == torch.float32 and words else 2**-8
    size = right.abs().max().item()
    torch.testing.assert_close(found.double(), right, atol=least * size, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_no_number_stays_none(multiply, dtype, kind, wrong) -> None:
    blocks, _ = kind(draw(20, 100).to(dtype))
    x = draw(3, 100).to(dtype)
    right = multiply(x, blocks)
    x[1, 40] = wrong
    found = multiply(x, blocks)
    assert not found[1].isfinite().any()
    assert torch.equal(found[[0, 2]], right[[0, 2]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e-20, 1e20])
def test_rows_of_every_size(multiply, kind, scale, dtype) -> None:
    blocks, weight = kind(torch.ones(17, 64, dtype=dtype))
    x = torch.full((2, 64), scale, dtype=dtype)
    right = x.double() @ weight.T
    tiny = 1e-28  # what is smaller may be 0 beside rounded weights
    torch.testing.assert_close(multiply(x, blocks).double(), right, atol=tiny, rtol=2**-7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_sums_fit(multiply, kind, dtype) -> None:
    weight = torch.ones(16, 320, dtype=dtype)
    weight[:, ::64] = -1
    blocks, dense = kind(weight)
    x = torch.ones(2, 320, dtype=dtype)
    x[1] = -1
    assert_near(multiply(x, blocks), x.double() @ dense.T)


def test_without_threads_to_share_work_there_are_none(monkeypatch, multiply, threads) -> None:
    """But for a process that has one."""
    monkeypatch.setattr(hf_blocks, "_SHARE", "no_such_function")
    compiled._kernels.cache_clear()
    kernels = kernels_for(torch.empty(0))
    compiled._kernels.cache_clear()
    assert kernels and (kernels.multiply is not None) is (threads == 1)


@pytest.mark.parametrize("way", WAYS[2:], indirect=True)
@pytest.mark.parametrize("ranks", [0, 5])
def test_weights_that_tiles_read_are_there_once(multiply, ranks) -> None:
    weight, up, x = (draw(*size).bfloat16() for size in ((40, 70), (40, ranks), (60, 70)))
    product = TiledProduct(weight, None, up)
    assert product.weight.nbytes == 40 * (70 + ranks) * 2
    low = draw(60, ranks).bfloat16()
    right = x.double() @ weight.double().T + low.double() @ up.double().T
    assert_near(product.with_low(x, low), right)
    assert product.weight.nbytes == 0
    assert torch.equal(product.dense, torch.cat((weight, up), dim=1))
