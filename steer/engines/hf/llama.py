"""The forward pass of models of Llama's kind, without Transformers: it starts sooner and has fewer
operations, each of which costs a few rows as much as its call."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from steer.engines.hf.compiled import kernels_for
from steer.engines.hf.lanes import Bank, Context
from steer.engines.hf.linear import Joint, Layer, Single, Switch
from steer.engines.hf.norm import Norm
from steer.engines.hf.products import Product, pick_product
from steer.models.llama import (
    BEFORE,
    BETWEEN,
    DOWN,
    EMBEDDING,
    GATES,
    HEAD,
    HEAD_NORMS,
    LAST_NORM,
    OUTPUT,
    QUERIES,
    Llama,
    LowRank,
    layer_path,
    read_low_rank,
)


@dataclass(frozen=True)
class Block:
    """A layer: its norms, and its linear layers, those that read the same tensor joined. `queries`
    and `keys` are norms of the heads, where there are some."""

    before: Norm
    reads: Joint
    output: Joint
    between: Norm
    gates: Joint
    down: Joint
    queries: Norm | None
    keys: Norm | None


@dataclass(frozen=True)
class _Maker:
    """Makes the layers, one by one, so that no weights are there twice."""

    model: Llama
    adapters: Sequence[LowRank]
    switch: Switch
    product: type[Product]
    like: Tensor

    def kept(self, path: str) -> Tensor:
        """A weight as it stays; as it is read it may be the file itself."""
        return self._read(f"{path}.weight").clone()

    def norm(self, path: str) -> Norm:
        return Norm(self.kept(path), self.model.shape.eps)

    def block(self, number: int) -> Block:
        path, norms = layer_path(number), self.model.shape.norms
        queries, keys = (
            self.norm(f"{path}.{name}") if name in norms else None for name in HEAD_NORMS
        )
        return Block(
            self.norm(f"{path}.{BEFORE}"),
            self._joint(path, QUERIES),
            self._joint(path, (OUTPUT,)),
            self.norm(f"{path}.{BETWEEN}"),
            self._joint(path, GATES),
            self._joint(path, (DOWN,)),
            queries,
            keys,
        )

    def _read(self, name: str) -> Tensor:
        return self.model.tensors[name].to(self.like)

    def _joint(self, path: str, names: Sequence[str]) -> Joint:
        layers = [self._layer(f"{path}.{name}", name) for name in names]
        return Joint(layers, self.switch, self.product)

    def _layer(self, path: str, name: str) -> Layer:
        weight = self._read(f"{path}.weight")
        bias = self._read(f"{path}.bias") if name in self.model.shape.biased else None
        low_ranks = (self._low_rank(adapter, path, weight) for adapter in self.adapters)
        return Layer(weight, bias, tuple(low_ranks))

    def _low_rank(self, adapter: LowRank, path: str, weight: Tensor) -> tuple[Tensor, Tensor]:
        if path not in adapter.pairs:
            return weight[:0], weight[:, :0]
        down, up = adapter.pairs[path]
        return down.to(self.like), (up * adapter.scale).to(self.like)


class LlamaBody:
    """A model of Llama's kind with adapters; see `steer.engines.hf.body.Body`. `dtype` is that of
    the weights, or "int8" for the linear layers'; all else is as `like`, its device too."""

    def __init__(self, model: Llama, adapters: Sequence[LowRank], dtype: str, like: Tensor) -> None:
        shape = self.shape = model.shape
        self.dtype, self.device, self.kernels = like.dtype, like.device, kernels_for(like)
        self.switch = Switch(self.kernels)
        self.kv_shape = (shape.layers, shape.kv_heads, shape.head_dim)
        self.rep = shape.heads // shape.kv_heads
        self.vocab, self.context, self.ends = shape.vocab, shape.context, shape.ends
        product = pick_product(dtype, like, shape.parameters)
        maker = _Maker(model, adapters, self.switch, product, like)
        self.frequencies = shape.frequencies.to(like.device)
        self.embedding, self.last_norm = maker.kept(EMBEDDING), maker.norm(LAST_NORM)
        self.blocks = [maker.block(number) for number in range(shape.layers)]
        table = self.embedding if shape.tied else maker.kept(HEAD)
        self.head = Single(product.of(table)(table, None))
        self._keep: Callable[[Tensor], None] | None = None

    @property
    def joints(self) -> list[Joint]:
        """The joined linear layers."""
        return [
            joint
            for block in self.blocks
            for joint in (block.reads, block.output, block.gates, block.down)
        ]

    def __call__(self, tokens: Tensor, positions: Tensor, read: Context | Bank) -> Tensor:
        """Computes logits (lanes, vocab) after the last of `tokens` (lanes, length)."""
        cos, sin = self._rotation(positions)
        x = nn.functional.embedding(tokens.flatten(), self.embedding)
        self.switch.compiled = isinstance(read, Bank) and read.compiled
        if isinstance(read, Bank) and read.compiled:
            x = self._compiled(x, read, cos, sin)
        else:
            x = self._layers(x, read, cos, sin)
        if self._keep:
            x = self.last_norm(x)
            self._keep(x.view(*tokens.shape, -1))
            return self._logits(_last(x, tokens))
        return self._logits(self.last_norm(_last(x, tokens)))

    def _layers(self, x: Tensor, read: Context | Bank, cos: Tensor, sin: Tensor) -> Tensor:
        """Takes x (lanes * length, width) through all layers."""
        for number, block in enumerate(self.blocks):
            x = x + self._attend(number, block, block.before(x), read, cos, sin)
            gate, up = block.gates(block.between(x)).chunk(2, dim=1)
            x = x + block.down(nn.functional.silu(gate).mul_(up))
        return x

    def _compiled(self, x: Tensor, read: Bank, cos: Tensor, sin: Tensor) -> Tensor:
        """The same for one token a lane, x (lanes, width), by kernels between the products."""
        assert read.kernels
        kernels, more, scaling = read.kernels, None, self.shape.head_dim**-0.5
        for number, block in enumerate(self.blocks):
            heads = block.reads(kernels.add_norm(x, more, block.before))
            norms = block.queries, block.keys
            found = read.attend_compiled(number, heads, (cos, sin), norms, scaling)
            more = block.output(found)
            both = block.gates(kernels.add_norm(x, more, block.between))
            more = block.down(kernels.silu_times(both))
        assert more is not None
        return x.add_(more)

    def _logits(self, states: Tensor) -> Tensor:
        logits: Tensor = self.head(states)
        return logits

    def _rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (lanes, 1, length, head_dim) of the rotary embedding; the sines of a
        head's first half have the sign that its second half is taken with."""
        angles = positions.unsqueeze(-1).float() * self.frequencies
        cos, sin = angles.cos(), angles.sin()
        both = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
        cos, sin = (each.to(self.dtype).unsqueeze(1) for each in both)
        return cos, sin

    def _attend(
        self, number: int, block: Block, x: Tensor, read: Context | Bank, cos: Tensor, sin: Tensor
    ) -> Tensor:
        """Attention of a layer for x (lanes * length, width); returns the same shape."""
        shape, dim = self.shape, self.shape.head_dim
        lanes, _, length, _ = cos.shape
        heads = block.reads(x).view(lanes, length, -1, dim).transpose(1, 2)
        turned = heads[:, : shape.heads + shape.kv_heads]
        if block.queries is not None and block.keys is not None:
            q, k = turned.split((shape.heads, shape.kv_heads), dim=1)
            q.copy_(block.queries(q))
            k.copy_(block.keys(k))
        across = turned.roll(dim // 2, dims=-1)
        turned.mul_(cos).addcmul_(across, sin)
        q, k, v = heads.split((shape.heads, shape.kv_heads, shape.kv_heads), dim=1)
        out = read.attend(number, q, k, v, dim**-0.5)
        return block.output(out.transpose(1, 2).reshape(len(x), -1))

    @contextmanager
    def watched(self, keep: Callable[[Tensor], None]) -> Iterator[None]:
        """Gives `keep` the states (lanes, length, width) that each pass makes logits of."""
        self._keep = keep
        try:
            yield
        finally:
            self._keep = None


def _last(x: Tensor, tokens: Tensor) -> Tensor:
    """The rows of x (lanes * length, width) that are the last of their lanes."""
    return x if tokens.shape[1] == 1 else x.view(*tokens.shape, -1)[:, -1]


def adapters_for(model: Llama, folders: Sequence[Path]) -> list[LowRank] | None:
    """Reads the adapters in these folders; None where one is more than is read here."""
    found = [read_low_rank(folder, model.shape) for folder in folders]
    read = [each for each in found if each is not None]
    return read if len(read) == len(found) else None
