"""Guided decoding inside somebody's own `model.generate` loop."""

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor

from steer.config import Guidance
from steer.errors import SteerError
from steer.guidance import combine, steer_streams


class _Reader:
    """One stream beside the loop's own: a context a row, then the tokens written so far.

    Keeps its own key-value cache; `prefix` and `mask` are (rows, length), padded on the left.
    """

    def __init__(self, model: PeftModel, adapter: bool, prefix: Tensor, mask: Tensor) -> None:
        self.model, self.adapter = model, adapter
        self.prefix, self.mask = prefix, mask
        self.cache: DynamicCache | None = None
        self.written: Tensor | None = None

    def log_probs(self, written: Tensor) -> Tensor:
        """(rows, vocab) after `written` (rows, length), the tokens generated so far."""
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
        inputs = {
            "input_ids": tokens,
            "attention_mask": mask,
            "position_ids": positions,
            "past_key_values": self.cache,
            "logits_to_keep": 1,
        }
        if self.adapter:
            logits = self.model(**inputs).logits
        else:
            with self.model.disable_adapter():
                logits = self.model(**inputs).logits
        return torch.log_softmax(logits[:, -1].float(), dim=-1)

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

    `prompt_ids` and `prompt_mask` are what `generate` is given, `panel_ids` and `panel_mask` the
    negative panels, one a row (all (rows, length), padded on the left). Make a new one for each
    call of `generate`, and give it before any warper::

        panels = tokenizer([panel] * len(prompts), return_tensors="pt")
        steer = SteerLogitsProcessor(model, Guidance(eta=0.3), **tokenized prompts, ...)
        model.generate(**prompts, logits_processor=[steer], do_sample=True)

    The engine of `steer generate` gives the same scores and is faster: it runs all streams in one
    forward pass. Raises `SteerError` when `eta` is set and there are no panels, or when the
    rows do not match.
    """

    def __init__(
        self,
        model: PeftModel,
        guidance: Guidance,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        panel_ids: Tensor | None = None,
        panel_mask: Tensor | None = None,
    ) -> None:
        if not isinstance(model, PeftModel):
            raise SteerError(
                f"the model is a {type(model).__name__}; a PeftModel is needed, "
                "whose adapter is the expert"
            )
        self.prompt_length = prompt_ids.shape[1]
        self.alpha = guidance.alpha
        streams = steer_streams(guidance, "", "")
        self.weights = [stream.weight for stream in streams]
        self.readers = []
        for stream in streams[1:]:
            if stream.name == "base":
                ids, mask = prompt_ids, prompt_mask
            elif panel_ids is None or panel_mask is None:
                raise SteerError("eta is set but there are no panels; give panel_ids and mask")
            else:
                ids, mask = panel_ids, panel_mask
            if len(ids) != len(prompt_ids):
                raise SteerError(f"{len(ids)} panels for {len(prompt_ids)} prompts; give one each")
            self.readers.append(_Reader(model, stream.adapter, ids, mask))

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Guided scores (rows, vocab); `scores` are the expert's logits after `input_ids`."""
        rows = len(input_ids)
        written = input_ids[:, self.prompt_length :]
        log_probs = [torch.log_softmax(scores.float(), dim=-1)]
        log_probs += [reader.log_probs(written) for reader in self.readers]
        weights = torch.tensor(self.weights, device=scores.device).unsqueeze(1).expand(-1, rows)
        alpha = torch.full((rows,), self.alpha, device=scores.device)
        return combine(torch.stack(log_probs), weights, alpha)
