"""Fitting of experts: a LoRA adapter trained on real texts and saved with its card."""

import logging
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from peft import LoraConfig, get_peft_model
from transformers import set_seed

from steer.config import EndBias
from steer.data.corpus import Corpus, as_corpus
from steer.data.tasks import Task
from steer.errors import SteerError
from steer.files import check_space, new_folder, refuse_existing
from steer.models.base import (
    context_length,
    load_model,
    load_tokenizer,
    model_fingerprint,
    pick_device,
    pick_dtype,
)
from steer.models.ending import SAMPLED, end_bias
from steer.models.examples import Encoded, encode
from steer.models.expert import CARD, EpochLoss, Expert, FitSettings, Lengths
from steer.models.fingerprints import adapter_fingerprint
from steer.models.footprint import peak_bytes
from steer.models.layouts import find_layout
from steer.models.machine import total_memory
from steer.models.packaged import default_model
from steer.models.prompts import require_turns
from steer.models.schedule import Schedule, default_batch, default_epochs, default_rate
from steer.models.shortcuts import take_shortcuts
from steer.models.splitting import FEWEST, Split, split_texts
from steer.models.suiting import LEAST_FALL, costly, hardly_falls, rises
from steer.models.training import FitProgress, OnFitProgress, Training
from steer.models.unfinished import is_unfinished, unfinished_fit
from steer.quiet import quiet_logs
from steer.version import __version__

log = logging.getLogger(__name__)

_LOOKED_AT = 1_000
_OF_TASK = ("prompt", "labels", "form", "whitespace", "pattern", "min_chars", "max_new_tokens")


def fit(
    corpus: Corpus | Sequence[str],
    task: str | Task,
    out: str | Path,
    base: str | None = None,
    settings: FitSettings | None = None,
    on_progress: OnFitProgress | None = None,
) -> Expert:
    """Fit a LoRA adapter on the texts as completions of the prompt, and save it at `out`.

    A list of strings is a corpus without labels (`Corpus.of` adds them). A prompt alone is a
    task with the corpus's labels, and a template with `{label}` when there are any; records of
    columns bring their shape. `out` is made in one piece at the end, or not at all. A fit that is
    stopped is kept beside it, and the same call goes on with it, to the same expert. Raises
    `SteerError` when `out` exists, for an unfinished fit of anything else, an unknown base model,
    too few texts, labels that are not the task's, a shape that no text can have, and what `Task`
    refuses.
    """
    corpus, out, settings = as_corpus(corpus), Path(out), settings or FitSettings()
    report = on_progress or (lambda _: None)
    if not is_unfinished(out):
        refuse_existing(out)
    task = Task(task, corpus.label_names) if isinstance(task, str) else task
    if corpus.shape and not task.shape:
        task = replace(task, shape=corpus.shape, min_chars=1)
    _check_labels(task, corpus)
    if task.chats:
        require_turns(corpus)
    if task.shape:
        task.shape.check()
    task = task.suited_to(corpus.texts)
    base = _lasting_name(base)
    report(FitProgress("load"))
    with unfinished_fit(out, _identity(corpus, task, base, settings)) as kept, quiet_logs():
        job = _load(corpus, task, base, settings)
        check_space(out.parent, _disk_bytes(job.model))
        training = _training(job)
        _foretell(training, report)
        losses = training.run(kept, report)
        bias = _end_bias(job, training, report)
        report(FitProgress("save"))
        return _publish(job, losses, bias, out)


def _identity(corpus: Corpus, task: Task, base: str, settings: FitSettings) -> dict[str, object]:
    """What makes two fits the same: by name, in the order in which differences are told. Threads
    are not part of it, as a fit keeps the number that it was begun with."""
    dtype = pick_dtype("auto", pick_device())
    return {
        "data": corpus.chat_fingerprint if task.chats else corpus.fingerprint,
        **{name: getattr(task, name) for name in _OF_TASK},
        "base": model_fingerprint(base),
        "shape": asdict(task.shape) if task.shape else None,
        "dtype": str(dtype).removeprefix("torch."),
        **settings.model_dump(),
    }


def _check_labels(task: Task, corpus: Corpus) -> None:
    """Raises `SteerError` when the labels of task and corpus differ: an expert that never read a
    label's texts could not write them."""
    if set(task.labels) != set(corpus.label_names):
        raise SteerError(
            f"the task's labels are {', '.join(task.labels) or 'none'} but those of "
            f"{corpus.source} are {', '.join(corpus.label_names[:10]) or 'none'}; name another "
            "--label-column or none, or change the task's labels"
        )


@dataclass(frozen=True)
class _Job:
    """A fit once everything is loaded: `model` is the base model called `base` with a new
    adapter, `split` says what is done with each of the `encoded` texts."""

    corpus: Corpus
    task: Task
    settings: FitSettings
    schedule: Schedule
    base: str
    model: Any
    pad: int
    encoded: Sequence[Encoded]
    split: Split

    def pick(self, rows: Sequence[int]) -> list[Encoded]:
        return [self.encoded[row] for row in rows]


def _load(corpus: Corpus, task: Task, name: str, settings: FitSettings) -> _Job:
    tokenizer, base_model = load_tokenizer(name), load_model(name)
    encoded = encode(corpus, task, tokenizer)
    limit = min(settings.max_tokens, context_length(base_model))
    split = split_texts(corpus, encoded, limit, settings)
    for warning in (_costly(corpus, encoded, name), _left_out(split, encoded)):
        if warning:
            log.warning(warning)  # before the hours that follow
    lengths = [len(encoded[row]["input_ids"]) for row in split.train]
    schedule = _schedule(settings, base_model, lengths)
    chosen = {name: getattr(schedule, name) for name in ("epochs", "lr", "batch")}
    settings = settings.model_copy(update=chosen)
    model, pad = _add_adapter(base_model, settings), int(tokenizer.pad_token_id)
    return _Job(corpus, task, settings, schedule, name, model, pad, encoded, split)


def _training(job: _Job) -> Training:
    examples, settings = job.pick(job.split.train), job.settings
    layout = find_layout(job.model, examples, job.pad)
    return Training(
        job.model,
        examples,
        job.pick(job.split.held_out),
        job.schedule,
        layout,
        settings.pass_tokens,
        settings.patience,
    )


def _foretell(training: Training, report: OnFitProgress) -> None:
    """Reports what the training takes, and warns where the machine has less memory."""
    memory = peak_bytes(training.model, training.layout, training.epoch_passes())
    schedule, texts = training.schedule, len(training.examples)
    report(
        FitProgress(
            "load",
            epochs=schedule.epochs,
            steps=schedule.steps,
            total=training.work(schedule.steps, tests=0),
            texts=texts,
            memory=memory,
        )
    )
    has = total_memory(training.model.device)
    if memory > has:
        log.warning(
            "the fit takes about %.1f GiB of memory, and there are %.1f GiB; lower --pass-tokens "
            "(%d), or --max-tokens if texts are long",
            memory / 2**30,
            has / 2**30,
            training.pass_tokens,
        )


def _end_bias(job: _Job, training: Training, report: OnFitProgress) -> EndBias:
    """Finds the bias with which texts end where the real ones do; none where a shape ends them."""
    if job.task.shape:
        return ()
    some, more = list(job.split.held_out), list(job.split.train)
    missing = min(max(0, SAMPLED - len(some)), len(more))
    some = some[:SAMPLED] + random.Random(job.settings.seed).sample(more, missing)
    report(FitProgress("ends", total=len(some)))
    found: list[np.ndarray] = []
    for part in training.end_log_probs(job.pick(some)):
        found += part
        report(FitProgress("ends", done=len(found), total=len(some)))
    return end_bias(found)


def _schedule(settings: FitSettings, model: Any, lengths: Sequence[int]) -> Schedule:
    """Decides what the settings leave open, for texts of these lengths in tokens."""
    epochs = settings.epochs or default_epochs(len(lengths))
    rate = settings.lr or default_rate(model.config.get_text_config().hidden_size, epochs)
    batch = settings.batch or default_batch(len(lengths))
    return Schedule(lengths, batch, epochs, rate, settings.seed)


def _publish(job: _Job, losses: Sequence[EpochLoss], bias: EndBias, out: Path) -> Expert:
    with new_folder(out) as folder:
        _save_adapter(job, folder)
        expert = _describe(job, losses, bias, out, adapter_fingerprint(folder))
        (folder / CARD).write_text(expert.model_dump_json(indent=2) + "\n")
    return expert


def _describe(
    job: _Job, losses: Sequence[EpochLoss], bias: EndBias, path: Path, fingerprint: str
) -> Expert:
    return Expert(
        path=path,
        adapter_fingerprint=fingerprint,
        task_name=job.task.name,
        **{name: getattr(job.task, name) for name in _OF_TASK},
        shape=job.task.shape,
        base=job.base,
        base_fingerprint=model_fingerprint(job.base),
        data_source=job.corpus.source,
        data_fingerprint=(
            job.corpus.chat_fingerprint if job.task.chats else job.corpus.fingerprint
        ),
        rows=len(job.corpus.texts),
        dropped=len(job.split.too_long),
        held_out=job.split.held_out,
        completion_tokens=_lengths(job.pick(job.split.kept)),
        end_bias=bias,
        losses=tuple(losses),
        best_epoch=_best_epoch(losses),
        settings=job.settings,
        warnings=_warnings(
            job.corpus,
            losses,
            job.split,
            job.settings,
            _costly(job.corpus, job.encoded, job.base),
            _left_out(job.split, job.encoded),
        ),
        steer_version=__version__,
    )


def _lasting_name(base: str | None) -> str:
    """Name of the base model as the expert keeps it: a folder by its absolute path."""
    name = base or default_model()
    path = Path(name).expanduser()
    return str(path.resolve()) if path.is_dir() else name


def _add_adapter(base: Any, settings: FitSettings) -> Any:
    """Adds LoRA to all linear layers but the output; its weights are fp32 whatever the base has,
    since updates are too small for bf16."""
    set_seed(settings.seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with quiet_logs():
        model = get_peft_model(base, config)
    take_shortcuts(model)
    return model


def _disk_bytes(model: Any) -> int:
    """Bytes on disk, in fp32: a state with its optimizer's moments, the one that replaces it, the
    weights of two epochs, and the result."""
    weights = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return (2 * 3 + 2 + 1) * 4 * weights + 20_000_000


def _save_adapter(job: _Job, folder: Path) -> None:
    # The name replaces the folder the base was loaded from, which may be in this user's cache.
    job.model.peft_config["default"].base_model_name_or_path = job.base
    job.model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a form with nothing filled in


def _lengths(encoded: Sequence[Encoded]) -> Lengths:
    counts = sorted(len(each["input_ids"]) - each["prompt"] for each in encoded)
    p95 = counts[math.ceil(0.95 * len(counts)) - 1]
    return Lengths(mean=sum(counts) / len(counts), p95=p95, max=counts[-1])


def _best_epoch(losses: Sequence[EpochLoss]) -> int:
    return min(losses[1:], key=lambda loss: loss.held_out).epoch


def _costly(corpus: Corpus, encoded: Sequence[Encoded], base: str) -> str | None:
    some = range(min(_LOOKED_AT, len(encoded)))
    counts = [len(encoded[row]["input_ids"]) - encoded[row]["prompt"] - 1 for row in some]
    return costly(corpus.texts[: len(some)], counts, base)


def _warnings(
    corpus: Corpus,
    losses: Sequence[EpochLoss],
    split: Split,
    settings: FitSettings,
    *others: str | None,
) -> tuple[str, ...]:
    possible = (
        *others,
        _few_of_a_label(corpus, split),
        _no_help(losses),
        hardly_falls(losses),
        _bad_end(losses, settings),
    )
    return tuple(warning for warning in possible if warning)


def _few_of_a_label(corpus: Corpus, split: Split) -> str | None:
    """Warning for labels whose texts are too few to learn from."""
    counts = Counter(corpus.labels[row] for row in split.kept) if corpus.labels else Counter()
    few = [label for label in corpus.label_names if counts[label] < FEWEST]
    if not few:
        return None
    listed = ", ".join(f"{label!r} ({counts[label]})" for label in few[:10])
    more = f" and {len(few) - 10} more labels" if len(few) > 10 else ""
    return (
        f"Fewer than {FEWEST} texts of {listed}{more}: records of such a label will hardly be "
        "like them. Give more, or join labels."
    )


def _left_out(split: Split, encoded: Sequence[Encoded]) -> str | None:
    if not split.too_long:
        return None
    rows = len(split.too_long) + len(split.kept)
    longest = max(len(encoded[row]["input_ids"]) for row in split.too_long)
    return (
        f"{len(split.too_long)} of {rows} texts were left out: with the prompt they have more "
        f"than {split.limit} tokens (first: row {split.too_long[0] + 1}). The longest has "
        f"{longest}: --max-tokens says how many are read, if the base model reads as many."
    )


def _no_help(losses: Sequence[EpochLoss]) -> str | None:
    before, best = losses[0].held_out, losses[_best_epoch(losses)].held_out
    if best < before:
        return None
    return f"Fitting did not help: the held-out loss is {best:.3f} at best, {before:.3f} before."


def _bad_end(losses: Sequence[EpochLoss], settings: FitSettings) -> str | None:
    """Warning for a fit that should have ended earlier, or later."""
    last = losses[-1]
    if warning := rises(losses):
        return warning
    before = losses[-2].held_out
    if 1 < last.epoch == settings.epochs and before - last.held_out > LEAST_FALL * before:
        return (
            f"The held-out loss was still falling at epoch {last.epoch}, the last one allowed: "
            f"from {before:.3f} to {last.held_out:.3f}. More epochs may fit better (--epochs)."
        )
    return None
