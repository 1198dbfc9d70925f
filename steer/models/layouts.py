"""Layouts: how the texts of a training step are put into passes through the model, and their loss.

Packed, all texts stand in one row behind their prompt, which is read once; a mask keeps them apart.
So there is neither padding nor a prompt read for each text. Padded rows, as every model reads them,
are for models that take no such mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from steer.models.examples import Encoded, prompt_of
from steer.models.machine import processor

_NONE = -100  # a target that counts nothing
_STEP = 16  # to a multiple of which sizes are rounded up
_TRIED = 8  # texts on which both layouts are compared
_ALIKE = 0.01  # nats that they may differ by for a token, in fp32
_ROUNDED = 0.2  # and else on the mean: by rounding 0.1 at most, by a mask not heeded 0.4 and more


@dataclass(frozen=True)
class Pass:
    """Texts read in one pass. `inputs` is what the model takes; `where` (n,) are the states that
    predict a completion's token, counted through all rows, and `targets` (n,) those tokens."""

    inputs: dict[str, Tensor]
    where: Tensor
    targets: Tensor

    @property
    def tokens(self) -> int:
        """Number of tokens read, padding included."""
        return self.inputs["input_ids"].numel()

    def to(self, device: torch.device) -> "Pass":
        """Copies all of it to `device`."""
        inputs = {name: each.to(device) for name, each in self.inputs.items()}
        return Pass(inputs, self.where.to(device), self.targets.to(device))


class Layout(Protocol):
    """A way to put texts into passes."""

    def size(self, examples: Sequence[Encoded]) -> int:
        """Tokens of a pass with these texts, padding included."""
        ...

    def lay_out(self, examples: Sequence[Encoded]) -> Pass:
        """Makes the pass."""
        ...


@dataclass(frozen=True)
class Padded:
    """Texts as rows (rows, longest), filled up on the right with the token `pad`."""

    pad: int

    def size(self, examples: Sequence[Encoded]) -> int:
        return len(examples) * max(len(example["input_ids"]) for example in examples)

    def lay_out(self, examples: Sequence[Encoded]) -> Pass:
        width = max(len(example["input_ids"]) for example in examples)
        ids = torch.full((len(examples), width), self.pad)
        mask = torch.zeros_like(ids)
        where: list[int] = []
        targets: list[int] = []
        for row, example in enumerate(examples):
            tokens, prompt = example["input_ids"], example["prompt"]
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
            where += range(row * width + prompt - 1, row * width + len(tokens) - 1)
            targets += tokens[prompt:]
        inputs = {"input_ids": ids, "attention_mask": mask}
        return Pass(inputs, torch.tensor(where), torch.tensor(targets))


@dataclass(frozen=True)
class Packed:
    """Texts in one row (1, tokens): each prompt, then all that follow it, at the positions that
    each would have alone. A text sees its prompt and itself; the mask is of `dtype`.

    With `filled`, tokens that no text sees and targets that count nothing fill the row up, so that
    there are few different sizes.
    """

    dtype: torch.dtype
    filled: bool = False

    def size(self, examples: Sequence[Encoded]) -> int:
        prompts = sum(map(len, {prompt_of(example) for example in examples}))
        return prompts + sum(len(each["input_ids"]) - each["prompt"] - 1 for each in examples)

    def lay_out(self, examples: Sequence[Encoded]) -> Pass:
        ids: list[int] = []
        positions: list[int] = []
        where: list[int] = []
        targets: list[int] = []
        groups: list[int] = []  # of each token, the number of its prompt
        texts: list[int] = []  # and of its text; 0 in the prompt
        for group, prompt in enumerate(dict.fromkeys(map(prompt_of, examples))):
            begin = len(ids)
            ids += prompt
            positions += range(len(prompt))
            texts += [0] * len(prompt)
            for number, each in enumerate(examples, 1):
                if prompt_of(each) != prompt:
                    continue
                rest = each["input_ids"][len(prompt) :]
                where += [begin + len(prompt) - 1, *range(len(ids), len(ids) + len(rest) - 1)]
                targets += rest
                ids += rest[:-1]  # nothing follows the end of a text
                positions += range(len(prompt), len(prompt) + len(rest) - 1)
                texts += [number] * (len(rest) - 1)
            groups += [group] * (len(ids) - begin)
        if self.filled:
            free = _filled(len(ids)) - len(ids)
            ids, positions, groups = ids + [0] * free, positions + [0] * free, groups + [-1] * free
            texts += range(1, free + 1)
            free = _filled(len(targets)) - len(targets)
            where, targets = where + [0] * free, targets + [_NONE] * free
        inputs = {
            "input_ids": torch.tensor([ids]),
            "position_ids": torch.tensor([positions]),
            "attention_mask": self._mask(torch.tensor(groups), torch.tensor(texts)),
        }
        return Pass(inputs, torch.tensor(where), torch.tensor(targets))

    def _mask(self, groups: Tensor, texts: Tensor) -> Tensor:
        """Makes what is added to the scores (1, 1, tokens, tokens): nothing where a token is
        seen."""
        seen = (texts[:, None] == texts) | (texts == 0)
        seen = (seen & (groups[:, None] == groups)).tril()
        hidden = torch.zeros(seen.shape, dtype=self.dtype)
        return hidden.masked_fill(~seen, torch.finfo(self.dtype).min)[None, None]


def _filled(size: int) -> int:
    """Rounds up to a multiple of `_STEP`; beyond 512 to one of a 16th of the size or less."""
    step = max(_STEP, 2 ** (size.bit_length() - 5))
    return -(-size // step) * step


def _compiles_for_each_size(model: Any) -> bool:
    """Whether products of the model are compiled for each number of rows, as oneDNN does it in
    bf16: a size that is new costs a pass of 100 tokens a tenth of its time, and 10 MB."""
    return model.device.type == "cpu" and model.dtype in processor().packed


def find_layout(model: Any, examples: Sequence[Encoded], pad: int) -> Layout:
    """Finds out by trying whether the model reads packed texts as it reads them one by one; padded
    rows where it does not, or where texts are longer than a sliding window."""
    rows, packed = Padded(pad), Packed(model.dtype, _compiles_for_each_size(model))
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if window and max(len(example["input_ids"]) for example in examples) > window:
        return rows
    first = prompt_of(examples[0])
    same = [example for example in examples if prompt_of(example) == first]
    some = sorted(same, key=lambda each: len(each["input_ids"]))[:_TRIED]
    model.eval()
    with torch.no_grad():
        expected = token_losses(model, rows.lay_out(some))
        try:
            found = token_losses(model, packed.lay_out(some))
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
            return rows
    apart = (found - expected).abs()
    if model.dtype == torch.float32:
        return packed if apart.max() <= _ALIKE else rows
    # In bf16 that of a single token is up to 0.6 by rounding alone.
    return packed if apart.mean() <= _ROUNDED else rows


def split_passes(layout: Layout, examples: Sequence[Encoded], most: int) -> list[list[Encoded]]:
    """Divides texts among passes of at most `most` tokens, texts of one prompt together and the
    longest first; a longer text has a pass of its own."""
    passes: list[list[Encoded]] = []
    for example in sorted(examples, key=lambda each: (prompt_of(each), -len(each["input_ids"]))):
        if passes and layout.size([*passes[-1], example]) <= most:
            passes[-1].append(example)
        else:
            passes.append([example])
    return passes


def completion_loss(model: Any, read: Pass) -> Tensor:
    """Computes the loss in nats, fp32, summed over the tokens of all completions."""
    return token_losses(model, read).sum()


def token_losses(model: Any, read: Pass) -> Tensor:
    """Computes the loss in nats, fp32, of each token of the completions (n,)."""
    read = read.to(model.device)
    logits = _logits(model, read).float()
    losses = cross_entropy(logits, read.targets, ignore_index=_NONE, reduction="none")
    return losses[read.targets != _NONE]


def token_log_probs(model: Any, read: Pass, token: int) -> Tensor:
    """Computes the log-probability, fp32, of this `token` in the place of each token of the
    completions (n,)."""
    read = read.to(model.device)
    found = _logits(model, read).log_softmax(dim=-1, dtype=torch.float32)[:, token]
    return found[read.targets != _NONE]


def _logits(model: Any, read: Pass) -> Tensor:
    """Computes the logits for each of the pass's targets (n, vocab).

    Only states that predict one of them meet the output layer: over a large vocabulary the logits
    of prompts and padding would cost more than a layer does.
    """
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(
        lambda _, states: (states[0].flatten(0, 1)[read.where][None],)
    )
    try:
        logits = model(**read.inputs, use_cache=False).logits.flatten(0, -2)
    finally:
        hook.remove()
    if len(logits) != len(read.where):  # a model that does not call its output layer
        logits = logits[read.where]
    return cast(Tensor, logits)
