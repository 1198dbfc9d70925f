"""Speed of a whole fit: `python -m benchmarks.fitting`.

Three sides in turns, on the same texts: `steer fit --batch 8` with its tests and its saving; bare
steps, forward and backward of 8 rows of 48 tokens without padding, as many tokens as the texts
have; and what a user would write with PEFT and Transformers' Trainer (the same adapter, batches of
8 padded texts, a test at the end of each epoch). Loading the model counts for no side, and the
prompt counts as part of every text. Adds both ratios to the results of `make bench`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.command import require_place, run
from benchmarks.lab import PROMPT, Lab, prepare
from benchmarks.machine import machine, results_file
from benchmarks.pairs import Ratio
from benchmarks.table import Talk, add, how, read, show
from steer.data.corpus import Corpus
from steer.models.base import load_model, load_tokenizer, pick_device
from steer.models.examples import Encoded, encode
from steer.models.expert import FitSettings
from steer.models.fitting import fit
from steer.models.machine import use_cpus
from steer.models.training import FitProgress

ROWS, TOKENS = 8, 48
RATE = 1e-3


@dataclass(frozen=True)
class Plan:
    """Sizes: `texts` in all, a tenth of them only tested on, for `epochs`, `repeats` times."""

    texts: int = 160
    epochs: int = 2
    repeats: int = 3


class Sides:
    """Sides that are compared; each gives its tokens a second."""

    def __init__(self, lab: Lab, plan: Plan) -> None:
        self.lab, self.plan = lab, plan
        self.texts = lab.corpus.texts[: plan.texts]
        self.settings = FitSettings(epochs=plan.epochs, patience=plan.epochs, lr=RATE, batch=ROWS)
        self.examples = encode(Corpus.of(self.texts), lab.task, load_tokenizer(lab.base))
        self.tested = round(plan.texts * self.settings.held_out)

    def steer(self) -> float:
        """A whole `steer fit`."""
        clock = _Clock()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "expert"
            fit(Corpus.of(self.texts), PROMPT, out, self.lab.base, self.settings, clock)
            return clock.tokens / (time.perf_counter() - clock.began)

    def steps(self) -> float:
        """Forward and backward alone, without optimiser, tests or padding."""
        model = self._adapted()
        rows = torch.randint(1000, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
        rows = rows.to(model.device)
        count = max(1, self._trained // rows.numel())
        began = time.perf_counter()
        for _ in range(count):
            model(input_ids=rows, labels=rows).loss.backward()
        return count * rows.numel() / (time.perf_counter() - began)

    def trainer(self) -> float:
        """PEFT and Transformers' Trainer."""
        from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

        model, tokenizer = self._adapted(), load_tokenizer(self.lab.base)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        rows = [_labelled(each) for each in self.examples]
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                num_train_epochs=self.plan.epochs,
                per_device_train_batch_size=ROWS,
                learning_rate=RATE,
                eval_strategy="epoch",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=self.lab.device == "cpu",
            )
            trainer = Trainer(
                model=model,
                args=arguments,
                train_dataset=rows[self.tested :],
                eval_dataset=rows[: self.tested],
                data_collator=DataCollatorForSeq2Seq(tokenizer),
            )
            began = time.perf_counter()
            trainer.train()
            model.save_pretrained(folder)
            seconds = time.perf_counter() - began
        return self._trained / seconds

    def _adapted(self) -> Any:
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(
            r=self.settings.rank,
            lora_alpha=self.settings.alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        return get_peft_model(load_model(self.lab.base, device=self.lab.device), settings).train()

    @property
    def _trained(self) -> int:
        """Tokens to train on in all epochs, the prompt as part of every text."""
        once = sum(len(each["input_ids"]) for each in self.examples[self.tested :])
        return once * self.plan.epochs


def _labelled(example: Encoded) -> dict[str, list[int]]:
    """An example for the Trainer, with no loss on its prompt."""
    ids, begin = example["input_ids"], example["prompt"]
    labels = [-100] * begin + ids[begin:]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


class _Clock:
    """Listens to a fit: when it had loaded, and the tokens that it trained on."""

    began, tokens = 0.0, 0

    def __call__(self, progress: FitProgress) -> None:
        if progress.stage != "load":
            self.began = self.began or time.perf_counter()
        self.tokens = max(self.tokens, progress.tokens)


def measure(
    lab: Lab, plan: Plan, report: Callable[[str], None]
) -> tuple[dict[str, Ratio], dict[str, Ratio]]:
    """Measures the sides in turns: both ratios by name, and tokens a second of each side."""
    sides = Sides(lab, plan)
    rates: dict[str, list[float]] = {"steer": [], "steps": [], "trainer": []}
    for repeat in range(plan.repeats):
        for name, found in rates.items():
            report(f"repeat {repeat + 1} of {plan.repeats}: {name}")
            found.append(getattr(sides, name)())
    ratios = {
        f"fit_over_{name}": Ratio.of(
            [a / b for a, b in zip(rates["steer"], rates[name], strict=True)]
        )
        for name in ("steps", "trainer")
    }
    return ratios, {name: Ratio.of(found) for name, found in rates.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fitting", description=__doc__)
    parser.add_argument("--texts", type=int, default=Plan.texts, help=f"({Plan.texts})")
    parser.add_argument("--epochs", type=int, default=Plan.epochs, help=f"({Plan.epochs})")
    parser.add_argument("--repeats", type=int, default=Plan.repeats, help=f"({Plan.repeats})")
    parser.add_argument("--model", help=argparse.SUPPRESS)  # tiny: what the tests use
    parser.add_argument("--out", type=Path, help="results file")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    plan = Plan(options.texts, options.epochs, options.repeats)
    return run(lambda: _run(plan, options.model, options.out, console), console)


def _run(plan: Plan, model: str | None, given: Path | None, console: Console) -> None:
    device = pick_device("auto").type
    out = given or results_file(device)
    require_place(out)
    read(out)
    use_cpus()
    talk, where = Talk(console), machine(device)
    with tempfile.TemporaryDirectory() as folder:
        ratios, rates = measure(prepare(Path(folder), model, device), plan, talk)
    show(ratios, [], console)
    said = how("python -m benchmarks.fitting", where, asdict(plan))
    said["tokens_per_second"] = {name: asdict(rate) for name, rate in rates.items()}
    add(out, "fitting", ratios, said)
    console.print(f"Added to {out}", highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(main())
