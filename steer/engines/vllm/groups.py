"""Groups of linked sequences, one group for each record: those that wait, and those that vLLM has.
A call of the engine and a server both stand on them."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor
from vllm import SamplingParams
from vllm.inputs.engine import tokens_input
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind

from steer.engines.live import Order
from steer.engines.tokens import Known
from steer.engines.vllm.processor import KEY, NO_TOKEN, OUT_OF_STEP, Call, Link
from steer.engines.vllm.room import Capacity, Room, SequencePlan
from steer.errors import SteerError
from steer.guidance import Shown
from steer.models.base import Tokenizer

TRIES = 5  # tries of a record, before something must be wrong


class Serving(Protocol):
    """Parts of the loaded engine that groups need."""

    base: str
    llm: Any  # vLLM's LLMEngine
    loras: list[LoRARequest]
    tokenizer: Tokenizer
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
class Group:
    """A record and its sequences; `number` is another at each try."""

    order: Order
    plans: tuple[SequencePlan, ...]
    tries: int = 0
    number: int = -1

    def name(self, stream: int) -> str:
        """vLLM's name for one of the sequences."""
        return f"{self.number}.{stream}"

    @property
    def names(self) -> list[str]:
        """vLLM's names for all of them."""
        return [self.name(stream) for stream in range(len(self.plans))]

    def together(self, parts: dict[int, Any]) -> bool:
        """Whether `parts`, what vLLM gives of the sequences by stream, are all there and say the
        same, none with a mark."""
        reports = {last_value(part) for part in parts.values()}
        texts = {tuple(part.token_ids) for part in parts.values()}
        return len(parts) == len(self.plans) and len(texts) == 1 and OUT_OF_STEP not in reports


class Groups:
    """Groups that wait and run. No record has more than `longest` tokens, and vLLM tells of
    sequences what `kind` says."""

    def __init__(self, engine: Serving, longest: int, kind: RequestOutputKind) -> None:
        self.engine, self.kind = engine, kind
        self.ends: list[int] = engine.ends.tolist()
        self.call = Call(longest, tuple(self.ends), engine.known, engine.base)
        self.room = Room(engine.capacity)
        self.waiting: deque[Group] = deque()
        self.running: dict[int, Group] = {}

    def ids(self, context: str | Shown) -> list[int]:
        """Token ids of a context."""
        return self.engine.encode(context)

    def group(self, order: Order) -> Group:
        """Plans the sequences of a record."""
        adapter = order.adapter if self.engine.loras else 0
        plans = (
            SequencePlan(
                adapter if stream.adapter else 0,
                stream.context,
                len(self.ids(stream.context)),
                order.longest,
            )
            for stream in order.request.streams
        )
        return Group(order, tuple(plans))

    def start_waiting(self) -> Group:
        """Starts the group that waits first, for which room was taken."""
        waiting, number = self.waiting.popleft(), next(self.engine.numbers)
        group = replace(waiting, tries=waiting.tries + 1, number=number)
        self.running[number] = group
        for stream, plan in enumerate(group.plans):
            self.engine.llm.add_request(
                group.name(stream),
                tokens_input(self.ids(plan.context)),
                self._params(Link(self.call, number, stream, group.order)),
                lora_request=self.engine.loras[plan.adapter - 1] if plan.adapter else None,
            )
        return group

    def _params(self, link: Link) -> SamplingParams:
        return SamplingParams(
            temperature=0,
            max_tokens=link.order.longest,
            ignore_eos=True,  # the ends are ours, as for the hf engine
            stop_token_ids=self.ends,
            logprobs=0,  # only of the sampled tokens
            detokenize=False,
            output_kind=self.kind,
            extra_args={KEY: link},
        )

    def read_step(self) -> dict[int, dict[int, Any]]:
        """Lets vLLM read a step; gives what it tells, by group and stream."""
        found: dict[int, dict[int, Any]] = defaultdict(dict)
        for output in self.engine.llm.step():
            number, stream = map(int, output.request_id.split("."))
            found[number][stream] = output.outputs[0]
        return found

    def end(self, number: int) -> Group:
        """Ends a running group; its sequences may be in vLLM all the same."""
        group = self.running.pop(number)
        self.room.release(group.plans)
        return group

    def abort(self, groups: Iterable[Group]) -> None:
        """Takes what vLLM still has of `groups` from it."""
        if names := [name for group in groups for name in group.names]:
            self.engine.llm.abort_request(names)

    def too_large(self, group: Group) -> SteerError:
        """Says that there will never be room for a group."""
        has, tokens = self.engine.capacity, sum(plan.length for plan in group.plans)
        return SteerError(
            f"a record of {len(group.plans)} streams, whose contexts have {tokens} tokens, and of "
            f"{group.order.longest} new tokens does not fit into vLLM's "
            f"{has.sequences} sequences, {has.blocks} cache blocks of {has.block} tokens and "
            f"{has.step_tokens} tokens a step; use a smaller panel or fewer new tokens"
        )


def require_another_try(group: Group) -> None:
    """Raises `SteerError` for a group that fell out of step again and again."""
    if group.tries == TRIES:
        raise SteerError(
            f"vLLM took the streams of a record apart {TRIES} times, so it cannot be made; "
            "use fewer rows (--rows)"
        )


def last_value(part: Any) -> float:
    """Value that the processor wrote for the last token of a sequence."""
    return float(part.logprobs[-1][part.token_ids[-1]].logprob)


def is_lost(parts: Iterable[Any]) -> bool:
    """Whether a group, of whose sequences these are, ended as no token was left to draw."""
    return any(last_value(part) == NO_TOKEN for part in parts)
