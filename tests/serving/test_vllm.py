"""OpenAI's own client against a server on the vllm engine; part of `make test-vllm`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from steer.cli.main import main
from steer.config import Guidance, RunConfig, Sampling
from steer.data.corpus import Corpus
from steer.engines.choice import EngineSpec
from steer.errors import SteerError
from steer.models.expert import Expert
from steer.runs.generation import generate
from steer.serving.experts import Served
from steer.serving.server import load
from steer.serving.settings import ServeSettings
from tests import tiny
from tests.serving.conftest import Running, running, spec

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: make test-vllm", allow_module_level=True)

openai = pytest.importorskip("openai", reason="the client is a test dependency")

REAL = Corpus.of(tiny.TEXTS)


def on_vllm(expert: Expert) -> EngineSpec:
    return EngineSpec(expert.base, expert.path, "vllm", dtype="float32", rows=8)


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> list[Expert]:
    """Two, of different texts, on one base model whose heads are large enough for vLLM."""
    folder = tmp_path_factory.mktemp("experts")
    base = tiny.save_tiny_model(folder / "base", head_dim=32)
    corpora = {"first": REAL, "second": Corpus.of(tiny.TEXTS[::3])}
    return [
        Expert.load(tiny.fit_tiny_expert(folder / name, base, corpus))
        for name, corpus in corpora.items()
    ]


@pytest.fixture(scope="module")
def served(experts: list[Expert]) -> Iterator[list[Served]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steer.engines.vllm.engine.CPU_CACHE", 64 << 20)
        yield load(experts, REAL, ServeSettings(), on_vllm)


@pytest.fixture(scope="module")
def server(served: list[Served]) -> Iterator[Running]:
    with running(served, ServeSettings(queue=64, grace=5)) as found:
        yield found


def write(client, **asked):
    """The choices of one request, with the extra fields in `ours`."""
    ours = asked.pop("ours", {})
    asked = {"model": "first", "prompt": "", "max_tokens": 12, "seed": 3} | asked
    return client.completions.create(**asked, extra_body=ours)


KINDS = (
    {"seed": 1},
    {"seed": 2, "temperature": 0, "n": 3},
    {"seed": 3, "top_p": 0.5, "ours": {"gamma": 1.0, "eta": 0}},
    {"seed": 4, "max_tokens": 30, "ours": {"method": "plain"}},
    {"seed": 5, "ours": {"away": ["Why does a comet shine?"], "towards": ["real:3"]}},
    {"seed": 6, "model": "second", "ours": {"gamma": 0.5}},
    {"seed": 7, "model": "second", "prompt": "How often"},
    {"seed": 8, "ours": {"structured_outputs": {"choice": ["Why is that?", "How is that?"]}}},
)


def texts(answer) -> list[str]:
    return [each.text for each in answer.choices]


def test_requests_of_all_kinds_share_a_batch_and_do_not_notice(client, experts) -> None:
    """And have the texts that the hf engine writes."""
    alone = [texts(write(client, **kind)) for kind in KINDS]
    with ThreadPoolExecutor(len(KINDS)) as pool:
        together = list(pool.map(lambda kind: texts(write(client, **kind)), KINDS))
    assert together == alone
    assert set(alone[-1]) <= {"Why is that?", "How is that?"}
    settings = ServeSettings(queue=64, grace=5)
    with (
        running(load(experts, REAL, settings, spec), settings) as other,
        openai.OpenAI(base_url=f"{other.address}/v1", api_key="none") as hf,
    ):
        assert [texts(write(hf, **kind)) for kind in KINDS] == alone


def test_a_text_is_the_record_of_a_run_with_that_seed(client, served, experts, tmp_path) -> None:
    config = RunConfig(
        n=8,
        seed=3,
        guidance=Guidance(gamma=0, eta=0, alpha=0),
        sampling=Sampling(max_new_tokens=12),
        max_attempts=8,
    )
    run = generate(config, REAL, experts[0], served[0].engine, tmp_path / "run")
    attempts = {each.id: each.text for each in (*run.records, *run.rejects)}
    ours = {"method": "plain", "gamma": 0, "eta": 0, "alpha": 0, "temperature": 1}
    found = texts(write(client, n=8, ours=ours))
    written = [served[0].task.record(each) for each in found]
    assert sorted(attempts.values()) == sorted(written)


@pytest.mark.parametrize("seed", range(2))
def test_a_stream_says_what_the_whole_says(client, seed: int) -> None:
    whole = write(client, n=2, seed=seed)
    found, chunks = ["", ""], list(write(client, n=2, seed=seed, stream=True))
    for chunk in chunks:
        found[chunk.choices[0].index] += chunk.choices[0].text
    assert found == texts(whole) and len(chunks) > 4


def test_a_stop_ends_the_text_before_it_and_a_client_that_leaves_frees_its_rows(
    client, server: Running
) -> None:
    (whole,) = texts(write(client, max_tokens=100))
    cut = write(client, max_tokens=100, stop=[whole[4:7]]).choices[0]
    assert (cut.text, cut.finish_reason) == (whole[: whole.find(whole[4:7])], "stop")
    with write(client, max_tokens=400, n=8, stream=True, temperature=2) as stream:
        next(iter(stream))
    server.settles()
    assert server.metric("steer_rows ") == 0
    assert texts(write(client, max_tokens=100)) == [whole]


def test_what_guidance_did_is_told(client) -> None:
    found = write(client, logprobs=3, temperature=0, ours={"trace": True, "gamma": 1})
    told = found.choices[0].logprobs
    for token, value, top in zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True):
        assert top[token] == value == max(top.values()) <= 0
    for token in found.choices[0].steer["tokens"]:
        assert {each["id"]: each for each in token["candidates"]}[token["id"]]["kept"]


def test_what_vllm_cannot_read_is_a_request_that_is_too_long(client) -> None:
    with pytest.raises(openai.BadRequestError, match="the longest context has"):
        write(client, ours={"away": ["x" * 5000]})
    with pytest.raises(openai.BadRequestError, match="the longest is 512"):
        write(client, max_tokens=1000)


def test_experts_of_two_base_models_are_one_clear_line(experts, tmp_path, capsys) -> None:
    base = tiny.save_tiny_model(tmp_path / "base", head_dim=16)
    other = tiny.fit_tiny_expert(tmp_path / "other", base, REAL)
    with pytest.raises(SteerError, match="2 base models, and --engine vllm serves those of one"):
        load([experts[0], Expert.load(other)], REAL, ServeSettings(), on_vllm)


def test_the_command_takes_the_engine(experts, tmp_path: Path, monkeypatch, capsys) -> None:
    """As far as to a server, which is tested above."""
    real, seen = tmp_path / "real.txt", []
    real.write_text("\n".join(tiny.TEXTS))
    monkeypatch.setattr("steer.serving.server.load", lambda *given: seen.append(given[3]) or [])
    monkeypatch.setattr("steer.serving.server.serve", lambda *given: None)
    command = f"serve {experts[0].path} --real {real} --engine vllm --gpus 2 --rows 4"
    assert main(command.split()) == 0
    made = seen[0](experts[0])
    assert (made.name, made.gpus, made.rows) == ("vllm", 2, 4)
