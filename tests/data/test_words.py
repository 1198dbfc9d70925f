import unicodedata

import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from steer.data.words import first_words, fold, length_bins, lengths, words

TEXTS = ["the cat sat on the mat", "The dog sat on the mat", "a bird", "why do stars die young"]
# Words are written apart by bars, as no word has one.
SPLIT = {
    "punctuation": ("  The CAT,\tsat - (twice)?!\n", "the|cat|sat|twice"),
    "only punctuation": ("?! ... — ”", ""),
    "contractions": ("don't don’t 'tis o'clock' e-mail", "don't|don’t|tis|o'clock|e|mail"),
    "numbers": ("3.14, 1,000; 3.a a.1 U.S.A.", "3.14|1,000|3|a|a|1|u.s.a"),
    "low lines": ("snake_case __ _x_", "snake_case|_x_"),
    "French": ("L'été, «c’est» à Noël…", "l'été|c’est|à|noël"),
    "German": ("Straße STRASSE", "strasse|strasse"),
    "Greek": ("ΣΟΦΟΣ σοφός", "σοφοσ|σοφόσ"),
    "Russian": ("Почему звёзды гаснут?", "почему|звёзды|гаснут"),
    "Hebrew": ('צה"ל, שלום', 'צה"ל|שלום'),
    "Arabic": ("لماذا؟ نعم، هنا", "لماذا|نعم|هنا"),
    "Persian": ("می‌خواهم بروم", "میخواهم|بروم"),
    "Hindi": ("तारे क्यों मरते हैं।", "तारे|क्यों|मरते|हैं"),
    "Korean": ("별은 왜 죽나요?", "별은|왜|죽나요"),
    "Tibetan": ("བོད་ཡིག", "བོད|ཡིག"),
    "Chinese": ("恒星abc为何2026年死？", "恒|星|abc|为|何|2026|年|死"),
    "Japanese": ("なぜ、星はコーヒー", "な|ぜ|星|は|コ|ー|ヒ|ー"),
    "Thai": ("ดาวตื่น ๑๒", "ด|า|ว|ตื่|น|๑๒"),
    "Lao": ("ດາວ", "ດ|າ|ວ"),
    "Khmer": ("ភាសា", "ភា|សា"),
    "Myanmar": ("ဘာသာ", "ဘာ|သာ"),
    "emoji": ("so 👍🏽 👍🏽! 🇫🇷🇩🇪", "so|👍🏽|👍🏽|🇫🇷|🇩🇪"),
}
SAME = {
    "case": ("STRASSE", "straße"),
    "white space": (" a\u00a0\u3000b\n", "a b"),
    "decomposed": (unicodedata.normalize("NFD", "Ünïcödé, 각, ガ"), "ünïcödé, 각, ガ"),
    "full width": ("ＡＢＣ　１２３！", "abc 123!"),
    "half width": ("ｶﾞｷﾞ", "ガギ"),
    "ligatures": ("ﬁne oﬀ", "fine off"),
    "no width": ("\ufeffze\u200bro\u200d wi\u00addth\u2060", "zero width"),
    "direction": ("\u202bשלום\u202c", "שלום"),
    "emoji forms": ("❤\ufe0f", "❤"),
    "marks in another order": ("a\u0323\u0302", "a\u0302\u0323"),
    "mathematical letters": ("𝐁𝐨𝐥𝐝", "bold"),
}


@pytest.mark.parametrize(("text", "expected"), SPLIT.values(), ids=SPLIT)
def test_words_of_any_script(text: str, expected: str) -> None:
    assert words(text) == [word for word in expected.split("|") if word]
    assert list(lengths([text])) == [len(words(text))]


@pytest.mark.parametrize(("text", "other"), SAME.values(), ids=SAME)
def test_forms_of_one_text_are_folded(text: str, other: str) -> None:
    assert text != other
    assert fold(text) == fold(other)
    assert words(text) == words(other)


@pytest.mark.parametrize("pair", ["a b|ab", "é|e", "a.|a", "星|星星", "1|2", "don't|don’t"])
def test_other_differences_are_kept(pair: str) -> None:
    one, other = pair.split("|")
    assert fold(one) != fold(other)


@given(st.text() | st.text("aᾼ\u0301\u0327\u200d\u1fb3ﬁıİß \u00a0ｶﾞ각ᄀ", max_size=9))
def test_folding_is_final_and_one_for_equivalent_texts(text: str) -> None:
    folded = fold(text)
    assert fold(folded) == folded
    assert folded == " ".join(folded.split())
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert fold(unicodedata.normalize(form, text)) == folded


@given(st.text(st.characters(max_codepoint=127)) | st.text("aB1.,':;_- \n", max_size=12))
def test_the_quick_way_for_ascii_gives_the_words_of_the_rules(text: str) -> None:
    by_rules = [word.lstrip("'") for word in regex.split(r"(?V1w)\b", text.lower())]
    assert words(text) == [word for word in by_rules if regex.search("[a-z0-9]", word)]


@pytest.mark.parametrize("text", ["'apple' éclair", "‘l'été’ ’a", "it's 'a' naïve 'e'", "''a é"])
def test_a_quote_before_a_vowel_is_no_part_of_the_word(text: str) -> None:
    assert not any(word.startswith(("'", "\u2019")) for word in words(text))


@given(st.text())
def test_words_are_parts_of_the_folded_text_in_order(text: str) -> None:
    rest = fold(text)
    for word in words(text):
        _, found, rest = rest.partition(word)
        assert found and word == word.strip()
    assert words(fold(text)) == words(text)


def test_first_words_keeps_whole_texts() -> None:
    assert first_words(TEXTS, 13) == TEXTS[:2]
    assert first_words(TEXTS, 14) == TEXTS[:3]
    assert first_words(TEXTS, 1) == TEXTS[:1]
    assert first_words(TEXTS, 1000) == TEXTS


def test_length_bins_hold_every_text_and_stay_few() -> None:
    some, other = np.arange(5, 40), np.array([3, 8, 900])
    edges = length_bins([some, other] + [some] * 9)
    assert len(edges) <= 26
    assert (np.diff(edges)[:-1] == np.diff(edges)[0]).all()
    for each in (some, other):
        assert np.histogram(each, edges)[0].sum() == len(each)
    assert list(length_bins([np.array([4, 4])])) == [4, 5]
