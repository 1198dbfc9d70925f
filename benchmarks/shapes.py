"""Models of random weights in real shapes: speed does not depend on what the weights are."""

import json
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 1024,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "llama-1b": {
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    "llama-8b": {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
}
"""By name; the Llamas are those of Llama 3.2 1B and Llama 3.1 8B."""

TRAINED = 1024  # tokens, at most as many as any shape has
_CONTEXT = 8192
_BOS, _EOS = "<s>", "</s>"


def random_model(shape: str, device: str, dtype: torch.dtype) -> LlamaForCausalLM:
    """Makes a model of a shape in `SHAPES`, made on the device, so that nothing is carried
    there."""
    config = LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=_CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        dtype=dtype,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        torch.manual_seed(0)
        with torch.device(device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def corpus_tokenizer(texts: Iterable[str], shape: str) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer on the spot, with as many tokens as the shape has: those
    that no text needs are there as the engine leaves out logits without a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TRAINED,
        special_tokens=[_BOS, _EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    made = json.loads(tokenizer.to_str())
    vocab, wanted = made["model"]["vocab"], SHAPES[shape]["vocab_size"]
    vocab |= {f"unused {number}": number for number in range(len(vocab), wanted)}
    tokenizer = Tokenizer.from_str(json.dumps(made))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=_BOS, eos_token=_EOS, pad_token=_EOS
    )
