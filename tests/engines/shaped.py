"""What every engine promises of records with a shape, as tests: a module gives the fixtures
`engine` and `slow` and a subclass of `ShapesContract`."""

import json
import math
from dataclasses import replace

import pytest
import torch

from steer.config import Guidance, Sampling
from steer.engines.interface import Request
from steer.errors import SteerError
from steer.guidance import Contexts, build_streams
from steer.seeds import derive
from steer.shapes import Shape, write_value
from tests import naive
from tests.engines.contract import PANELS, PROMPTS, assert_exact, assert_same, recorded

RECORD = {
    "type": "object",
    "properties": {
        "why": {"type": "string"},
        "kind": {"enum": ["moon", "comet", "é"]},
        "n": {"type": "integer"},
        "far": {"type": ["boolean", "null"]},
    },
    "required": ["why", "kind", "n", "far"],
    "additionalProperties": False,
}
SHAPES = {
    "schema": Shape("schema", json.dumps(RECORD)),
    "list": Shape("schema", json.dumps({"type": "array", "items": {"enum": ["a", 1]}})),
    "regex": Shape("regex", r"(Why|How often) [a-z ]{3,20}[?]", lead=" "),
    "choices": Shape("choices", json.dumps(["Why?", "Why not?", "How often does a comet?"])),
    "none": None,
}
GUIDANCES = {
    "plain": Guidance(gamma=0, eta=0, alpha=0),
    "steer": Guidance(gamma=0.2, eta=0.3, alpha=0.1),
    "published": Guidance(gamma=0.5, eta=0.3, rho=0.2, alpha=0.3, weights="published"),
    "adaptive": Guidance(gamma=1, eta=0.3, alpha=0.05, adaptive=True),
    "adaptive without alpha": Guidance(gamma=1, eta=0.3, alpha=0, adaptive=True),
    "several panels": Guidance(gamma=0.1, eta=0.6, alpha=0.2, negatives=2),
    "few-shot": Guidance(gamma=0, eta=0, alpha=0.05, few_shot=True),
}
SHORT = {
    "regex": replace(SHAPES["regex"], lead=""),
    "choices": SHAPES["choices"],
    "schema": Shape(
        "schema",
        json.dumps(
            {
                "type": "object",
                "properties": {"kind": {"enum": ["moon", "comet"]}, "far": {"type": "boolean"}},
                "required": ["kind", "far"],
                "additionalProperties": False,
            }
        ),
    ),
    "lark": Shape("grammar", 'start: "does " WHAT ("," " " WHAT)* "?"\nWHAT: "a comet" | "it"'),
    "gbnf": Shape("grammar", 'root ::= "why " what "?"\nwhat ::= "moon" | "comet" | [a-c]'),
}
DRAWN = {
    "drawn": Sampling(max_new_tokens=200),
    "cut": Sampling(temperature=1.3, top_k=20, top_p=0.9, max_new_tokens=200),
    "greedy": Sampling(temperature=0, max_new_tokens=200),
}
IMPOSSIBLE = {
    "minimum": ("schema", '{"type": "integer", "minimum": 5, "maximum": 3}', "greater than"),
    "key": ("schema", '{"not": {"type": "string"}}', "Unimplemented keys"),
    "regex": ("regex", "(?=x)a", "look-around"),
    "grammar": ("grammar", "start: nothing", "unknown name"),
}


def request(number: int, guidance: Guidance, shape: Shape | None) -> Request:
    streams = build_streams(guidance, Contexts(PROMPTS[1], PANELS[:2], PANELS[0]))
    seed = derive(0, number)
    return Request(number, streams, seed, guidance.alpha, guidance.adaptive, shape)


def short_requests() -> list[Request]:
    """Two of each of the shapes whose records soon end, after a space."""
    shapes = [*SHORT.values()] * 2
    return [
        request(number, GUIDANCES["steer"], replace(shape, lead=" "))
        for number, shape in enumerate(shapes)
    ]


def assert_shaped(engine, sampling: Sampling) -> None:
    """Every record that ends has its shape."""
    requests, ended = short_requests(), 0
    for given, completion in zip(requests, engine.generate(requests, sampling), strict=True):
        text, shape = completion.text.removeprefix(" "), replace(given.shape, lead="")
        assert completion.text.startswith(" ")
        if completion.finish_reason == "stop":
            ended += 1
            assert shape.fits(text), text
            assert shape.kind != "schema" or write_value(json.loads(text)) == text
    assert ended > len(requests) / 2


class ShapesContract:
    within = 1e-4  # nats

    @pytest.mark.parametrize("guidance", ["plain", "steer"])
    def test_scores_of_mixed_shapes_in_one_batch_are_the_naive_ones(self, engine, slow, guidance):
        shapes = enumerate(SHAPES.values())
        requests = [request(number, GUIDANCES[guidance], shape) for number, shape in shapes]
        assert_exact(engine, slow, requests, Sampling(max_new_tokens=9), self.within)

    def test_mixed_guidance_too(self, engine, slow):
        pairs = zip(GUIDANCES.values(), [*SHAPES.values(), *SHAPES.values()], strict=False)
        requests = [request(number, *pair) for number, pair in enumerate(pairs)]
        assert_exact(engine, slow, requests, Sampling(max_new_tokens=9), self.within)

    def test_what_is_allowed_keeps_its_shares_of_the_probability(self, engine, slow):
        """One stream of weight 1: the scores are the expert's, given that a token is allowed."""
        shape = SHAPES["regex"]
        with recorded() as (scores, tokens):
            engine.generate([request(0, GUIDANCES["plain"], shape)], Sampling(max_new_tokens=8))
        drawn = list(tokens[0].values())
        for step in range(len(drawn)):
            prompt = (True, PROMPTS[1])
            free = naive.stream_log_probs(slow, engine.tokenizer, *prompt, drawn[:step]).exp()
            may = torch.tensor(naive.allowed(engine.tokenizer, shape, drawn[:step]))
            expected = torch.where(may, free, 0.0) / free[may].sum()
            assert scores[0, step].softmax(-1) == pytest.approx(expected, abs=self.within)
            assert 0 < free[may].sum() < 1

    @pytest.mark.parametrize("sampling", DRAWN.values(), ids=DRAWN)
    def test_every_record_that_ends_has_its_shape(self, engine, sampling):
        assert_shaped(engine, sampling)

    def test_matchers_that_were_used_before_allow_the_same(self, engine):
        """The second call takes the first one's matchers, in another order."""
        requests = [request(number, GUIDANCES["steer"], SHAPES["schema"]) for number in range(6)]
        first = engine.generate(requests, Sampling(max_new_tokens=30))
        assert_same(engine.generate(requests[::-1], Sampling(max_new_tokens=30))[::-1], first)

    @pytest.mark.parametrize(("kind", "source", "why"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
    def test_an_impossible_shape_is_one_clear_line(self, engine, kind, source, why):
        shapes = (SHAPES["choices"], Shape(kind, source), None)
        requests = [request(row, GUIDANCES["plain"], shape) for row, shape in enumerate(shapes)]
        with pytest.raises(SteerError, match=f"the {kind} allows no record: .*{why}") as found:
            engine.generate(requests, Sampling())
        assert "\n" not in str(found.value)
        assert engine.generate(requests[:1], Sampling(max_new_tokens=3))

    def test_the_streams_log_probabilities_know_no_shape(self, engine, slow):
        """They say how likely the model finds the text, so that texts of any task can be
        compared."""
        (completion,) = engine.generate(
            [request(0, GUIDANCES["plain"], Shape("choices", '["Why?"]'))], Sampling()
        )
        tokens = [*engine.tokenizer("Why?").input_ids, engine.tokenizer.eos_token_id]
        assert completion.text == "Why?"
        if completion.tokens == len(tokens):
            free = [
                naive.stream_log_probs(slow, engine.tokenizer, True, PROMPTS[1], tokens[:step])[
                    token
                ]
                for step, token in enumerate(tokens)
            ]
            assert completion.log_probs["expert"] == pytest.approx(
                float(sum(free)) / len(free), abs=self.within
            )
        assert completion.log_probs["expert"] < -math.log(2)
