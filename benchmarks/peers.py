"""Peers, each as its own library has it, on the same model, prompt, panels and lengths."""

import time
from functools import cached_property
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import Cache, DynamicCache, StaticCache

from benchmarks.lab import PROMPT, SEED, Lab
from benchmarks.pairs import Load, check_tokens, synchronize
from steer.config import Guidance
from steer.engines.tokens import encode
from steer.guidance import Shown
from steer.models.base import load_model, load_tokenizer
from steer.quiet import quiet_logs

GUIDANCE_SCALE = 1.2
TOP_K = 10  # of the published procedure


class Peers:
    """Models of the peers, loaded when first needed. Methods with a `Load` are the `run` of a
    `Side`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.tokenizer = load_tokenizer(lab.base)
        self.cache_kind: str | None = None

    @cached_property
    def base(self) -> Any:
        return _ready(load_model(self.lab.base, device=self.lab.device))

    @cached_property
    def adapted(self) -> Any:
        """Loads the adapter beside the weights, as PEFT does; in the model's own precision, which
        is faster than PEFT's default of fp32."""
        model = load_model(self.lab.base, device=self.lab.device)
        peft = PeftModel.from_pretrained(model, self.lab.adapter, autocast_adapter_dtype=False)
        _ready(peft.get_base_model())
        return peft.eval()

    @cached_property
    def merged(self) -> Any:
        """Adds the adapter to the weights: no stream without it can be read from this copy."""
        model = load_model(self.lab.base, device=self.lab.device)
        peft = PeftModel.from_pretrained(model, self.lab.adapter, autocast_adapter_dtype=False)
        return _ready(peft.merge_and_unload().eval())

    def transformers(self, load: Load) -> float:
        """Transformers' `generate` with the PEFT model."""
        return self._generate(self.adapted, load)

    def transformers_merged(self, load: Load) -> float:
        """Transformers' `generate` with merged weights."""
        return self._generate(self.merged, load)

    def transformers_cfg(self, load: Load) -> float:
        """Transformers' classifier-free guidance: two streams, prompt and panel."""
        return self._guided(self.adapted, load)

    def transformers_cfg_merged(self, load: Load) -> float:
        """Transformers' classifier-free guidance with merged weights."""
        return self._guided(self.merged, load)

    def forward(self, load: Load) -> float:
        """Bare forward passes with merged weights: the cost of the base model alone."""
        return self._forward(self.merged, load)

    def forward_adapted(self, load: Load) -> float:
        """Bare forward passes of the PEFT model."""
        return self._forward(self.adapted, load)

    def published(self, load: Load) -> float:
        """The published procedure, one record at a time."""
        torch.manual_seed(SEED)
        panels = self.lab.panels(load.records, "raw")
        for panel in panels:
            made = published(self.base, self.merged, self._ids(), self._ids(panel), load.tokens)
            self.tokenizer.decode(made[0])
        return 0.0

    def choose_cache(self, load: Load) -> str:
        """Chooses the kind of Transformers cache with which bare forward passes are faster here."""
        seconds = {}
        for kind in ("dynamic", "static"):
            self.cache_kind = kind
            self.forward(Load(load.rows, load.rows, 2))
            synchronize()
            began = time.perf_counter()
            self.forward(load)
            synchronize()
            seconds[kind] = time.perf_counter() - began
        self.cache_kind = min(seconds, key=lambda kind: seconds[kind])
        return self.cache_kind

    def _generate(self, model: Any, load: Load, **more: Any) -> float:
        torch.manual_seed(SEED)
        made = 0
        for rows in _batches(load):
            prompt = self.tokenizer([PROMPT] * rows, return_tensors="pt").to(self.lab.device)
            extra = {name: value[:rows] for name, value in more.items() if torch.is_tensor(value)}
            with quiet_logs():
                tokens = model.generate(
                    **prompt,
                    max_new_tokens=load.tokens,
                    do_sample=True,
                    top_k=0,
                    top_p=1.0,
                    temperature=1.0,
                    pad_token_id=self.tokenizer.pad_token_id,
                    **(more | extra),
                )
            written = tokens[:, prompt["input_ids"].shape[1] :]
            made += written.numel()
            self.tokenizer.batch_decode(written)
        check_tokens(made, load)
        return 0.0

    def _guided(self, model: Any, load: Load) -> float:
        (panel,) = self.lab.panels(1, "prompted")
        negative = self._ids(panel).expand(load.rows, -1)
        return self._generate(
            model,
            load,
            guidance_scale=GUIDANCE_SCALE,
            negative_prompt_ids=negative,
            negative_prompt_attention_mask=torch.ones_like(negative),
        )

    def _forward(self, model: Any, load: Load) -> float:
        for rows in _batches(load):
            forward(model, self._ids(), rows, load.tokens, self.cache_kind or "dynamic")
        return 0.0

    def _ids(self, context: str | Shown = PROMPT) -> Tensor:
        return torch.tensor([encode(self.tokenizer, context)], device=self.lab.device)


@torch.inference_mode()
def forward(model: Any, prompt: Tensor, rows: int, tokens: int, cache_kind: str) -> Tensor:
    """Runs as many passes as `tokens` tokens a row need after `prompt` (1, length): nothing is
    sampled, only the last logits are computed, and the prompt is read once for all rows, so that no
    more than the work that must be done is done. Returns the last logits (rows, vocab)."""
    cache = DynamicCache(config=model.config)
    out = model(input_ids=prompt, past_key_values=cache, use_cache=True, logits_to_keep=1)
    grown = _expanded(cache, model, rows, prompt.shape[1] + tokens, cache_kind)
    inputs = prompt[:, -1:].expand(rows, 1).contiguous()
    for _ in range(tokens - 1):
        out = model(input_ids=inputs, past_key_values=grown, use_cache=True, logits_to_keep=1)
    logits: Tensor = out.logits[:, -1].expand(rows, -1)
    return logits


def _expanded(cache: Any, model: Any, rows: int, length: int, kind: str) -> Cache:
    """Expands the cache of one row for `rows` rows; a static one has places for `length` tokens."""
    if kind == "dynamic":
        cache.batch_repeat_interleave(rows)
        return cache
    static = StaticCache(config=model.config, max_cache_len=length)
    for number, layer in enumerate(cache.layers):
        keys, values = (x.expand(rows, -1, -1, -1) for x in (layer.keys, layer.values))
        static.update(keys, values, number)
    return static


@torch.inference_mode()
def published(base: Any, expert: Any, prompt: Tensor, panel: Tensor, tokens: int) -> Tensor:
    """Generates one record by the procedure of arXiv 2308.07645, written down from its description:
    at every step the base model and the expert reread the whole prompt and text so far, the
    negative stream (the expert after a panel of ten examples) keeps a cache, top-k sampling.

    Returns the new tokens (1, tokens). As in our own code only the last logits are computed,
    which is faster than what was published.
    """
    guidance = Guidance(weights="published")
    gamma, eta = guidance.gamma, guidance.eta
    text, unread, cache = prompt, panel, DynamicCache(config=expert.config)
    for _ in range(tokens):
        of_expert = _log_probs(expert(text, use_cache=False, logits_to_keep=1))
        of_base = _log_probs(base(text, use_cache=False, logits_to_keep=1))
        negative = _log_probs(expert(unread, past_key_values=cache, logits_to_keep=1))
        scores = (1 + gamma) * of_expert - gamma * of_base - eta * negative
        best = scores.topk(TOP_K, dim=-1)
        drawn = torch.multinomial(best.values.softmax(dim=-1), 1)
        unread = best.indices.gather(-1, drawn)
        text = torch.cat([text, unread], dim=-1)
    return text[:, prompt.shape[1] :]


def _log_probs(output: Any) -> Tensor:
    return torch.log_softmax(output.logits[:, -1].float(), dim=-1)


def _ready(model: Any) -> Any:
    """Makes a model ready: without end of text, so that every record has every token; and with
    trainable output weights.

    With frozen ones, as PEFT leaves them, PyTorch copies them once a row in a batched prefill,
    because the last positions are a slice: 6 s for 64 rows on one core. Peers are not made to
    pay for that.
    """
    model.generation_config.eos_token_id = None
    model.config.eos_token_id = None
    model.get_output_embeddings().weight.requires_grad_(True)
    return model


def _batches(load: Load) -> list[int]:
    """Rows of each batch."""
    full, rest = divmod(load.records, load.rows)
    return [load.rows] * full + ([rest] if rest else [])
