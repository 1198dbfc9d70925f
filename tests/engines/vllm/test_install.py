"""A vLLM that is missing, or another than the tested one, is one line with the command to run."""

import pytest

from steer.cli.main import main
from steer.engines.choice import EngineSpec
from steer.engines.vllm import engine as vllm
from steer.errors import SteerError


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, "needs vLLM 0.32, which is not installed"),
        ("0.31.2", "found vLLM 0.31.2, but the vllm engine needs 0.32"),
        ("0.33.0", "found vLLM 0.33.0"),
        ("0.320.1", "found vLLM 0.320.1"),
        ("1.0", "found vLLM 1.0"),
    ],
)
def test_another_vllm_is_refused(monkeypatch, tiny_model, found, told):
    monkeypatch.setattr(vllm, "installed", lambda: found)
    with pytest.raises(SteerError, match=told) as raised:
        EngineSpec(str(tiny_model), name="vllm").load()
    assert "pip install 'steer-text[vllm]'" in str(raised.value)


@pytest.mark.parametrize("found", ["0.32.0", "0.32.1"])
def test_the_tested_series_is_accepted(monkeypatch, found):
    monkeypatch.setattr(vllm, "installed", lambda: found)
    vllm.require_vllm()


def test_the_hf_engine_uses_one_gpu(tiny_model):
    with pytest.raises(SteerError, match="gpus is 2, but only --engine vllm"):
        EngineSpec(str(tiny_model), gpus=2).load()


def run(*arguments: str, capfd) -> str:
    assert main(arguments) == 2
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(" ")[0] for line in lines if line != "loading ..."] == ["error:"]
    return lines[-1]


def test_the_command_line_says_it_in_one_line(
    monkeypatch, tiny_expert, tiny_corpus, tmp_path, capfd
):
    monkeypatch.setattr(vllm, "installed", lambda: None)
    real = tmp_path / "real.txt"
    real.write_text("\n".join(tiny_corpus.texts))
    command = ("generate", str(tiny_expert), "--real", str(real), "--n", "2", "--engine")
    out = ("--out", str(tmp_path / "run"))
    assert "pip install 'steer-text[vllm]'" in run(*command, "vllm", *out, capfd=capfd)
    assert "choose one of hf, vllm" in run(*command, "fast", *out, capfd=capfd)
    compare = ("compare", str(tiny_expert), "--real", str(real), "--engine", "vllm", *out)
    told = run(*compare, "--methods", "steer,beam", capfd=capfd)
    assert "no beam search; use --engine hf" in told
    assert not (tmp_path / "run").exists()
