"""The command line's options that need no model library: their help, and how they are read."""

from pathlib import Path
from typing import Annotated

import typer

from steer.errors import SteerError

GUIDANCE, SAMPLING, CHECKS, SPEED = "Guidance", "Sampling", "Panels and checks", "Engine"

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="JSONL, CSV, Parquet, plain text, or a Hugging Face dataset name."
    ),
]
Real = Annotated[
    str, typer.Option("--real", metavar="DATA", help="The real texts: a file or dataset name.")
]
TextColumn = Annotated[
    str | None, typer.Option(help='Column of the texts. (default: "text", or the only one)')
]
LabelColumn = Annotated[str | None, typer.Option(help="Column of the labels, if there are any.")]
Seed = Annotated[int, typer.Option(help="Every random choice derives from it.")]

Gamma = Annotated[
    float,
    typer.Option(
        help="Coherence: how far to stress what fitting taught.", rich_help_panel=GUIDANCE
    ),
]
Eta = Annotated[
    float,
    typer.Option(
        help="Diversity: how far to move away from a panel of real and accepted texts; "
        "0 needs no panel.",
        rich_help_panel=GUIDANCE,
    ),
]
Alpha = Annotated[
    float,
    typer.Option(
        help="Sense: leave out tokens less likely to the expert than this share of its best.",
        rich_help_panel=GUIDANCE,
    ),
]
WeightsOption = Annotated[
    str,
    typer.Option(
        metavar="balanced|published",
        help="How gamma and eta become weights.",
        rich_help_panel=GUIDANCE,
    ),
]
Temperature = Annotated[float, typer.Option(help="0 is greedy.", rich_help_panel=SAMPLING)]
TopK = Annotated[int, typer.Option(help="0 is off.", rich_help_panel=SAMPLING)]
TopP = Annotated[float, typer.Option(help="1 is off.", rich_help_panel=SAMPLING)]
MinP = Annotated[float, typer.Option(help="0 is off.", rich_help_panel=SAMPLING)]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        help="Longest record. (default: as long as the longest real text)",
        rich_help_panel=SAMPLING,
    ),
]
PanelSize = Annotated[int, typer.Option(help="Examples in a panel.", rich_help_panel=CHECKS)]
RowsPerPanel = Annotated[int, typer.Option(help="Records that share one.", rich_help_panel=CHECKS)]
PanelFormOption = Annotated[
    str,
    typer.Option(
        metavar="prompted|raw",
        help="Each example under its own prompt, or all joined by spaces.",
        rich_help_panel=CHECKS,
    ),
]
RoundSize = Annotated[int, typer.Option(help="Records at most in a round.", rich_help_panel=CHECKS)]
Pattern = Annotated[
    str | None,
    typer.Option(metavar="REGEX", help="What a whole record must match.", rich_help_panel=CHECKS),
]
MinChars = Annotated[int, typer.Option(help="Shortest record to keep.", rich_help_panel=CHECKS)]
MaxAttempts = Annotated[
    int | None,
    typer.Option(help="When to give up. (default: 4 for each record)", rich_help_panel=CHECKS),
]
Rows = Annotated[int, typer.Option(help="Records decoded at a time.", rich_help_panel=SPEED)]
DTypeOption = Annotated[
    str, typer.Option("--dtype", metavar="auto|float32|bfloat16|float16", rich_help_panel=SPEED)
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", rich_help_panel=SPEED)]


def label_counts(pairs: list[str]) -> dict[str, int]:
    """Counts from options such as "hot=250". Raises `SteerError` for any other form."""
    counts: dict[str, int] = {}
    for pair in pairs:
        label, _, count = pair.rpartition("=")
        if not label or not count.strip().isdecimal():
            raise SteerError(f"--label is {pair!r}: write LABEL=NUMBER, such as --label hot=250")
        if label in counts:
            raise SteerError(f"--label names {label!r} twice; give each label one number")
        counts[label] = int(count)
    return counts


def choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """`value`, if allowed; else a `SteerError` that lists what is."""
    if value not in allowed:
        raise SteerError(f"{name} is {value!r}: choose one of {', '.join(allowed)}")
    return value


def new_file(path: Path) -> Path:
    """`path`, if a file can be made there without overwriting anything."""
    if path.exists() or path.is_symlink():
        raise SteerError(f"{path} exists already; choose another place or remove it first")
    if not path.absolute().parent.is_dir():
        raise SteerError(f"{path} cannot be written: there is no folder {path.absolute().parent}")
    return path
