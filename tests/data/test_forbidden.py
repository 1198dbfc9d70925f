"""What is too close to a forbidden text, and what is not."""

import pytest

from steer.data.forbidden import Forbidden

TEXTS = [
    "Which of these planets has the longest day, measured from noon to noon?",
    "Why is the sky blue?",
    "Name it.",
    "哪一颗行星的一天最长从中午到中午",
]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        (TEXTS[0], 0),
        ("which of these planets has the  LONGEST day, measured from noon to noon", 0),
        ("Which of those planets has the longest day, measured from noon to noon?", 0),
        # Eight words in a row, in a text that is otherwise another one.
        ("Tell me: has the longest day - measured from noon to midnight - ever changed at all?", 0),
        ("It has the longest day, measured from dawn, of all the planets there are.", None),
        # A short text stands in a longer one as a whole.
        ("A child asked its father one day: why is the sky blue? He did not know.", 1),
        ("Why is the sea blue, and the sky too?", None),
        ("Please name it.", None),
        ("Name it.", 2),
        ("哪一颗行星的一天最长从中午到中午", 3),
        ("", None),
    ],
)
def test_too_close(text: str, row: int | None) -> None:
    assert Forbidden(TEXTS).find(text) == row


def test_near_decides() -> None:
    text = "Which of those planets has the longest year, counted from noon to noon?"
    assert Forbidden(TEXTS[:1], near=0.5).find(text) == 0
    assert Forbidden(TEXTS[:1], near=0.8).find(text) is None
