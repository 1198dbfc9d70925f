"""What stands between the products of a decoding step, compiled for this processor: three calls a
layer instead of some thirty (`between.c`). Likely tokens (`likely.c`), and products (`products.c`,
`tiles.c`).

It is compiled where there is a C compiler, once, into the user's cache. Without one nothing is
missing: PyTorch's operators do the same, and a few rows take longer.
"""

import ctypes
import hashlib
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steer.engines.hf.blocks import Multiply, product_trials, share_address
from steer.engines.hf.norm import Norm
from steer.engines.scoring import Part, likely
from steer.models.cache import kernels_folder

log = logging.getLogger(__name__)

COMPILER = "STEER_COMPILER"
"""The variable that names a C compiler; empty, there is none."""


# By hand, on two threads: docs/performance.md, *Compiled kernels*.
_TOKENS, _TIMES = 4096, 4
"""Tokens of all lanes up to which their attention is faster, and how often more than their own may
be in contexts that they share, which PyTorch's operators read once for all of them."""

_ADAPTED = {torch.float32: 12, torch.bfloat16: 24}
"""Lanes up to which an adapter's first products are faster."""

_LANES_ALONE = 512
"""Lanes up to which all are, times the threads that PyTorch's operators have where they have one.
"""

_SHARED_LANES = 4  # for fewer a thread takes longer to start
_WIDTH = 16  # numbers that the kernels' attention sums side by side

_HEADER, *_SOURCES = (
    Path(__file__).with_name(name)
    for name in ("common.h", "between.c", "likely.c", "products.c", "tiles.c")
)
_DEFINED = {torch.float32: (), torch.bfloat16: ("-DBF16",)}
# No option changes a result but in the last bits; those of -ffast-math would lose NaN, and change
# how the whole process rounds.
_OPTIONS = (
    "-O3",
    "-shared",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
)
# What PyTorch's own kernels use, which the environment may limit (ATEN_CPU_CAPABILITY).
_PROCESSORS = {"AVX512": ("-march=x86-64-v4",), "AVX2": ("-march=x86-64-v3",)}
_TILES = ("-mamx-tile", "-mamx-bf16", "-mavx512bf16")  # older compilers know none
_TILED = ("amx_tile", "amx_bf16", "avx512_bf16")  # as PyTorch names what they need
_SECONDS = 60

_POINTER, _COUNT, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_SHARED: list[Any] = [_POINTER, _COUNT]  # how threads share work, and how many
_ARGUMENTS: dict[str, list[Any]] = {
    "add_norm": [_POINTER] * 3 + [_REAL] + [_COUNT] * 2 + [_POINTER],
    "beside": [_POINTER] * 2 + [_COUNT] * 6 + [_POINTER],
    "silu_times": [_POINTER] + [_COUNT] * 2 + [_POINTER],
    "place": [_POINTER] * 4 + [_REAL, _POINTER, _REAL, _POINTER] + [_COUNT] * 5 + [_POINTER] * 3,
    "likely": [_POINTER, _COUNT, _POINTER] + [_COUNT] * 3 + [_POINTER] * 5,
    "attend": [_POINTER] * 5 + [_COUNT] * 5 + [_REAL, _POINTER, _COUNT, _POINTER],
}


class Kernels:
    """The compiled functions, for tensors of one `dtype` on a CPU. `multiply` is None where this
    processor or PyTorch has not what it needs."""

    def __init__(self, library: Path, dtype: torch.dtype) -> None:
        self._adapted = _ADAPTED[dtype]
        functions = ctypes.CDLL(str(library))
        for name, arguments in _ARGUMENTS.items():
            function = getattr(functions, name)
            function.argtypes, function.restype = arguments + _SHARED, None
        self._add_norm, self._beside = functions.add_norm, functions.beside
        self._silu_times, self._place = functions.silu_times, functions.place
        self._attend, self._likely = functions.attend, functions.likely
        self.multiply = Multiply.of(functions)
        self._share = share_address()

    def _threads(self, lanes: int) -> tuple[int | None, int]:
        """How threads share the work of so many lanes, and how many do."""
        few = self._share is None or lanes < _SHARED_LANES
        return self._share, 1 if few else torch.get_num_threads()

    def take(self, lanes: int) -> bool:
        """Whether they are the faster way for so many lanes."""
        return self._alone == 1 or lanes * self._alone <= _LANES_ALONE

    def attend_to(self, own: int, shared: int, dim: int) -> bool:
        """The same for the attention of all lanes to so many tokens of their own and, counted for
        each lane, of contexts that they share, in heads of size `dim`."""
        few = (own + shared) * self._alone <= _TOKENS
        return dim % _WIDTH == 0 and (few or (self._alone == 1 and shared <= _TIMES * own))

    def adapt(self, rows: int) -> bool:
        """The same for an adapter's first products."""
        return rows * self._alone <= self._adapted

    @property
    def _alone(self) -> int:
        """How many threads PyTorch's operators have for one of these."""
        return 1 if self._share else torch.get_num_threads()

    def beside(self, x: Tensor, down: Tensor, on: int, group: int, copies: int) -> Tensor:
        """x (rows, width), and `copies` times beside it what the matrix `down` (ranks, width) makes
        of its first `on` rows, each filled up to a multiple of `group`."""
        x, (rows, width), ranks = x.contiguous(), x.shape, down.shape[0]
        out = x.new_empty(rows, width + -width % group + copies * (ranks + -ranks % group))
        self._beside(
            x.data_ptr(),
            down.data_ptr(),
            rows,
            width,
            ranks,
            on,
            group,
            copies,
            out.data_ptr(),
            *self._threads(rows),
        )
        return out

    def add_norm(self, x: Tensor, more: Tensor | None, norm: Norm) -> Tensor:
        """Adds `more` to x (rows, width) in place, and norms the sum."""
        out, more = torch.empty_like(x), None if more is None else more.contiguous()
        self._add_norm(
            x.data_ptr(),
            None if more is None else more.data_ptr(),
            norm.weight.data_ptr(),
            norm.eps,
            *x.shape,
            out.data_ptr(),
            *self._threads(len(x)),
        )
        return out

    def silu_times(self, both: Tensor) -> Tensor:
        """silu(gate) * up (rows, width), for gates and ups side by side, (rows, 2 * width)."""
        both, width = both.contiguous(), both.shape[1] // 2
        out = both.new_empty(len(both), width)
        share = self._threads(len(both))
        self._silu_times(both.data_ptr(), len(both), width, out.data_ptr(), *share)
        return out

    def place(
        self,
        heads: Tensor,
        rotation: tuple[Tensor, Tensor],
        norms: tuple[Norm | None, Norm | None],
        slots: Tensor,
        cache: Tensor,
    ) -> Tensor:
        """Reads the next token of each lane: `heads` (lanes, (queries + 2 * pairs) * head_dim), its
        queries, keys and values. Keys, with their rotary embedding, and values go to the lanes'
        `slots` (lanes,) in a layer's `cache` (2, room, pairs, own, head_dim). Returns the queries
        with theirs, (lanes, queries, head_dim). `rotation` are cosines and sines, (lanes,
        head_dim); `norms` those of queries and keys, if any."""
        heads, (lanes, width) = heads.contiguous(), heads.shape
        _, _, pairs, own, dim = cache.shape
        queries = width // dim - 2 * pairs
        out = heads.new_empty(lanes, queries, dim)
        (cos, sin), keys, both = rotation, cache.data_ptr(), cache.itemsize * cache.stride(0)
        self._place(
            heads.data_ptr(),
            cos.data_ptr(),
            sin.data_ptr(),
            *_of(norms[0]),
            *_of(norms[1]),
            slots.data_ptr(),
            lanes,
            queries,
            pairs,
            dim,
            own,
            keys,
            keys + both,
            out.data_ptr(),
            *self._threads(lanes),
        )
        return out

    def attend(
        self, q: Tensor, about: Tensor, contexts: Tensor, cache: Tensor, tokens: int, scaling: float
    ) -> Tensor:
        """Attention of the queries q (lanes, queries, head_dim) from `place`: over the lanes' own
        slots in `cache`, from a first to a last, and over contexts that are elsewhere, at most
        `tokens` together. `about` (lanes, 3) is a lane's first slot, how many it has, and the
        tokens of its context; `contexts` (lanes, 2) the addresses of that one's keys and values in
        this layer, each (pairs, tokens, head_dim). Returns (lanes, queries * head_dim)."""
        lanes, queries, dim = q.shape
        _, _, pairs, own, _ = cache.shape
        each, keys, both = queries // pairs, cache.data_ptr(), cache.itemsize * cache.stride(0)
        out = q.new_empty(lanes, queries * dim)
        room, (share, threads) = each * (2 * dim + tokens), self._threads(lanes + 1)
        work = torch.empty(threads * room)
        self._attend(
            q.data_ptr(),
            about.data_ptr(),
            contexts.data_ptr(),
            keys,
            keys + both,
            lanes,
            pairs,
            each,
            dim,
            own,
            scaling,
            work.data_ptr(),
            room,
            out.data_ptr(),
            share,
            threads,
        )
        return out

    def likely(self, part: Part, below: Tensor, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `steer.engines.scoring.likely`."""
        if allowed is not None:
            return likely(part, below, allowed)
        (streams, rows), (_, vocab) = part.table.shape, part.logits.shape
        table, below = part.table.contiguous(), below.contiguous()
        totals = torch.empty(streams, rows, 1)
        places = torch.empty(rows, vocab, dtype=torch.int32)
        counts, others = torch.empty(2, rows, 1, dtype=torch.int32)
        self._likely(
            part.logits.data_ptr(),
            part.logits.stride(0),
            table.data_ptr(),
            streams,
            rows,
            vocab,
            below.data_ptr(),
            totals.data_ptr(),
            places.data_ptr(),
            counts.data_ptr(),
            others.data_ptr(),
            *self._threads(streams * rows),
        )
        most = max(1, int(counts.max()))
        tokens = torch.where(torch.arange(most) < counts, places[:, :most], others).long()
        return tokens, part.logits[table.unsqueeze(-1), tokens].float().sub_(totals)


def _of(norm: Norm | None) -> tuple[int | None, float]:
    return (norm.weight.data_ptr(), norm.eps) if norm else (None, 0.0)


def kernels_for(like: Tensor) -> Kernels | None:
    """The kernels for tensors such as `like`; None where they cannot be compiled, or PyTorch's
    operators say something else."""
    return _kernels(like.dtype) if like.is_cpu and like.dtype in _DEFINED else None


@cache
def _kernels(dtype: torch.dtype) -> Kernels | None:
    for command in _commands(dtype):
        try:
            kernels = _loaded(_compiled(command), dtype)
        except (OSError, AttributeError, subprocess.SubprocessError) as error:
            log.debug("there are no compiled kernels: %s", error)
            continue
        if _agree(kernels, dtype):
            return kernels
        log.debug("the compiled kernels are not used: they compute something else than PyTorch")
    return None


def _loaded(library: Path, dtype: torch.dtype) -> Kernels:
    """The kernels in the library. One that is damaged is removed, for the next process to compile
    it anew."""
    try:
        return Kernels(library, dtype)
    except (OSError, AttributeError):
        library.unlink(missing_ok=True)
        raise


def _commands(dtype: torch.dtype) -> Iterator[Sequence[str]]:
    """The compiler with its options, those that make the most of this processor first; nothing
    where there is none."""
    named = os.environ.get(COMPILER)
    known = ("cc", "gcc", "clang") if named is None else (named,)
    compiler = next((found for name in known if name and (found := shutil.which(name))), None)
    if not compiler or sys.platform == "win32":
        return
    level = torch.backends.cpu.get_cpu_capability()
    command = (compiler, *_OPTIONS, *_PROCESSORS.get(level, ()), *_DEFINED[dtype])
    features = dict(getattr(torch.cpu, "get_capabilities", dict)())
    if level == "AVX512" and dtype == torch.bfloat16 and all(map(features.get, _TILED)):
        yield (*command, *_TILES)
    yield command


def _compiled(command: Sequence[str]) -> Path:
    """The library that `command` makes of the source, from the cache if it is there. Raises
    `OSError` or `SubprocessError` where it cannot be made, or others may write to the cache."""
    sources = b"".join(source.read_bytes() for source in (_HEADER, *_SOURCES))
    digest = hashlib.sha256(repr(command).encode() + sources).hexdigest()[:32]
    folder = kernels_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_own(folder)
    library = folder / f"{digest}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            made = Path(temporary) / library.name
            subprocess.run(
                [*command, *map(str, _SOURCES), "-o", str(made), "-lm"],
                check=True,
                capture_output=True,
                timeout=_SECONDS,
            )
            os.replace(made, library)
    return library


def _require_own(folder: Path) -> None:
    """Raises `OSError` where somebody else could have written what is in the folder."""
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} can be written to by others")


def _agree(kernels: Kernels, dtype: torch.dtype) -> bool:
    """Whether the kernels say what PyTorch's operators say."""
    return all(
        found.shape == right.shape and torch.allclose(found.float(), right, rtol=0.02, atol=0.02)
        for found, right in _trials(kernels, dtype)
    )


def _trials(kernels: Kernels, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """What each kernel makes of random numbers, and what PyTorch makes of them in fp32."""
    numbers = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=numbers).to(dtype)

    x, more, norm, down = draw(2, 32), draw(2, 32), Norm(draw(32), 1e-5), draw(5, 32)
    low = nn.functional.linear(x.float(), down.float())
    yield kernels.beside(x, down, 2, 1, 1), torch.cat((x.float(), low), dim=1)
    gate, up = x.float().chunk(2, dim=1)
    yield kernels.silu_times(x), nn.functional.silu(gate) * up
    summed = x.float() + more.float()
    right = nn.functional.rms_norm(summed, (32,), norm.weight.float(), norm.eps)
    yield kernels.add_norm(x, more, norm), right
    yield x, summed
    heads, cache, cos, sin = draw(1, 4 * 16), draw(2, 1, 1, 2, 16), draw(1, 16), draw(1, 16)
    q, k, v = heads.float().view(4, 16).split((2, 1, 1))
    q, k = (each * cos.float() + each.roll(8, dims=-1) * sin.float() for each in (q, k))
    queries = kernels.place(heads, (cos, sin), (None, None), torch.tensor([1]), cache)
    yield queries[0], q
    yield cache[:, 0, 0, 1], torch.cat((k, v))
    about, nowhere = torch.tensor([[0, 2, 0]]), torch.zeros(1, 2, dtype=torch.long)
    keys, values = cache[:, 0].float()
    right = nn.functional.scaled_dot_product_attention(q, keys[0], values[0], scale=0.5)
    yield kernels.attend(queries, about, nowhere, cache, 2, 0.5), right.view(1, -1)
    part, below = Part(draw(4, 100), torch.tensor([[3, 0], [1, 2]])), torch.tensor([0.5, 1.0])
    tokens, log_probs = likely(part, below, None)
    found = kernels.likely(part, below, None)
    yield found[0], tokens.float()
    yield found[1], log_probs
    if kernels.multiply:
        yield from product_trials(kernels.multiply, draw)
