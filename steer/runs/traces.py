"""Traces of a run's records: an engine reads them again, and says what guidance did to each of
their tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steer.config import Guidance, Sampling
from steer.data.corpus import Corpus
from steer.engines.hf.engine import HFEngine
from steer.engines.interface import Request
from steer.engines.live import Order
from steer.engines.spelling import Spelling
from steer.errors import SteerError
from steer.guidance import Contexts, Stream, build_streams
from steer.models.base import encode_texts
from steer.models.expert import Expert
from steer.runs.pool import Example, render_panel
from steer.runs.records import Record
from steer.runs.store import Run


@dataclass(frozen=True)
class Trace:
    """A record token by token: the candidates for each, as `Spelling.traced` gives them, and the
    streams that a reader may weigh anew."""

    id: str
    streams: tuple[str, ...]
    weights: tuple[float, ...]
    guidance: Guidance
    tokens: tuple[Mapping[str, Any], ...]


class Tracer:
    """Traces records of `run`, which `expert` wrote with `engine` loaded for it, beside the `real`
    texts. Raises `SteerError` where they are not those of the run."""

    def __init__(self, run: Run, expert: Expert, real: Corpus, engine: HFEngine) -> None:
        _require_same(run, expert, real)
        self._run, self._real, self._engine = run, real, engine
        self._task = expert.task.suited_to(real.texts)
        self._end_bias = expert.end_bias if run.config.end_bias else ()
        self._spelling = Spelling(engine.tokenizer, engine.ends.tolist())
        attempts = (*run.records, *run.rejects)
        self._written = {attempt.id: attempt.text for attempt in attempts}

    def trace(self, records: Sequence[Record]) -> list[Trace]:
        """Reads the records, all in one batch. Their tokens are those of their texts, which the
        engine may have drawn in other pieces."""
        completions = encode_texts(
            self._engine.tokenizer, [self._task.completion(each.text) for each in records]
        )
        orders = [
            self._order(number, record, [*ids, int(self._engine.ends[0])])
            for number, (record, ids) in enumerate(zip(records, completions, strict=True))
        ]
        live = self._engine.live(max(order.longest for order in orders))
        for order in orders:
            live.check(order)
        live.add(orders)
        tokens: list[list[Mapping[str, Any]]] = [[] for _ in orders]
        while live.busy:
            for each in live.step():
                tokens[each.id].append(self._spelling.traced(each.token, each.trace))
        guidance = self._run.config.guidance
        return [
            Trace(
                record.id,
                tuple(stream.name for stream in order.request.streams),
                tuple(stream.weight for stream in order.request.streams),
                guidance,
                tuple(own),
            )
            for record, order, own in zip(records, orders, tokens, strict=True)
        ]

    def _order(self, number: int, record: Record, ids: Sequence[int]) -> Order:
        guidance = self._run.config.guidance
        request = Request(
            number,
            self._streams(record),
            record.seed,
            guidance.alpha,
            guidance.adaptive,
            end_bias=self._end_bias,
        )
        # Every token is given, so none is drawn; one more has to be allowed.
        return Order(request, Sampling(max_new_tokens=1), tuple(ids), trace=True)

    def _streams(self, record: Record) -> tuple[Stream, ...]:
        config, task = self._run.config, self._task
        size = max(1, len(record.panel) // max(1, config.guidance.negatives))
        panels = [record.panel[i : i + size] for i in range(0, len(record.panel), size)]

        def rendered(panel: Sequence[str]) -> Any:
            examples = [Example(id, self._text(id)) for id in panel]
            return render_panel(examples, config.panel_form, task, record.prompt)

        contexts = Contexts(
            prompt=record.prompt,
            negative=tuple(rendered(panel) for panel in panels),
            positive=rendered(record.positive) if record.positive else "",
            others=tuple(task.render(each) for each in task.labels if each != record.label),
        )
        return build_streams(config.guidance, contexts)

    def _text(self, id: str) -> str:
        if id.startswith("real:"):
            return self._real.texts[int(id.removeprefix("real:"))]
        return self._written[id]


def _require_same(run: Run, expert: Expert, real: Corpus) -> None:
    sources = run.sources
    if sources.adapter_fingerprint != expert.adapter_fingerprint:
        raise SteerError(f"{expert.path} did not write {run.path}; name its expert with --expert")
    if sources.data_fingerprint != real.fingerprint:
        raise SteerError(
            f"traces need the real texts that {run.path} read; give them with --real, or leave out "
            "--traces"
        )
    if expert.task.chats:
        raise SteerError(
            f"{run.path} answers chats, whose panels are not read again; leave out --traces"
        )
    if sources.towards_fingerprint not in (None, sources.data_fingerprint):
        raise SteerError(f"the positive panels of {run.path} are of texts that it does not have")
