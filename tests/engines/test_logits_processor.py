"""SteerLogitsProcessor in Transformers' own loop, against the naive reference and the engine."""

from itertools import product

import pytest
import torch

from steer.config import Guidance, Sampling
from steer.engines.hf.engine import HFEngine
from steer.engines.interface import Request
from steer.engines.logits_processor import SteerLogitsProcessor
from steer.engines.tokens import encode
from steer.errors import SteerError
from steer.guidance import Contexts, build_streams
from steer.models.base import load_tokenizer
from tests import naive
from tests.engines.contract import recorded, reference, save_adapter

PROMPTS = ["Q:", "Write one question about the sky.\nQuestion:"]
PANELS = [
    ["Why does a comet shine after sunset? How often does the moon move?", "a"],
    ["Why?", "How often does the night sky grow dim when it is cold?"],
]
POSITIVES = ["Why does the moon", "b c d"]
OTHERS = [["A riddle:", "One line about the sea:"], ["A poem:", "Z"]]
GUIDANCE = Guidance(gamma=0.4, eta=0.3, alpha=0.02)


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory):
    return save_adapter(str(tiny_model), tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def expert(tiny_model, adapter):
    return reference(str(tiny_model), adapter), load_tokenizer(str(tiny_model))


@pytest.fixture(scope="module")
def engine(tiny_model, adapter):
    return HFEngine(str(tiny_model), adapter, dtype="float32", device="cpu")


@pytest.fixture(scope="module", autouse=True)
def _remembered():
    """The reference computes each stream once: most settings read the same ones."""
    found, compute = {}, naive.stream_log_probs

    def remember(model, tokenizer, adapter, context, tokens):
        key = adapter, context, tuple(tokens)
        if key not in found:
            found[key] = compute(model, tokenizer, adapter, context, tokens)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(naive, "stream_log_probs", remember)
        yield


def padded(tokenizer, texts):
    tokenizer.padding_side = "left"
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    return batch.input_ids, batch.attention_mask


def arguments(expert, guidance=GUIDANCE):
    """Everything that the processor can be given, in the order of the prompts."""
    model, tokenizer = expert
    given = {"model": model, "guidance": guidance, "start_ids": encode(tokenizer, "")}
    texts = {
        "prompt": PROMPTS,
        "panel": [panel for panels in PANELS for panel in panels[: guidance.negatives]],
        "positive_panel": POSITIVES,
        "other_prompt": [other for others in OTHERS for other in others],
    }
    for name, each in texts.items():
        given[f"{name}_ids"], given[f"{name}_mask"] = padded(tokenizer, each)
    return given


def requests(guidance):
    """What the engine is asked for the same rows."""
    return [
        Request(
            row,
            build_streams(
                guidance,
                Contexts(prompt, tuple(PANELS[row][: guidance.negatives]), POSITIVES[row], others),
            ),
            seed=0,
            alpha=guidance.alpha,
            adaptive=guidance.adaptive,
        )
        for row, (prompt, others) in enumerate(zip(PROMPTS, map(tuple, OTHERS), strict=True))
    ]


def generate(expert, guidance=GUIDANCE, **options):
    given = arguments(expert, guidance)
    steer = SteerLogitsProcessor(**given)
    ids = given["prompt_ids"]
    out = expert[0].generate(
        input_ids=ids, attention_mask=given["prompt_mask"], logits_processor=[steer],
        max_new_tokens=7, return_dict_in_generate=True, output_scores=True, **options,
    )  # fmt: skip
    return out, ids.shape[1]


def assert_naive(expert, guidance, written, scores):
    """Each row's scores after `written` (rows, length) are the reference's."""
    for request, tokens, row in zip(requests(guidance), written.tolist(), scores, strict=True):
        expected = naive.scores(*expert, request, tokens)
        torch.testing.assert_close(row, expected, atol=1e-4, rtol=1e-5)


def expert_logits(expert, written):
    """What `generate` gives a processor, (rows, vocab)."""
    rows = zip(PROMPTS, written.tolist(), strict=True)
    return torch.stack([naive.stream_log_probs(*expert, True, *row) for row in rows])


SETTINGS = [
    dict(zip(("contrast", "weights", "rho", "negatives", "adaptive", "alpha"), values, strict=True))
    for values in product(
        ("base", "prompt", "labels", "dexperts"), ("balanced", "published"), (0.0, 0.3), (1, 2),
        (False, True), (0.0, 0.02),
    )
]  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_every_setting_gives_the_scores_of_the_naive_reference(expert, setting):
    """Prompts, panels and labels of unequal length, at a step that reads the caches."""
    guidance = Guidance(gamma=0.4, eta=0.5, **setting)
    given = arguments(expert, guidance)
    steer, written = SteerLogitsProcessor(**given), torch.tensor([[40], [50]])
    logits = expert_logits(expert, written)
    steer(given["prompt_ids"], logits)
    ids = torch.cat([given["prompt_ids"], written], dim=1)
    assert_naive(expert, guidance, written, steer(ids, logits))


@pytest.mark.parametrize("contrast", ["base", "prompt", "labels", "dexperts"])
def test_greedy_records_and_scores_are_those_of_the_engine(expert, engine, contrast):
    guidance = Guidance(
        gamma=0.4, eta=0.5, rho=0.2, alpha=0.02, negatives=2, adaptive=True, contrast=contrast
    )
    out, start = generate(expert, guidance, do_sample=False)
    with recorded() as (scores, tokens):
        engine.generate(requests(guidance), Sampling(temperature=0, max_new_tokens=7))
    for row in range(len(PROMPTS)):
        drawn = list(tokens[row].values())
        assert out.sequences[row, start : start + len(drawn)].tolist() == drawn
        for step in range(len(drawn)):
            found = out.scores[step][row]
            torch.testing.assert_close(found, scores[row, step], atol=1e-4, rtol=1e-5)


def test_scores_in_the_loop_equal_the_naive_reference(expert):
    out, start = generate(expert, do_sample=False)
    for row, request in enumerate(requests(GUIDANCE)):
        tokens = out.sequences[row, start:].tolist()
        for step in range(len(out.scores)):
            if expert[1].eos_token_id in tokens[:step]:
                break
            expected = naive.scores(*expert, request, tokens[:step])
            torch.testing.assert_close(out.scores[step][row], expected, atol=1e-4, rtol=1e-5)


def test_sequences_that_change_places_are_read_again(expert):
    """Beam search swaps rows between steps; a stale cache would give other scores."""
    given = arguments(expert)
    steer, ids = SteerLogitsProcessor(**given), given["prompt_ids"]
    first = torch.tensor([[40, 41], [50, 51]])
    then = torch.tensor([[50, 51, 52], [40, 41, 42]])
    logits = torch.randn(2, len(expert[1]))
    steer(torch.cat([ids, first], dim=1), logits)
    warm = steer(torch.cat([ids, then], dim=1), logits)
    cold = SteerLogitsProcessor(**given)
    torch.testing.assert_close(warm, cold(torch.cat([ids, then], dim=1), logits))


def test_a_prompt_with_several_sequences_keeps_its_own_texts(expert):
    """`generate` repeats each prompt, so that the rows are more than the texts given."""
    guidance = Guidance(gamma=0.4, eta=0.3, rho=0.2, negatives=2, contrast="labels")
    given = arguments(expert, guidance)
    steer, written = SteerLogitsProcessor(**given), torch.tensor([[40], [50]])
    logits = expert_logits(expert, written)
    ids = torch.cat([given["prompt_ids"], written], dim=1)
    repeated = steer(ids.repeat_interleave(3, 0), logits.repeat_interleave(3, 0))
    for first in range(3):
        assert_naive(expert, guidance, written, repeated[first::3])


def test_return_sequences_and_beams_run(expert):
    out, _ = generate(expert, do_sample=True, num_return_sequences=3)
    assert len(out.sequences) == 6
    out, _ = generate(expert, do_sample=False, num_beams=2)
    assert len(out.sequences) == 2


def without(given, *names):
    return {name: value for name, value in given.items() if not name.startswith(names)}


@pytest.mark.parametrize(
    "guidance",
    [
        Guidance(gamma=0, eta=0),
        Guidance(gamma=0, eta=0, contrast="labels"),
        Guidance(gamma=0, eta=0, contrast="prompt"),
        Guidance(gamma=0.3, eta=0, negatives=3),
    ],
)
def test_what_the_guidance_does_not_read_may_be_left_out(expert, guidance):
    given = arguments(expert, guidance)
    steer = SteerLogitsProcessor(**without(given, "panel", "positive", "other", "start"))
    written = torch.tensor([[40], [50]])
    ids = torch.cat([given["prompt_ids"], written], dim=1)
    assert_naive(expert, guidance, written, steer(ids, expert_logits(expert, written)))


@pytest.mark.parametrize(
    ("setting", "left_out", "error"),
    [
        ({}, "panel", "eta is 0.2 but there are no panels; give panel_ids and panel_mask"),
        ({}, "panel_mask", "eta is 0.2 but there are no panels; give panel_ids and panel_mask"),
        ({"rho": 0.3}, "positive", "rho is 0.3 .* give positive_panel_ids and positive_panel_mask"),
        ({"contrast": "labels"}, "other", "'labels' but .* give other_prompt_ids and other_prom"),
        ({"contrast": "dexperts"}, "other", "'dexperts' but there are no other prompts"),
        ({"contrast": "prompt"}, "start", "'prompt' but .* give start_ids, such as"),
    ],
)
def test_a_setting_without_its_texts_is_an_error(expert, setting, left_out, error):
    given = arguments(expert, Guidance(**setting))
    with pytest.raises(SteerError, match=error):
        SteerLogitsProcessor(**without(given, left_out))


ALL = Guidance(rho=0.2, contrast="labels", negatives=2)


@pytest.mark.parametrize(
    ("name", "rows", "error"),
    [
        ("panel", 2, "2 panels for 2 prompts; give 2 each in panel_ids"),
        ("positive_panel", 1, "1 positive panels for 2 prompts; give 1 each in positive_panel_ids"),
        ("other_prompt", 3, "3 other prompts for 2 prompts; give 1 each in other_prompt_ids"),
        ("other_prompt", 1, "1 other prompts for 2 prompts; give 1 each in other_prompt_ids"),
        ("prompt", 0, "prompt_ids has a row that is empty"),
    ],
)
def test_rows_that_do_not_fit_the_prompts_are_an_error(expert, name, rows, error):
    given = arguments(expert, ALL)
    for part in (f"{name}_ids", f"{name}_mask"):
        given[part] = given[part][:rows]
    with pytest.raises(SteerError, match=error):
        SteerLogitsProcessor(**given)


@pytest.mark.parametrize("name", ["prompt", "panel", "positive_panel", "other_prompt"])
def test_padding_on_the_right_and_masks_of_another_shape_are_errors(expert, name):
    given = arguments(expert, ALL)
    with pytest.raises(SteerError, match=rf"{name}_ids has a row that .* pad on the left"):
        SteerLogitsProcessor(**given | {f"{name}_mask": given[f"{name}_mask"].flip(1)})
    with pytest.raises(SteerError, match=rf"{name}_ids is \(\d, \d+\) and {name}_mask \(\d, \d+\)"):
        SteerLogitsProcessor(**given | {f"{name}_mask": given[f"{name}_mask"][:, 1:]})


def test_mistakes_are_named(expert):
    model, tokenizer = expert
    ids, mask = padded(tokenizer, PROMPTS)
    with pytest.raises(SteerError, match="no panels"):
        SteerLogitsProcessor(model, GUIDANCE, ids, mask)
    with pytest.raises(SteerError, match="1 panels for 2 prompts"):
        SteerLogitsProcessor(model, GUIDANCE, ids, mask, ids[:1], mask[:1])
    with pytest.raises(SteerError, match="PeftModel"):
        SteerLogitsProcessor(model.get_base_model(), GUIDANCE, ids, mask, ids, mask)


def test_another_call_of_generate_is_an_error(expert):
    """Its prompts are others: the processor would read the written tokens wrongly."""
    given = arguments(expert)
    steer = SteerLogitsProcessor(**given)
    others = torch.cat([given["prompt_ids"], torch.tensor([[40], [50]])], dim=1).flip(0)
    for ids in (others, others[:1], given["prompt_ids"].repeat(2, 1)[:3]):
        with pytest.raises(SteerError, match="make a new processor for each call"):
            steer(ids, torch.randn(len(ids), len(expert[1])))


def test_streams_that_rule_out_every_token_are_an_error(expert):
    given = arguments(expert)
    steer = SteerLogitsProcessor(**given)
    with pytest.raises(SteerError, match="rule out every token"):
        steer(given["prompt_ids"], torch.full((2, len(expert[1])), torch.nan))
