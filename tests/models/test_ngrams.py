import json
import math
import random

import numpy as np
import pytest

from examples.docstrings import stdlib_summaries
from steer.data.reading.settings import Reading
from steer.errors import SteerError
from steer.models.judge import load_judge
from steer.models.ngrams import FEWEST, ORDER, CharacterModel, NgramJudge

SUBJECTS = ["the old star", "a young planet", "the dim comet", "one far galaxy", "the bright moon"]
VERBS = ["moves past", "slowly warms", "hides behind", "turns around", "never meets"]


def texts(n: int, seed: int) -> list[str]:
    draw = random.Random(seed)

    def clause() -> str:
        return " ".join(draw.choice(kind) for kind in (SUBJECTS, VERBS, SUBJECTS))

    return [f"{clause()}, and {clause()} {i}." for i in range(n)]


JUDGE = NgramJudge("own", tuple(texts(400, 0)))


def test_probabilities_of_what_may_follow_add_up_to_one() -> None:
    model = CharacterModel(["abab", "abc", "b"])
    alphabet = [*"abc", "\x03", "z"]  # the end of a text, and one more for all that was never seen
    for before in ("ab", "b", "zz", ""):
        padded = ("\x02" * ORDER + before)[-(ORDER - 1) :]
        total = sum(model._probability(padded, character) for character in alphabet)
        assert total == pytest.approx(1)


def test_counts_of_a_text_by_hand() -> None:
    # "a" is seen twice of 2 starts: each longer context was seen as often, with one kind.
    found = CharacterModel(["a", "a"]).log_probs("a")
    share = 1 / 3  # a, the end, and what was never seen
    share = (2 + 2 * share) / (4 + 2)  # two of four characters, of two kinds
    for _ in range(ORDER - 1):
        share = (2 + share) / (2 + 1)
    assert len(found) == 2
    assert found[0] == pytest.approx(math.log(share))


def test_nonsense_reads_worse_than_fresh_real_text() -> None:
    fresh, draw = texts(200, 1), random.Random(2)
    shuffled = [" ".join(draw.sample(words := text.split(), len(words))) for text in fresh]
    real, torn = (JUDGE.read(each).mean for each in (fresh, shuffled))
    assert np.mean(torn < np.quantile(real, 0.05)) > 0.9


def test_a_text_is_not_judged_by_itself() -> None:
    own = "quite unlike all the others: xyzzy"
    judge = NgramJudge("own", (*JUDGE.texts, own))
    assert judge.read([own]).mean == pytest.approx(JUDGE.read([own]).mean)
    assert judge.read([own.upper()]).mean == pytest.approx(JUDGE.read([own.upper()]).mean)


def test_readings_do_not_depend_on_order() -> None:
    fresh = texts(20, 3)
    assert (JUDGE.read(fresh).table == JUDGE.read(fresh[::-1]).table[::-1]).all()


def test_it_is_loaded_by_the_name_of_a_file(tmp_path) -> None:
    path = tmp_path / "other.txt"
    path.write_text("\n".join(JUDGE.texts))
    judge = load_judge(f"ngrams:{path}")
    assert judge.read(["the old star"]).mean == pytest.approx(JUDGE.read(["the old star"]).mean)
    assert not judge.is_sibling(None) and judge.cut(["x" * 10**6]) == 0


def test_its_data_is_read_as_the_other_texts_are(tmp_path) -> None:
    path = tmp_path / "other.jsonl"
    rows = [{"title": text, "stars": 3, "kind": "a"} for text in JUDGE.texts]
    path.write_text("\n".join(map(json.dumps, rows)))
    reading = Reading(columns=("title", "stars"), label_column="kind")
    judge = load_judge(f"ngrams:{path}", reading=reading)
    assert json.loads(judge.texts[0]) == {"title": JUDGE.texts[0], "stars": 3}
    with pytest.raises(SteerError, match=r"has no column 'text'.*--text-column"):
        load_judge(f"ngrams:{path}")


def test_too_few_texts_of_its_own_are_an_error() -> None:
    judge = NgramJudge("ngrams:own.txt", tuple(texts(FEWEST + 10, 4)))
    with pytest.raises(SteerError, match=r"own\.txt has 199 texts that are not"):
        judge.read(judge.texts[:11])


def test_progress_counts_texts() -> None:
    seen: list[tuple[int, int]] = []
    JUDGE.read(texts(150, 5), on_texts=lambda *counts: seen.append(counts))
    assert seen == [(100, 150), (150, 150)]


def test_real_summaries_pass_and_nonsense_does_not() -> None:
    real = stdlib_summaries()
    random.Random(0).shuffle(real)
    reference, fresh, own = real[:300], real[300:600], real[1200:]
    draw, vocabulary = random.Random(1), [word for text in own for word in text.split()]

    def torn(share: float) -> list[str]:
        return [
            " ".join(draw.choice(vocabulary) if draw.random() < share else w for w in t.split())
            for t in fresh
        ]

    shuffled = [" ".join(draw.sample(words := text.split(), len(words))) for text in fresh]
    judge = NgramJudge("own", tuple(own))
    usual = np.quantile(judge.read(reference).mean, 0.05)
    found = [np.mean(judge.read(each).mean < usual) for each in (fresh, torn(0.3), shuffled)]
    assert found[0] < 0.1 and found[1] > 0.12 and found[2] > 0.8
