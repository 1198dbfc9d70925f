"""Logits processor inside vLLM's workers that gives the linked sequences of each record one common
token, drawn from their guided scores.

The sequences are sampled greedily, and all their logits but that of the common token are -inf. Its
own logit is the stream's log-probability of it, which vLLM returns (`logprobs_mode` is
"processed_logits"). Values above 0 cannot be log-probabilities, and report what went wrong.

Under tensor parallelism every rank runs this on the same gathered logits. A draw depends on nothing
but them and the record's seed, so all ranks write the same token.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.sample.logits_processor.interface import BatchUpdate, LogitsProcessor

from steer.config import Sampling
from steer.engines.drawing import Drawing
from steer.engines.interface import most_streams
from steer.engines.live import Order, Told
from steer.engines.masks import Masks
from steer.engines.scoring import Part, Rows, parts
from steer.engines.tokens import Known
from steer.models.base import load_tokenizer

KEY = "steer"  # names a sequence's link in `SamplingParams.extra_args`
OUT_OF_STEP, NO_TOKEN = 1.0, 2.0
NEVER = -1e30  # stands for -inf: a sequence whose logits are all -inf has no argmax


_TOLD: dict[int, Told] = {}
"""What orders asked to be told of the last step, by request, in the process that drew."""


@dataclass(frozen=True)
class Call:
    """Settings that all sequences of one call of the engine, or of one server, share. A record has
    `longest` tokens at the most; `ends` are the tokens that end it; only `known` ids are drawn.
    `base` names the model whose tokenizer records with a shape are written with."""

    longest: int
    ends: tuple[int, ...]
    known: Known
    base: str

    @property
    def end(self) -> int:
        """One of the ends."""
        return self.ends[0]

    def masks(self) -> Masks:
        """Masks of the shapes. Raises `SteerError` as `Masks` does."""
        return find_masks(self.base, self.known.size, self.ends)


@lru_cache(maxsize=4)
def find_masks(base: str, size: int, ends: tuple[int, ...]) -> Masks:
    """Makes the masks that this process has for a model: a tokenizer takes long to read."""
    return Masks(load_tokenizer(base), size, ends)


@dataclass(frozen=True)
class Link:
    """Makes a sequence the stream `stream` of what is ordered. Sequences of the same `group`, one
    for each stream, get their tokens together."""

    call: Call
    group: int
    stream: int
    order: Order


def take_told(worker: object = None) -> dict[int, Told]:
    """Takes what was told of the last step, by request; vLLM calls it in its workers."""
    told = dict(_TOLD)
    _TOLD.clear()
    return told


class _Sequence(NamedTuple):
    link: Link
    written: list[int]  # vLLM's own list, which grows


class _Group(NamedTuple):
    number: int
    order: Order
    places: list[int]  # in vLLM's batch, in the order of the streams
    written: list[list[int]]

    @property
    def in_step(self) -> bool:
        """Whether all streams are in the batch and have written equally much. A sequence that is
        only part of the way through its prefill falls behind by this step's token, and is found
        out in the next."""
        lengths = {len(written) for written in self.written}
        return len(self.places) == len(self.order.request.streams) and len(lengths) == 1


class LinkedSequences(LogitsProcessor):
    """Logits processor that links sequences; vLLM makes one in each worker."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self.device = device
        self.sequences: dict[int, _Sequence] = {}
        self.groups: list[_Group] = []
        self.linked = torch.empty(0, dtype=torch.long, device=device)  # their places
        self.call: Call | None = None
        self.orders: dict[int, Order] = {}  # of the rows, by request
        self.numbers: list[int] = []  # group numbers, in the order of the rows

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows which sequences joined, left and moved, as vLLM tells."""
        if process_dict_updates(self.sequences, batch_update, _sequence):
            self.groups = _groups(self.sequences)
            self.linked = torch.tensor(list(self.sequences), device=self.device)

    def apply(self, logits: Tensor) -> Tensor:
        """Forces one token on every linked sequence; `logits` (sequences, vocab) are fp32."""
        if not self.sequences:
            return logits
        groups = [group for group in self.groups if group.in_step]
        forced = self._pick(groups, self._current().known.among(logits)) if groups else None
        logits.index_fill_(0, self.linked, -math.inf)
        logits[self.linked, self._current().end] = OUT_OF_STEP
        if forced:
            table, tokens, values = forced
            logits[table, self._current().end] = -math.inf
            logits[table, tokens] = values
        return logits

    def _current(self) -> Call:
        return next(iter(self.sequences.values())).link.call

    def _pick(self, groups: list[_Group], logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draws the groups' common tokens (groups,); returns the sequences' places (streams,
        groups), these tokens, and each stream's log-probability of them (streams, groups)."""
        rows = self._rows(groups)
        places = [group.places for group in groups]
        table = rows.table(places, chain.from_iterable(places))
        rows.follow([group.written[0] for group in groups])
        ends = torch.tensor(self._current().ends, device=self.device)
        whole = Part(logits, table)
        rows.bias(slice(0, len(groups)), whole, ends)
        picked = [self.drawing.choose(some, part) for some, part in parts(whole)]
        tokens = torch.cat([tokens for tokens, _ in picked])
        values = torch.cat([log_probs for _, log_probs in picked], dim=1).clamp(min=NEVER)
        if failed := self.drawing.failed:
            lost = torch.tensor([each.id in failed for each in rows.requests], device=self.device)
            tokens[lost], values[:, lost] = self._current().end, NO_TOKEN
        _TOLD.update(self.drawing.told)
        self.drawing.failed, self.drawing.told = set(), {}
        return table, tokens, values

    def _rows(self, groups: list[_Group]) -> Rows:
        """Finds the rows of `groups`, in their order: old ones kept, new ones added."""
        self._begin(self._current())
        rows, numbers = self.drawing.rows, [group.number for group in groups]
        if numbers != self.numbers:
            row = {number: row for row, number in enumerate(self.numbers)}
            if added := [group.order for group in groups if group.number not in row]:
                self._add(added)
            new = iter(range(len(row), len(rows.requests)))
            kept = [row[number] if number in row else next(new) for number in numbers]
            rows.keep(torch.tensor(kept, device=self.device))
            self.numbers = numbers
            for gone in self.orders.keys() - {request.id for request in rows.requests}:
                del self.orders[gone]
        return rows

    def _begin(self, call: Call) -> None:
        """Makes the rows anew for another call."""
        if call != self.call:
            self.call, self.orders, self.numbers = call, {}, []
            most = Sampling(max_new_tokens=call.longest)
            self.drawing = Drawing(Rows(1, most, self.device), self.orders)

    def _add(self, orders: list[Order]) -> None:
        rows, requests = self.drawing.rows, [order.request for order in orders]
        self.orders |= {order.request.id: order for order in orders}
        if any(request.shape for request in requests):
            rows.masks = self._current().masks()
        rows.widen(most_streams(requests))
        rows.add(requests)


def _sequence(params: Any, prompt: list[int] | None, written: list[int]) -> _Sequence | None:
    link = (params.extra_args or {}).get(KEY)
    return None if link is None else _Sequence(link, written)


def _groups(sequences: dict[int, _Sequence]) -> list[_Group]:
    """Sorts the sequences by group, in the order of the groups' numbers."""
    members: dict[int, list[tuple[int, int, _Sequence]]] = defaultdict(list)
    for place, sequence in sequences.items():
        members[sequence.link.group].append((sequence.link.stream, place, sequence))
    groups = []
    for number, linked in sorted(members.items()):
        linked.sort(key=lambda member: member[0])
        first = linked[0][2].link.order
        places = [place for _, place, _ in linked]
        groups.append(_Group(number, first, places, [one.written for *_, one in linked]))
    return groups
