import json
import random
import zlib
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
FAST = EvaluationSettings(mauve_seeds=0, bootstrap=100)


def with_settings(**changed: object) -> EvaluationSettings:
    return EvaluationSettings(**{"mauve_seeds": 0, "bootstrap": 100, **changed})


class StubEmbedder:
    """Hashes character 3-grams into 32 dimensions: near texts are near, and it is fast."""

    name = "stub"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def embed(self, texts, on_texts=None) -> np.ndarray:
        self.calls.append(list(texts))
        if on_texts:
            on_texts(0, len(texts))
            on_texts(len(texts), len(texts))
        rows = np.ones((len(texts), 32), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for i in range(len(text)):
                row[zlib.crc32(text[i : i + 3].encode()) % 32] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def cut(self, texts) -> int:
        return sum(len(text) > 200 for text in texts)


class StubJudge:
    """A text's score is minus its share of words out of their place in the small language."""

    def __init__(self, name: str, labels: tuple[str, ...] = ()) -> None:
        self.name, self.labels = name, labels
        self.task = type("Task", (), {"labels": labels}) if labels else None
        self.calls: list[tuple[str, str]] = []

    def log_likelihoods(self, texts, labels, on_texts) -> np.ndarray:
        self.calls += zip(texts, labels, strict=True)
        on_texts(len(texts), len(texts))
        return np.array([self._score(text.split()) for text in texts])

    def _score(self, words: list[str]) -> float:
        kinds = (SUBJECTS, VERBS, SUBJECTS, WAYS, ["and"])
        return -1 - sum(word not in kinds[i % 5] for i, word in enumerate(words)) / len(words)

    def cut(self, texts) -> int:
        return sum(len(text) > 150 for text in texts)


@pytest.fixture
def judges(monkeypatch: pytest.MonkeyPatch) -> dict[str, StubJudge]:
    known = {name: StubJudge(name) for name in ("one", "two")}
    known["labels"] = StubJudge("labels", ("how", "why"))
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
    assert read["rows"][0]["three_grams"] == {"value": value(result, "one", "three_grams")}
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
    assert value(result, "same", "auroc_trees") is None
    assert "too few distinct" in str(estimate(result, "same", "auroc_trees").reason)
    assert value(result, "same", "compression") > 5 * value(result, "real", "compression")
    assert value(result, "real", "auroc_trees") is not None


def test_fewer_folds_than_asked_for_are_said() -> None:
    result = evaluate({"two": OTHER[:2] * 30}, REAL, settings=FAST)
    assert value(result, "two", "auroc_logistic") is not None
    assert str(estimate(result, "two", "auroc_logistic").reason).startswith("2 of 5 folds")
    assert estimate(result, "real", "auroc_logistic").reason is None


def test_texts_like_the_real_ones_score_like_them() -> None:
    result = evaluate({"like": sentences(400, seed=9)}, sentences(800, seed=8), settings=FAST)
    for key in ("words_mean", "three_grams", "compression", "cosine_self", "cosine_real"):
        assert value(result, "like", key) == pytest.approx(value(result, "real", key), rel=0.1)
    for key in ("auroc_trees", "auroc_logistic"):
        assert value(result, "like", key) == pytest.approx(0.5, abs=0.08)
        assert value(result, "real", key) == pytest.approx(0.5, abs=0.08)


def test_the_adversary_is_told_which_rows_are_the_same_text(monkeypatch) -> None:
    told = []

    def stand_in(rows, real, groups, *settings) -> list[float]:
        told.append((np.concatenate([rows, real]), groups))
        return [0.5]

    monkeypatch.setattr(fidelity, "adversarial_aurocs", stand_in)
    evaluate({"one": OTHER[:20] * 3}, REAL, settings=FAST)
    for rows, groups in told:
        same_row = (rows[:, None] == rows[None]).all(axis=2)
        same_group = np.array(groups)[:, None] == np.array(groups)[None]
        assert (same_row == same_group).all()


def test_rows_have_equal_n_and_the_notes_say_what_was_cut() -> None:
    result = evaluate({"big": REAL, "small": OTHER[:30]}, REAL, settings=FAST)
    assert result.n == 30
    said = result.notes[0]
    assert "every row has 30 texts, drawn with seed 0" in said
    assert "30 of the 120 of big" in said and "2 x 30 of the 120 real ones" in said
    assert "small" not in said


def test_n_caps_and_what_cannot_be_had_is_said() -> None:
    assert evaluate({"one": OTHER}, REAL, settings=EvaluationSettings(n=20, mauve_seeds=0)).n == 20
    result = evaluate({"one": OTHER}, REAL, settings=EvaluationSettings(n=500, mauve_seeds=0))
    assert result.n == 60
    assert "500 texts a row were asked for; there are enough for 60" in result.notes


def test_three_grams_over_equal_words() -> None:
    long = [f"{text} {text.upper()[::-1]}" for text in OTHER]
    result = evaluate({"short": OTHER, "long": long}, REAL, settings=FAST)
    for name in ("long", "real"):
        assert value(result, name, "three_grams_equal_words") > value(result, name, "three_grams")
    fewest = min(result.rows, key=lambda row: row.estimates["words_mean"].value).name
    equal = value(result, fewest, "three_grams_equal_words")
    assert equal == value(result, fewest, "three_grams")


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
    assert value(result, "good", "judge_gap") == value(result, "real", "judge_gap") == 0
    found = estimate(result, "shuffled", "judge_gap")
    assert found.low < found.value < found.high < -0.3
    assert value(result, "shuffled", "coherence_score") < 0.75
    assert value(result, "good", "coherence_score") == 1
    assert not any("coherence" in note for note in result.notes)


def test_two_judges_have_a_column_each(judges: dict[str, StubJudge]) -> None:
    judges["two"]._score = lambda words: -len(words)
    result = evaluate({"a": OTHER}, REAL, settings=with_settings(judges=("one", "two")))
    assert value(result, "real", "judge_gap_2") != value(result, "real", "judge_gap")
    one = evaluate({"a": OTHER}, REAL, settings=with_settings(judges=("one",)))
    assert estimate(one, "a", "judge_gap_2").reason == "no second judge"
    with pytest.raises(SteerError, match="judges is"):
        with_settings(judges=("one", "two", "three"))


def test_each_text_is_judged_once(judges: dict[str, StubJudge]) -> None:
    evaluate({"a": OTHER * 2, "b": OTHER}, REAL, settings=with_settings(judges=("one",)))
    assert set(Counter(judges["one"].calls).values()) == {1}


def test_without_a_judge_there_is_a_reason_and_one_note() -> None:
    result = evaluate({"one": OTHER}, REAL, settings=FAST)
    assert estimate(result, "one", "judge_gap") == Estimate(None, reason="no judge: name one")
    assert value(result, "one", "summary") is not None
    notes = [note for note in result.notes if "coherence" in note or "judge" in note]
    assert notes == ["coherence is not measured and not in the summary: no judge: name one"]


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


def test_the_summary_of_real_texts_is_one_and_copies_score_nothing() -> None:
    train = sentences(60, seed=5)
    result = evaluate({"copy": train, "new": OTHER}, REAL, train=train, settings=FAST)
    assert value(result, "real", "summary") == pytest.approx(1)
    assert value(result, "copy", "non_copying_score") == value(result, "copy", "summary") == 0
    assert value(result, "new", "summary") > 0.6
    assert value(result, "copy", "authenticity") == 0


def test_one_text_repeated_is_worth_one_text() -> None:
    result = evaluate({"same": [OTHER[0]] * 60}, REAL, settings=FAST)
    assert value(result, "same", "vendi_1") == pytest.approx(1, abs=1e-3)
    assert value(result, "same", "self_bleu") == pytest.approx(1)
    assert value(result, "same", "recall") == 0
    assert value(result, "same", "diversity_score") < 0.2
    assert value(result, "same", "fidelity_score") is None
    assert "same, summary: without fidelity, coherence" in result.notes


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
    result = evaluate({"one": OTHER}, REAL, settings=EvaluationSettings(bootstrap=100))
    found = estimate(result, "one", "mauve")
    assert found.value == pytest.approx(0.2)
    assert found.sd == pytest.approx(np.std([0, 0.1, 0.2, 0.3, 0.4]))
    assert "MAUVE is not to be trusted below 500 texts a row: there are 60" in result.notes


def test_missing_mauve_is_skipped_with_the_install_command(monkeypatch) -> None:
    monkeypatch.setattr(fidelity, "mauve_installed", lambda: False)
    result = evaluate({"one": OTHER}, REAL, settings=EvaluationSettings(bootstrap=100))
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
