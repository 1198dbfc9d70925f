import numpy as np
import pytest

from steer.data.questions import LETTERS, Question
from steer.evaluation.sets import Labelled
from steer.evaluation.utility import (
    NETWORKS,
    REAL_ROWS,
    Examples,
    answer_scores,
    beside_real,
    label_scores,
    network_scores,
    question_examples,
)


def labelled(n: int, seed: int, gap: float = 4.0, share: float = 0.5) -> Examples:
    draw = np.random.default_rng(seed)
    labels = np.where(draw.random(n) < share, "toxic", "fine")
    features = draw.normal(size=(n, 6))
    features[:, 0] += gap * (labels == "toxic")
    return Examples(features, labels)


def test_good_training_texts_teach_the_labels() -> None:
    scores = label_scores(labelled(200, 0), labelled(200, 1), seed=0)
    assert len(scores) == 5
    assert min(scores) > 0.95


def test_labels_drawn_at_random_teach_nothing() -> None:
    train = labelled(400, 0)
    mixed = Examples(train.features, np.random.default_rng(5).permutation(train.answers))
    assert np.mean(label_scores(mixed, labelled(400, 1), 0)) == pytest.approx(0.5, abs=0.12)


def test_wrong_labels_are_worse_than_chance() -> None:
    train = labelled(200, 0)
    wrong = Examples(train.features, np.where(train.answers == "toxic", "fine", "toxic"))
    assert np.mean(label_scores(wrong, labelled(200, 1), 0)) < 0.05


def test_the_balance_of_labels_hardly_counts() -> None:
    test = labelled(400, 1, gap=2)
    even = np.mean(label_scores(labelled(400, 0, gap=2), test, 0))
    rare = np.mean(label_scores(labelled(400, 0, gap=2, share=0.1), test, 0))
    assert rare == pytest.approx(even, abs=0.05)


def test_balanced_accuracy_is_that_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    test = labelled(60, 1, share=0.2)
    said = np.random.default_rng(0).choice(["toxic", "fine"], 60)
    monkeypatch.setattr(LogisticRegression, "predict", lambda self, rows: said)
    expected = balanced_accuracy_score(test.answers, said)
    assert label_scores(labelled(50, 0), test, 0) == pytest.approx([expected] * 5)


def test_one_label_teaches_nothing() -> None:
    assert label_scores(labelled(50, 0, share=0), labelled(50, 1), 0) == []


def test_scores_depend_on_the_seed_alone() -> None:
    train, test = labelled(80, 0, gap=1), labelled(80, 1, gap=1)
    assert label_scores(train, test, 3) == label_scores(train, test, 3)
    assert len({tuple(label_scores(train, test, seed)) for seed in range(4)}) > 1


def asked(n: int, seed: int) -> list[Question]:
    """Questions "0" to "9" whose right option is the question's number + 10."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        number, right = int(draw.integers(10)), int(draw.integers(5))
        options = draw.permutation([i for i in range(10) if i != number])[:5] + 10
        options[right] = number + 10
        found.append(Question(str(number), tuple(map(str, options)), LETTERS[right]))
    return found


def vectors(texts: list[str]) -> np.ndarray:
    """A number and that number + 10 are near, others are not."""
    base = np.random.default_rng(0).normal(size=(10, 12))
    rows = np.array([base[int(text) % 10] + 0.3 * (int(text) >= 10) for text in texts])
    return rows.reshape(len(texts), 12)


def test_right_answers_teach_which_option_is_right() -> None:
    train, test = (question_examples(asked(200, seed), vectors) for seed in (0, 1))
    assert train.features.shape == (200, 5, 12)
    assert np.mean(answer_scores(train, test, 0)) > 0.9


def test_answers_at_random_are_worth_a_guess() -> None:
    train, test = (question_examples(asked(400, seed), vectors) for seed in (0, 1))
    letters = np.random.default_rng(3).integers(5, size=400)
    scores = [
        np.mean(answer_scores(Examples(train.features, letters), test, seed)) for seed in range(3)
    ]
    assert np.mean(scores) < 0.6  # a line through few directions, so far from exactly chance
    blind = Examples(np.random.default_rng(4).normal(size=test.features.shape), test.answers)
    assert np.mean(answer_scores(train, blind, 0)) == pytest.approx(0.2, abs=0.06)


def test_the_place_of_the_answer_is_not_learnt() -> None:
    first = [q for q in asked(900, 0) if q.answer == "A"]
    blind = Examples(np.random.default_rng(4).normal(size=(400, 5, 12)), np.zeros(400, dtype=int))
    scores = answer_scores(question_examples(first, vectors), blind, 0)
    assert np.mean(scores) == pytest.approx(0.2, abs=0.08)


def test_no_questions_are_no_examples() -> None:
    assert len(question_examples([], vectors)) == 0
    assert len(question_examples([], vectors) + question_examples(asked(3, 0), vectors)) == 3


def remarks(n: int, seed: int, share: float = 0.5) -> Labelled:
    """Remarks with a kind or an unkind word in one of two scripts, among words without meaning."""
    draw = np.random.default_rng(seed)
    kind, unkind, rest = ["lovely", "好极了"], ["horrid", "糟透了"], [f"word{i}" for i in range(20)]
    labels = ["toxic" if draw.random() < share else "fine" for _ in range(n)]
    told = [draw.choice(unkind if label == "toxic" else kind) for label in labels]
    texts = [" ".join(draw.permutation([word, *draw.choice(rest, 6)])) for word in told]
    return Labelled(texts, labels)


def test_a_network_learns_labels_from_texts() -> None:
    scores = network_scores(remarks(200, 0), remarks(100, 1), 0)
    assert len(scores) == NETWORKS
    assert min(scores) > 0.95


@pytest.mark.parametrize(("swap", "low", "high"), [("wrong", 0, 0.1), ("random", 0.3, 0.7)])
def test_a_network_learns_no_more_than_the_labels_say(swap: str, low: float, high: float) -> None:
    train = remarks(200, 0)
    other = {"toxic": "fine", "fine": "toxic"}
    mixed = np.random.default_rng(5).permutation(train.labels).tolist()
    labels = [other[label] for label in train.labels] if swap == "wrong" else mixed
    scores = network_scores(Labelled(train.texts, labels), remarks(100, 1), 0)
    assert low <= np.mean(scores) <= high


def test_a_rare_label_is_learnt_by_a_network() -> None:
    assert min(network_scores(remarks(300, 0, share=0.1), remarks(100, 1), 0)) > 0.9


def test_network_scores_depend_on_the_seed_alone() -> None:
    train, test = remarks(12, 0), remarks(60, 1)
    assert network_scores(train, test, 3) == network_scores(train, test, 3)
    assert len({tuple(network_scores(train, test, seed)) for seed in range(4)}) > 1


def test_a_network_needs_two_labels_and_no_words() -> None:
    assert network_scores(remarks(20, 0, share=0), remarks(20, 1), 0) == []
    wordless = Labelled(["?!", "", "lovely"], ["toxic", "toxic", "fine"])
    assert min(network_scores(wordless, wordless, 0)) >= 0


def test_texts_beside_real_ones() -> None:
    synthetic, real = remarks(30, 0), remarks(300, 1)
    joined = beside_real(synthetic, real, 7)
    assert len(joined.texts) == REAL_ROWS + 30
    assert joined.texts[REAL_ROWS:] == synthetic.texts
    pairs = set(zip(real.texts, real.labels, strict=True))
    assert set(list(zip(joined.texts, joined.labels, strict=True))[:REAL_ROWS]) <= pairs
    assert beside_real(remarks(5, 2), real, 7).texts[:REAL_ROWS] == joined.texts[:REAL_ROWS]
    assert len(beside_real(synthetic, remarks(9, 1), 7).texts) == 39
