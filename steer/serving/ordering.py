"""The orders that a request becomes: what each of its texts answers, its streams, how it begins."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from steer.config import Guidance
from steer.data.tasks import Task
from steer.engines.interface import Request
from steer.engines.live import Order
from steer.errors import SteerError
from steer.guidance import Contexts, Shown, Stream, build_streams
from steer.methods import STEERED, Method, adjust, find_method, usual_method
from steer.models.base import encode_texts
from steer.models.prompts import render_chat
from steer.runs import asking
from steer.runs.pool import Example, render_panel
from steer.seeds import derive
from steer.serving.bodies import Asked
from steer.serving.chosen import Chosen, Find, Names, nothing
from steer.serving.experts import Served
from steer.serving.refusal import Refusal
from steer.shapes import Shape

TOWARDS_RHO = 0.2
"""The strength of `towards` where a request names none; that of the method steer-positive."""

_SETTINGS = ("gamma", "eta", "rho", "alpha", "temperature", "top_p", "top_k", "min_p", "panel_size")


@dataclass(frozen=True)
class Ordered:
    """Orders of one request, `n` for each prompt in turn, and what each of them answers.
    `negative` and `positive` are the ids of the texts in panels. A text stands after the `lead`, a
    space or nothing; `read` counts the tokens of the prompts."""

    orders: tuple[Order, ...]
    answers: tuple[asking.Asked, ...]
    method: Method
    label: str | None
    negative: tuple[str, ...]
    positive: tuple[str, ...]
    lead: str
    read: int


def order(served: Served, asked: Asked, find: Find = nothing) -> Ordered:
    """Makes the orders of a request, which may name written texts that `find` knows. Raises
    `Refusal` for what it cannot have."""
    try:
        return _Ordering(served, asked, find).order()
    except SteerError as error:
        raise Refusal(400, str(error), code="invalid_value") from None


@dataclass(frozen=True)
class _Ordering:
    served: Served
    asked: Asked
    find: Find

    def order(self) -> Ordered:
        names = Names(self.served.real, self.find, self.served.prompts)
        chosen = Chosen(self.asked, self.method, self.seed, self.served.pool, names)
        negative, positive = chosen.negative(), chosen.positive()
        questions = [self._question(number) for number in range(self.asked.n)]
        streams = {each.prompt: self._streams(each, negative, positive) for each in questions}
        read = 0
        orders: list[Order] = []
        for given in self.asked.prompts:
            begun = {prompt: self._begin(given, prompt) for prompt in streams}
            read += sum(
                self.served.limits.length(prompt) + len(ids) for prompt, ids in begun.items()
            )
            for number, each in enumerate(questions):
                orders.append(self._order(number, streams[each.prompt], begun[each.prompt]))
        self._check(orders)
        return Ordered(
            tuple(orders),
            tuple(questions * len(self.asked.prompts)),
            self.method,
            self.asked.label,
            tuple(each.id for panel in negative for each in panel if each.id),
            tuple(each.id for each in positive if each.id),
            self._lead,
            read,
        )

    @cached_property
    def seed(self) -> int:
        """The request's seed, or one at random."""
        return secrets.randbits(63) if self.asked.seed is None else self.asked.seed % 2**63

    @cached_property
    def task(self) -> Task:
        """The expert's task; that of the prompt in the request, where it has another."""
        own, instruction = self.served.task, self.asked.instruction
        if own.chats or not instruction.strip() or instruction == own.render(self.asked.label):
            return own
        own.render(self.asked.label)  # the label must be one of the expert's all the same
        return Task(instruction, whitespace=own.whitespace)

    @property
    def _lead(self) -> str:
        return self.task.completion("")

    @cached_property
    def shape(self) -> Shape | None:
        """What each text must be: as the request says, or as the expert's records are. Raises
        `Refusal` where no text can be so."""
        if (given := self.asked.shape) is None:
            own = self.served.task.shape
            return own and replace(own, lead=self._lead)
        field, shape = given
        try:
            self.served.engine.masks().check(shape)
        except SteerError as error:
            raise Refusal(400, f"{field}: {error}"[:300], param=field) from None
        return replace(shape, lead=self._lead)

    @cached_property
    def method(self) -> Method:
        """The way to decode that the request names, with its strengths."""
        asked = self.asked
        given = {name: getattr(asked, name, None) for name in _SETTINGS}
        if asked.towards and asked.rho is None:
            given["rho"] = TOWARDS_RHO
        given = {key: value for key, value in given.items() if value is not None}
        examples = asked.away or asked.towards or asked.kept
        name = asked.method or (STEERED if examples else usual_method(given))
        named = find_method(name, bool(self.served.expert.labels))
        method = adjust(named, named.name, given)
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

    def _question(self, number: int) -> asking.Asked:
        """What text `number` answers: the prompt, the chat in the request, or a real one."""
        if not self.task.chats:
            own = self.asked.label if self.task is self.served.task else None
            return asking.Asked(self.task.render(own))
        if turns := self.asked.turns:
            chat = render_chat(self.served.engine.tokenizer, turns)
            return asking.Asked(self.task.render(self.asked.label, chat), chat, None, turns)
        return self.served.questions.of(self.asked.label, self.seed, number)

    def _streams(
        self,
        question: asking.Asked,
        negative: Iterable[Sequence[Example]],
        positive: Sequence[Example],
    ) -> tuple[Stream, ...]:
        contexts = Contexts(
            prompt=question.prompt,
            negative=tuple(self._shown(panel, question) for panel in negative),
            positive=self._shown(positive, question) if positive else "",
            others=tuple(self.served.task.render(each, question.chat) for each in self._others()),
        )
        return build_streams(self.method.guidance, contexts)

    def _shown(self, panel: Sequence[Example], question: asking.Asked) -> Shown:
        """A panel as it is read. Texts without a prompt of their own answer what is asked."""
        chats = self.served.task.chats
        own = [
            replace(each, prompt=(each.prompt or question.prompt) if chats else None)
            for each in panel
        ]
        return render_panel(own, self.method.panel_form, self.task, question.prompt)

    def _others(self) -> Sequence[str]:
        if self.method.guidance.contrast not in ("labels", "dexperts"):
            return ()
        return [each for each in self.served.task.labels if each != self.asked.label]

    def _begin(self, given: str | list[int], prompt: str) -> tuple[int, ...]:
        """Token ids that a text begins with."""
        if not isinstance(given, str):
            known = self.served.engine.known
            for id in given:
                if id >= known.size or id in known.holes:
                    raise Refusal(400, f"there is no token {id}", param="prompt")
            return tuple(given)
        begun = given.removeprefix(prompt)
        if not begun:
            return ()
        spaced = begun if begun[0].isspace() else f"{self._lead}{begun}"
        return tuple(encode_texts(self.served.engine.tokenizer, [spaced])[0])

    def _order(self, number: int, streams: tuple[Stream, ...], begun: tuple[int, ...]) -> Order:
        guidance, seed = self.method.guidance, derive(self.seed, "record", number)
        expert = self.served.expert
        most = self.asked.most or expert.max_completion_tokens
        bias = () if self.shape else expert.end_bias
        return Order(
            Request(0, streams, seed, guidance.alpha, guidance.adaptive, self.shape, bias),
            self.method.sampling.model_copy(update={"max_new_tokens": most}),
            begun,
            self.asked.top,
            self.asked.trace,
            self.served.number,
        )

    def _check(self, orders: Iterable[Order]) -> None:
        """Checks each that differs from the others in more than its seed."""
        for each in {(each.request.streams, each.begun): each for each in orders}.values():
            self.served.limits.check(each)


def _require_use(asked: Asked, guidance: Guidance) -> None:
    """Refuses texts that no stream would read."""
    for name, texts, read in (
        ("away", asked.away, guidance.eta > 0),
        ("towards", asked.towards, guidance.reads_positive),
    ):
        if texts and not read:
            strength = "eta" if name == "away" else "rho"
            raise Refusal(400, f"{name} has no effect: {strength} is 0", param=name)
