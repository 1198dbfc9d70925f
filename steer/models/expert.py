"""Experts: a base model with a LoRA adapter fitted on real texts, as they are kept in a folder.

Model libraries are not needed to read one; `steer.models.fitting` makes them.
"""

import json
from pathlib import Path

from pydantic import Field

from steer.config import Config, EndBias
from steer.data.tasks import Form, Task
from steer.data.whitespace import Whitespace
from steer.errors import SteerError
from steer.models.fingerprints import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_fingerprint
from steer.shapes import Shape

CARD = "expert.json"


class FitSettings(Config):
    """Settings of a fit. `epochs` is the most, and where the learning rate `lr` reaches 0: fitting
    stops once the held-out loss has not improved for `patience` epochs. A step reads `batch` texts.
    None leaves epochs and batch to the number of texts, and the rate to the model's width.
    `held_out` is the share of different texts kept for that, 200 of them at most;
    `max_tokens` limits prompt and text together. At most `pass_tokens` are read in one pass, unless
    a single text has more: fewer take less memory, and change nothing else."""

    epochs: int | None = Field(None, ge=1, le=1000)
    patience: int = Field(1, ge=1)
    lr: float | None = Field(None, gt=0, le=1)
    rank: int = Field(32, ge=1, le=1024)
    alpha: int = Field(64, ge=1)
    batch: int | None = Field(None, ge=1)
    held_out: float = Field(0.1, gt=0, le=0.5)
    max_tokens: int = Field(512, ge=8)
    pass_tokens: int = Field(512, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)


class EpochLoss(Config):
    """Mean loss over completion tokens, in nats a token; epoch 0 is the base model itself."""

    epoch: int
    train: float | None
    held_out: float


class Lengths(Config):
    """Numbers of tokens of the completions trained and tested on, the end of text included."""

    mean: float
    p95: int
    max: int


class Expert(Config):
    """A fitted expert in its folder. `rows` counts the texts that were read, `dropped` those left
    out because they were too long; `held_out` are the row indices (from 0) of those that were
    only tested on. Its texts end as the real ones with the `end_bias` (`steer.models.ending`)."""

    path: Path = Field(exclude=True)
    adapter_fingerprint: str = Field(exclude=True)
    task_name: str | None = None
    prompt: str
    labels: tuple[str, ...]
    form: Form = "text"
    whitespace: Whitespace | None = None
    shape: Shape | None = None
    pattern: str | None = None
    min_chars: int = Task.min_chars
    max_new_tokens: int | None = None
    base: str
    base_fingerprint: str
    data_source: str
    data_fingerprint: str
    rows: int
    dropped: int
    held_out: tuple[int, ...]
    completion_tokens: Lengths
    end_bias: EndBias = ()
    losses: tuple[EpochLoss, ...]
    best_epoch: int
    settings: FitSettings
    warnings: tuple[str, ...]
    steer_version: str

    @property
    def task(self) -> Task:
        """Task that the expert was fitted on; without the place of the real texts."""
        return Task(
            self.prompt,
            self.labels,
            pattern=self.pattern,
            min_chars=self.min_chars,
            form=self.form,
            whitespace=self.whitespace,
            shape=self.shape,
            name=self.task_name,
            max_new_tokens=self.max_new_tokens,
        )

    @property
    def trained_on(self) -> int:
        """Number of texts that the expert was trained on: those read, but for the dropped and the
        held out."""
        return self.rows - self.dropped - len(self.held_out)

    @property
    def max_completion_tokens(self) -> int:
        """Most tokens of a record: the task's limit, else the tokens of the longest text that was
        not dropped, the end of text included."""
        return self.max_new_tokens or self.completion_tokens.max

    @classmethod
    def load(cls, path: str | Path) -> "Expert":
        """Loads the expert in a folder that `fit` made. Raises `SteerError` when it is not one."""
        path = Path(path)
        _check_folder(path)
        try:
            card = json.loads((path / CARD).read_text())
            return cls(path=path, adapter_fingerprint=adapter_fingerprint(path), **card)
        except (ValueError, TypeError, KeyError, SteerError) as error:
            raise SteerError(f"{path} is a damaged expert: {error}; fit it again") from None
        except OSError as error:
            raise SteerError(f"cannot read the expert {path}: {error.strerror}") from None


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        state = "is a file" if path.exists() else "does not exist"
        raise SteerError(f"the expert {path} {state}; give a folder made by steer fit")
    for name in (CARD, ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (path / name).is_file():
            raise SteerError(f"{path} is no expert: it has no {name}; give a folder steer fit made")
