"""Scripts of texts, and how long a text is to a reader."""

import pytest

from steer.data.scripts import main_script, reading_length, shares, strange


@pytest.mark.parametrize(
    ("text", "script", "length"),
    [
        ("a line", "Latin", 6),
        ("Größe", "Latin", 5),
        ("\uff26\uff55\uff4c\uff4c", "Latin", 4),
        ("Привет", "Cyrillic", 6),
        ("为什么", "Han", 9),
        ("ひらがなカナ", "Kana", 12),
        ("한국어", "Hangul", 6),
        ("สวัสดี", "Thai", 6),
        ("שלום", "Hebrew", 4),
        ("मौसम", "Devanagari", 4),
        ("1 + 2 = 3", None, 9),
        ("🙂🙂", None, 2),
        ("", None, 0),
        ("天气 is 很好 today 我们去公园吧", "Han", 41),
    ],
)
def test_script_and_length(text: str, script: str | None, length: int) -> None:
    assert main_script(text) == script
    assert reading_length(text) == length


def test_shares_count_texts() -> None:
    assert shares(["one", "two", "три", "4"]) == {"Latin": 0.5, "Cyrillic": 0.25, "none": 0.25}


@pytest.mark.parametrize(
    ("real", "made", "expected"),
    [
        (["为什么", "天气"], ["A record", "Another"], "Latin"),
        (["为什么", "天气"], ["为何", "Another"], None),
        (["one"], ["two", "12"], None),
        (["one"], ["12", "13"], None),
        (["one"], [], None),
    ],
)
def test_records_in_a_script_that_real_texts_do_not_use(
    real: list[str], made: list[str], expected: str | None
) -> None:
    assert strange(real, made) == expected
