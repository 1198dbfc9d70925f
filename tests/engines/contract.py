"""What every engine promises, as tests: a module gives the fixtures `engine` and `slow` (the same
model for `tests.naive`) and a subclass of `EngineContract`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model

from steer.config import Guidance, Sampling
from steer.engines.drawing import Drawing
from steer.engines.interface import Completion, Engine, Request, Step
from steer.engines.scoring import Rows
from steer.errors import SteerError
from steer.guidance import Contexts, Shown, Stream, build_streams, steer_streams
from steer.models.base import load_model
from steer.seeds import derive
from tests import naive
from tests.tiny import PROMPT, TEXTS, make_model, make_tokenizer

PROMPTS = ("Q:", "Write one question about the sky.\nQuestion:")
BODIES = ("own", "library")
PANELS = (
    "Why does a comet shine after sunset?",
    " ".join(f"How often does the moon move {end}?" for end in ("now", "when cold", "x" * 40)),
    "a",
)
SHOWN = (
    Shown(("Why does </s> end?", "<s>")),
    Shown((" Why does </s> end?", " How often does a comet shine?"), "Q:"),
)


def save_adapter(
    base: str,
    folder: Path,
    spread: float = 0.15,
    *,
    seed: int = 1,
    rank: int = 4,
    layers: str | list[str] = "all-linear",
    dora: bool = False,
) -> Path:
    """A LoRA adapter with random, large weights: on and off must differ."""
    config = LoraConfig(
        r=rank, lora_alpha=8, target_modules=layers, use_dora=dora, task_type="CAUSAL_LM"
    )
    peft = get_peft_model(load_model(base, dtype="float32", device="cpu"), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    peft.save_pretrained(str(folder))
    return folder


def save_padded_model(folder: Path) -> str:
    """A tiny model with as many ids again as there are tokens, each of twice a token's logit."""
    tokenizer = make_tokenizer()
    model = make_model(2 * len(tokenizer), head_dim=32)
    weight = model.get_output_embeddings().weight
    weight.data[len(tokenizer) :] = 2 * weight.data[: len(tokenizer)]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def reference(base: str, adapter: Path | None):
    model = load_model(base, dtype="float32", device="cpu").eval()
    return PeftModel.from_pretrained(model, str(adapter)).eval() if adapter else model


@contextmanager
def body_of(kind: str) -> Iterator[None]:
    """Engines made inside have a model of `BODIES`: our own pass, or Transformers' for all."""
    with pytest.MonkeyPatch.context() as patch:
        if kind == "library":
            patch.setattr("steer.engines.hf.model.read_llama", lambda folder: None)
        yield


@contextmanager
def recorded() -> Iterator[tuple[dict, dict]]:
    """Scores by (request id, step) and drawn tokens by request id and step, of all engines."""
    scores: dict[tuple[int, int], torch.Tensor] = {}
    tokens: dict[int, dict[int, int]] = {}
    original_score, original_pick, original_choose = Rows.score, Rows.pick, Drawing.choose

    def score(batch, rows, part):
        result = original_score(batch, rows, part)
        some, _, places = result
        whole = torch.full((part.table.shape[1], part.logits.shape[1]), -torch.inf)
        whole = some if places is None else whole.scatter(1, places, some)
        for row, request in enumerate(batch.requests[rows]):
            scores[request.id, int(batch.counts[rows][row])] = whole[row].clone()
        return result

    def note(batch, rows, drawn):
        numbers = batch.counts[rows].tolist(), drawn.tolist()
        for request, count, token in zip(batch.requests[rows], *numbers, strict=True):
            tokens.setdefault(request.id, {})[count] = token

    def pick(batch, rows, part):
        result = original_pick(batch, rows, part)
        note(batch, rows, result[0])
        return result

    def choose(drawing, rows, part):
        result = original_choose(drawing, rows, part)
        note(drawing.rows, rows, result[0])
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rows, "score", score)
        patch.setattr(Rows, "pick", pick)
        patch.setattr(Drawing, "choose", choose)
        yield scores, tokens


def assert_same(ours: Sequence[Completion], theirs: Sequence[Completion]) -> None:
    """The same records; products of other shapes round log-probabilities otherwise."""
    for one, other in zip(ours, theirs, strict=True):
        assert one == replace(other, log_probs=one.log_probs)
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-3)


def assert_exact(
    engine: Engine, slow, requests: list[Request], sampling: Sampling, within: float = 1e-4
) -> None:
    """Every score of every row and step is that of the naive reference, to `within` nats."""
    ends = engine.ends.tolist()
    with recorded() as (scores, tokens):
        completions = engine.generate(requests, sampling)
    assert [c.id for c in completions] == [r.id for r in requests]
    for request, completion in zip(requests, completions, strict=True):
        drawn = list(tokens[request.id].values())
        assert list(tokens[request.id]) == list(range(completion.tokens))
        assert completion.text == engine.tokenizer.decode(drawn, skip_special_tokens=True)
        for step in range(len(drawn)):
            expected = naive.scores(slow, engine.tokenizer, request, drawn[:step], ends)
            torch.testing.assert_close(
                scores[request.id, step], expected, atol=within, rtol=1e-5, check_dtype=False
            )
        for stream in {stream.name: stream for stream in request.streams}.values():
            mean = sum(
                naive.biased(
                    naive.stream_log_probs(
                        slow, engine.tokenizer, stream.adapter, stream.context, drawn[:step]
                    ),
                    request,
                    step,
                    ends,
                )[token].item()
                for step, token in enumerate(drawn)
            ) / len(drawn)
            assert completion.log_probs[stream.name] == pytest.approx(mean, abs=within)


guidances = st.builds(
    Guidance,
    gamma=st.sampled_from([0.0, 0.2, 1.0]),
    eta=st.sampled_from([0.0, 0.3, 1.0]),
    rho=st.sampled_from([0.0, 0.3]),
    alpha=st.sampled_from([0.0, 0.05, 0.5]),
    weights=st.sampled_from(["balanced", "published"]),
    contrast=st.sampled_from(["base", "prompt", "labels"]),
    adaptive=st.booleans(),
)
panels = st.sampled_from((*PANELS, *SHOWN))
contexts = st.builds(
    Contexts,
    prompt=st.sampled_from(PROMPTS),
    negative=st.lists(panels, min_size=1, max_size=2).map(tuple),
    positive=panels,
    others=st.just(("A riddle:",)),
)


@st.composite
def batches(draw) -> tuple[list[Request], Sampling, int, list[int]]:
    """Requests with ragged prompts and panels and mixed guidance, rows, and end tokens so many that
    rows finish at different steps and are replaced."""
    requests = [
        Request(
            id=number,
            streams=build_streams(guidance := draw(guidances), draw(contexts)),
            seed=derive(draw(st.integers(0, 5)), number),
            alpha=guidance.alpha,
            adaptive=guidance.adaptive,
            end_bias=draw(st.sampled_from([(), ((0, -3.0), (2, 1.5)), ((1, 4.0),)])),
        )
        for number in range(draw(st.integers(1, 7)))
    ]
    sampling = Sampling(
        temperature=draw(st.sampled_from([0.0, 0.7, 1.0])),
        top_k=draw(st.sampled_from([0, 10])),
        max_new_tokens=draw(st.integers(1, 9)),
    )
    ends = draw(st.sampled_from([[1], list(range(60)), list(range(200))]))
    return requests, sampling, draw(st.integers(1, 4)), ends


def many(count: int, **guidance) -> list[Request]:
    settings = Guidance(**guidance)
    return [
        Request(i, steer_streams(settings, PROMPTS[1], PANELS[i % 2]), derive(0, i), settings.alpha)
        for i in range(count)
    ]


PANEL = Shown(tuple(f" {text}" for text in TEXTS[:6]), PROMPT)


def varied(number: int, **settings: float) -> Request:
    """A request whose settings differ from those of others, for generations that are joined."""
    guidance = Guidance(
        gamma=settings.get("gamma", 0.2 * (number % 3)),
        eta=settings.get("eta", 0.3 * (number % 2)),
        alpha=settings.get("alpha", 0.01 * (number % 2)),
        adaptive=number % 5 == 3,
    )
    streams = steer_streams(guidance, PROMPT, PANEL)
    return Request(number, streams, 100 + number, guidance.alpha, guidance.adaptive)


class EngineContract:
    within = 1e-4  # nats

    def vary(self, patch: pytest.MonkeyPatch, data: st.DataObject) -> None:
        """What else of an engine must change no score."""

    @given(batch=batches(), data=st.data())
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    def test_scores_equal_the_naive_reference(self, engine, slow, batch, data):
        requests, sampling, rows, ends = batch
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "rows", rows)
            patch.setattr(engine, "ends", torch.tensor(ends))
            self.vary(patch, data)
            assert_exact(engine, slow, requests, sampling, self.within)

    def test_a_bias_says_when_texts_end(self, engine):
        """None before the fourth token, then every one; one request's alone."""
        requests = [replace(each, end_bias=()) for each in many(3, gamma=0.2, eta=0.2, alpha=0.01)]
        requests[1] = replace(requests[1], end_bias=((0, -99.0), (4, 99.0)))
        made = engine.generate(requests, Sampling(max_new_tokens=8))
        assert (made[1].tokens, made[1].finish_reason) == (5, "stop")
        requests[1] = many(3)[1]
        free = engine.generate(requests[::2], Sampling(max_new_tokens=8))
        assert [each.text for each in free] == [each.text for each in made[::2]]

    def test_any_list_of_streams(self, engine, slow):
        """Positive panels, and two negatives, are only more streams."""
        streams = (
            Stream("expert", 0.9, True, PROMPTS[0]),
            Stream("positive", 0.4, True, PANELS[1]),
            Stream("negative", -0.2, True, PANELS[0]),
            Stream("base negative", -0.1, False, PANELS[0]),
        )
        requests = [Request(0, streams, 1), Request(1, streams[:2], 2), Request(2, streams[:1], 3)]
        assert_exact(engine, slow, requests, Sampling(max_new_tokens=6), self.within)

    def test_few_shot_prompting_needs_no_stream_of_the_expert(self, engine, slow):
        guidance = Guidance(gamma=0, eta=0, few_shot=True)
        requests = [
            Request(number, build_streams(guidance, Contexts("Q:", positive=panel)), number)
            for number, panel in enumerate((*SHOWN, PANELS[1]))
        ]
        assert_exact(engine, slow, requests, Sampling(max_new_tokens=6), self.within)

    def test_records_do_not_depend_on_the_rows(self, engine):
        sampling = Sampling(max_new_tokens=12)
        texts = []
        for rows in (1, 3, 64):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(engine, "rows", rows)
                texts.append([c.text for c in engine.generate(many(7), sampling)])
        assert texts[0] == texts[1] == texts[2]
        assert len(set(texts[0])) > 1

    def test_plain_sampling_of_the_expert_is_transformers_generate(self, engine, slow):
        requests = many(1, gamma=0, eta=0, alpha=0)
        ours = engine.generate(requests, Sampling(temperature=0, max_new_tokens=10))[0].text
        ids = torch.tensor([engine.tokenizer(PROMPTS[1]).input_ids])
        theirs = slow.generate(input_ids=ids, do_sample=False, max_new_tokens=10)
        written = theirs[0, ids.shape[1] :]
        assert ours == engine.tokenizer.decode(written, skip_special_tokens=True)

    def test_progress_and_an_interrupt_leave_the_engine_usable(self, engine):
        steps: list[Step] = []

        def stop(step: Step) -> None:
            steps.append(step)
            if len(steps) == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            engine.generate(many(4), Sampling(max_new_tokens=8), stop)
        assert steps[0].tokens == 4
        assert len(engine.generate(many(4), Sampling(max_new_tokens=3))) == 4

    def test_a_context_too_long_for_the_model_is_an_error(self, engine):
        streams = (Stream("expert", 1.0, True, "why " * 2000),)
        with pytest.raises(SteerError, match="but the model reads 512"):
            engine.generate([Request(0, streams, 0)], Sampling(max_new_tokens=5))
