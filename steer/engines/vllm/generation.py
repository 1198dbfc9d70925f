"""One call of the vllm engine: records are admitted as groups of linked sequences, collected when
they finish, and begun again should vLLM have taken a group's sequences apart."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from vllm.sampling_params import RequestOutputKind

from steer.config import Sampling
from steer.engines.interface import Completion, Request, Step, most_streams
from steer.engines.live import Order
from steer.engines.tokens import require_room
from steer.engines.vllm.groups import Group, Groups, Serving, is_lost, require_another_try
from steer.engines.vllm.processor import NEVER
from steer.errors import SteerError
from steer.guidance import Shown

log = logging.getLogger(__name__)


class Generation(Groups):
    """One call of `VLLMEngine.generate`."""

    def __init__(self, engine: Serving, requests: Sequence[Request], sampling: Sampling) -> None:
        super().__init__(engine, sampling.max_new_tokens, RequestOutputKind.FINAL_ONLY)
        self.order = [request.id for request in requests]
        contexts = {stream.context for request in requests for stream in request.streams}
        self.encoded = {context: engine.encode(context) for context in contexts}
        longest = max(map(len, self.encoded.values()), default=0)
        require_room(longest, sampling.max_new_tokens, engine.max_context)
        self.rows = engine.rows_for(most_streams(requests))
        if shapes := {request.shape for request in requests if request.shape}:
            masks = self.call.masks()
            for shape in shapes:  # a mistake shows here, and not in vLLM's workers
                masks.free(masks.start(shape))
        self.waiting.extend(self.group(Order(request, sampling)) for request in requests)
        self.done: dict[int, Completion] = {}
        self.drawn = 0

    def ids(self, context: str | Shown) -> list[int]:
        """Token ids of a context of one of the requests."""
        return self.encoded[context]

    def run(self, on_step: Callable[[Step], None] | None) -> list[Completion]:
        """Generates completions in the order of the requests. Raises `SteerError` when a record
        does not fit into vLLM's cache, has no token left to draw, or falls out of step again and
        again."""
        try:
            while self.waiting or self.running:
                self._admit()
                self.drawn += len(self.running)
                self._collect(self.read_step())
                if on_step:
                    on_step(Step(tokens=self.drawn, finished=len(self.done)))
        finally:
            self.abort(self.running.values())
        return [self.done[number] for number in self.order]

    def _admit(self) -> None:
        self.room.begin_step()
        while self.waiting and len(self.running) < self.rows:
            if not self.room.take(self.waiting[0].plans):
                break
            self.start_waiting()
        if not self.running:
            raise self.too_large(self.waiting[0])

    def _collect(self, finished: dict[int, dict[int, Any]]) -> None:
        """Collects the groups that finished in this step. The sequences of a group finish together,
        with the same tokens, or the group was taken apart."""
        for number, parts in finished.items():
            if is_lost(parts.values()):
                first = next(iter(parts.values()))
                self._explain(self.running[number].order.request, first.token_ids[:-1])
        for number, parts in finished.items():
            group = self.end(number)
            if group.together(parts):
                self._complete(group.order.request, [parts[stream] for stream in range(len(parts))])
            else:
                self._restart(group)

    def _explain(self, request: Request, written: Sequence[int]) -> None:
        """Raises the `SteerError` because of which no token was drawn. It was seen in a worker,
        which can only mark it, so the shape is read again."""
        if request.shape:
            masks = self.call.masks()
            row = masks.start(request.shape)
            for token in written:
                row.add(token)
            masks.allowed([row])
        raise SteerError("the streams rule out every token of a row; look for infinite logits")

    def _restart(self, group: Group) -> None:
        self.abort([group])
        require_another_try(group)
        self.rows = max(1, len(self.running))  # with fewer beside it, it has more room
        self.engine.restarts += 1
        log.warning("record %s fell out of step and is begun again", group.order.request.id)
        self.waiting.appendleft(group)

    def _complete(self, request: Request, parts: list[Any]) -> None:
        tokens = list(parts[0].token_ids)
        means = [mean(part, len(tokens)) for part in parts]
        self.done[request.id] = Completion(
            id=request.id,
            text=str(self.engine.tokenizer.decode(tokens, skip_special_tokens=True)),
            tokens=len(tokens),
            finish_reason="stop" if tokens[-1] in self.ends else "length",
            log_probs={s.name: m for s, m in zip(request.streams, means, strict=True)},
        )


def mean(part: Any, tokens: int) -> float:
    """Computes the mean log-probability of a sequence's tokens, nats."""
    total = float(part.cumulative_logprob)
    return total / tokens if total > NEVER / 2 else -math.inf
