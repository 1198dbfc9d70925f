"""Guided decoding inside somebody's own `model.generate` loop."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor

from steer.config import Guidance
from steer.engines.sampling import require_a_token
from steer.errors import SteerError
from steer.guidance import Contexts, Stream, adapt, build_streams, combine


@dataclass(frozen=True)
class _Texts:
    """Arguments `{name}_ids` and `{name}_mask`: `each` texts a prompt, the first prompt's first."""

    name: str
    ids: Tensor | None
    mask: Tensor | None
    each: int = 1

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names that stand for each of a prompt's texts in the streams."""
        return tuple(f"{self.name} {number}" for number in range(self.each))

    def read(self, stream: Stream, guidance: Guidance, rows: int) -> tuple[Tensor, Tensor]:
        """Ids and mask (rows, length) of what `stream` reads for each of `rows` prompts.

        Raises `SteerError` when they are missing, too few, or not padded on the left.
        """
        if self.ids is None or self.mask is None:
            raise SteerError(
                f"{_reason(stream, guidance)} but there are no {self._plural}; "
                f"give {self.name}_ids and {self.name}_mask"
            )
        self._check(self.ids, self.mask, rows)
        part = slice(self.contexts.index(stream.context), None, self.each)
        return self.ids[part], self.mask[part]

    @property
    def _plural(self) -> str:
        return self.name.replace("_", " ") + "s"

    def _check(self, ids: Tensor, mask: Tensor, rows: int) -> None:
        name = self.name
        if ids.ndim != 2 or ids.shape != mask.shape:
            raise SteerError(
                f"{name}_ids is {tuple(ids.shape)} and {name}_mask {tuple(mask.shape)}; "
                "give both as (rows, length)"
            )
        if len(ids) != self.each * rows:
            raise SteerError(
                f"{len(ids)} {self._plural} for {rows} prompts; give {self.each} each in {name}_ids"
            )
        if not ids.numel() or not mask[:, -1].all():
            raise SteerError(
                f"{name}_ids has a row that is empty or ends in padding; "
                "pad on the left (tokenizer.padding_side = 'left')"
            )


def _reason(stream: Stream, guidance: Guidance) -> str:
    """The setting that asks for `stream`, and its value."""
    setting = {"negative": "eta", "positive": "rho"}.get(stream.name, "contrast")
    return f"{setting} is {getattr(guidance, setting)!r}"


def _each(ids: Tensor | None, rows: int) -> int:
    """Counts the texts that each of `rows` prompts has; at least one, which may be missing."""
    return 1 if ids is None else max(1, len(ids) // max(1, rows))


def _contexts(prompt: _Texts, panels: _Texts, positive: _Texts, others: _Texts) -> Contexts:
    """Contexts of names, which stand for the texts of any prompt."""
    return Contexts(prompt.contexts[0], panels.contexts, positive.contexts[0], others.contexts)


def _read(
    stream: Stream,
    guidance: Guidance,
    texts: Sequence[_Texts],
    start_ids: Sequence[int] | None,
    rows: int,
) -> tuple[Tensor, Tensor]:
    """Ids and mask (rows, length) of what `stream` reads for each of `rows` prompts."""
    for each in texts:
        if stream.context in each.contexts:
            return each.read(stream, guidance, rows)
    if start_ids is None or not len(start_ids):
        raise SteerError(
            "contrast is 'prompt' but there is no start of text; "
            "give start_ids, such as [tokenizer.bos_token_id]"
        )
    start = torch.as_tensor(start_ids).repeat(rows, 1)
    return start, torch.ones_like(start)


class _Reader:
    """One stream beside the loop's own: a context a row, then the tokens written so far.

    Keeps its own key-value cache; `prefix` and `mask` are (rows, length), padded on the left.
    """

    def __init__(self, model: PeftModel, adapter: bool, prefix: Tensor, mask: Tensor) -> None:
        self.model, self.adapter = model, adapter
        self.prefix, self.mask = prefix.to(model.device), mask.to(model.device)
        self.cache: DynamicCache | None = None
        self.written: Tensor | None = None

    def log_probs(self, written: Tensor) -> Tensor:
        """Computes log-probabilities (rows, vocab) after `written` (rows, length), the tokens
        generated so far."""
        # `generate` repeats each prompt for its beams and return sequences.
        repeats = len(written) // len(self.prefix)
        prefix, prefix_mask = (x.repeat_interleave(repeats, 0) for x in (self.prefix, self.mask))
        if not self._continues(written):
            self.cache = DynamicCache(config=self.model.config)
            tokens = torch.cat([prefix, written], dim=1)
        else:
            tokens = written[:, -1:]
        self.written = written
        mask = torch.cat([prefix_mask, torch.ones_like(written)], dim=1)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        with nullcontext() if self.adapter else self.model.disable_adapter():
            logits = self.model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=self.cache,
                logits_to_keep=1,
            ).logits
        return logits[:, -1].log_softmax(dim=-1, dtype=torch.float32)

    def _continues(self, written: Tensor) -> bool:
        """Whether the cache holds all but the last token; not after beams changed places."""
        return (
            self.cache is not None
            and self.written is not None
            and self.written.shape[1] + 1 == written.shape[1]
            and torch.equal(self.written, written[:, :-1])
        )


class SteerLogitsProcessor(LogitsProcessor):
    """STEER for `model.generate` of a PEFT model whose active adapter is the expert.

    Does all that `guidance` asks for, with the scores of the engine of `steer generate`, which is
    faster: it runs all streams in one forward pass. Make a new processor for each call of
    `generate`; Transformers applies it before temperature and cuts::

        panels = tokenizer(one_panel_a_prompt, return_tensors="pt", padding=True)
        steer = SteerLogitsProcessor(
            model, Guidance(eta=0.3), batch.input_ids, batch.attention_mask,
            panels.input_ids, panels.attention_mask,
        )
        model.generate(**batch, logits_processor=[steer], do_sample=True)

    Ids and masks are (rows, length), padded on the left, in the order of the prompts; where a
    prompt has several texts, they stand together. What the guidance does not read may be left out.

    - `prompt_ids`, `prompt_mask`: what `generate` is given.
    - `panel_ids`, `panel_mask`: for eta, the negative panels, `guidance.negatives` a prompt.
    - `positive_panel_ids`, `positive_panel_mask`: for rho, the positive panels, one a prompt.
    - `other_prompt_ids`, `other_prompt_mask`: for the contrasts "labels" and "dexperts", the
      prompts for the other labels, equally many a prompt.
    - `start_ids`: for the contrast "prompt", the ids of an empty text; the engine reads those of
      `steer.engines.tokens.encode(tokenizer, "")`.

    Raises `SteerError` when what the guidance reads is missing, or its rows do not fit the prompts;
    and in `generate`, when its prompts are others or the streams rule out every token.
    """

    def __init__(
        self,
        model: PeftModel,
        guidance: Guidance,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        panel_ids: Tensor | None = None,
        panel_mask: Tensor | None = None,
        *,
        positive_panel_ids: Tensor | None = None,
        positive_panel_mask: Tensor | None = None,
        other_prompt_ids: Tensor | None = None,
        other_prompt_mask: Tensor | None = None,
        start_ids: Sequence[int] | None = None,
    ) -> None:
        if not isinstance(model, PeftModel):
            raise SteerError(
                f"the model is a {type(model).__name__}; a PeftModel is needed, "
                "whose adapter is the expert"
            )
        rows = len(prompt_ids)
        others = _each(other_prompt_ids, rows)
        texts = (
            _Texts("prompt", prompt_ids, prompt_mask),
            _Texts("panel", panel_ids, panel_mask, guidance.negatives),
            _Texts("positive_panel", positive_panel_ids, positive_panel_mask),
            _Texts("other_prompt", other_prompt_ids, other_prompt_mask, others),
        )
        self.guidance = guidance
        self.streams = build_streams(guidance, _contexts(*texts))
        self.readers = []
        for stream in self.streams:
            ids, mask = _read(stream, guidance, texts, start_ids, rows)
            self.readers.append(_Reader(model, stream.adapter, ids, mask))
        self.prompt_ids = prompt_ids.to(model.device)

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Computes guided scores (rows, vocab); `scores` are the expert's logits after
        `input_ids`."""
        written = self._written(input_ids)
        log_probs = torch.stack(
            [
                scores.log_softmax(dim=-1, dtype=torch.float32)
                if stream.name == "expert"
                else reader.log_probs(written)
                for stream, reader in zip(self.streams, self.readers, strict=True)
            ]
        )
        guided = self._combine(log_probs)
        require_a_token(guided.amax(dim=-1))
        return guided

    def _written(self, input_ids: Tensor) -> Tensor:
        """Cuts the prompts off: the tokens after them, (rows, length)."""
        prompts = self.prompt_ids
        # `generate` repeats each prompt for its beams and return sequences.
        repeated = prompts.repeat_interleave(len(input_ids) // len(prompts), 0)
        if not torch.equal(input_ids[:, : prompts.shape[1]], repeated):
            raise SteerError(
                "the prompts of this generate are not prompt_ids; make a new processor for each "
                "call, and give prompt_ids the input_ids of that call"
            )
        return input_ids[:, prompts.shape[1] :]

    def _combine(self, log_probs: Tensor) -> Tensor:
        """Guided scores (rows, vocab) from the streams' `log_probs` (streams, rows, vocab)."""
        rows, device = log_probs.shape[1], log_probs.device
        weights = torch.tensor([[stream.weight] for stream in self.streams], device=device)
        pooled = torch.tensor([[stream.pooled] for stream in self.streams], device=device)
        weights, pooled = weights.expand(-1, rows), pooled.expand(-1, rows)
        if self.guidance.adaptive:
            every = torch.ones(rows, dtype=torch.bool, device=device)
            weights = adapt(log_probs, weights, every)
        alpha = torch.full((rows,), self.guidance.alpha, device=device)
        return combine(log_probs, weights, alpha, pooled if pooled.any() else None)
