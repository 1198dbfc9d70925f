"""Kernels between the products: what PyTorch's operators say, wherever there is a C compiler."""

import logging
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from steer.config import Sampling
from steer.engines import scoring
from steer.engines.hf import compiled
from steer.engines.hf.compiled import COMPILER, Kernels, kernels_for
from steer.engines.hf.engine import HFEngine
from steer.engines.hf.norm import Norm
from steer.engines.scoring import Part
from steer.models.cache import kernels_folder
from tests.engines.contract import many, save_adapter
from tests.engines.hf.test_llama import save_kind

DTYPES = [torch.float32, torch.bfloat16]
NUMBERS = torch.Generator()

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    NUMBERS.manual_seed(0)
    compiled._kernels.cache_clear()
    yield
    compiled._kernels.cache_clear()


def draw(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=NUMBERS).to(dtype)


def kernels(dtype: torch.dtype) -> Kernels:
    made = kernels_for(torch.empty(0, dtype=dtype))
    assert made
    return made


def norm(width: int, dtype: torch.dtype) -> Norm:
    return Norm(draw(width, dtype=dtype), eps=0.1)


def assert_near(found: Tensor, right: Tensor) -> None:
    """`found`, which is as near to `right` in fp32 as its dtype can be."""
    torch.testing.assert_close(found, right.to(found.dtype))


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (2, 31), (5, 576)])
def test_a_sum_and_its_norm(dtype, rows, width) -> None:
    for more in (draw(rows, width, dtype=dtype), None):
        x, about = draw(rows, width, dtype=dtype), norm(width, dtype)
        summed = x if more is None else x + more
        right = nn.functional.rms_norm(summed.float(), (width,), about.weight.float(), about.eps)
        assert_near(kernels(dtype).add_norm(x, more, about), right)
        assert torch.equal(x, summed)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("group", "copies"), [(1, 1), (32, 2)])
@pytest.mark.parametrize("ranks", [0, 3, 4, 70])
def test_what_an_adapter_makes_beside(dtype, group, copies, ranks) -> None:
    x, down = draw(3, 45, dtype=dtype), draw(ranks, 45, dtype=dtype)
    low = nn.functional.linear(x.float(), down.float())
    low[2:] = 0
    parts = [x.float(), *[low] * copies]
    right = torch.cat([nn.functional.pad(each, (0, -each.shape[1] % group)) for each in parts], 1)
    assert_near(kernels(dtype).beside(x, down, 2, group, copies), right)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_gates(dtype) -> None:
    """Down to those whose exponential would be no number, and NaN."""
    both = draw(3, 2 * 37, dtype=dtype)
    both[0, :6] = torch.tensor([-1e4, -90, -60, 60, 90, 1e4])
    both[1, 0], both[1, 40] = torch.nan, torch.nan
    gate, up = both.float().chunk(2, dim=1)
    found = kernels(dtype).silu_times(both)
    assert_near(found.nan_to_num(7.0), (nn.functional.silu(gate) * up).nan_to_num(7.0))
    assert found.isnan().sum() == 2


def assert_placed(dtype: torch.dtype, dim: int, norms: tuple[Norm | None, Norm | None]) -> None:
    lanes, queries, pairs, own = 3, 6, 2, 7
    heads = draw(lanes, (queries + 2 * pairs) * dim, dtype=dtype)
    cos, sin = draw(lanes, dim, dtype=dtype), draw(lanes, dim, dtype=dtype)
    cache, slots = draw(2, 4, pairs, own, dim, dtype=dtype), torch.tensor([6, 0, 3])
    before = cache.clone()
    found = kernels(dtype).place(heads, (cos, sin), norms, slots, cache)
    q, k, v = heads.float().view(lanes, -1, dim).split((queries, pairs, pairs), dim=1)

    def turned(x: Tensor, about: Norm | None) -> Tensor:
        if about:
            x = nn.functional.rms_norm(x, (dim,), about.weight.float(), about.eps)
        return x * cos.float()[:, None] + x.roll(dim // 2, dims=-1) * sin.float()[:, None]

    assert_near(found, turned(q, norms[0]))
    before[0, torch.arange(lanes), :, slots] = turned(k, norms[1]).to(dtype)
    before[1, torch.arange(lanes), :, slots] = v.to(dtype)
    torch.testing.assert_close(cache, before)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [2, 12, 64])
def test_a_new_token_is_placed(dtype, dim) -> None:
    assert_placed(dtype, dim, (None, None))
    assert_placed(dtype, dim, (norm(dim, dtype), norm(dim, dtype)))


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [16, 64, 80, 128])
@pytest.mark.parametrize("each", [1, 3])
def test_attention(dtype, dim, each) -> None:
    """To own tokens alone, or to those of a context before them; slots that stand for the context,
    and those to come, are not read."""
    lanes, pairs, own, shared, tokens = 2, 2, 9, 21, 26
    q = draw(lanes, pairs * each, dim, dtype=dtype)
    cache = draw(2, 4, pairs, own, dim, dtype=dtype)
    cache[:, 1, :, :each] = torch.nan
    cache[:, :, :, 8:] = torch.nan
    context = draw(2, pairs, shared, dim, dtype=dtype)
    about = torch.tensor([[0, 5, 0], [each, 8, shared]])
    places = torch.tensor([[0, 0], [context[0].data_ptr(), context[1].data_ptr()]])
    found = kernels(dtype).attend(q, about, places, cache, tokens + each, 0.3)
    for lane, (first, last, length) in enumerate(about.tolist()):
        k, v = (
            torch.cat((context[part, :, :length], cache[part, lane, :, first:last]), dim=1).float()
            for part in (0, 1)
        )
        alone = q[lane].float().view(pairs, each, dim)
        right = nn.functional.scaled_dot_product_attention(alone, k, v, scale=0.3)
        assert_near(found[lane], right.flatten())


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_key_that_is_no_number_is_not_hidden(dtype, wrong) -> None:
    cache, about = torch.ones(2, 1, 1, 4, 16, dtype=dtype), torch.tensor([[0, 3, 0]])
    cache[0, 0, 0, 1] = wrong
    nowhere = torch.zeros(1, 2, dtype=torch.long)
    q = torch.ones(1, 1, 16, dtype=dtype)
    assert kernels(dtype).attend(q, about, nowhere, cache, 3, 1.0).isnan().all()


@pytest.fixture
def both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[HFEngine, HFEngine]:
    """An engine with kernels, and one without."""
    base = save_kind("qwen3", {"head_dim": 16, "num_key_value_heads": 2}, tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    with_them = HFEngine(base, adapter, dtype="float32", device="cpu", rows=3)
    monkeypatch.setenv(COMPILER, "")
    compiled._kernels.cache_clear()
    return with_them, HFEngine(base, adapter, dtype="float32", device="cpu", rows=3)


@needs_compiler
@pytest.mark.parametrize("attend", [True, False])
@pytest.mark.parametrize("adapt", [True, False])
def test_records_are_the_same_with_and_without(both_ways, monkeypatch, attend, adapt) -> None:
    """Whatever part of them is used; and a run keeps whether they were."""
    monkeypatch.setattr(Kernels, "attend_to", lambda *about: attend)
    monkeypatch.setattr(Kernels, "adapt", lambda *about: adapt)
    with_them, without = both_ways
    assert with_them.arithmetic.compiled and not without.arithmetic.compiled
    found, right = (each.generate(many(5), Sampling(max_new_tokens=12)) for each in both_ways)
    assert [each.text for each in found] == [each.text for each in right]
    for one, other in zip(found, right, strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)


@needs_compiler
def test_many_lanes_are_not_for_one_thread(both_ways, monkeypatch) -> None:
    monkeypatch.setattr(Kernels, "take", lambda *about: False)
    monkeypatch.setattr(Kernels, "add_norm", None)
    assert len(both_ways[0].generate(many(2), Sampling(max_new_tokens=3))) == 2


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_share_lanes(dtype, monkeypatch) -> None:
    """What several threads compute is what one does, to the last bit."""
    lanes, pairs, dim, own = 9, 2, 16, 5
    x, more, down = (draw(size, 48, dtype=dtype) for size in (lanes, lanes, 6))
    heads, cache = draw(lanes, 8 * dim, dtype=dtype), draw(2, lanes, pairs, own, dim, dtype=dtype)
    cos, sin, about = draw(lanes, dim, dtype=dtype), draw(lanes, dim, dtype=dtype), norm(48, dtype)
    slots, nowhere = torch.arange(lanes) % own, torch.zeros(lanes, 2, dtype=torch.long)
    seen = torch.stack((0 * slots, slots + 1, 0 * slots), dim=1)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        used, kept, summed = kernels(dtype), cache.clone(), x.clone()
        q = used.place(heads, (cos, sin), (None, None), slots, kept)
        found.append(
            (
                used.add_norm(summed, more, about),
                summed,
                used.beside(x, down, 7, 32, 2),
                used.silu_times(x),
                q,
                kept,
                used.attend(q, seen, nowhere, kept, own, 0.5),
            )
        )
    for others in found[1:]:
        assert all(torch.equal(*each) for each in zip(found[0], others, strict=True))


def some_rows(logits: Tensor) -> Part:
    """Logits (streams, rows, vocab) as those of some lanes, in some order, of a larger
    vocabulary."""
    streams, rows, vocab = logits.shape
    table = torch.randperm(2 * streams * rows, generator=NUMBERS)[: streams * rows]
    lanes = logits.new_full((2 * streams * rows, vocab + 3), math.inf)
    lanes[table, :vocab] = logits.flatten(0, 1)
    return Part(lanes[:, :vocab], table.view(streams, rows))


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocab", [1, 63, 64, 1_000])
@pytest.mark.parametrize("alpha", [1e-30, 0.1, 1.0])
def test_likely_tokens(dtype, vocab, alpha) -> None:
    logits = 3 * draw(3, 5, vocab, dtype=dtype)
    logits[0, 2] = 0
    logits[0, 3, 1:] = -math.inf
    below = torch.full((5,), -math.log(alpha))
    part = some_rows(logits)
    tokens, log_probs = kernels(dtype).likely(part, below, None)
    right, rights = scoring.likely(part, below, None)
    assert torch.equal(tokens, right)
    torch.testing.assert_close(log_probs, rights)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_logits_that_are_no_numbers_leave_no_likely_token(dtype, wrong) -> None:
    logits = draw(2, 3, 100, dtype=dtype)
    right = kernels(dtype).likely(some_rows(logits), torch.zeros(3), None)[1]
    logits[0, 1, 70] = wrong
    found = kernels(dtype).likely(some_rows(logits), torch.zeros(3), None)[1]
    assert not found[0, 1].isfinite().any()
    assert torch.equal(found[:, [0, 2]], right[:, [0, 2]])


@needs_compiler
def test_what_is_allowed_decides_what_is_likely() -> None:
    logits, allowed = draw(1, 2, 50, dtype=torch.float32), torch.zeros(2, 50, dtype=torch.bool)
    allowed[:, 20:] = True
    part, below = some_rows(logits), torch.full((2,), 2.0)
    tokens, _ = kernels(torch.float32).likely(part, below, allowed)
    assert torch.equal(tokens, scoring.likely(part, below, allowed)[0])


@needs_compiler
def test_they_are_compiled_once(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("STEER_CACHE", str(tmp_path))
    kernels(torch.float32)
    (library,) = kernels_folder().iterdir()
    compiled._kernels.cache_clear()
    monkeypatch.setattr(compiled.subprocess, "run", None)
    kernels(torch.float32)
    assert list(kernels_folder().iterdir()) == [library]


@needs_compiler
def test_a_damaged_library_is_compiled_anew(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("STEER_CACHE", str(tmp_path))
    library = compiled._compiled(next(compiled._commands(torch.float32)))
    whole = library.read_bytes()
    library.unlink()
    library.write_bytes(whole[:100])
    assert kernels_for(torch.empty(0)) is None
    compiled._kernels.cache_clear()
    kernels(torch.float32)
    assert library.read_bytes() == whole


def compiler(folder: Path, script: str) -> str:
    """A compiler that does what `script` says, in a shell."""
    file = folder / "compiler"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o700)
    return str(file)


def break_source(monkeypatch, folder: Path, name: str, right: str, wrong: str) -> None:
    """Lets the kernels be compiled from sources of which `name` says `wrong` for `right`."""
    for source in (compiled._HEADER, *compiled._SOURCES):
        text = source.read_text()
        if source.name == name:
            assert text.count(right) == 1
            text = text.replace(right, wrong)
        (folder / source.name).write_text(text)
    sources = [folder / source.name for source in compiled._SOURCES]
    monkeypatch.setattr(compiled, "_SOURCES", sources)


JUNK = 'while [ "$1" != -o ]; do shift; done; echo junk > "$2"'


@pytest.mark.parametrize("script", ["exit 1", "exit 0", JUNK, None])
def test_without_a_compiler_that_works_there_are_none(script, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("STEER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(COMPILER, compiler(tmp_path, script) if script else "no-such-compiler")
    assert kernels_for(torch.empty(0)) is None


def has_tiles() -> bool:
    """Whether the processor has tiles, and the system allows them."""
    level, features = torch.backends.cpu.get_cpu_capability(), torch.cpu.get_capabilities()
    return level == "AVX512" and bool(features.get("amx_bf16")) and torch.cpu._init_amx()


def by_tiles() -> bool:
    made = kernels(torch.bfloat16)
    assert made.multiply
    return made.multiply.tiles


@needs_compiler
def test_a_compiler_that_knows_no_tiles_compiles_the_rest(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("STEER_CACHE", str(tmp_path / "cache"))
    assert by_tiles() is has_tiles()
    compiled._kernels.cache_clear()
    script = 'case "$*" in *-mamx*) exit 1;; esac; exec cc "$@"'
    monkeypatch.setenv(COMPILER, compiler(tmp_path, script))
    assert not by_tiles()


@needs_compiler
@pytest.mark.skipif(not has_tiles(), reason="this processor has no tiles")
def test_tiles_that_say_something_else_are_not_used(monkeypatch, tmp_path) -> None:
    break_source(monkeypatch, tmp_path, "tiles.c", "pair * TOGETHER * OUTPUTS", "pair * OUTPUTS")
    assert not by_tiles()


@needs_compiler
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("between.c", "low * wide(sine", "high * wide(sine"),
        ("likely.c", "most - all->below[row]", "most - 2 * all->below[row]"),
        ("likely.c", "most + logf(sum)", "most + sum"),
        ("products.c", "bits == 32 ? DO", "bits == 33 ? DO"),
        ("products.c", "DO(set1_epi32)(8 * sum)", "DO(set1_epi32)(4 * sum)"),
        ("products.c", "128 * p->x->sums[place]", "64 * p->x->sums[place]"),
    ],
)
def test_kernels_that_say_something_else_are_not_used(
    monkeypatch, tmp_path, name, right, wrong
) -> None:
    break_source(monkeypatch, tmp_path, name, right, wrong)
    assert kernels_for(torch.empty(0)) is None


@needs_compiler
def test_a_folder_that_others_may_write_to_is_not_trusted(monkeypatch, tmp_path, caplog) -> None:
    monkeypatch.setenv("STEER_CACHE", str(tmp_path))
    kernels_folder().mkdir()
    os.chmod(kernels_folder(), 0o777)
    with caplog.at_level(logging.DEBUG):
        assert kernels_for(torch.empty(0)) is None
    assert "can be written to by others" in caplog.text


def test_there_are_none_for_other_dtypes() -> None:
    assert kernels_for(torch.empty(0, dtype=torch.float16)) is None
