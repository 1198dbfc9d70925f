import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from steer.data.catalog import COMMONSENSE
from steer.data.corpus import Corpus
from steer.data.tasks import Hub, Task
from steer.errors import SteerError
from steer.models import fitting as module
from steer.models import packaged
from steer.models.base import load_model, load_tokenizer, model_fingerprint
from steer.models.examples import encode
from steer.models.expert import EpochLoss, Expert, FitSettings
from steer.models.fitting import fit
from steer.models.layouts import Padded, completion_loss
from steer.models.splitting import Split
from steer.models.training import FitProgress
from tests import tiny

FAST = FitSettings(epochs=1, rank=2, batch=32, lr=1e-2)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved(tiny_expert: Path, tiny_model: Path, tiny_corpus: Corpus) -> None:
    assert left_in(tiny_expert) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "expert.json",
    ]
    assert left_in(tiny_expert.parent) == [tiny_expert.name]
    expert = Expert.load(tiny_expert)
    assert (expert.path, expert.prompt, expert.labels) == (tiny_expert, tiny.PROMPT, ())
    assert (expert.base, expert.base_fingerprint) == (
        str(tiny_model),
        model_fingerprint(str(tiny_model)),
    )
    assert (expert.data_source, expert.data_fingerprint) == ("tiny", tiny_corpus.fingerprint)
    assert (expert.rows, expert.dropped, expert.best_epoch) == (200, 0, 1)
    assert len(expert.held_out) == 20
    assert expert.settings.batch == 32
    assert expert.task.render() == tiny.PROMPT
    config = json.loads((tiny_expert / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_model)


def test_fit_returns_what_load_reads(tiny_model: Path, tiny_corpus: Corpus, tmp_path: Path) -> None:
    said: list[FitProgress] = []
    given = (tiny_corpus, tiny.PROMPT, tmp_path / "out", str(tiny_model), FAST)
    expert = fit(*given, on_progress=said.append)
    assert expert == Expert.load(tmp_path / "out")
    stages = dict.fromkeys(progress.stage for progress in said)
    assert list(stages) == ["load", "evaluate", "train", "ends", "save"]
    (plan,) = (progress for progress in said if progress.memory)
    assert (plan.stage, plan.texts, plan.epochs, plan.steps) == ("load", 180, 1, 6)
    assert plan.total == max(progress.tokens for progress in said) > 0


def test_a_list_of_texts_will_do(tiny_model: Path, tiny_corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "out"
    expert = fit(list(tiny.TEXTS), tiny.PROMPT, out, base=str(tiny_model), settings=FAST)
    assert (expert.data_source, expert.data_fingerprint) == ("texts", tiny_corpus.fingerprint)


def test_fitting_again_gives_the_same(
    tiny_model: Path, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    def again(name: str, seed: int) -> Expert:
        settings = FitSettings(**FAST.model_dump() | {"seed": seed})
        out = tmp_path / name
        return fit(tiny_corpus, tiny.PROMPT, out, base=str(tiny_model), settings=settings)

    first, second, other = again("a", 1), again("b", 1), again("c", 2)
    assert first.adapter_fingerprint == second.adapter_fingerprint
    assert first.held_out == second.held_out
    assert first.adapter_fingerprint != other.adapter_fingerprint
    assert first.held_out != other.held_out


def test_epochs_rate_and_batch_follow_from_the_texts_and_the_model(
    tiny_model: Path, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    settings = FitSettings(rank=2, patience=9)
    expert = fit(tiny_corpus, tiny.PROMPT, tmp_path / "out", str(tiny_model), settings)
    chosen = expert.settings
    assert (chosen.epochs, chosen.lr, chosen.batch) == (3, 2e-3 / 3**0.75, 4)
    assert len(expert.losses) == 4


def test_lengths_are_those_of_the_completions(tiny_expert: Path, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    counts = [len(tokenizer(f" {text}").input_ids) + 1 for text in tiny.TEXTS]
    expert = Expert.load(tiny_expert)
    assert expert.max_completion_tokens == expert.completion_tokens.max == max(counts)
    assert expert.completion_tokens.mean == pytest.approx(sum(counts) / len(counts))
    assert expert.completion_tokens.p95 == sorted(counts)[189]


def test_the_adapter_gives_the_losses_it_claims(tiny_expert: Path, tiny_model: Path) -> None:
    expert = Expert.load(tiny_expert)
    tokenizer = load_tokenizer(str(tiny_model))
    model = load_model(str(tiny_model), dtype="float32")
    examples = encode(Corpus(tiny.TEXTS, None, ""), expert.task, tokenizer)
    read = Padded(tokenizer.pad_token_id).lay_out([examples[row] for row in expert.held_out])
    count = len(read.targets)
    with torch.no_grad():
        before = completion_loss(model, read)
        after = completion_loss(PeftModel.from_pretrained(model, tiny_expert), read)
    # It was fitted in bf16 where the machine has it.
    assert before.item() / count == pytest.approx(expert.losses[0].held_out, abs=0.05)
    assert after.item() / count == pytest.approx(expert.losses[1].held_out, abs=0.05)
    assert after < before - 1


def test_labels_make_it_conditional(tiny_label_expert: Path) -> None:
    expert = Expert.load(tiny_label_expert)
    assert expert.labels == ("how", "why")
    assert expert.task.render("how").startswith("Write one how question")


def test_the_task_is_kept(tiny_model: Path, tmp_path: Path) -> None:
    task = Task(
        tiny.LABEL_PROMPT,
        labels=("why", "how"),
        pattern=".+",
        min_chars=3,
        form="question",
        name="riddles",
        max_new_tokens=7,
        hub=Hub(dataset="someone/riddles"),
    )
    corpus = Corpus(tiny.TEXTS, tiny.LABELS, "tiny")
    made = fit(corpus, task, tmp_path / "out", base=str(tiny_model), settings=FAST)
    expert = Expert.load(tmp_path / "out")
    assert expert == made
    assert expert.task == replace(task, hub=None, whitespace="single")
    assert expert.max_completion_tokens == 7


def test_equal_texts_are_on_one_side(tiny_model: Path, tmp_path: Path) -> None:
    corpus = Corpus(tiny.TEXTS[:20] * 3, None, "thrice")
    out = tmp_path / "out"
    expert = fit(corpus, tiny.PROMPT, out, base=str(tiny_model), settings=FAST)
    held_out = {corpus.texts[row] for row in expert.held_out}
    assert (len(held_out), len(expert.held_out)) == (2, 6)


def test_long_texts_are_left_out_and_counted_and_this_is_said_before(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = (*tiny.TEXTS[:30], "long " * 500, *tiny.TEXTS[30:60], "longer " * 600)
    settings = FitSettings(**FAST.model_dump() | {"max_tokens": 2000})
    corpus = Corpus(texts, None, "long")
    said = []
    given = (corpus, tiny.PROMPT, tmp_path / "out", str(tiny_model), settings)
    expert = fit(*given, lambda progress: said.append((progress.stage, caplog.text)))
    assert "2 of 62 texts were left out" in dict(reversed(said))["evaluate"]
    assert (expert.rows, expert.dropped, len(expert.held_out), expert.trained_on) == (62, 2, 6, 54)
    assert "2 of 62 texts were left out" in expert.warnings[0]
    assert "more than 512 tokens (first: row 31)" in expert.warnings[0]
    assert expert.max_completion_tokens < 30


def losses(*held_out: float) -> list[EpochLoss]:
    return [
        EpochLoss(epoch=epoch, train=1 / (epoch + 1), held_out=loss)
        for epoch, loss in enumerate(held_out)
    ]


NO_LABELS = Corpus(("a", "b"), None, "none")


def test_labels_with_few_texts_are_named() -> None:
    corpus = Corpus(tuple(map(str, range(14))), ("a",) * 12 + ("b", "c"), "made")
    split = Split(tuple(range(13)), (13,), (), limit=512)
    (warning,) = module._warnings(corpus, losses(3, 2, 2), split, FitSettings(), None)
    assert "Fewer than 10 texts of 'b' (1), 'c' (1)" in warning


@pytest.mark.parametrize(
    ("held_out", "found"),
    [
        ((3, 2, 1.5, 1.75), ["overfits after epoch 2: the held-out loss rose from 1.500 to 1.750"]),
        ((3, 2, 1.5), ["still falling at epoch 2"]),
        ((3, 2, 1.95), []),
        ((3, 2), []),
        ((3, 3.5), ["did not help: the held-out loss is 3.500 at best, 3.000 before"]),
        ((3, 2, 2), []),
    ],
)
def test_warnings_are_plain_sentences(held_out: tuple[float, ...], found: list[str]) -> None:
    split = Split(train=(0,), held_out=(1,), too_long=(), limit=512)
    settings = FitSettings(epochs=max(1, len(held_out) - 1))
    given = module._warnings(NO_LABELS, losses(*held_out), split, settings, None)
    assert len(given) == len(found)
    assert all(part in sentence for part, sentence in zip(found, given, strict=True))


def test_an_early_stop_is_not_called_still_falling() -> None:
    split = Split(train=(0,), held_out=(1,), too_long=(), limit=512)
    assert module._warnings(NO_LABELS, losses(3, 2), split, FitSettings(epochs=2), None) == ()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"corpus": Corpus(tiny.TEXTS[:9], None, "few")}, "9 different texts can be fitted on"),
        ({"corpus": Corpus(("same text",) * 50, None, "one")}, "1 different texts"),
        ({"settings": FitSettings(max_tokens=12)}, "200 of 200 have more than 12 tokens"),
        ({"task": "A {label} one:"}, "the texts have no labels"),
        ({"task": " "}, "the prompt is empty"),
        ({"corpus": Corpus(tiny.TEXTS, tiny.LABELS, "x")}, "the prompt has no {label}"),
        ({"task": Task(tiny.LABEL_PROMPT, ("how", "who"))}, "labels are how, who but those of"),
        (
            {"task": COMMONSENSE, "corpus": Corpus(tiny.TEXTS, tiny.LABELS, "x")},
            "the task's labels are none but those of x are how, why",
        ),
        ({"corpus": "real.jsonl"}, "texts is a str: 'real.jsonl'; give a list of strings"),
        ({"base": "no-one/no-model"}, "cannot load model no-one/no-model"),
    ],
)
def test_mistakes_leave_nothing(
    change: dict, found: str, tiny_model: Path, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    given = {"corpus": tiny_corpus, "task": tiny.PROMPT, "base": str(tiny_model)}
    with pytest.raises(SteerError) as error:
        fit(out=tmp_path / "out", **given | change)
    assert found in str(error.value)
    assert "\n" not in str(error.value)
    assert left_in(tmp_path) == []


def test_what_exists_is_kept(tiny_corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SteerError, match="exists already"):
        fit(tiny_corpus, tiny.PROMPT, tmp_path / "out", base="never looked at")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    ("stage", "kept"), [("load", False), ("evaluate", False), ("train", True), ("save", True)]
)
def test_a_stopped_fit_goes_on_to_the_same_expert(
    stage: str,
    kept: bool,
    tiny_model: Path,
    tiny_corpus: Corpus,
    tiny_expert: Path,
    tmp_path: Path,
) -> None:
    """Nothing is left but, once the base model was tested, a folder that says whose it is."""

    def interrupt(progress: FitProgress) -> None:
        if progress.stage == stage:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    settings = Expert.load(tiny_expert).settings
    given = (tiny_corpus, tiny.PROMPT, out, str(tiny_model))
    with pytest.raises(KeyboardInterrupt):
        fit(*given, settings, interrupt)
    assert left_in(tmp_path) == (["out.unfinished"] if kept else [])
    if kept:
        with pytest.raises(
            SteerError, match=r"another prompt \(.*, now 'Another:'\); give another"
        ):
            fit(tiny_corpus, "Another:", out, str(tiny_model), settings)
        with pytest.raises(SteerError, match=r"another lr \(0.01, now 0.02\); give another"):
            fit(*given, settings.model_copy(update={"lr": 0.02}))
    fit(*given, settings)
    assert left_in(tmp_path) == ["out"]
    for name in left_in(tiny_expert):
        assert (out / name).read_bytes() == (tiny_expert / name).read_bytes()


def test_a_full_disk_leaves_nothing(tiny_model: Path, tiny_corpus: Corpus, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(SteerError, match="no space to write"):
            fit(tiny_corpus, tiny.PROMPT, tmp_path / "out", str(tiny_model), FAST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left_in(tmp_path) == []


def test_the_name_of_the_embedded_model_is_kept_not_its_cache(
    tiny_model: Path, tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "_converted", lambda: tiny_model)
    expert = fit(tiny_corpus, tiny.PROMPT, tmp_path / "out", packaged.EMBEDDED, FAST)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == expert.base == packaged.EMBEDDED
    assert expert.base_fingerprint == model_fingerprint(str(tiny_model))
    assert str(tiny_model) not in (tmp_path / "out" / "expert.json").read_text()
