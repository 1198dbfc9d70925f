"""`steer look`: what real texts are like, before anything is fitted on them."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from steer.cli import options, terminal
from steer.cli import progress as console
from steer.cli.groups import with_groups
from steer.cli.reading import ReadingOptions
from steer.data.characters import printable
from steer.errors import SteerError, counted

if TYPE_CHECKING:
    from steer.data.corpus import Corpus
    from steer.data.look import CountTokens, Look, Spread, WriteChat

Data = Annotated[
    str,
    typer.Argument(metavar="DATA", help="Real texts: a file, or a Hugging Face dataset name."),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Model whose tokens count. (default: the base model that fit takes)",
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(epilog="Example: [b]steer look hypotheses.jsonl[/b]")(with_groups(look))


def look(
    data: Data,
    base: Base = None,
    max_tokens: Annotated[
        int, typer.Option(min=8, help="Longest text with its prompt that fit takes.")
    ] = 512,
    seed: options.Seed = 0,
    *,
    reading: ReadingOptions,
) -> None:
    """Look at real texts first: what was read, what is odd, and the command to type next."""
    with console.on_stop("nothing was changed"):
        from steer.data.look import draw, first_columns, likely_labels, suggestion
        from steer.data.look import look as look_at
        from steer.models.suiting import costly

        with console.Meter() as meter:
            meter.update("reading")
            columns = first_columns(data, reading.settings())
            if reading.label_column is None and "label" in columns:
                reading = replace(reading, label_column="label")
            corpus, reading = _load(data, reading)
            labelled = reading.label_column is not None
            others = {} if labelled else likely_labels(columns, reading.text_column or "text")
            meter.update("looking")
            name, counter, writer = _counter(base, corpus.source)
            names = tuple(columns)
            see = partial(look_at, corpus, names, counter, max_tokens=max_tokens, seed=seed)
            try:
                seen = see(writer)
            except SteerError as error:  # of the chat template, which a fit may do without
                terminal.say([str(error)])
                seen = see()
            some = draw(corpus.texts, 300, seed)
            warning = costly(some, counter(some), name) if counter else None
    for line in _lines(seen, name, others, warning):
        print(printable(line))
    for number, sample in enumerate(seen.samples):
        if seen.asked:
            print(f"  > {terminal.one_line(seen.asked[number])}")
        print(f"  | {terminal.one_line(sample)}")
    words = [*reading.words(), *(("--base", base) if base else ())]
    print(printable(f"next: {suggestion(seen, words)}"))


def _load(data: str, reading: ReadingOptions) -> "tuple[Corpus, ReadingOptions]":
    """Loads the texts, without the rows that would be refused; gives the options that do so. A file
    is read once, as it may be large."""
    try:
        corpus = replace(reading, skip_blank=True, skip_control=True).load(data)
    except SteerError:
        if data == "-":
            raise
        return reading.load(data), reading  # which says what is wrong with the first row
    needed = [option for option in corpus.left_out if option not in reading.words()]
    if needed:
        terminal.say([f"such rows are refused without {' and '.join(needed)}"])
    return corpus, replace(
        reading,
        skip_blank=reading.skip_blank or "--skip-blank" in needed,
        skip_control=reading.skip_control or "--skip-control" in needed,
    )


def _counter(base: str | None, source: str) -> tuple[str, "CountTokens | None", "WriteChat | None"]:
    """Finds a model's name, what counts its tokens, and what writes chats for it; without one, why
    it cannot be had."""
    from steer.models.base import encode_texts, load_tokenizer
    from steer.models.packaged import default_model
    from steer.models.prompts import render_chat

    name = base or default_model()
    try:
        tokenizer = load_tokenizer(name)
    except SteerError as error:
        if base:
            raise
        return str(error), None, None
    return (
        name,
        lambda texts: [len(ids) for ids in encode_texts(tokenizer, texts)],
        lambda turns: render_chat(tokenizer, turns, f"{source}: a chat"),
    )


def _lines(seen: "Look", model: str, others: Mapping[str, int], warning: str | None) -> list[str]:
    names = f"; columns {', '.join(seen.columns)}" if seen.columns else ""
    return [
        f"{seen.source}: {counted(seen.rows, 'text')}{names}",
        _scripts(seen),
        f"characters: {_spread(seen.characters)}",
        _tokens(seen, model),
        *([f"warning: {warning}"] if warning else []),
        *_chats(seen),
        _labels(seen.labels, others),
        _repeats(seen),
        *_dropped(seen),
    ]


def _scripts(seen: "Look") -> str:
    some = f" (of {seen.read:,} drawn)" if seen.read < seen.rows else ""
    named = [f"{name} {share:.1%}" for name, share in list(seen.scripts.items())[:4]]
    return f"scripts{some}: {', '.join(named)}{' and others' if len(seen.scripts) > 4 else ''}"


def _spread(spread: "Spread") -> str:
    return (
        f"{spread.least:,} to {spread.most:,}, half have at most {spread.median:,}, "
        f"95% at most {spread.p95:,}"
    )


def _tokens(seen: "Look", model: str) -> str:
    if seen.tokens is None or seen.per_letter is None:
        return f"tokens: not counted: {model}"
    some = f", of {seen.counted:,} drawn" if seen.counted < seen.rows else ""
    return f"tokens ({model}{some}): {_spread(seen.tokens)}; {seen.per_letter:.2f} a letter"


def _chats(seen: "Look") -> list[str]:
    """Says what chats are like, where the texts are answers in some."""
    if seen.chats is None:
        return []
    roles = ", ".join(f"{role} {count:,}" for role, count in seen.chats.roles.items())
    lines = [f"chats: turns {_spread(seen.chats.turns)}; who speaks: {roles}"]
    if seen.chats.asked:
        some = f" ({seen.counted:,} drawn)" if seen.counted < seen.rows else ""
        lines.append(f"tokens before the answer{some}: {_spread(seen.chats.asked)}")
    return lines


def _labels(labels: Mapping[str, int], others: Mapping[str, int]) -> str:
    if labels:
        shown = ", ".join(f"{label} {count:,}" for label, count in list(labels.items())[:8])
        more = f" and {len(labels) - 8} more" if len(labels) > 8 else ""
        few = [label for label, count in labels.items() if count < 10]
        warned = f"; too few to learn from: {', '.join(few[:8])}" if few else ""
        return f"labels: {shown}{more}{warned}"
    hints = [f"--label-column {shlex.quote(name)} ({n} values)" for name, n in others.items()]
    return "labels: none" + (f"; there may be some: {', '.join(hints)}" if hints else "")


def _repeats(seen: "Look") -> str:
    among = f" among {seen.compared:,} drawn" if seen.compared < seen.rows else ""
    return f"repeats: {seen.equal:,} equal an earlier text, {seen.near:,} nearly do{among}"


def _dropped(seen: "Look") -> list[str]:
    """Says what fit leaves out, and of what kind records would be rejected."""
    if seen.too_long is None:
        long = "unknown without tokens"
    elif not seen.too_long:
        long = "nothing"
    else:
        whole = seen.chats is not None and seen.chats.asked is not None
        some = seen.counted < seen.rows if whole else seen.too_long > seen.counted
        answered = " with what they answer" if whole else ""
        long = (
            f"{'about ' if some else ''}{seen.too_long:,} of more than {seen.max_tokens} tokens"
            f"{answered} (--max-tokens)"
        )
    lines = [f"fit would drop: {long}"]
    if seen.short:
        lines.append(
            f"short: {seen.short:,} have fewer than {seen.min_chars} letters; records like them "
            "are rejected unless you generate with --min-chars 1"
        )
    return lines
