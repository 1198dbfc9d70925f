"""The experts that a server has loaded, and the orders that requests to them become."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from steer.config import Guidance
from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.engines.hf.engine import HFEngine
from steer.engines.hf.live import Live, Order
from steer.engines.interface import Request
from steer.errors import SteerError
from steer.guidance import Contexts, build_streams
from steer.methods import Method, adjust, find_method
from steer.models.base import encode_texts
from steer.models.expert import Expert
from steer.runs.pool import Pool, render_panel
from steer.seeds import derive
from steer.serving.bodies import Asked
from steer.serving.chosen import Chosen, Find, Names, nothing
from steer.serving.refusal import Refusal

TOWARDS_RHO = 0.2
"""The strength of `towards` where a request names none; that of the method steer-positive."""

_SETTINGS = ("gamma", "eta", "rho", "alpha", "temperature", "top_p", "top_k", "min_p", "panel_size")


@dataclass(frozen=True)
class Ordered:
    """Orders of one request, `n` for each prompt in turn. `texts` are how they begin, and `spaced`
    says of each whether a space belongs before its first word; `read` counts the tokens of the
    prompts."""

    orders: tuple[Order, ...]
    method: Method
    label: str | None
    prompt: str
    negative: tuple[str, ...]
    positive: tuple[str, ...]
    spaced: tuple[bool, ...]
    read: int


@dataclass(frozen=True)
class Served:
    """An expert with its engine and the real texts that panels are drawn from. The engine may be
    that of several experts: their rows are in the batch of that name, and `number` says which of
    its adapters is this one's, from 1."""

    name: str
    expert: Expert
    engine: HFEngine
    real: Corpus
    longest: int
    batch: str
    number: int

    @cached_property
    def task(self) -> Task:
        """The expert's task, with the real texts' white space."""
        return self.expert.task.suited_to(self.real.texts)

    @cached_property
    def pool(self) -> Pool:
        """The real texts, by label where both they and the expert have some."""
        return Pool(self.real, bool(self.real.labels and self.expert.labels))

    @cached_property
    def limits(self) -> Live:
        """A generation that only says what fits."""
        return self.engine.live(self.longest)

    def order(self, asked: Asked, find: Find = nothing) -> Ordered:
        """Makes the orders of a request, which may name written texts that `find` knows. Raises
        `Refusal` for what it cannot have."""
        try:
            return self._order(asked, find)
        except SteerError as error:
            raise Refusal(400, str(error), code="invalid_value") from None

    def _order(self, asked: Asked, find: Find) -> Ordered:
        method = self._method(asked)
        seed = secrets.randbits(63) if asked.seed is None else asked.seed % 2**63
        own = self.task.render(asked.label)
        task = (
            Task(asked.instruction, whitespace=self.task.whitespace)
            if (asked.instruction.strip() and asked.instruction != own)
            else None
        )
        prompt = task.prompt if task else own
        chosen = Chosen(asked, method, seed, self.pool, Names(self.real, find))
        negative, positive = chosen.negative(), chosen.positive()
        reading = task or self.task
        contexts = Contexts(
            prompt=prompt,
            negative=tuple(
                render_panel(panel, method.panel_form, reading, prompt) for panel in negative
            ),
            positive=render_panel(positive, method.panel_form, reading, prompt) if positive else "",
            others=tuple(self.task.render(each) for each in self._others(asked, method)),
        )
        streams = build_streams(method.guidance, contexts)
        begun = [self._begin(each, prompt) for each in asked.prompts]
        sampling = method.sampling.model_copy(
            update={"max_new_tokens": asked.most or self.expert.max_completion_tokens}
        )
        numbers = range(asked.n)
        guidance = method.guidance
        orders = tuple(
            Order(
                Request(
                    0, streams, derive(seed, "record", number), guidance.alpha, guidance.adaptive
                ),
                sampling,
                ids,
                asked.top,
                asked.trace,
                self.number,
            )
            for ids in begun
            for number in numbers
        )
        for order in orders[:: asked.n]:
            self.limits.check(order)
        read = len(self.engine.lane_model.encode(prompt))
        return Ordered(
            orders,
            method,
            asked.label,
            prompt,
            tuple(each.id for panel in negative for each in panel if each.id),
            tuple(each.id for each in positive if each.id),
            tuple(not ids and not prompt[-1].isspace() for ids in begun for _ in numbers),
            sum(read + len(ids) for ids in begun),
        )

    def _method(self, asked: Asked) -> Method:
        given = {name: getattr(asked, name, None) for name in _SETTINGS}
        if asked.towards and asked.rho is None:
            given["rho"] = TOWARDS_RHO
        named = find_method(asked.method, bool(self.expert.labels))
        method = adjust(
            named, named.name, {key: value for key, value in given.items() if value is not None}
        )
        if method.sampling.beams > 1 or method.sampling.penalty:
            raise Refusal(
                400,
                f"the method {named.name} searches, and a server draws; choose another, such as "
                "plain with temperature 0",
                param="method",
            )
        _require_use(asked, method.guidance)
        if method.panel_selection != "random" and method.guidance.eta and not asked.away:
            raise Refusal(
                400,
                f"the method {named.name} chooses its panel by {method.panel_selection} texts; "
                "give the texts in away",
                param="away",
            )
        return method

    def _others(self, asked: Asked, method: Method) -> Sequence[str]:
        if method.guidance.contrast not in ("labels", "dexperts"):
            return ()
        return [each for each in self.task.labels if each != asked.label]

    def _begin(self, given: str | list[int], prompt: str) -> tuple[int, ...]:
        """Token ids that a text begins with."""
        if not isinstance(given, str):
            known = self.engine.lane_model.known
            for id in given:
                if id >= known.size or id in known.holes:
                    raise Refusal(400, f"there is no token {id}", param="prompt")
            return tuple(given)
        begun = given.removeprefix(prompt)
        if not begun:
            return ()
        spaced = begun if begun[0].isspace() or prompt[-1].isspace() else f" {begun}"
        return tuple(encode_texts(self.engine.tokenizer, [spaced])[0])


def _require_use(asked: Asked, guidance: Guidance) -> None:
    """Refuses texts that no stream would read."""
    for name, texts, read in (
        ("away", asked.away, guidance.eta > 0),
        ("towards", asked.towards, guidance.reads_positive),
    ):
        if texts and not read:
            strength = "eta" if name == "away" else "rho"
            raise Refusal(400, f"{name} has no effect: {strength} is 0", param=name)
