"""One call of the vllm engine: records are admitted as groups of linked sequences, collected when
they finish, and begun again should vLLM have taken a group's sequences apart."""

import logging
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedTokenizerBase
from vllm import SamplingParams
from vllm.inputs.engine import tokens_input
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind

from steer.config import Sampling
from steer.engines.interface import Completion, Request, Step, most_streams
from steer.engines.tokens import Known, require_room
from steer.engines.vllm.processor import KEY, NEVER, NO_TOKEN, OUT_OF_STEP, Call, Link
from steer.engines.vllm.room import Capacity, Room, SequencePlan
from steer.errors import SteerError
from steer.guidance import Shown

TRIES = 5  # tries of a record, before something must be wrong

log = logging.getLogger(__name__)


class Serving(Protocol):
    """Parts of the loaded engine that a generation needs."""

    base: str
    llm: Any  # vLLM's LLMEngine
    lora: LoRARequest | None
    tokenizer: PreTrainedTokenizerBase
    ends: Tensor
    known: Known
    capacity: Capacity
    numbers: Iterator[int]
    restarts: int

    @property
    def max_context(self) -> int: ...

    def rows_for(self, streams: int) -> int: ...

    def encode(self, context: str | Shown) -> list[int]: ...


@dataclass(frozen=True)
class _Group:
    """A record and its sequences; `number` is another at each try."""

    request: Request
    plans: tuple[SequencePlan, ...]
    tries: int = 0
    number: int = -1

    def name(self, stream: int) -> str:
        """vLLM's name for one of the sequences."""
        return f"{self.number}.{stream}"

    @property
    def names(self) -> list[str]:
        return [self.name(stream) for stream in range(len(self.plans))]


class Generation:
    """One call of `VLLMEngine.generate`."""

    def __init__(self, engine: Serving, requests: Sequence[Request], sampling: Sampling) -> None:
        self.engine, self.sampling = engine, sampling
        self.order = [request.id for request in requests]
        contexts = {stream.context for request in requests for stream in request.streams}
        self.ids = {context: engine.encode(context) for context in contexts}
        longest = max(map(len, self.ids.values()), default=0)
        require_room(longest, sampling.max_new_tokens, engine.max_context)
        streams = most_streams(requests)
        self.rows = engine.rows_for(streams)
        self.ends = engine.ends.tolist()
        shapes = {request.shape for request in requests if request.shape}
        base = engine.base if shapes else None
        self.call = Call(sampling, streams, tuple(self.ends), engine.known, base)
        if masks := self.call.masks():  # a mistake shows here, and not in vLLM's workers
            for shape in shapes:
                masks.free(masks.start(shape))
        self.room = Room(engine.capacity, sampling.max_new_tokens)
        self.waiting = deque(_Group(request, self._plans(request)) for request in requests)
        self.running: dict[int, _Group] = {}
        self.done: dict[int, Completion] = {}
        self.drawn = 0

    def _plans(self, request: Request) -> tuple[SequencePlan, ...]:
        adapted = self.engine.lora is not None
        return tuple(
            SequencePlan(stream.adapter and adapted, stream.context, len(self.ids[stream.context]))
            for stream in request.streams
        )

    def run(self, on_step: Callable[[Step], None] | None) -> list[Completion]:
        """Generates completions in the order of the requests. Raises `SteerError` when a record
        does not fit into vLLM's cache, has no token left to draw, or falls out of step again and
        again."""
        try:
            while self.waiting or self.running:
                self._admit()
                self.drawn += len(self.running)
                self._collect(self.engine.llm.step())
                if on_step:
                    on_step(Step(tokens=self.drawn, finished=len(self.done)))
        finally:
            self._abort(chain.from_iterable(group.names for group in self.running.values()))
        return [self.done[number] for number in self.order]

    def _admit(self) -> None:
        self.room.begin_step()
        while self.waiting and len(self.running) < self.rows:
            if not self.room.take(self.waiting[0].plans):
                break
            self._start(self.waiting.popleft())
        if not self.running:
            raise SteerError(self._too_large(self.waiting[0]))

    def _too_large(self, group: _Group) -> str:
        has, tokens = self.engine.capacity, sum(plan.length for plan in group.plans)
        return (
            f"a record of {len(group.plans)} streams, whose contexts have {tokens} tokens, and of "
            f"{self.sampling.max_new_tokens} new tokens does not fit into vLLM's "
            f"{has.sequences} sequences, {has.blocks} cache blocks of {has.block} tokens and "
            f"{has.step_tokens} tokens a step; use a smaller panel or fewer new tokens"
        )

    def _start(self, waiting: _Group) -> None:
        number = next(self.engine.numbers)
        group = _Group(waiting.request, waiting.plans, waiting.tries + 1, number)
        self.running[number] = group
        for stream, plan in enumerate(group.plans):
            self.engine.llm.add_request(
                group.name(stream),
                tokens_input(self.ids[plan.context]),
                self._params(Link(self.call, number, stream, group.request)),
                lora_request=self.engine.lora if plan.adapter else None,
            )

    def _params(self, link: Link) -> SamplingParams:
        return SamplingParams(
            temperature=0,
            max_tokens=self.sampling.max_new_tokens,
            ignore_eos=True,  # the ends are ours, as for the hf engine
            stop_token_ids=self.ends,
            logprobs=0,  # only of the sampled tokens
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args={KEY: link},
        )

    def _collect(self, outputs: Sequence[Any]) -> None:
        """Collects the groups that finished in this step. The sequences of a group finish together,
        with the same tokens, or the group was taken apart."""
        finished: dict[int, dict[int, Any]] = defaultdict(dict)
        for output in outputs:
            number, stream = map(int, output.request_id.split("."))
            finished[number][stream] = output.outputs[0]
        if any(_last_value(p) == NO_TOKEN for parts in finished.values() for p in parts.values()):
            self._explain(finished)
        for number, parts in finished.items():
            group = self.running.pop(number)
            self.room.release(group.plans)
            if self._together(group, parts):
                self._complete(group, [parts[stream] for stream in range(len(parts))])
            else:
                self._restart(
                    group, [group.name(s) for s in range(len(group.plans)) if s not in parts]
                )

    def _together(self, group: _Group, parts: dict[int, Any]) -> bool:
        reports = {_last_value(part) for part in parts.values()}
        texts = {tuple(part.token_ids) for part in parts.values()}
        return len(parts) == len(group.plans) and len(texts) == 1 and OUT_OF_STEP not in reports

    def _explain(self, finished: dict[int, dict[int, Any]]) -> None:
        """Raises the `SteerError` because of which no token was drawn. It was raised in a worker,
        which can only mark it, so the shapes are read again."""
        if masks := self.call.masks():
            for number, parts in finished.items():
                if shape := self.running[number].request.shape:
                    row = masks.start(shape)
                    for token in next(iter(parts.values())).token_ids[:-1]:
                        row.add(token)
                    masks.allowed([row])
        raise SteerError("the streams rule out every token of a row; look for infinite logits")

    def _restart(self, group: _Group, unfinished: list[str]) -> None:
        self._abort(unfinished)
        if group.tries == TRIES:
            raise SteerError(
                f"vLLM took the streams of a record apart {TRIES} times, so it cannot be made; "
                "use fewer rows (--rows)"
            )
        self.rows = max(1, len(self.running))  # with fewer beside it, it has more room
        self.engine.restarts += 1
        log.warning("record %s fell out of step and is begun again", group.request.id)
        self.waiting.appendleft(group)

    def _complete(self, group: _Group, parts: list[Any]) -> None:
        tokens = list(parts[0].token_ids)
        means = [_mean(part) for part in parts]
        self.done[group.request.id] = Completion(
            id=group.request.id,
            text=str(self.engine.tokenizer.decode(tokens, skip_special_tokens=True)),
            tokens=len(tokens),
            finish_reason="stop" if tokens[-1] in self.ends else "length",
            log_probs={s.name: m for s, m in zip(group.request.streams, means, strict=True)},
        )

    def _abort(self, names: Iterator[str] | list[str]) -> None:
        if names := list(names):
            self.engine.llm.abort_request(names)


def _last_value(part: Any) -> float:
    """Value that the processor wrote for the last token of a finished sequence."""
    return float(part.logprobs[-1][part.token_ids[-1]].logprob)


def _mean(part: Any) -> float:
    """Computes the mean log-probability of a sequence's tokens."""
    total = float(part.cumulative_logprob)
    return total / len(part.token_ids) if total > NEVER / 2 else -math.inf
