"""Signs that a file does not hold the texts that it seems to, said in notes: nothing is changed."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from steer.data.reading.rows import shown

# How programs write that there is nothing: pandas, R, databases, spreadsheets.
_NOTHING = frozenset(
    ("nan", "null", "none", "n/a", "na", "nat", "<na>", "\\n", "#n/a", "#ref!", "#value!", "#name?")
)
# "None" and "NA" may well be what a label is called.
_NO_LABEL = _NOTHING - {"none", "na", "n/a"}
# UTF-8 of quotation marks, dashes and Latin letters that was once read as Windows-1252.
_GARBLED = re.compile("â€[™œ\u009d\u009c“”\u02dc¦]|Ã[\x80-\xbf©¨¤¶¼ŸŽ±³¡]|\ufffd")
_MARKUP = re.compile(r"\s*<(!doctype html|html|\?xml)", re.IGNORECASE)
_TIME = re.compile(r"[^\w\s]{0,2}\d{1,4}[./-]\d{1,2}[./-]\d{1,4},?[ T]\d{1,2}:\d{2}")
_SEVERAL = 20


class Oddities:
    """Counts of the texts and labels of one file that hold something odd."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, text: str) -> None:
        """Looks at a text."""
        if len(text) < 8 and text.strip().casefold() in _NOTHING:
            self._note("nothing", text)
        elif not text.isascii() and (found := _GARBLED.search(text)):
            self._note("garbled", text[max(0, found.start() - 12) : found.end() + 12])

    def add_after(self, said: str) -> None:
        """Counts a chat that goes on after the answer that is read, with what is said last."""
        self._note("after", said)

    def add_label(self, label: str) -> None:
        """Looks at a label."""
        if label.casefold() in _NO_LABEL:
            self._note("label", label)

    def _note(self, kind: str, example: str) -> None:
        self._counts[kind] += 1
        self._first.setdefault(kind, shown(example))

    def notes(self, source: str) -> Iterator[str]:
        """Says what was found, a line each."""
        for kind, count in self._counts.items():
            what = _SAID[kind].format(self._first[kind])
            yield f"{source}: {count} of its {what}"


_SAID = {
    "nothing": "texts say only {}, which may stand for no text; take such rows out if it does",
    "garbled": "texts hold characters that a wrong encoding leaves, the first in {}; repair the "
    "file if they are no part of it",
    "after": "chats go on after their last answer, the first ends with {}; what follows it is no "
    "part of the texts",
    "label": "labels are such as {}, which may stand for no label; take such rows out if it does",
}


def signs_in_lines(lines: Sequence[str]) -> str | None:
    """Says what the first lines of plain text have beside texts; None if nothing is seen."""
    some = [line for line in lines if line.strip()][:_SEVERAL]
    if some and _MARKUP.match(some[0]):
        return "it looks like HTML or XML, and each line is a text"
    for sign, what in ((_TIME.match, "a date and a time"), (_labelled, "__label__")):
        if len(some) > 1 and sum(bool(sign(line)) for line in some) > len(some) / 2:
            return (
                f"most lines begin with {what} ({shown(some[0])}), which is read as part of each "
                "text; take it out first if it is none"
            )
    return None


def _labelled(line: str) -> bool:
    return line.startswith("__label__")
