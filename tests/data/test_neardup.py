import random
import unicodedata

import numpy as np
import pytest

from steer.data.neardup import NearIndex, jaccard, shingles, signature
from steer.data.words import fold
from steer.errors import SteerError

LETTERS = "abcdefghijklmnopqrstuvwxyz "


def random_text(rng: random.Random, length: int = 120) -> str:
    return "".join(rng.choices(LETTERS, k=length))


def edited(text: str, edits: int, rng: random.Random) -> str:
    letters = list(text)
    for _ in range(edits):
        letters[rng.randrange(len(letters))] = rng.choice(LETTERS)
    return "".join(letters)


def test_shingles_ignore_case_and_spacing_and_keep_short_texts() -> None:
    assert shingles("ABCDEF") == {b"abcde", b"bcdef"}
    assert shingles("Hi") == {b"hi"}
    assert shingles("été, \t ÉTÉ") == {
        "été, ".encode(),
        "té, é".encode(),
        "é, ét".encode(),
        ", été".encode(),
    }
    assert jaccard(shingles("abcdef"), shingles("abcdeg")) == pytest.approx(1 / 3)


def test_finds_what_a_search_of_all_pairs_finds() -> None:
    """The index against the definition, on pairs on both sides of the threshold."""
    rng = random.Random(1)
    texts = [random_text(rng) for _ in range(300)]
    index = NearIndex(0.8)
    for number, text in enumerate(texts):
        index.add(f"t{number}", text)
    found = 0
    for number, text in enumerate(texts):
        probe = edited(text, number % 8, rng)
        near = jaccard(shingles(probe), shingles(text)) >= 0.8
        assert index.find(probe) == (f"t{number}" if near else None)
        found += near
    assert 80 < found < 250  # both sides were tried


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9, 1.0])
def test_other_thresholds(threshold: float) -> None:
    rng = random.Random(2)
    index = NearIndex(threshold)
    texts = [random_text(rng) for _ in range(100)]
    for text in texts:
        index.add(text, text)
    for number, text in enumerate(texts):
        probe = edited(text, number % 20, rng)
        near = jaccard(shingles(probe), shingles(text)) >= threshold
        assert index.find(probe) == (text if near else None)


def test_the_most_similar_wins_then_the_first_added() -> None:
    rng = random.Random(3)
    text = random_text(rng)
    index = NearIndex(0.5)
    index.add("far", text[:-8] + "12345678")
    index.add("near", text[:-2] + "12")
    index.add("as near", text[:-2] + "34")
    assert index.find(text) == "near"
    index.add("equal", text.upper())
    assert index.find(text) == "equal"


def test_an_equal_text_keeps_its_first_key() -> None:
    index = NearIndex()
    index.add("a", "The  same line")
    index.add("b", "the same line")
    assert index.find("THE SAME LINE") == index.find_equal("The same line") == "a"
    assert index.find_equal("the same lines") is None


@pytest.mark.parametrize("form", ["NFD", "NFKD"])
def test_other_unicode_forms_are_the_same_text(form: str) -> None:
    text = "Pourquoi les étoiles ﬁlantes brûlent-elles à l’entrée ?"
    index = NearIndex()
    index.add("a", text)
    index.add("b", "恒星为何死？ＡＢＣ")
    assert index.find_equal(unicodedata.normalize(form, text)) == "a"
    assert index.find(unicodedata.normalize(form, text)[:-1] + "!") == "a"
    assert index.find_equal("恒\u200b星为何死?abc") == "b"


def test_an_empty_index_and_odd_texts() -> None:
    index = NearIndex()
    assert index.find("anything") is None
    for odd in ("", "\ud800 half a character", "日本"):
        index.add(odd, odd)
        assert index.find(odd) == odd


def templated(number: int, rng: random.Random) -> list[str]:
    """Texts with one opening and an end of their own, some of them with a near one before."""
    opening, texts = random_text(rng, 87), []
    for _ in range(number):
        if texts and rng.random() < 0.3:
            texts.append(edited(rng.choice(texts), rng.randrange(1, 4), rng))
        else:
            texts.append(opening + random_text(rng, 24))
    return texts


@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
def test_crowds_change_no_answer(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all texts that share a part of a signature, where nearly all do."""
    monkeypatch.setattr("steer.data.neardup.CROWD", 3)
    monkeypatch.setattr("steer.data.postings.BUFFER", 16)
    index, texts = NearIndex(threshold), templated(260, random.Random(5))
    bands = [index._band_keys(fold(text)) for text in texts]
    found = shared = 0
    for number, text in enumerate(texts):
        near = [i for i in range(number) if (bands[i] == bands[number]).any()]
        alike = {texts[i]: jaccard(shingles(text), shingles(texts[i])) for i in near}
        best = max(alike, key=alike.__getitem__, default=text)
        expected = best if alike.get(best, 0) >= threshold else None
        assert index.find(text) == expected
        index.add(text, text)
        found, shared = found + (expected is not None), shared + len(near)
    assert 10 < found < 100  # both answers came up, out of crowds
    assert shared > 3000


@pytest.mark.parametrize("alike", [False, True], ids=["unrelated", "one opening"])
def test_an_index_does_not_look_at_every_text(alike: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps a look-up flat: texts that are not near are hardly ever compared."""
    rng = random.Random(4)
    opening = random_text(rng, 87) if alike else ""
    index = NearIndex()
    for number in range(1500):
        index.add(str(number), opening + random_text(rng, 24 if alike else 120))
    compared = []
    monkeypatch.setattr("steer.data.neardup.jaccard", lambda *pair: compared.append(pair) or 0.0)
    for _ in range(100):
        index.find(opening + random_text(rng, 24 if alike else 120))
    assert len(compared) < 10


@pytest.mark.parametrize("threshold", [0, -1, 1.1, float("nan")])
def test_threshold_out_of_range(threshold: float) -> None:
    with pytest.raises(SteerError, match="threshold is"):
        NearIndex(threshold)


def test_signatures_agree_in_as_many_rows_as_the_jaccard_index_says() -> None:
    rng, errors = random.Random(9), []
    for number in range(300):
        text = random_text(rng, 40 + 20 * number)
        probe = edited(text, 1 + len(text) // 40, rng)
        agree = np.mean(signature(fold(text)) == signature(fold(probe)))
        errors.append(agree - jaccard(shingles(text), shingles(probe)))
    assert abs(np.mean(errors)) < 0.01  # one pair's has a deviation of 0.04
    assert np.abs(errors).mean() < 0.05
