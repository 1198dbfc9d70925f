"""`steer push` and `steer adopt`: experts and records given to others, experts taken from them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from steer.cli import options, parsing
from steer.cli import progress as console
from steer.errors import SteerError


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command(
        epilog="Example: [b]steer push run my-org/my-texts --license mit --language en[/b]\n\n"
        "An expert: [b]steer push expert my-org/my-expert[/b]"
    )(push)
    app.command(epilog='Example: [b]steer adopt adapter --prompt "A hypothesis:" --out expert[/b]')(
        adopt
    )


def push(
    source: Annotated[str, typer.Argument(metavar="RUN|EXPERT", help="What to publish.")],
    repo: Annotated[
        str, typer.Argument(metavar="ORG/NAME", help="Its name on the Hugging Face Hub.")
    ],
    public: Annotated[
        bool, typer.Option("--public", help="Everybody sees it. (default: only you)")
    ] = False,
    license: Annotated[
        str | None, typer.Option(help="Licence of what you publish, such as cc-by-4.0.")
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Language of the texts, such as en; once for each.")
    ] = None,
    table: options.Table = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="A:B:C", help="Parts of train, validation and test, of a run."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What the Hub calls the expert's base model."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there, without asking.")
    ] = False,
) -> None:
    """Publish a run's records, or an expert, on the Hugging Face Hub, with a card that is true."""
    with console.on_stop(f"{repo} was not changed; the same command starts again"):
        from steer.runs.card import CardSettings
        from steer.runs.measured import measured_table
        from steer.runs.publishing import PublishSettings, publish

        card = CardSettings(
            license=license,
            languages=tuple(language or ()),
            measured=measured_table(table) if table else None,
        )
        settings = PublishSettings(
            private=not public,
            card=card,
            split=parsing.parts("--split", split) if split else None,
            base=base,
        )
        done = publish(source, repo, settings, may_overwrite=lambda what: overwrite or _ask(what))
    print(f"published: {done.url} ({'only you see it' if done.private else 'public'})")


def adopt(
    adapter: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="Folder of a LoRA adapter, as PEFT saves it.")
    ],
    out: Annotated[Path, typer.Option(metavar="EXPERT", help="Folder to make.")],
    prompt: options.Prompt = None,
    task: options.TaskName = None,
    label: Annotated[
        list[str] | None, typer.Option(help="A label that it was fitted with; once for each.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Its base model. (default: as the adapter says)"),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Longest record, unless the task says.")
    ] = 128,
) -> None:
    """Make an expert of a LoRA adapter that somebody else fitted."""
    with console.on_stop(f"{out} was not made"):
        from steer.data.catalog import load_task
        from steer.data.tasks import Task
        from steer.models.adopting import adopt as adopt_adapter

        parsing.one_of("--task", "--prompt", (task, prompt))
        what = load_task(task) if task is not None else Task(prompt or "", tuple(label or ()))
        expert = adopt_adapter(adapter, what, out, base=base, max_new_tokens=max_new_tokens)
    print(f"{expert.path}: an adapter of rank {expert.settings.rank} on {expert.base}")
    print(f"next: steer generate {expert.path} --real DATA --n 100 --out run")


def _ask(what: str) -> bool:
    """Asks on a terminal whether files may be replaced; elsewhere nobody can answer."""
    if not sys.stdin.isatty():
        return False
    try:
        return typer.confirm(f"{what}. Replace them?")
    except typer.Abort:
        raise SteerError("nothing was published") from None
