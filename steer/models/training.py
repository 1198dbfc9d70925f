"""Fitting on completions: encoded texts, batches, and the Trainer that reports what happens."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.errors import SteerError
from steer.models.base import encode_prompt, encode_texts
from steer.models.expert import EpochLoss, FitSettings
from steer.models.suiting import hardly_falls

log = logging.getLogger(__name__)

IGNORE = -100


@dataclass(frozen=True)
class FitProgress:
    """Progress of a fit. `tokens` are those trained on so far, padding not counted, in `seconds` of
    training; losses are in nats a completion token, None while not known."""

    stage: Literal["load", "train", "evaluate", "save"]
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float | None = None
    held_out_loss: float | None = None

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on in a second; 0 before the first step."""
        return self.tokens / self.seconds if self.seconds else 0.0


OnFitProgress = Callable[[FitProgress], None]


class Encoded(TypedDict):
    """Tokens of a text. `input_ids`: prompt, completion and end of text; `prompt`: how many of them
    are prompt."""

    input_ids: list[int]
    prompt: int


def encode(corpus: Corpus, task: Task, tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    """Encodes texts, one element each. The prompt is encoded alone, as in generation, so that what
    follows it there begins at the same token boundary."""
    labels: Sequence[str | None] = corpus.labels or [None] * len(corpus.texts)
    prompts = {label: encode_prompt(tokenizer, task.render(label)) for label in set(labels)}
    completions = encode_texts(tokenizer, [task.completion(text) for text in corpus.texts])
    return [
        {
            "input_ids": [*prompts[label], *completion, tokenizer.eos_token_id],
            "prompt": len(prompts[label]),
        }
        for label, completion in zip(labels, completions, strict=True)
    ]


def collate(examples: Sequence[Encoded], pad: int) -> dict[str, Tensor]:
    """Pads to the right `input_ids`, `attention_mask` and `labels`, each (rows, longest)."""
    width = max(len(example["input_ids"]) for example in examples)
    ids = torch.full((len(examples), width), pad)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORE)
    for row, example in enumerate(examples):
        tokens, prompt = torch.tensor(example["input_ids"]), example["prompt"]
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
        labels[row, prompt : len(tokens)] = tokens[prompt:]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def completion_loss(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
    """Computes the summed loss (nats, fp32) and the number of completion tokens.

    Logits of the prompt are not computed: over a large vocabulary they would cost more than
    a layer does.
    """
    labels = batch["labels"]
    first = int((labels != IGNORE).any(dim=0).nonzero()[0])
    logits = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        logits_to_keep=labels.shape[1] - first + 1,
        use_cache=False,
    ).logits[:, :-1]
    targets = labels[:, first:]
    loss = cross_entropy(
        logits.reshape(-1, logits.shape[-1]).float(),
        targets.reshape(-1),
        ignore_index=IGNORE,
        reduction="sum",
    )
    return loss, int((targets != IGNORE).sum())


class CompletionTrainer(Trainer):
    """Trainer with the loss of `completion_loss`, exact means over tokens, and progress."""

    model: Any

    def __init__(self, *args: Any, on_progress: OnFitProgress, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_progress = on_progress
        self.losses: list[EpochLoss] = []
        self.tokens, self.seconds = 0, 0.0
        self._nats, self._counted = 0.0, 0
        self._began = time.monotonic()

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        """Computes the mean loss of a batch."""
        self._began = time.monotonic()
        loss, count = completion_loss(model, inputs)
        self._nats += loss.item()
        self._counted += count
        self.tokens += int(inputs["attention_mask"].sum())
        return loss / count

    def step_ended(self) -> None:
        """Reports a step; its time is forward, backward and update, without evaluations."""
        self.seconds += time.monotonic() - self._began
        self._report("train", loss=self._nats / self._counted)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Computes the held-out loss, a mean over tokens rather than over batches."""
        loss = self._held_out_loss()
        train = self._nats / self._counted if self._counted else None
        self.losses.append(EpochLoss(epoch=len(self.losses), train=train, held_out=loss))
        if len(self.losses) == 2 and (warning := hardly_falls(self.losses)):
            log.warning(warning)
        self._nats, self._counted = 0.0, 0
        self._report("evaluate", loss=train, held_out_loss=loss)
        metrics = {"eval_loss": loss}
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _held_out_loss(self) -> float:
        nats, counted = 0.0, 0
        self.model.eval()
        with torch.no_grad():
            for batch in self.get_eval_dataloader():
                loss, count = completion_loss(self.model, self._prepare_inputs(batch))
                nats, counted = nats + loss.item(), counted + count
                self._report("evaluate")
        self.model.train()
        if not math.isfinite(nats):
            raise SteerError(
                f"the held-out loss became {nats} after epoch {len(self.losses)}; "
                f"fit with a learning rate lower than {self.args.learning_rate:g} (--lr)"
            )
        return nats / counted

    def _report(self, stage: Literal["train", "evaluate"], **losses: float | None) -> None:
        state, epochs = self.state, int(self.args.num_train_epochs)
        epoch = -(-state.global_step * epochs // max(state.max_steps, 1))
        self.on_progress(
            FitProgress(
                stage,
                epoch,
                epochs,
                state.global_step,
                state.max_steps,
                self.tokens,
                self.seconds,
                **losses,
            )
        )


class _StepEnded(TrainerCallback):
    """Passes the end of a step on to the trainer, which the Trainer's own loop cannot."""

    trainer: CompletionTrainer

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.trainer.step_ended()


def train(
    model: Any,
    examples: Sequence[Encoded],
    held_out: Sequence[Encoded],
    arguments: TrainingArguments,
    pad: int,
    patience: int,
    on_progress: OnFitProgress,
) -> list[EpochLoss]:
    """Fits `model` in place and leaves it at the epoch whose held-out loss was lowest."""
    steps = _StepEnded()
    # A strided input would send the largest multiplication of all down a slow path on CPUs.
    output = model.get_base_model().get_output_embeddings()
    hook = output.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    trainer = CompletionTrainer(
        model=model,
        args=arguments,
        train_dataset=examples,
        eval_dataset=held_out,
        data_collator=lambda batch: collate(batch, pad),
        callbacks=[EarlyStoppingCallback(patience), steps],
        on_progress=on_progress,
    )
    steps.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    try:
        trainer.train()
    finally:
        hook.remove()
    return trainer.losses


def training_arguments(
    folder: Path, settings: FitSettings, device: torch.device
) -> TrainingArguments:
    """Settings of the Trainer: a linear schedule after a short warm-up; evaluation and a checkpoint
    each epoch."""
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        learning_rate=settings.lr,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        seed=settings.seed,
        use_cpu=device.type == "cpu",
        lr_scheduler_type="linear",
        warmup_steps=0.03,
        train_sampling_strategy="group_by_length",
        eval_on_start=True,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=False,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
