"""Training: the steps of a fit, its tests on held-out texts, and what it says meanwhile.

AdamW, the gradient of a step clipped to a norm of 1. All that happens follows from the settings and
the state that is kept, so a fit that was stopped goes on to the same weights.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.examples import Encoded, completions
from steer.models.expert import EpochLoss
from steer.models.layouts import Layout, completion_loss, split_passes, token_log_probs
from steer.models.machine import cpus, use_cpus
from steer.models.schedule import Schedule
from steer.models.suiting import hardly_falls, rises
from steer.models.unfinished import Progress, Unfinished
from steer.seeds import derive

log = logging.getLogger(__name__)

KEEP_SECONDS = 60.0
"""Most seconds of training that a stop loses."""

_TEST = 0.5  # time of a token that is only read, in those of one that is trained on
_MOMENTS = ("exp_avg", "exp_avg_sq")  # as AdamW calls them


@dataclass(frozen=True)
class FitProgress:
    """Progress of a fit. `tokens` are those trained on so far, padding not counted, in `seconds` of
    training; losses are in nats a completion token, None while not known. `done` of `total` is
    the work of the whole fit, or in "ends" the texts read so far and in all. The last report of
    "load" has the `texts` to train on, their tokens in all epochs as `total`, and the `memory` in
    bytes that this is foretold to take."""

    stage: Literal["load", "train", "evaluate", "ends", "save"]
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float | None = None
    held_out_loss: float | None = None
    done: float = 0.0
    total: float = 0.0
    texts: int = 0
    memory: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on in a second; 0 before the first step."""
        return self.tokens / self.seconds if self.seconds else 0.0


OnFitProgress = Callable[[FitProgress], None]


@dataclass(frozen=True)
class Training:
    """A training of `model` on `examples`, tested on `held_out`. A pass reads at most
    `pass_tokens`; `patience` is how many epochs may pass without a lower held-out loss."""

    model: Any
    examples: Sequence[Encoded]
    held_out: Sequence[Encoded]
    schedule: Schedule
    layout: Layout
    pass_tokens: int
    patience: int

    def run(self, kept: Unfinished, report: OnFitProgress) -> tuple[EpochLoss, ...]:
        """Fits the model in place, from where `kept` has it, and leaves it at the epoch whose
        held-out loss was lowest. Gives the losses of all epochs."""
        return _Run(self, kept, report).to_the_end()

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """Weights that are fitted, by name."""
        named = self.model.named_parameters()
        return {name: weight for name, weight in named if weight.requires_grad}

    def passes(self, examples: Sequence[Encoded]) -> list[list[Encoded]]:
        """Divides texts among passes."""
        return split_passes(self.layout, examples, self.pass_tokens)

    def loss(self, examples: Sequence[Encoded]) -> Tensor:
        """Computes the loss of one pass: nats, summed over completion tokens."""
        return completion_loss(self.model, self.layout.lay_out(examples))

    def end_log_probs(self, examples: Sequence[Encoded]) -> Iterator[list[np.ndarray]]:
        """Computes, pass by pass, how likely the end of each text is before each token of its
        completion, (tokens,) in nats; the last of these is the end."""
        self.model.eval()
        for part in self.passes(examples):
            with torch.no_grad():
                read, end = self.layout.lay_out(part), part[0]["input_ids"][-1]
                found = token_log_probs(self.model, read, end).cpu().numpy()
            counts = [len(each["input_ids"]) - each["prompt"] for each in part]
            yield np.split(found, np.cumsum(counts)[:-1])

    def epoch_passes(self) -> Iterator[list[Encoded]]:
        """Passes of the first epoch."""
        for rows in self.schedule.batches(0):
            yield from self.passes([self.examples[row] for row in rows])

    def work(self, step: int, tests: float) -> float:
        """Counts the tokens of all steps before `step` and of so many tests on the held-out texts,
        those of tests at what they take."""
        trained = _tokens(self.examples) * step / self.schedule.epoch_steps
        return trained + _TEST * tests * _tokens(self.held_out)


class _Run:
    """A training on its way: `state` is where it is."""

    def __init__(self, training: Training, kept: Unfinished, report: OnFitProgress) -> None:
        self.training, self.kept, self.report = training, kept, report
        self.schedule, self.weights = training.schedule, training.weights
        weights = list(self.weights.values())
        self.optimizer = torch.optim.AdamW(weights, lr=0.0, weight_decay=0.0, fused=True)
        self.state = self._continued()
        self._kept_at = time.monotonic()

    def to_the_end(self) -> tuple[EpochLoss, ...]:
        if not self.state.losses:
            self._end_epoch()
        while not self._is_over:
            for rows in self.schedule.batches(self.state.epoch)[self._epoch_step :]:
                self._step([self.training.examples[row] for row in rows])
                if time.monotonic() - self._kept_at >= KEEP_SECONDS:
                    self._keep()
            self._end_epoch()
        if self.state.best != self.state.epoch:
            self._restore(self.kept.load_epoch(self.state.best))
        return self.state.losses

    @property
    def _is_over(self) -> bool:
        without_gain = self.state.epoch - self.state.best
        tired = self.state.epoch > 0 and without_gain >= self.training.patience
        return tired or self.state.epoch >= self.schedule.epochs

    @property
    def _epoch_step(self) -> int:
        """Steps done in this epoch."""
        return self.state.step - self.state.epoch * self.schedule.epoch_steps

    def _step(self, examples: Sequence[Encoded]) -> None:
        """Goes one step: the gradient of the mean over all completion tokens of `examples`, summed
        up pass by pass."""
        began, state = time.monotonic(), self.state
        torch.manual_seed(derive(self.schedule.seed, "step", state.step))  # for models with dropout
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(state.step)
        self.training.model.train()
        count, nats = completions(examples), 0.0
        for part in self.training.passes(examples):
            loss = self.training.loss(part)
            (loss / count).backward()
            nats += loss.item()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state = state.model_copy(
            update={
                "step": state.step + 1,
                "nats": state.nats + nats,
                "counted": state.counted + count,
                "tokens": state.tokens + _tokens(examples),
                "seconds": state.seconds + time.monotonic() - began,
            }
        )
        self._check(nats, f"loss became {nats} at step {state.step + 1}")
        self._say("train", loss=self._loss)

    @property
    def _loss(self) -> float | None:
        """Mean loss of this epoch so far."""
        return self.state.nats / self.state.counted if self.state.counted else None

    def _end_epoch(self) -> None:
        """Tests the model on the held-out texts, and keeps its weights if it is the best so far."""
        epoch, train, held_out = self.state.epoch + 1, self._loss, self._held_out_loss()
        losses = (*self.state.losses, EpochLoss(epoch=epoch, train=train, held_out=held_out))
        self.state = self.state.model_copy(update={"losses": losses, "nats": 0.0, "counted": 0})
        warning = hardly_falls(losses) if epoch == 1 else rises(losses)
        if warning:
            log.warning(warning)
        if self.state.best == epoch > 0:
            self.kept.keep_epoch(epoch, self.weights)
        self._keep()
        self._say("evaluate", loss=train, held_out_loss=held_out)

    def _held_out_loss(self) -> float:
        nats, read = 0.0, 0.0
        self.training.model.eval()
        self._say("evaluate")
        with torch.no_grad():
            for part in self.training.passes(self.training.held_out):
                nats += self.training.loss(part).item()
                read += _tokens(part)
                self._say("evaluate", read / _tokens(self.training.held_out))
        self._check(nats, f"held-out loss became {nats} after epoch {self.state.epoch + 1}")
        return nats / completions(self.training.held_out)

    def _check(self, nats: float, what: str) -> None:
        """Raises `SteerError` for a loss that is no number: all that follows would be none."""
        if not math.isfinite(nats):
            self.kept.forget()
            raise SteerError(
                f"the {what}; fit with a learning rate lower than {self.schedule.lr:g} (--lr)"
            )

    def _keep(self) -> None:
        tensors = dict(self.weights)
        if self.state.step:
            for name, weight in self.weights.items():
                moments = self.optimizer.state[weight]
                tensors |= {f"{moment}:{name}": moments[moment] for moment in _MOMENTS}
        self.kept.keep(self.state, tensors)
        self._kept_at = time.monotonic()

    def _continued(self) -> Progress:
        """Takes up the state that was kept, if there is one."""
        found = self.kept.load()
        use_cpus()
        if found is None:
            return Progress(threads=torch.get_num_threads())
        state, tensors = found
        use_cpus(min(state.threads, cpus()))  # another number would round otherwise
        self._restore(tensors)
        if state.step:
            for name, weight in self.weights.items():
                moments = {each: tensors[f"{each}:{name}"].to(weight.device) for each in _MOMENTS}
                step = torch.tensor(float(state.step), device=weight.device)
                self.optimizer.state[weight] = {"step": step, **moments}
        return state

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(tensors[name])

    def _say(
        self,
        stage: Literal["train", "evaluate"],
        tested: float = 0.0,
        loss: float | None = None,
        held_out_loss: float | None = None,
    ) -> None:
        state, training = self.state, self.training
        now = state.epoch + (held_out_loss is None)
        self.report(
            FitProgress(
                stage,
                now,
                self.schedule.epochs,
                state.step,
                self.schedule.steps,
                state.tokens,
                state.seconds,
                loss,
                held_out_loss,
                done=training.work(state.step, state.epoch + 1 + tested),
                total=training.work(self.schedule.steps, self.schedule.epochs + 1),
            )
        )


def _tokens(examples: Sequence[Encoded]) -> int:
    return sum(len(example["input_ids"]) for example in examples)
