"""Each column of records that are objects, measured beside the real ones."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from steer.data.corpus import Corpus
from steer.data.reading.settings import Reading
from steer.evaluation.estimate import Draws, Estimate, draws
from steer.evaluation.evaluate import evaluate
from steer.evaluation.marginals import columns, distance, marginals, total_variation
from steer.evaluation.sets import Labelled
from steer.evaluation.settings import EvaluationSettings
from steer.shapes import Shape
from tests.evaluation.language import StubEmbedder


def texts(values: Sequence[Any]) -> list[str]:
    return [json.dumps({"c": value}) for value in values]


def drawn(n: int) -> Draws:
    return draws(n, 400, 0, "row")


SCHEMAS: list[tuple[Any, str | None]] = [
    ({"type": "integer", "minimum": 0}, "number"),
    ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "number"),
    ({"type": ["integer", "null"]}, "number"),
    ({"enum": ["a", "b"]}, "category"),
    ({"const": 3}, "category"),
    ({"type": "boolean"}, "category"),
    ({"type": "string"}, None),
    ({"type": "array", "items": {"type": "number"}}, None),
    ({"anyOf": [{"type": "number"}, {"enum": ["none"]}]}, None),
    ({"type": "null"}, None),
    (True, None),
]


@pytest.mark.parametrize(("schema", "kind"), SCHEMAS)
def test_columns_of_numbers_and_categories_have_a_marginal(schema: Any, kind: str | None) -> None:
    shape = Shape("schema", json.dumps({"type": "object", "properties": {"c": schema}}))
    assert columns(shape) == ({"c": kind} if kind else {})
    assert columns(None) == columns(Shape("regex", "a+")) == {}


@pytest.mark.parametrize(
    ("own", "real", "value"),
    [
        ("aabb", "abab", 0.0),
        ("aaab", "aabb", 0.25),
        ("aaaa", "bbbb", 1.0),
        ("aabc", "aabb", 0.25),
        ([True, None, "x", 1.5], [True, None, "x", 2], 0.25),
    ],
)
def test_total_variation_of_known_shares(own: Any, real: Any, value: float) -> None:
    found = total_variation(texts(list(own)), texts(list(real)), "c", drawn(4))
    assert found.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("own", "real", "value"),
    [
        ([1, 2, 3, 4], [4, 3, 2, 1], 0.0),
        ([3, 3, 3, 3], [-1, 1, -1, 1], 3.0),  # each moved by 3 on average, the spread is 1
        ([2, 4, 2, 4], [0, 2, 0, 2], 2.0),
        ([2.0, None, 4.0, "x"], [0, 2, None, None], 2.0),
    ],
)
def test_distance_of_known_numbers(own: Any, real: Any, value: float) -> None:
    found = distance(texts(own), texts(real), "c", drawn(4))
    assert found.value == pytest.approx(value)


def test_numbers_that_say_nothing_have_a_reason() -> None:
    cases = (([None, True], [1, 2]), ([1, 2], [None, 10**400]), ([1, 2], [3, 3]))
    found = [distance(texts(own), texts(real), "c", drawn(2)) for own, real in cases]
    assert [each.reason for each in found] == [
        "no text has a number",
        "no text has a number",
        "all real numbers are equal",
    ]
    assert distance(["no json", '{"c": 2}'], texts([0, 2]), "c", drawn(2)).value == 1.0


def test_intervals_cover_what_other_draws_give() -> None:
    """The interval is about as wide as the figure's spread over new samples of both sides."""
    random = np.random.default_rng(0)

    def figure(kind: str) -> Estimate:
        if kind == "number":
            own, real = random.normal(1, 1, 300).tolist(), random.normal(0, 1, 300).tolist()
            own[::5] = [None] * 60
            return distance(texts(own), texts(real), "c", drawn(300))
        own, real = random.choice(["a", "b"], 300, p=[0.8, 0.2]), random.choice(["a", "b"], 300)
        return total_variation(texts(own.tolist()), texts(real.tolist()), "c", drawn(300))

    for kind in ("number", "category"):
        found = [figure(kind) for _ in range(40)]
        wide = np.mean([each.high - each.low for each in found])  # type: ignore[operator]
        spread = np.std([each.value for each in found])
        assert 2.4 < wide / spread < 6  # 3.9 of a normal distribution


ROWS = [
    {"text": f"Ticket {n} of {n % 7}", "stars": n % 5, "mood": "good" if n % 4 else "bad"}
    for n in range(80)
]


def test_an_evaluation_of_objects_has_a_figure_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer.evaluation.evaluate.load_embedder", lambda *_: StubEmbedder())
    real = Corpus.of_rows(ROWS, Reading(columns=("text", "stars", "mood")))
    same = [json.dumps(row | {"text": f"New {n}"}) for n, row in enumerate(ROWS[:40])]
    other = [json.dumps(row | {"stars": 4, "mood": "bad"}) for row in ROWS[:40]]
    settings = EvaluationSettings(mauve_seeds=0, bootstrap=100, folds=3)
    found = evaluate({"same": same, "other": other}, real, settings=settings)
    stars, mood = found.marginals
    assert (stars.column, stars.kind, mood.column, mood.kind) == (
        "stars",
        "number",
        "mood",
        "category",
    )
    for each, least in ((stars, 1.0), (mood, 0.6)):
        assert list(each.estimates) == ["same", "other", "real"]
        values = {name: estimate.value or 0.0 for name, estimate in each.estimates.items()}
        assert values["other"] > least > 3 * max(values["same"], values["real"])
        assert each.estimates["same"].low is not None
    written = json.loads(json.dumps(found.to_json()))["marginals"]
    assert written[1]["rows"]["other"]["value"] == mood.estimates["other"].value
    texts_alone = evaluate({"same": same}, list(real.texts), settings=settings)
    assert texts_alone.marginals == ()


def test_a_row_is_measured_with_its_own_draws() -> None:
    shape = Corpus.of_rows(ROWS, Reading(columns=("text", "stars"))).shape
    names: list[str] = []

    def note(name: str) -> Draws:
        names.append(name)
        return drawn(2)

    rows = {"a": Labelled(texts([1, 2])), "b": Labelled(texts([2, 3]))}
    marginals(shape, rows, Labelled(texts([1, 2])), note)
    assert names == ["a", "b"]
