"""A look at real texts before anything is fitted: what was read, what is odd, what to type."""

import random
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from steer.data.corpus import Corpus
from steer.data.neardup import NearIndex
from steer.data.reading.chats import Chat
from steer.data.reading.readers import open_rows
from steer.data.reading.settings import Reading
from steer.data.scripts import per_letter, reading_length, shares
from steer.data.tasks import CHAT
from steer.data.words import fold
from steer.seeds import derive

TOKENISED, COMPARED, READ = 2_000, 10_000, 5_000
"""Texts of which at most the tokens are counted, near duplicates sought, the scripts read."""
SAMPLES = 5
_FIRST = 2_000

T = TypeVar("T")
CountTokens = Callable[[Sequence[str]], list[int]]
WriteChat = Callable[[Chat], str]
"""Writes what was said before an answer as a base model reads it."""


@dataclass(frozen=True)
class Spread:
    """How long texts are: the least, the median, the 95th percentile, the most, and the mean."""

    least: int
    median: int
    p95: int
    most: int
    mean: float

    @classmethod
    def of(cls, lengths: Sequence[int]) -> "Spread":
        ranked = sorted(lengths)
        middle, high = ranked[len(ranked) // 2], ranked[int(0.95 * (len(ranked) - 1))]
        return cls(ranked[0], middle, high, ranked[-1], sum(ranked) / len(ranked))


@dataclass(frozen=True)
class Chats:
    """What texts are like that are answers in chats: how many `turns` a chat has with its answer,
    and how often each role speaks. `asked` are the tokens before an answer, None without a
    tokenizer."""

    turns: Spread
    roles: Mapping[str, int]
    asked: Spread | None


@dataclass(frozen=True)
class Look:
    """What a corpus is like. `tokens`, `per_letter` (tokens a letter, as `reading_length` counts)
    and `too_long` (texts of more than `max_tokens`) are None without a tokenizer. `equal` texts
    repeat an earlier one; `near` nearly do, among `compared` texts drawn at random. `short` have
    fewer letters than `min_chars`. `chats` is None unless all are answers, and `asked` is what the
    `samples` then answer. Where figures are of a part of the texts, `counted` is how many, and
    `read` for scripts."""

    source: str
    rows: int
    columns: tuple[str, ...]
    scripts: Mapping[str, float]
    read: int
    characters: Spread
    tokens: Spread | None
    per_letter: float | None
    counted: int
    labels: Mapping[str, int]
    equal: int
    near: int
    compared: int
    too_long: int | None
    max_tokens: int
    short: int
    min_chars: int
    samples: tuple[str, ...]
    asked: tuple[str, ...] = ()
    chats: Chats | None = None


def look(
    corpus: Corpus,
    columns: Sequence[str] = (),
    count_tokens: CountTokens | None = None,
    write_chat: WriteChat | None = None,
    *,
    max_tokens: int = 512,
    min_chars: int = 10,
    seed: int = 0,
) -> Look:
    """Looks at texts. Time hardly grows with their number: what takes long is done for texts drawn
    at random. What an answer in a chat answers is counted as `write_chat` writes it."""
    texts, turns = corpus.texts, corpus.turns or ()
    drawn, compared = draw(texts, TOKENISED, seed), draw(texts, COMPARED, seed)
    counts = count_tokens(drawn) if count_tokens else None
    asked = None
    if turns and count_tokens and write_chat:
        asked = count_tokens([write_chat(each) for each in draw(turns, TOKENISED, seed)])
    return Look(
        source=corpus.source,
        rows=len(texts),
        columns=tuple(columns),
        scripts=shares(draw(texts, READ, seed)),
        read=min(READ, len(texts)),
        characters=Spread.of([len(text) for text in texts]),
        tokens=Spread.of(counts) if counts else None,
        per_letter=per_letter(drawn, counts) if counts else None,
        counted=len(drawn),
        labels=dict(Counter(corpus.labels or ()).most_common()),
        equal=len(texts) - len({hash(fold(text)) for text in texts}),
        near=_near(compared),
        compared=len(compared),
        too_long=_too_long(texts, counts, asked, max_tokens, count_tokens, seed),
        max_tokens=max_tokens,
        short=sum(reading_length(text) < min_chars for text in texts),
        min_chars=min_chars,
        samples=tuple(draw(texts, SAMPLES, seed)),
        asked=tuple(each[-1][1] for each in draw(turns, SAMPLES, seed)),
        chats=_chats(turns, asked) if turns else None,
    )


def draw(items: Sequence[T], most: int, seed: int) -> Sequence[T]:
    """Draws at most so many items at random; all of them, in their order, where they are fewer. Of
    sequences of one length it draws the same places."""
    if len(items) <= most:
        return items
    return random.Random(derive(seed, "look", most)).sample(items, most)


def first_columns(source: str, reading: Reading) -> dict[str, list[Any]]:
    """Reads the first values of each column; nothing of standard input, which is read once."""
    found: dict[str, list[Any]] = {}
    for rows in open_rows(source, reading, []) if source != "-" else ():
        found |= {name: [] for name in rows.names or ()}
        for _, row in islice(rows.numbered, _FIRST):
            for name, value in row.items():
                found.setdefault(name, []).append(value)
        break
    return found


def likely_labels(columns: Mapping[str, Sequence[Any]], text: str | None) -> dict[str, int]:
    """Finds columns that look like labels, with their numbers of values: from 2 to 20 short ones,
    each ten times or more on average."""
    found = {}
    for name, values in columns.items():
        kinds = {str(value) for value in values if value is not None}
        few = 2 <= len(kinds) <= min(20, len(values) // 10)
        if name != text and few and max(map(len, kinds)) <= 40:
            found[name] = len(kinds)
    return found


def guessed_prompt(source: str, labelled: bool, chats: bool = False) -> str:
    """Guesses a prompt from the name of the file or dataset; for answers in chats, their turns."""
    if chats and not labelled:
        return CHAT
    words = Path(source.partition(":")[0]).stem.replace("_", " ").replace("-", " ").strip()
    return f"{'A {label} text' if labelled else 'A text'} from {words or 'the collection'}:"


def suggestion(seen: Look, options: Sequence[str] = ()) -> str:
    """Command to type next; `options` are those that the texts were read with."""
    prompt = guessed_prompt(seen.source, bool(seen.labels), seen.chats is not None)
    words = ["steer", "fit", seen.source, "--prompt", prompt, *options, "--out", "expert"]
    return shlex.join(words)


def _near(texts: Sequence[str]) -> int:
    """Counts texts that nearly equal an earlier one; equal ones do not count."""
    index, found = NearIndex(), 0
    for text in texts:
        if index.find_equal(text) is None:
            found += index.find(text) is not None
            index.add("", text)
    return found


def _chats(turns: Sequence[Chat], asked: Sequence[int] | None) -> Chats:
    roles = Counter(role for chat in turns for role, _ in chat)
    roles["assistant"] += len(turns)
    sizes = [len(chat) + 1 for chat in turns]
    return Chats(Spread.of(sizes), dict(roles.most_common()), Spread.of(asked) if asked else None)


def _too_long(
    texts: Sequence[str],
    counts: Sequence[int] | None,
    asked: Sequence[int] | None,
    limit: int,
    count_tokens: CountTokens | None,
    seed: int,
) -> int | None:
    """Counts texts of more than `limit` tokens, with what they answer; where they may be many, from
    some of them."""
    if counts is None or count_tokens is None:
        return None
    if asked is not None:
        over = [own + before > limit for own, before in zip(counts, asked, strict=True)]
        return round(sum(over) / len(over) * len(texts))
    # No tokenizer of bytes makes more tokens than there are bytes.
    possible = [text for text in texts if len(text) > limit or len(text.encode()) > limit]
    if not possible:
        return 0
    some = draw(possible, TOKENISED, seed)
    share = sum(count > limit for count in count_tokens(some)) / len(some)
    return round(share * len(possible))
