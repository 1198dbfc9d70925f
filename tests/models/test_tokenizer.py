"""A tokenizer that was kept does what Transformers' does; whatever it was not kept for is read
anew."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from steer.errors import SteerError
from steer.models import tokenizer as module
from steer.models.base import encode_prompt, encode_start, encode_texts, load_tokenizer
from steer.models.cache import tokenizers_folder
from steer.models.packaged import EMBEDDED, default_model
from steer.models.tokenizer import Ids, KeptTokenizer, full_tokenizer, open_tokenizer
from tests import tiny


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


def save_adding(folder: Path) -> None:
    """A tokenizer that begins and ends every text."""
    made = tiny.make_tokenizer()
    pairs = [(tiny.BOS, made.bos_token_id), (tiny.EOS, made.eos_token_id)]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{tiny.BOS} $A {tiny.EOS}", special_tokens=pairs
    )
    made.save_pretrained(folder)


@pytest.mark.parametrize("adding", [False, True])
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(
        st.text(st.sampled_from("a Why?é\n<s></s>"), max_size=12), min_size=1, max_size=4
    )
)
def test_ids_and_texts_are_those_of_transformers(
    model: Path, adding: bool, texts: list[str]
) -> None:
    if adding:
        save_adding(model)
    full, kept = load_tokenizer(str(model)), open_tokenizer(str(model))
    assert isinstance(kept, KeptTokenizer)
    assert encode_texts(kept, texts) == encode_texts(full, texts)
    for text in texts:
        ids = encode_prompt(full, text)
        assert encode_prompt(kept, text) == ids
        assert encode_start(kept, text) == encode_start(full, text)
        for skips in (False, True):
            assert kept.decode(ids, skips) == full.decode(ids, skip_special_tokens=skips)


@pytest.mark.skipif(default_model() != EMBEDDED, reason="the embedded model is not installed")
def test_that_of_the_embedded_model() -> None:
    full, kept = load_tokenizer(EMBEDDED), open_tokenizer(EMBEDDED)
    assert isinstance(kept, KeptTokenizer)
    texts = [*tiny.TEXTS[:3], " Größe:\n\n\t12.345 <|im_end|> don't", ""]
    assert encode_texts(kept, texts) == encode_texts(full, texts)
    assert kept.get_vocab() == full.get_vocab() and len(kept) == len(full)
    for name in ("bos_token", "eos_token", "bos_token_id", "eos_token_id", "chat_template"):
        assert getattr(kept, name) == getattr(full, name)
    chat = [{"role": "user", "content": "Why?"}]
    assert kept.apply_chat_template(chat, tokenize=False) == full.apply_chat_template(
        chat, tokenize=False
    )


def test_it_is_read_from_disk_the_second_time(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_tokenizer(str(model))
    monkeypatch.setattr(module, "load_tokenizer", lambda base: pytest.fail("loaded again"))
    second = open_tokenizer(str(model))
    assert second("Why?").input_ids == first("Why?").input_ids
    assert len(list(tokenizers_folder().iterdir())) == 1


@pytest.mark.parametrize("changed", ["tokenizer.json", "tokenizer_config.json", "vocab.txt"])
def test_a_file_that_changes_is_read_anew(model: Path, changed: str) -> None:
    open_tokenizer(str(model))
    file = model / changed
    file.write_text((file.read_text() if file.exists() else "") + "\n")
    open_tokenizer(str(model))
    assert len(list(tokenizers_folder().iterdir())) == 2


def test_another_version_of_the_libraries_reads_anew(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_tokenizer(str(model))
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: "99")
    open_tokenizer(str(model))
    assert len(list(tokenizers_folder().iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"{}\n{", b"\xff", b'{"bos_token": 1}\n{}'])
def test_what_is_damaged_on_disk_is_made_again(model: Path, damage: bytes) -> None:
    expected = open_tokenizer(str(model))("Why?").input_ids
    (place,) = tokenizers_folder().iterdir()
    whole = place.read_bytes()
    place.write_bytes(damage)
    assert open_tokenizer(str(model))("Why?").input_ids == expected
    assert place.read_bytes() == whole


def test_a_disk_that_takes_nothing_stops_nobody(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise SteerError("the disk is full")

    monkeypatch.setattr(module, "write_atomic", full)
    assert open_tokenizer(str(model))("Why?").input_ids
    assert not list(tokenizers_folder().iterdir())


class Own(PreTrainedTokenizerFast):  # type: ignore[misc]
    """Does something else with what the library makes."""

    def _decode(self, *given: Any, **named: Any) -> str:
        return "own"


def test_one_of_another_class_is_not_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Own.from_pretrained(model)
    monkeypatch.setattr(module, "load_tokenizer", lambda base: made)
    assert open_tokenizer(str(model)) is made
    assert full_tokenizer(made) is made
    assert not tokenizers_folder().exists()


@pytest.mark.parametrize("name", ["decode", "__call__", "get_vocab"])
def test_one_that_was_seen_to_do_something_else_is_not_kept(
    model: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = getattr(KeptTokenizer, name)

    def spoilt(*given: Any, **named: Any) -> Any:
        found = before(*given, **named)
        return Ids(found.input_ids[:-1]) if isinstance(found, Ids) else type(found)()

    monkeypatch.setattr(KeptTokenizer, name, spoilt)
    assert not isinstance(open_tokenizer(str(model)), KeptTokenizer)
    assert not tokenizers_folder().exists()


def test_what_it_lacks_the_full_one_has(model: Path) -> None:
    kept = open_tokenizer(str(model))
    assert kept.chat_template is None  # type: ignore[attr-defined]
    assert full_tokenizer(kept).all_special_ids == load_tokenizer(str(model)).all_special_ids


def test_a_tokenizer_without_an_end_is_refused_every_time(model: Path) -> None:
    settings = json.loads((model / "tokenizer_config.json").read_text())
    del settings["eos_token"]
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    for _ in range(2):
        with pytest.raises(SteerError, match="no end-of-text token"):
            open_tokenizer(str(model))


def test_it_needs_no_transformers(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_tokenizer(str(model))
    monkeypatch.setitem(sys.modules, "transformers", None)  # its import now fails
    assert open_tokenizer(str(model))("Why?").input_ids
