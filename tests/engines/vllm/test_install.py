"""A vLLM that is missing, or lacks a part, is one line with the command to run."""

from pathlib import Path

import pytest

from steer.cli.main import main
from steer.engines.choice import EngineSpec
from steer.engines.vllm import versions
from steer.engines.vllm.parts import PARTS
from steer.errors import SteerError
from tests.engines.vllm.madeup import EVERY_PART, write


def install(monkeypatch: pytest.MonkeyPatch, version: str | None, folder: Path) -> None:
    """Makes a made-up vLLM the installed one."""
    monkeypatch.setattr(versions, "installed", lambda: version)
    monkeypatch.setattr(versions, "source_folder", lambda: folder if version else None)


def refusal(base: Path) -> str:
    with pytest.raises(SteerError) as raised:
        EngineSpec(str(base), name="vllm").load()
    assert "pip install 'steer-text[vllm]'" in str(raised.value)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_missing_vllm_is_refused(monkeypatch, tiny_model, tmp_path):
    install(monkeypatch, None, tmp_path)
    assert "needs vLLM, which is not installed" in refusal(tiny_model)


def test_the_part_that_is_gone_is_named(monkeypatch, tiny_model, tmp_path):
    parts = [part for part in EVERY_PART if part.name not in ("Executor", "BlockPool")]
    write(tmp_path, parts)
    install(monkeypatch, "0.34.0", tmp_path)
    told = refusal(tiny_model)
    assert told.startswith("vLLM 0.34.0 does not fit the engine: there is no module vllm.v1.exec")
    assert "(and 1 more)" in told


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("0.32.1", None),
        ("0.31.0", None),
        ("0.33.0", "vLLM 0.33.0 has every part that the engine needs, but the engine never ran"),
        ("0.33.1", "(its source was read)"),
        ("0.320.1", "(its source was not read)"),
        ("1.0", "(its source was not read)"),
    ],
)
def test_a_release_that_was_never_run_is_warned_of(monkeypatch, tmp_path, caplog, version, told):
    write(tmp_path, PARTS)
    install(monkeypatch, version, tmp_path)
    versions.require_vllm()
    assert (told in caplog.text) if told else not caplog.text


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
    install(monkeypatch, None, tmp_path)
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
