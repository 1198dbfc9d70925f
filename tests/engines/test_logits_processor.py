"""SteerLogitsProcessor in Transformers' own loop, against the naive reference."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from steer.config import Guidance
from steer.engines.interface import Request
from steer.engines.logits_processor import SteerLogitsProcessor
from steer.errors import SteerError
from steer.guidance import steer_streams
from steer.models.base import load_model, load_tokenizer
from tests import naive

PROMPTS = ["Q:", "Write one question about the sky.\nQuestion:"]
PANELS = ["Why does a comet shine after sunset? How often does the moon move?", "a"]
GUIDANCE = Guidance(gamma=0.4, eta=0.3, alpha=0.02)


@pytest.fixture(scope="module")
def expert(tiny_model):
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(load_model(str(tiny_model), dtype="float32", device="cpu"), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.15)
    return model.eval(), load_tokenizer(str(tiny_model))


def padded(tokenizer, texts):
    tokenizer.padding_side = "left"
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    return batch.input_ids, batch.attention_mask


def generate(expert, guidance=GUIDANCE, **options):
    model, tokenizer = expert
    ids, mask = padded(tokenizer, PROMPTS)
    steer = SteerLogitsProcessor(model, guidance, ids, mask, *padded(tokenizer, PANELS))
    return model.generate(
        input_ids=ids, attention_mask=mask, logits_processor=[steer], max_new_tokens=7,
        return_dict_in_generate=True, output_scores=True, **options,
    ), ids.shape[1]  # fmt: skip


def test_scores_equal_the_naive_reference_with_left_padding(expert):
    out, start = generate(expert, do_sample=False)
    for row, (prompt, panel) in enumerate(zip(PROMPTS, PANELS, strict=True)):
        request = Request(row, steer_streams(GUIDANCE, prompt, panel), 0, GUIDANCE.alpha)
        tokens = out.sequences[row, start:].tolist()
        for step in range(len(out.scores)):
            if expert[1].eos_token_id in tokens[:step]:
                break
            expected = naive.scores(*expert, request, tokens[:step])
            torch.testing.assert_close(out.scores[step][row], expected, atol=1e-4, rtol=1e-5)


def test_sequences_that_change_places_are_read_again(expert):
    """Beam search swaps rows between steps; a stale cache would give other scores."""
    model, tokenizer = expert
    ids, mask = padded(tokenizer, PROMPTS)
    panels = padded(tokenizer, PANELS)
    steer = SteerLogitsProcessor(model, GUIDANCE, ids, mask, *panels)
    first = torch.tensor([[40, 41], [50, 51]])
    then = torch.tensor([[50, 51, 52], [40, 41, 42]])
    logits = torch.randn(2, len(tokenizer))
    steer(torch.cat([ids, first], dim=1), logits)
    warm = steer(torch.cat([ids, then], dim=1), logits)
    cold = SteerLogitsProcessor(model, GUIDANCE, ids, mask, *panels)
    torch.testing.assert_close(warm, cold(torch.cat([ids, then], dim=1), logits))


def test_return_sequences_and_beams_run(expert):
    out, _ = generate(expert, do_sample=True, num_return_sequences=3)
    assert len(out.sequences) == 6
    out, _ = generate(expert, do_sample=False, num_beams=2)
    assert len(out.sequences) == 2


def test_mistakes_are_named(expert):
    model, tokenizer = expert
    ids, mask = padded(tokenizer, PROMPTS)
    with pytest.raises(SteerError, match="no panels"):
        SteerLogitsProcessor(model, GUIDANCE, ids, mask)
    with pytest.raises(SteerError, match="1 panels for 2 prompts"):
        SteerLogitsProcessor(model, GUIDANCE, ids, mask, ids[:1], mask[:1])
    with pytest.raises(SteerError, match="PeftModel"):
        SteerLogitsProcessor(model.get_base_model(), GUIDANCE, ids, mask, ids, mask)
