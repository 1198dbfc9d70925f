"""The peer llama.cpp: how its file is made; it is run by hand (docs/performance.md)."""

import numpy as np
import pytest

from benchmarks import llamacpp


def test_a_head_pairs_neighbours_where_transformers_pairs_halves() -> None:
    rows = np.arange(2 * 6, dtype=float)[:, None]  # two heads of six outputs
    expected = [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    assert llamacpp._rotated(rows, 2)[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("model.layers.7.self_attn.k_proj.weight", "blk.7.attn_k.weight"),
        ("model.layers.12.post_attention_layernorm.weight", "blk.12.ffn_norm.weight"),
    ],
)
def test_weights_have_the_names_of_the_file_format(ours: str, theirs: str) -> None:
    assert llamacpp._renamed(ours) == theirs


def test_what_cannot_be_measured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Llamas only, and this is a gemma3" in str(llamacpp.missing("gemma3"))
    monkeypatch.setattr(llamacpp.importlib.util, "find_spec", lambda name: None)
    assert llamacpp.missing("llama") == "not installed: llama_cpp, gguf"
