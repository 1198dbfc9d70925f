"""`steer cache`: what was kept to save time, how large it is, and its removal."""

from typing import Annotated

import typer

from steer.errors import SteerError

Clear = Annotated[bool, typer.Option("--clear", help="Remove the file of embeddings and readings.")]
Models = Annotated[
    bool,
    typer.Option(
        "--models",
        help="With --clear: the converted models and tokenizers and the compiled kernels too, and "
        "say which.",
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(epilog="Example: [b]steer cache --clear[/b]")(cache)


def cache(clear: Clear = False, models: Models = False) -> None:
    """Show what embedders and judges said of texts, kept so that no text is read twice, and
    converted models and tokenizers, and compiled kernels; or remove them. Nothing is lost but the
    time to make them again.

    The environment sets where they are (STEER_CACHE: a folder; STEER_METRICS_CACHE: the file) and
    how large the file may get (STEER_METRICS_CACHE_MB: 2000).
    """
    from steer.cli import tables as views
    from steer.models.cache import Cache
    from steer.models.packaged import converted_models, remove_model

    if models and not clear:
        raise SteerError("--models goes with --clear; to see the models, leave both out")
    kept, folders = Cache(), converted_models()
    if not clear:
        views.show_cache(kept, folders)
        return
    size = kept.size()
    kept.clear()
    views.show_removed(kept.path, size)
    for folder in folders if models else ():
        size = views.folder_size(folder)
        remove_model(folder)
        views.show_removed(folder, size)
