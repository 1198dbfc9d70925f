"""The options that commands share: their names, types, help and panels."""

from pathlib import Path
from typing import Annotated

import typer

from steer.config import Guidance
from steer.methods import PROPOSAL, STEERED

GUIDANCE, SAMPLING, CHECKS, SPEED = "Guidance", "Sampling", "Panels and checks", "Engine"
MACHINES = "Many machines"


def _default(value: object) -> str:
    """Text that ends an option's help: what applies when it is not given."""
    return f"(default: the method's; steer has {value})"


FitData = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA...",
        help="Files of JSON, CSV, Parquet, Arrow, plain text or Excel, compressed or not, a "
        "folder of them, - for standard input, or a Hugging Face dataset OWNER/NAME; see "
        "docs/data.md. (default: the task's dataset)",
    ),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="NAME|FILE.yaml",
        help="hypotheses, comments, commonsense, or a file with a task of your own.",
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        help="Instead of a task: what a record is; {label} stands for its label, {chat} for what "
        "was said before it."
    ),
]
ExpertFolder = Annotated[Path, typer.Argument(metavar="EXPERT", help="What `steer fit` made.")]
Real = Annotated[
    str,
    typer.Option(
        "--real",
        metavar="DATA",
        help="The real texts: a file, a folder or a dataset (docs/data.md).",
    ),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run: its folder, or an address as s3://bucket/run.")
]
Judge = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL|ngrams:DATA|EXPERT",
        help="Who judges coherence: a causal model of another family than the base model, such as "
        "gemma3-270m, or character runs of other real texts. A second judge is shown apart; so is "
        "one of the same base model.",
    ),
]
Table = Annotated[
    Path | None,
    typer.Option(metavar="JSON", help="What steer evaluate --json wrote: goes into the card."),
]
Judged = Annotated[
    int | None,
    typer.Option(help="Texts of each set that judges read, which takes longest. (default: all)"),
]
Utility = Annotated[
    str | None,
    typer.Option(
        metavar="labels|answers",
        help="Train a classifier on each set and test it on real texts.",
    ),
]
Mask = Annotated[
    bool | None,
    typer.Option(
        "--mask/--no-mask",
        help="Show the first letters of words only. (default: for the task comments)",
    ),
]
Embedder = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A sentence-transformers model. (default: all-MiniLM-L6-v2)"),
]
Full = Annotated[bool, typer.Option("--full", help="Show all figures, not the main ones only.")]
Seed = Annotated[int, typer.Option(help="Every random choice derives from it.")]

_METHOD = "How to decode: steer, plain, top-k, ... with settings such as steer:rho=0.3. " + (
    "See steer methods."
)
MethodName = Annotated[
    str, typer.Option("--method", metavar="NAME", help=_METHOD, rich_help_panel=GUIDANCE)
]
UsualMethod = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help=f"{_METHOD} (default: {PROPOSAL}, and {STEERED} with a setting of guidance)",
        rich_help_panel=GUIDANCE,
    ),
]
Gamma = Annotated[
    float | None,
    typer.Option(
        help="Coherence: how far to stress what fitting taught. " + _default(Guidance().gamma),
        rich_help_panel=GUIDANCE,
    ),
]
Eta = Annotated[
    float | None,
    typer.Option(
        help="Diversity: how far to move away from a panel of real and accepted texts; "
        "0 needs no panel. " + _default(Guidance().eta),
        rich_help_panel=GUIDANCE,
    ),
]
Rho = Annotated[
    float | None,
    typer.Option(
        help="How far to move towards a panel of chosen texts (--towards). " + _default(0),
        rich_help_panel=GUIDANCE,
    ),
]
Alpha = Annotated[
    float | None,
    typer.Option(
        help="Sense: leave out tokens less likely to the expert than this share of its best. "
        + _default(Guidance().alpha),
        rich_help_panel=GUIDANCE,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="balanced|published",
        help="How gamma and eta become weights. " + _default(Guidance().weights),
        rich_help_panel=GUIDANCE,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="0 is greedy. (default: the method's; 0.9 for the default ones)",
        rich_help_panel=SAMPLING,
    ),
]
TopK = Annotated[
    int | None, typer.Option(help="0 is off. " + _default(0), rich_help_panel=SAMPLING)
]
TopP = Annotated[
    float | None, typer.Option(help="1 is off. " + _default(1), rich_help_panel=SAMPLING)
]
MinP = Annotated[
    float | None, typer.Option(help="0 is off. " + _default(0), rich_help_panel=SAMPLING)
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        help="Longest record. (default: the task's, else as long as the longest real text)",
        rich_help_panel=SAMPLING,
    ),
]
PanelSize = Annotated[
    int | None,
    typer.Option(help="Examples in a panel. " + _default(10), rich_help_panel=CHECKS),
]
RowsPerPanel = Annotated[int, typer.Option(help="Records that share one.", rich_help_panel=CHECKS)]
PanelFormOption = Annotated[
    str | None,
    typer.Option(
        metavar="prompted|raw",
        help="Each example under its own prompt, or all joined by spaces. " + _default("prompted"),
        rich_help_panel=CHECKS,
    ),
]
PanelSelection = Annotated[
    str | None,
    typer.Option(
        metavar="random|nearest|crowded|diverse",
        help="Which examples make a panel. " + _default("random"),
        rich_help_panel=CHECKS,
    ),
]
Towards = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Texts that rho moves towards. (default: the real texts)",
        rich_help_panel=GUIDANCE,
    ),
]
Forbid = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="A test set: records too close to one of its texts are rejected and counted.",
        rich_help_panel=CHECKS,
    ),
]
RoundSize = Annotated[int, typer.Option(help="Records at most in a round.", rich_help_panel=CHECKS)]
Lag = Annotated[
    int,
    typer.Option(
        help="Rounds made at once: a round knows the records of those up to LAG before it.",
        rich_help_panel=MACHINES,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Make the rounds on a Ray cluster: local (this machine), auto, or HOST:PORT of its "
        "head. See docs/scaling.md.",
        rich_help_panel=MACHINES,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Engines on it, each with a GPU if there are any.", rich_help_panel=MACHINES
    ),
]
Candidates = Annotated[
    int,
    typer.Option(
        help="Attempts for each record wanted: which of them become records is decided by how much "
        "likelier they are as real texts. See docs/correction.md.",
        rich_help_panel=CHECKS,
    ),
]
SelectorName = Annotated[
    str | None,
    typer.Option(
        "--selector",
        metavar="NAME",
        help="The sentence-transformers model that candidates are compared by; evaluate with "
        "another. (default: all-MiniLM-L6-v2)",
        rich_help_panel=CHECKS,
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(metavar="REGEX", help="What a whole record must match.", rich_help_panel=CHECKS),
]
Shaped = Annotated[
    bool,
    typer.Option(
        "--shape/--no-shape",
        help="Hold decoding to the shape of the task, if it has one; otherwise only reject what "
        "has another.",
        rich_help_panel=CHECKS,
    ),
]
EndBias = Annotated[
    bool,
    typer.Option(
        "--end-bias/--no-end-bias",
        help="Let records end where the real texts do, if the fit found that the expert's would "
        "not; otherwise as the expert has it.",
        rich_help_panel=CHECKS,
    ),
]
MinChars = Annotated[
    int | None,
    typer.Option(
        help="Shortest record to keep; a Han character counts as 3, a kana or Hangul as 2. "
        "(default: the expert's task's, or 10)",
        rich_help_panel=CHECKS,
    ),
]
TimeBudget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Stop before a round that would not end within 90s, 20m or 2h; the same command "
        "continues.",
    ),
]
TokenBudget = Annotated[
    int | None,
    typer.Option(
        "--max-tokens", min=1, help="Stop before a round that would write more tokens than these."
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Only say how many tokens, how much time and memory it would take."
    ),
]
Near = Annotated[
    float,
    typer.Option(
        help="How alike a record may not be to a real text or another one: the share of character "
        "5-grams in common. 1 rejects equal ones only.",
        rich_help_panel=CHECKS,
    ),
]
MaxAttempts = Annotated[
    int | None,
    typer.Option(
        help="When to give up; a run that did goes on with more. (default: 4 for each candidate)",
        rich_help_panel=CHECKS,
    ),
]
Rows = Annotated[
    int | None,
    typer.Option(
        help="Records decoded at a time. (default: as many as suit the machine)",
        rich_help_panel=SPEED,
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="hf|vllm",
        help="hf runs anywhere; vllm is for servers, and is installed apart (docs/vllm.md).",
        rich_help_panel=SPEED,
    ),
]
Gpus = Annotated[
    int,
    typer.Option(
        min=1,
        help="GPUs to spread the model over (vllm).",
        rich_help_panel=SPEED,
    ),
]
DTypeOption = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="auto|float32|bfloat16|float16|int8",
        help="int8: rounded weights, faster for a few records on a CPU (hf).",
        rich_help_panel=SPEED,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads of the CPU; equal runs need equal numbers. "
        "(default: those the run was begun with, else one a processor)",
        rich_help_panel=SPEED,
    ),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", rich_help_panel=SPEED)]
