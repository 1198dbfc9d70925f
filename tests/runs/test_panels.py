"""Panels of a run: what streams read, with embeddings that a test can see through."""

import numpy as np
import pytest

from steer.config import Guidance, RunConfig
from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.errors import SteerError
from steer.guidance import Shown
from steer.runs.panels import Panels
from tests import stub

LETTERS = Corpus(
    texts=tuple(f"{first}{n}" for first in "ab" for n in range(20)), labels=None, source="x"
)
TASK = Task("Say:\n")


class LetterEmbedder:
    """Texts with the same first letter are near each other."""

    name = "letters"

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed(self, texts: list[str]) -> np.ndarray:
        self.embedded += texts
        angles = [(text[0] == "b") * 1.5 + 0.001 * int(text[1:] or 0) for text in texts]
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def panels(real: Corpus = LETTERS, towards: Corpus | None = None, **settings: object) -> Panels:
    labels = {"labels": {"hot": 4}} if real.labels else {"n": 4}
    config = RunConfig(**{"panel_size": 3, "rows_per_panel": 4} | labels | settings)
    task = Task("Say {label}:", ("hot", "cold")) if real.labels else TASK
    return Panels(config, task, real, towards, LetterEmbedder())


def texts(ids: tuple[str, ...]) -> list[str]:
    return [LETTERS.texts[int(member.removeprefix("real:"))] for member in ids]


def test_rows_share_a_panel() -> None:
    drawn = panels().draw(None, 10, 0)
    assert len(drawn) == 10
    assert [drawn[row] is drawn[0] for row in range(10)] == [row < 4 for row in range(10)]
    shown = Shown(tuple(texts(drawn[0].negative)), "Say:\n")
    assert drawn[0].contexts.negative == (shown,)
    assert drawn[0].contexts.prompt == "Say:\n"
    assert drawn[0].positive == ()


def test_nothing_is_drawn_that_no_stream_reads() -> None:
    (panel,) = panels(guidance=Guidance(eta=0)).draw(None, 1, 0)
    assert (panel.negative, panel.contexts.negative, panel.positive) == ((), (), ())


def test_several_negatives() -> None:
    guidance = Guidance(negatives=3)
    drawn = panels(guidance=guidance).draw(None, 8, 0)
    assert [len(panel.contexts.negative) for panel in drawn] == [3] * 8
    assert len({context for panel in drawn for context in panel.contexts.negative}) == 6
    assert len(drawn[0].negative) == 9


def test_few_shot_prompting_reads_real_texts() -> None:
    made = panels(guidance=Guidance(gamma=0, eta=0, few_shot=True))
    (panel,) = made.draw(None, 1, 0)
    assert panel.contexts.positive == Shown(tuple(texts(panel.positive)), "Say:\n")
    assert (len(panel.positive), panel.negative) == (3, ())
    with pytest.raises(SteerError, match="needs 41 real texts"):
        panels(guidance=Guidance(gamma=0, eta=0, few_shot=True), panel_size=41).require()


def test_positive_panels_come_from_the_chosen_texts() -> None:
    chosen = Corpus(texts=tuple(f"c{n}" for n in range(5)), labels=None, source="y")
    drawn = panels(towards=chosen, guidance=Guidance(rho=0.2)).draw(None, 8, 0)
    shown = Shown(tuple(f"c{member[-1]}" for member in drawn[0].positive), "Say:\n")
    assert drawn[0].contexts.positive == shown
    assert drawn[0].positive != drawn[4].positive
    of_real = panels(guidance=Guidance(rho=0.2)).draw(None, 1, 0)[0]
    assert set(of_real.positive) != set(of_real.negative)
    with pytest.raises(SteerError, match="needs 6 real texts"):
        panels(towards=chosen, guidance=Guidance(rho=0.2), panel_size=6).require()


@pytest.mark.parametrize("selection", ["crowded", "diverse"])
def test_selected_panels(selection: str) -> None:
    made = panels(panel_selection=selection)
    drawn = made.draw(None, 8, 0)
    for panel in (drawn[0], drawn[4]):
        assert len(set(panel.negative)) == 3
        assert len({text[0] for text in texts(panel.negative)}) == (
            2 if selection == "diverse" else 1
        )
    assert [panel.negative for panel in made.draw(None, 8, 0)] == [
        panel.negative for panel in drawn
    ]
    assert made.draw(None, 4, 1)[0].negative != drawn[0].negative
    assert len(made._embedder.embedded) == len(LETTERS.texts)  # once


@pytest.mark.parametrize("selection", ["crowded", "diverse", "nearest"])
def test_of_a_large_pool_only_a_sample_is_embedded(
    selection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer.runs.pool.SKETCHED", 30)
    made = panels(panel_selection=selection)
    for round in range(3):
        drawn = made.draw(None, 8, round, ["c1"] * 8)
        assert {len(set(panel.negative)) for panel in drawn} == {3}
    assert len(set(made._embedder.embedded) & set(LETTERS.texts)) == 30


def test_nearest_to_the_drafts() -> None:
    made = panels(panel_selection="nearest")
    drawn = made.draw(None, 8, 0, ["a7"] * 4 + ["b3"] * 3 + ["a0"])
    assert set(texts(drawn[0].negative)) == {"a6", "a7", "a8"}
    assert {text[0] for text in texts(drawn[4].negative)} == {"a", "b"}


def test_the_other_labels_prompts() -> None:
    real = stub.corpus(20, labels=("hot", "cold"))
    (panel,) = panels(real).draw("hot", 1, 0)
    assert (panel.contexts.prompt, panel.contexts.others) == ("Say hot:", ("Say cold:",))
