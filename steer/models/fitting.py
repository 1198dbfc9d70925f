"""Experts: a base model with a LoRA adapter fitted on real texts."""

import json
import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from pydantic import Field
from transformers import set_seed

from steer.config import Config
from steer.data.corpus import Corpus
from steer.data.tasks import Form, Task
from steer.errors import SteerError
from steer.files import new_folder, refuse_existing
from steer.models.base import (
    context_length,
    load_model,
    load_tokenizer,
    model_fingerprint,
)
from steer.models.fingerprints import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_fingerprint
from steer.models.packaged import default_model
from steer.models.training import (
    EpochLoss,
    Example,
    FitSettings,
    OnProgress,
    Progress,
    encode,
    train,
    training_arguments,
)
from steer.quiet import quiet_logs
from steer.seeds import derive
from steer.version import __version__

__all__ = ["EpochLoss", "Expert", "FitSettings", "Lengths", "Progress", "fit"]

_CARD = "expert.json"
_CHECKPOINTS = "checkpoints"
_FEWEST = 10


class Lengths(Config):
    """Tokens of the completions, the end of text included."""

    mean: float
    p95: int
    max: int


class Expert(Config):
    """A fitted expert in its folder. `held_out` are row indices (from 0) that were not trained
    on; `dropped` counts texts left out because they were too long."""

    path: Path = Field(exclude=True)
    adapter_fingerprint: str = Field(exclude=True)
    task_name: str | None = None
    prompt: str
    labels: tuple[str, ...]
    form: Form = "text"
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
    losses: tuple[EpochLoss, ...]
    best_epoch: int
    settings: FitSettings
    warnings: tuple[str, ...]
    steer_version: str

    @property
    def task(self) -> Task:
        """What it was fitted to write; without the place of the real texts."""
        return Task(
            self.prompt,
            self.labels,
            pattern=self.pattern,
            min_chars=self.min_chars,
            form=self.form,
            name=self.task_name,
            max_new_tokens=self.max_new_tokens,
        )

    @property
    def max_completion_tokens(self) -> int:
        """The task's limit, else the tokens of the longest text it was fitted on, the end of
        text included."""
        return self.max_new_tokens or self.completion_tokens.max

    @classmethod
    def load(cls, path: str | Path) -> "Expert":
        """The expert in a folder that `fit` made; `SteerError` when it is not one."""
        path = Path(path)
        _check_folder(path)
        try:
            card = json.loads((path / _CARD).read_text())
            return cls(path=path, adapter_fingerprint=adapter_fingerprint(path), **card)
        except (ValueError, TypeError, KeyError, SteerError) as error:
            raise SteerError(f"{path} is a damaged expert: {error}; fit it again") from None
        except OSError as error:
            raise SteerError(f"cannot read the expert {path}: {error.strerror}") from None


def fit(
    corpus: Corpus,
    task: str | Task,
    out: str | Path,
    base: str | None = None,
    settings: FitSettings | None = None,
    on_progress: OnProgress | None = None,
) -> Expert:
    """Fit a LoRA adapter on the texts as completions of the prompt, and save it at `out`.

    A prompt alone is a task with the corpus's labels, and a template with `{label}` when there
    are any. `out` is made in one piece at the end, or not at all. Raises `SteerError` when it
    exists, for an unknown base model, too few texts, labels that are not the task's, and what
    `Task` refuses.
    """
    out, settings = Path(out), settings or FitSettings()
    report = on_progress or (lambda _: None)
    refuse_existing(out)
    task = Task(task, corpus.label_names) if isinstance(task, str) else task
    _check_labels(task, corpus)
    report(Progress("load"))
    name = _lasting_name(base)
    tokenizer, base_model = load_tokenizer(name), load_model(name)
    examples = encode(corpus, task, tokenizer)
    limit = min(settings.max_tokens, context_length(base_model))
    split = _split(corpus, examples, limit, settings)
    model = _add_adapter(base_model, settings)
    with new_folder(out, needs_bytes=_disk_bytes(model)) as folder, quiet_logs():
        arguments = training_arguments(folder / _CHECKPOINTS, settings, model.device)
        losses = train(
            model,
            [examples[row] for row in split.train],
            [examples[row] for row in split.held_out],
            arguments,
            patience=settings.patience,
            pad=int(tokenizer.pad_token_id),
            on_progress=report,
        )
        report(Progress("save"))
        _save_adapter(model, name, folder)
        expert = Expert(
            path=out,
            adapter_fingerprint=adapter_fingerprint(folder),
            task_name=task.name,
            prompt=task.prompt,
            labels=task.labels,
            form=task.form,
            pattern=task.pattern,
            min_chars=task.min_chars,
            max_new_tokens=task.max_new_tokens,
            base=name,
            base_fingerprint=model_fingerprint(name),
            data_source=corpus.source,
            data_fingerprint=corpus.fingerprint,
            rows=len(corpus.texts),
            dropped=len(split.too_long),
            held_out=split.held_out,
            completion_tokens=_lengths([examples[row] for row in split.kept]),
            losses=losses,
            best_epoch=_best_epoch(losses),
            settings=settings,
            warnings=_warnings(losses, split, limit, settings),
            steer_version=__version__,
        )
        (folder / _CARD).write_text(expert.model_dump_json(indent=2) + "\n")
    return expert


def _check_labels(task: Task, corpus: Corpus) -> None:
    """An expert that never read a label's texts could not write them."""
    if set(task.labels) != set(corpus.label_names):
        raise SteerError(
            f"the task's labels are {', '.join(task.labels) or 'none'} but those of "
            f"{corpus.source} are {', '.join(corpus.label_names[:10]) or 'none'}; name another "
            "label column or none, or change the task's labels"
        )


@dataclass(frozen=True)
class _Split:
    """Row indices, each sorted."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    too_long: tuple[int, ...]

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(sorted(self.train + self.held_out))


def _split(
    corpus: Corpus, examples: Sequence[Example], limit: int, settings: FitSettings
) -> _Split:
    """Rows to train on and to hold out; equal texts stay together, on one side."""
    rows = range(len(examples))
    too_long = tuple(row for row in rows if len(examples[row]["input_ids"]) > limit)
    kept = [row for row in rows if len(examples[row]["input_ids"]) <= limit]
    texts = list(dict.fromkeys(corpus.texts[row] for row in kept))
    if len(texts) < _FEWEST:
        raise SteerError(
            f"{len(texts)} different texts can be fitted on ({len(too_long)} of {len(rows)} have "
            f"more than {limit} tokens with the prompt); give at least {_FEWEST}"
        )
    draw = random.Random(derive(settings.seed, "held-out"))
    chosen = set(draw.sample(texts, max(1, round(settings.held_out * len(texts)))))
    return _Split(
        train=tuple(row for row in kept if corpus.texts[row] not in chosen),
        held_out=tuple(row for row in kept if corpus.texts[row] in chosen),
        too_long=too_long,
    )


def _lasting_name(base: str | None) -> str:
    """The base model's name as the expert keeps it: a folder by its absolute path."""
    name = base or default_model()
    path = Path(name).expanduser()
    return str(path.resolve()) if path.is_dir() else name


def _add_adapter(base: Any, settings: FitSettings) -> Any:
    """LoRA on all linear layers but the output; its weights are fp32 whatever the base has,
    since updates are too small for bf16."""
    set_seed(settings.seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with quiet_logs():
        return get_peft_model(base, config)


def _disk_bytes(model: Any) -> int:
    """For two checkpoints and the result, in fp32."""
    weights = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return 3 * 4 * weights + 20_000_000


def _save_adapter(model: Any, name: str, folder: Path) -> None:
    """`name` replaces the folder the base was loaded from, which may be in this user's cache."""
    model.peft_config["default"].base_model_name_or_path = name
    model.save_pretrained(folder, save_embedding_layers=False)
    shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)
    (folder / "README.md").unlink(missing_ok=True)  # a form with nothing filled in


def _lengths(examples: Sequence[Example]) -> Lengths:
    counts = sorted(len(example["input_ids"]) - example["prompt"] for example in examples)
    p95 = counts[math.ceil(0.95 * len(counts)) - 1]
    return Lengths(mean=sum(counts) / len(counts), p95=p95, max=counts[-1])


def _best_epoch(losses: Sequence[EpochLoss]) -> int:
    return min(losses[1:], key=lambda loss: loss.held_out).epoch


def _warnings(
    losses: Sequence[EpochLoss], split: _Split, limit: int, settings: FitSettings
) -> tuple[str, ...]:
    best, last = losses[_best_epoch(losses)], losses[-1]
    found = []
    if split.too_long:
        found.append(
            f"{len(split.too_long)} of {len(split.too_long) + len(split.kept)} texts were left "
            f"out: with the prompt they have more than {limit} tokens (first: row "
            f"{split.too_long[0] + 1})."
        )
    if best.held_out >= losses[0].held_out:
        found.append(
            f"Fitting did not help: the held-out loss is {best.held_out:.3f} at best, "
            f"{losses[0].held_out:.3f} before."
        )
    if last.held_out > best.held_out:
        found.append(
            f"The expert overfits after epoch {best.epoch}: the held-out loss rose from "
            f"{best.held_out:.3f} to {last.held_out:.3f}. Epoch {best.epoch} is kept."
        )
    elif last.epoch == settings.epochs and last.held_out < losses[-2].held_out:
        found.append(
            f"The held-out loss was still falling at epoch {last.epoch}, the last one allowed; "
            "more epochs may fit better."
        )
    return tuple(found)


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise SteerError(f"the expert {path} {found}; give a folder made by steer fit")
    for name in (_CARD, ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (path / name).is_file():
            raise SteerError(f"{path} is no expert: it has no {name}; give a folder steer fit made")
