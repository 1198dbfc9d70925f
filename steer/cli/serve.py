"""`steer serve`: from its options to one call of `steer.serving.server.serve`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from steer.cli import options, parsing
from steer.cli import progress as console
from steer.cli.groups import with_groups
from steer.cli.reading import ReadingOptions
from steer.data.characters import printable
from steer.errors import SteerError

_EXAMPLES = (
    "Example: [b]steer serve expert --real hypotheses.jsonl[/b], then open http://127.0.0.1:8000\n\n"
    "For others: [b]STEER_API_KEY=... steer serve expert --real hypotheses.jsonl --host 0.0.0.0[/b]"
)


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(epilog=_EXAMPLES)(with_groups(serve))


def serve(
    experts: Annotated[
        list[Path], typer.Argument(metavar="EXPERT...", help="What `steer fit` made.")
    ],
    real: options.Real,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that others reach needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 is any free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="STEER_API_KEY",
            help="What clients must send as their API key.",
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the page saves judged texts, as runs."),
    ] = None,
    queue: Annotated[
        int, typer.Option(help="Texts that are written or wait; more are told to come later.")
    ] = 512,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take.")] = 300,
    embedder: options.Embedder = None,
    mask: options.Mask = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where the experts' base model is now, if elsewhere.",
            rich_help_panel=options.SPEED,
        ),
    ] = None,
    engine: options.EngineOption = "hf",
    rows: options.Rows = None,
    dtype: options.DTypeOption = "auto",
    device: options.Device = "auto",
    gpus: options.Gpus = 1,
    threads: options.Threads = None,
    *,
    reading: ReadingOptions,
) -> None:
    """Serve experts to OpenAI's clients, with a page to steer them by hand."""
    with console.on_stop("the server has ended"):
        from steer.models.expert import Expert

        loaded = [Expert.load(each) for each in experts]
        for name in ("fastapi", "uvicorn", "prometheus_client"):
            if find_spec(name) is None:
                raise SteerError(f"{name} is not installed; run: pip install 'steer-text[serve]'")
        from steer.engines.choice import EngineSpec
        from steer.serving import server
        from steer.serving.settings import ServeSettings

        limits = {"queue": queue, "timeout": timeout, "save": save}
        shown = {"embedder": embedder, "mask": mask}
        settings = ServeSettings(host=host, port=port, api_key=api_key, **limits, **shown)
        settings.require_key()
        texts = reading.load_for(loaded[0].task, real)
        speed = {"rows": rows, "dtype": dtype, "device": device, "gpus": gpus, "threads": threads}
        how = parsing.given({"name": engine, **speed})
        with console.Meter() as meter:
            meter.update("loading")
            served = server.load(
                loaded,
                texts,
                settings,
                lambda each: EngineSpec(base or each.base, each.path, **how),
            )
        names = ", ".join(each.name for each in served)
        server.serve(served, settings, lambda address: _ready(names, address))


def _ready(names: str, address: str) -> None:
    print(f"{printable(names)} at {address} (the page) and {address}/v1 (OpenAI's clients)")
    print("Ctrl-C ends it, once what runs is written", flush=True)
