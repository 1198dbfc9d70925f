import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

from steer.errors import SteerError
from steer.models.base import (
    encode_prompt,
    load_model,
    load_tokenizer,
    model_fingerprint,
    pick_device,
    pick_dtype,
)
from tests import tiny


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


def test_devices_and_types() -> None:
    cpu = pick_device("cpu")
    assert pick_dtype("float16", cpu) == torch.float16
    assert pick_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
    with pytest.raises(SteerError, match="unknown dtype 'int3'; choose one of auto, float32"):
        pick_dtype("int3", cpu)
    with pytest.raises(SteerError, match="device 'abacus' cannot be used"):
        pick_device("abacus")
