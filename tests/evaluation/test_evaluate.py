import json
import random
from collections import Counter

import numpy as np
import pytest

from steer.data.corpus import Corpus
from steer.data.questions import LETTERS, Question, render_question
from steer.errors import SteerError
from steer.evaluation import fidelity
from steer.evaluation.estimate import Estimate
from steer.evaluation.evaluate import EvaluationProgress, evaluate
from steer.evaluation.sets import Labelled
from steer.evaluation.settings import EvaluationSettings
from steer.evaluation.table import COLUMNS, Evaluation
from steer.models.readings import Readings
from tests.evaluation.language import StubEmbedder, readings

SUBJECTS = [
    "stars",
    "galaxies",
    "planets",
    "comets",
    "quasars",
    "pulsars",
    "nebulae",
    "halos",
    "disks",
    "bulges",
]
VERBS = ["drive", "heat", "cool", "shape", "feed", "strip", "bend", "dim", "split", "trace"]
WAYS = ["slowly", "early", "late", "often", "rarely", "twice", "together", "alone", "first", "last"]
QUICK = {"mauve_seeds": 0, "bootstrap": 100, "folds": 3}
FAST = EvaluationSettings(**QUICK)


def with_settings(**changed: object) -> EvaluationSettings:
    return EvaluationSettings(**{**QUICK, **changed})


class StubJudge:
    """A word in its place in the small language is as likely as it is long, others are unlikely."""

    def __init__(self, name: str, labels: tuple[str, ...] = (), sibling: bool = False) -> None:
        self.name, self.labels, self.sibling = name, labels, sibling
        self.bases: list[str | None] = []
        self.task = type("Task", (), {"labels": labels}) if labels else None
        self.calls: list[tuple[str, str]] = []

    def read(self, texts, labels, on_texts) -> Readings:
        self.calls += zip(texts, labels, strict=True)
        on_texts(len(texts), len(texts))
        return readings([self._tokens(text.split()) for text in texts])

    def _tokens(self, words: list[str]) -> list[float]:
        kinds = (SUBJECTS, VERBS, SUBJECTS, WAYS, ["and"])
        return [-0.1 * len(word) if word in kinds[i % 5] else -4.0 for i, word in enumerate(words)]

    def is_sibling(self, base: str | None) -> bool:
        self.bases.append(base)
        return self.sibling

    def cut(self, texts) -> int:
        return sum(len(text) > 150 for text in texts)


@pytest.fixture
def judges(monkeypatch: pytest.MonkeyPatch) -> dict[str, StubJudge]:
    known = {name: StubJudge(name) for name in ("one", "two")}
    known["labels"] = StubJudge("labels", ("how", "why"))
    known["sibling"] = StubJudge("sibling", sibling=True)
    monkeypatch.setattr("steer.evaluation.evaluate.load_judge", lambda name, *settings: known[name])
    return known


@pytest.fixture(autouse=True)
def embedder(monkeypatch: pytest.MonkeyPatch) -> StubEmbedder:
    stub = StubEmbedder()
    monkeypatch.setattr("steer.evaluation.evaluate.load_embedder", lambda name, cache: stub)
    return stub


def sentences(n: int, seed: int) -> list[str]:
    """`n` different sentences of 4 to 10 words of one small language."""
    draw = random.Random(seed)

    def clause() -> str:
        return " ".join(draw.choice(kind) for kind in (SUBJECTS, VERBS, SUBJECTS, WAYS))

    found: dict[str, None] = {}
    while len(found) < n:
        found[" and ".join(clause() for _ in range(draw.choice((1, 2))))] = None
    return list(found)


REAL = sentences(120, seed=0)
OTHER = sentences(60, seed=1)


def value(result: Evaluation, row: str, key: str) -> float | None:
    return estimate(result, row, key).value


def estimate(result: Evaluation, row: str, key: str) -> Estimate:
    return {each.name: each for each in result.rows}[row].estimates[key]


def test_every_row_has_every_column_in_order() -> None:
    result = evaluate({"one": OTHER, "two": REAL[:80]}, REAL, settings=FAST)
    assert [row.name for row in result.rows] == ["one", "two", "real"]
    for row in result.rows:
        assert list(row.estimates) == [column.key for column in COLUMNS]


def test_json_is_plain_and_complete() -> None:
    result = evaluate({"one": OTHER}, REAL, settings=FAST)
    read = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert read["n"] == 60
    assert read["embedder"] == "stub"
    assert read["settings"]["bootstrap"] == 100
    assert [column["key"] for column in read["columns"]] == [column.key for column in COLUMNS]
    assert read["rows"][0]["name"] == "one"
    assert read["rows"][0]["distinct"] == {"value": value(result, "one", "distinct")}
    assert read["verdict"] == result.verdict
    assert [(d["one"], d["other"]) for d in read["differences"]] == [("one", "real")]
    assert read["rows"][1]["longest_run"].keys() == {"value", "low", "high"}


def test_order_of_texts_has_no_effect() -> None:
    first = evaluate({"one": REAL[:70] + OTHER}, REAL, train=OTHER, settings=FAST)
    mixed = random.Random(0)
    second = evaluate(
        {"one": mixed.sample(REAL[:70] + OTHER, 130)},
        mixed.sample(REAL, 120),
        train=mixed.sample(OTHER, 60),
        settings=FAST,
    )
    assert first == second


def test_order_has_no_effect_with_labels_and_a_judge(judges: dict[str, StubJudge]) -> None:
    settings = with_settings(judges=("one",), utility="labels", n=40)

    def result(order: int) -> Evaluation:
        def mixed(texts: list[str]) -> Labelled:
            texts = random.Random(order).sample(texts, len(texts))
            return Labelled(texts, ["even" if len(text) % 2 == 0 else "odd" for text in texts])

        return evaluate({"one": mixed(OTHER)}, mixed(REAL), train=mixed(OTHER), settings=settings)

    assert result(0) == result(1)


def test_another_seed_draws_other_texts() -> None:
    first = evaluate({"one": OTHER}, REAL, settings=FAST)
    second = evaluate({"one": OTHER}, REAL, settings=FAST.model_copy(update={"seed": 1}))
    assert value(first, "real", "three_grams") != value(second, "real", "three_grams")


def test_perfect_copy_of_the_training_texts() -> None:
    train = sentences(60, seed=5)
    result = evaluate({"copy": train}, REAL, train=train, settings=FAST)
    assert value(result, "copy", "exact_copies") == 1
    assert value(result, "copy", "near_copies") == 1
    assert value(result, "copy", "nearest_cosine") == pytest.approx(1)
    assert value(result, "copy", "longest_run") == value(result, "copy", "words_mean")
    assert value(result, "real", "exact_copies") < 0.1


def test_one_text_repeated() -> None:
    result = evaluate({"same": [OTHER[0]] * 60}, REAL, settings=FAST)
    assert value(result, "same", "three_grams") == pytest.approx(1 / 60)
    assert value(result, "same", "cosine_self") == pytest.approx(1)
    assert value(result, "same", "auroc_trees") is value(result, "same", "auroc") is None
    assert value(result, "same", "compression") > 5 * value(result, "real", "compression")
    assert value(result, "real", "auroc_trees") is not None


def test_a_reason_is_noted_once_for_each_row() -> None:
    result = evaluate({"same": [OTHER[0]] * 60}, REAL, settings=FAST)
    reason = "too few different texts to hold some out"
    assert estimate(result, "same", "auroc_words").reason == reason
    assert estimate(result, "same", "fidelity_score").reason == reason
    assert [note for note in result.notes if reason in note] == [
        f"same, detector's AUROC: {reason}"
    ]


def test_fewer_folds_than_asked_for_are_said() -> None:
    result = evaluate({"two": OTHER[:2] * 30}, REAL, settings=with_settings(folds=5))
    assert value(result, "two", "auroc") is not None
    assert str(estimate(result, "two", "auroc_words").reason).startswith("2 of 5 folds")
    assert estimate(result, "real", "auroc_words").reason is None


def test_texts_like_the_real_ones_score_like_them() -> None:
    result = evaluate({"like": sentences(400, seed=9)}, sentences(800, seed=8), settings=FAST)
    for key in ("words_mean", "three_grams", "compression", "cosine_self", "cosine_real"):
        assert value(result, "like", key) == pytest.approx(value(result, "real", key), rel=0.1)
    for key in ("auroc", "auroc_words", "auroc_trees"):
        assert value(result, "like", key) == pytest.approx(0.5, abs=0.08)
        assert value(result, "real", key) == pytest.approx(0.5, abs=0.08)


def test_rows_have_equal_n_and_the_notes_say_what_was_cut() -> None:
    result = evaluate({"big": REAL, "small": OTHER[:30]}, REAL, settings=FAST)
    assert result.n == 30
    said = result.notes[0]
    assert "every row has 30 texts, drawn with seed 0" in said
    assert "30 of the 120 of big" in said and "2 x 30 of the 120 real ones" in said
    assert "small" not in said


def test_n_caps_and_what_cannot_be_had_is_said() -> None:
    assert evaluate({"one": OTHER}, REAL, settings=with_settings(n=20)).n == 20
    result = evaluate({"one": OTHER}, REAL, settings=with_settings(n=500))
    assert result.n == 60
    assert "500 texts a row were asked for; there are enough for 60" in result.notes


def test_three_grams_over_equal_words() -> None:
    long = [f"{text} {text.upper()[::-1]}" for text in OTHER]
    result = evaluate({"short": OTHER, "long": long}, REAL, settings=FAST)
    for name in ("long", "real"):
        assert value(result, name, "three_grams_equal_words") > value(result, name, "three_grams")
    # The reference texts may have the fewest words: little is left out of the shortest row.
    equal = value(result, "short", "three_grams_equal_words")
    assert equal == pytest.approx(value(result, "short", "three_grams"), abs=0.02)


def test_copying_is_measured_against_the_reference_half_by_default() -> None:
    result = evaluate({"all": REAL}, REAL, settings=FAST)
    assert value(result, "real", "exact_copies") == 0
    assert 0.3 < value(result, "all", "exact_copies") < 0.7
    assert any("measured against 60 real texts" in note for note in result.notes)


def test_real_texts_drawn_from_the_training_file_are_no_copies_of_themselves() -> None:
    result = evaluate({"all": REAL}, REAL, train=REAL, settings=FAST)
    assert value(result, "all", "exact_copies") == 1
    assert value(result, "real", "exact_copies") == 0
    assert any(note.startswith("60 of the 60 texts of the row 'real'") for note in result.notes)


def test_real_texts_that_repeat_training_texts_count_in_the_ceiling() -> None:
    train = sentences(200, seed=5)[:195] + REAL[:20]
    result = evaluate({"one": OTHER}, REAL, train=train, settings=FAST)
    assert 0.05 < value(result, "real", "exact_copies") < 0.3


def test_intervals_hold_their_value() -> None:
    result = evaluate({"one": OTHER}, REAL, settings=FAST)
    for key in ("repetition", "cosine_real", "longest_run", "nearest_cosine", "near_copies"):
        found = estimate(result, "one", key)
        assert found.low <= found.value <= found.high


def test_each_distinct_text_is_embedded_once(embedder: StubEmbedder) -> None:
    evaluate({"one": REAL[:50] * 2, "two": OTHER}, REAL, train=REAL, settings=FAST)
    assert len(embedder.calls) == 1
    assert set(Counter(embedder.calls[0]).values()) == {1}


def test_progress_reaches_the_end_of_every_stage(judges) -> None:
    seen: list[EvaluationProgress] = []
    settings = with_settings(judges=("one", "two"))
    evaluate({"one": OTHER, "two": OTHER}, REAL, settings=settings, on_progress=seen.append)
    ended = [p.stage for p in seen if p.done == p.total]
    assert ended == [
        *("loading judge", "judging", "loading judge 2", "judging 2"),
        *("loading the embedder", "embedding", "measuring"),
    ]
    assert [p.done for p in seen if p.stage == "measuring"] == list(range(1, 19))


def test_shuffled_words_are_less_coherent(judges: dict[str, StubJudge]) -> None:
    mixed = random.Random(0)
    shuffled = [" ".join(mixed.sample(words := text.split(), len(words))) for text in OTHER]
    settings = with_settings(judges=("one",))
    result = evaluate({"good": OTHER, "shuffled": shuffled}, REAL, settings=settings)
    assert result.judges == ("one",) and result.to_json()["judges"] == ["one"]
    assert value(result, "good", "judge_gap") == pytest.approx(0, abs=0.1)
    found = estimate(result, "shuffled", "judge_gap")
    assert found.low < found.value < found.high < -1
    assert value(result, "shuffled", "nonsense") > 0.9
    assert value(result, "shuffled", "coherence_score") < 0.1
    assert value(result, "shuffled", "summary") < 0.4
    good = estimate(result, "good", "coherence_score")
    assert good.low < 1 < good.high
    assert not any("coherence" in note for note in result.notes)


def test_the_first_outside_judge_counts_and_the_other_is_shown_apart(judges) -> None:
    settings = with_settings(judges=("one", "two"))
    plain = evaluate({"a": OTHER}, REAL, settings=settings)
    judges["two"]._tokens = lambda words: [-float(len(words))]
    result = evaluate({"a": OTHER}, REAL, settings=settings)
    assert result.judges == ("one", "two")
    assert value(result, "real", "judge_gap_2") != value(plain, "real", "judge_gap_2")
    for key in ("judge_gap", "nonsense", "auroc", "coherence_score", "summary"):
        assert estimate(result, "real", key) == estimate(plain, "real", key)
    one = evaluate({"a": OTHER}, REAL, settings=with_settings(judges=("one",)))
    assert estimate(one, "a", "judge_gap_2").reason == "no second judge"
    assert estimate(one, "a", "summary") == estimate(result, "a", "summary")
    with pytest.raises(SteerError, match="judges is"):
        with_settings(judges=("one", "two", "three"))


@pytest.mark.parametrize("order", [("sibling", "one"), ("one", "sibling")])
def test_a_sibling_is_shown_apart_wherever_it_is_named(judges, order: tuple[str, ...]) -> None:
    judges["sibling"]._tokens = lambda words: [-9.0]
    result = evaluate({"a": OTHER}, REAL, settings=with_settings(judges=order, base="base"))
    assert judges["sibling"].bases == judges["one"].bases == ["base"]
    assert result.judges == ("one", "sibling")
    assert value(result, "a", "judge_gap_2") == 0 != value(result, "a", "judge_gap")
    alone = evaluate({"a": OTHER}, REAL, settings=with_settings(judges=("one",)))
    for key in ("coherence_score", "fidelity_score", "auroc_likelihood", "summary"):
        assert estimate(result, "a", key) == estimate(alone, "a", key)


def test_a_sibling_alone_is_never_in_the_summary(judges) -> None:
    result = evaluate({"a": OTHER}, REAL, settings=with_settings(judges=("sibling",)))
    assert result.judges == (None, "sibling")
    assert value(result, "a", "judge_gap_2") is not None
    for key in ("judge_gap", "nonsense", "auroc_likelihood", "coherence_score", "summary"):
        assert value(result, "a", key) is None
    assert any(note.startswith("the judge sibling is of the base model") for note in result.notes)
    assert result.verdict.startswith("by fidelity alone")


def test_of_two_siblings_one_is_shown(judges) -> None:
    judges["two"].sibling = True
    result = evaluate({"a": OTHER}, REAL, settings=with_settings(judges=("sibling", "two")))
    assert result.judges == (None, "sibling")
    assert [("not shown" in note) for note in result.notes if note.startswith("the judge")] == [
        False,
        True,
    ]


def test_a_judge_that_finds_all_real_texts_alike_measures_nothing(judges) -> None:
    judges["one"]._tokens = lambda words: [-1.0]
    result = evaluate({"a": OTHER}, REAL, settings=with_settings(judges=("one",)))
    reason = "the judge finds all real texts equally likely"
    assert estimate(result, "a", "coherence_score") == Estimate(None, reason=reason)
    assert value(result, "a", "summary") is None
    assert f"a, coherence: {reason}" in result.notes


def test_a_text_in_which_a_judge_finds_no_token_is_one_clear_line(judges) -> None:
    def read(texts, labels, on_texts) -> Readings:
        found = readings([[-1.0] for _ in texts])
        empty = np.array([text == "\u2603" for text in texts])
        return Readings(
            np.where(empty, 0, 1), *(np.where(empty, np.nan, f) for f in found.table.T[1:])
        )

    judges["one"].read = read
    with pytest.raises(
        SteerError, match="the judge one finds no token in 1 texts, such as '\u2603'"
    ):
        evaluate({"a": [*OTHER[:59], "\u2603"]}, REAL, settings=with_settings(judges=("one",)))


def test_a_judge_that_reads_fewer_texts(judges) -> None:
    result = evaluate({"a": OTHER}, REAL, settings=with_settings(judges=("one",), judged=20))
    assert len(judges["one"].calls) == 60
    reason = "no outside judge that reads every text"
    assert estimate(result, "a", "auroc_likelihood").reason == reason
    assert not any(reason in note for note in result.notes)
    for key in ("nonsense", "coherence_score", "auroc", "summary"):
        found = estimate(result, "a", key)
        assert found.low <= found.value <= found.high
    assert result.n == 60


def test_each_text_is_judged_once(judges: dict[str, StubJudge]) -> None:
    evaluate({"a": OTHER * 2, "b": OTHER}, REAL, settings=with_settings(judges=("one",)))
    assert set(Counter(judges["one"].calls).values()) == {1}


def test_without_a_judge_there_is_no_summary_and_fidelity_decides() -> None:
    result = evaluate({"one": OTHER}, REAL, settings=FAST)
    for key in ("nonsense", "likelihood_distance", "judge_gap", "coherence_score"):
        assert estimate(result, "one", key) == Estimate(None, reason="no outside judge: name one")
    assert estimate(result, "one", "summary").reason == "no summary without coherence"
    notes = [note for note in result.notes if "coherence" in note or "judge" in note]
    assert len(notes) == 1 and notes[0].startswith("coherence is not measured, so there is no sum")
    assert result.verdict.startswith("by fidelity alone (there is no summary without coherence), ")
    assert {each.key for each in result.differences} == {"fidelity_score"}


def test_with_a_judge_the_summary_decides(judges) -> None:
    sets = {"one": OTHER, "two": [OTHER[0]] * 60}
    result = evaluate(sets, REAL, settings=with_settings(judges=("one",)))
    assert {each.key for each in result.differences} == {"summary"}
    assert len(result.differences) == 3
    assert result.verdict.startswith("by the summary, one is ahead of two, and ")
    assert f"; {result.n} texts a row show differences from 0." in result.verdict


def test_a_judge_with_labels_gets_them_or_says_that_it_needs_them(judges) -> None:
    settings = with_settings(judges=("labels",))
    labels = ["how", "why"] * 60
    real = Corpus(tuple(REAL), tuple(labels), "")
    with pytest.raises(SteerError, match="'a' has no labels, which the judge labels was fitted"):
        evaluate({"a": OTHER}, real, settings=settings)
    evaluate({"a": Labelled(OTHER, labels[:60])}, real, settings=settings)
    given = dict(zip([*REAL, *OTHER], labels + labels[:60], strict=True))
    assert len(judges["labels"].calls) == 180
    assert all(given[text] == label for text, label in judges["labels"].calls)


def marked(texts: list[str]) -> Labelled:
    """Every other text is toxic, and its words say so."""
    toxic = [f"{text} zzz zzz zzz" if i % 2 else text for i, text in enumerate(texts)]
    return Labelled(toxic, ["toxic" if i % 2 else "fine" for i in range(len(texts))])


def test_labels_stay_with_their_texts_when_n_are_drawn() -> None:
    right = marked(OTHER)
    wrong = Labelled(right.texts, [*right.labels[1:], right.labels[0]])
    settings = with_settings(utility="labels", n=50)
    result = evaluate({"right": right, "wrong": wrong}, marked(REAL), settings=settings)
    assert value(result, "right", "utility") > 0.9
    assert value(result, "wrong", "utility") < 0.1
    assert value(result, "wrong", "utility_added") < value(result, "right", "utility_added")
    real = [estimate(result, "real", key) for key in ("utility", "utility_added")]
    assert real[0] == real[1] and real[0].value > 0.9
    assert estimate(result, "wrong", "utility_added").sd > 0


def test_labels_that_the_utility_needs_are_asked_for() -> None:
    settings = with_settings(utility="labels")
    with pytest.raises(SteerError, match="'one' has no labels, which the utility on labels needs"):
        evaluate({"one": OTHER}, Labelled(REAL, REAL), settings=settings)
    with pytest.raises(SteerError, match="60 texts but 1 labels"):
        Labelled(OTHER, ["one"])


def asked(n: int, seed: int) -> list[str]:
    """Questions whose right option is the word that the question has."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < n:
        options = draw.sample([*SUBJECTS, *VERBS, *WAYS], 5)
        right = draw.randrange(5)
        asks = " ".join([options[right]] * draw.choice((2, 3, 4))) + "?"
        found[render_question(Question(asks, tuple(options), LETTERS[right]))] = None
    return list(found)


def test_answers_that_are_right_are_more_use_than_others() -> None:
    good, bad = asked(100, 1), [text[:-1] + LETTERS[i % 5] for i, text in enumerate(asked(100, 2))]
    torn = [*good[:50], *(text[:-9] for text in good[50:])]
    settings = with_settings(utility="answers")
    sets = {"good": good, "bad": bad, "torn": torn, "none": OTHER + REAL}
    result = evaluate(sets, asked(200, 0), settings=settings)
    assert value(result, "good", "utility") > value(result, "bad", "utility") + 0.2
    real = value(result, "real", "utility")
    assert value(result, "good", "utility") == pytest.approx(real, abs=0.15)
    torn_reason = "50 of 100 texts are questions with options A to E"
    assert estimate(result, "torn", "utility").reason == torn_reason
    assert estimate(result, "none", "utility").value is None
    assert f"torn, trained on it: {torn_reason}" in result.notes


def test_one_text_repeated_is_worth_one_text() -> None:
    result = evaluate({"same": [OTHER[0]] * 60}, REAL, settings=FAST)
    assert value(result, "same", "vendi_1") == pytest.approx(1, abs=1e-3)
    assert value(result, "same", "self_bleu") == pytest.approx(1)
    assert value(result, "same", "recall") == 0
    assert value(result, "same", "diversity_score") < 0.2
    assert value(result, "same", "fidelity_score") is None


def test_a_perfect_copy_of_the_reference_covers_it() -> None:
    # Half of the real texts are the reference; the copy has both halves, the row only one.
    result = evaluate({"copy": REAL[:60] * 2}, REAL[:60] * 2, settings=FAST)
    for key in ("precision", "recall", "coverage"):
        assert value(result, "copy", key) > 0.9


def test_the_histogram_has_every_text_of_every_row() -> None:
    result = evaluate({"one": OTHER, "two": REAL[:60]}, REAL, settings=FAST)
    found = result.to_json()["histogram"]
    assert list(found["counts"]) == ["one", "two", "real"]
    for counts in found["counts"].values():
        assert len(counts) == len(found["edges"]) - 1
        assert sum(counts) == 60


def test_texts_too_long_for_a_judge_are_said(judges: dict[str, StubJudge]) -> None:
    texts = [*OTHER[:59], "far " * 40]
    result = evaluate({"one": texts}, REAL, settings=with_settings(judges=("two",)))
    assert any(
        note.startswith("texts longer than the judge two reads: 1;") for note in result.notes
    )


def test_a_cache_that_cannot_be_used_is_said_and_stops_nothing(monkeypatch, embedder) -> None:
    class Broken:
        path, problem = "metrics.sqlite", "disk I/O error"

    monkeypatch.setattr("steer.evaluation.evaluate.Cache", Broken)
    result = evaluate({"one": OTHER}, REAL, settings=FAST)
    assert "the cache metrics.sqlite was not used: disk I/O error" in result.notes
    result = evaluate({"one": OTHER}, REAL, settings=with_settings(cache=False))
    assert not any("cache" in note for note in result.notes)


def test_mauve_is_the_mean_over_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "mauve_installed", lambda: True)
    monkeypatch.setattr(fidelity, "mauve_score", lambda rows, real, seed: seed / 10)
    result = evaluate({"one": OTHER}, REAL, settings=with_settings(mauve_seeds=5))
    found = estimate(result, "one", "mauve")
    assert found.value == pytest.approx(0.2)
    assert found.sd == pytest.approx(np.std([0, 0.1, 0.2, 0.3, 0.4]))
    assert "MAUVE is not to be trusted below 500 texts a row: there are 60" in result.notes


def test_missing_mauve_is_skipped_with_the_install_command(monkeypatch) -> None:
    monkeypatch.setattr(fidelity, "mauve_installed", lambda: False)
    result = evaluate({"one": OTHER}, REAL, settings=with_settings(mauve_seeds=5))
    assert value(result, "one", "mauve") is None
    assert "steer-text[mauve]" in str(estimate(result, "one", "mauve").reason)
    assert any("steer-text[mauve]" in note for note in result.notes)


def test_texts_too_long_for_the_embedder_are_said() -> None:
    result = evaluate({"one": [*OTHER[:59], "far " * 60]}, REAL, settings=FAST)
    assert any(note.startswith("texts longer than the embedder reads: 1;") for note in result.notes)


def test_texts_too_short_for_3_grams_have_a_reason() -> None:
    result = evaluate({"short": [f"{a} {b}" for a in SUBJECTS for b in VERBS]}, REAL, settings=FAST)
    assert value(result, "short", "three_grams") is None
    assert estimate(result, "short", "three_grams").reason == "no text has 3 words"
    assert "short, 3-grams: no text has 3 words" in result.notes
    assert not any(note.startswith("real, ") for note in result.notes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"synthetic": {}}, "no synthetic texts"),
        ({"synthetic": {"real": OTHER}}, "called 'real'"),
        ({"synthetic": {"one": []}}, "'one' has no texts"),
        ({"real": []}, "'the real texts' has no texts"),
        ({"train": []}, "'train' has no texts"),
        ({"synthetic": {"one": [*OTHER[:16], " \n"]}}, "text 17 of 'one' is ' .n'"),
        ({"real": ["", *REAL]}, "text 1 of 'the real texts' is ''"),
        ({"train": [*OTHER, None]}, "text 61 of 'train' is None"),
        ({"synthetic": {"one": OTHER[:9]}}, "too few texts: 'one' has 9"),
        ({"real": REAL[:19]}, "there are 19 real ones; give at least 10 and 20"),
    ],
)
def test_unusable_texts_are_one_clear_line(given, message: str) -> None:
    arguments = {"synthetic": {"one": OTHER}, "real": REAL, "train": OTHER} | given
    with pytest.raises(SteerError, match=message) as caught:
        evaluate(arguments.pop("synthetic"), arguments.pop("real"), **arguments, settings=FAST)
    assert "\n" not in str(caught.value)


def test_unusable_settings_are_named() -> None:
    with pytest.raises(SteerError, match="folds is 1"):
        EvaluationSettings(folds=1)
