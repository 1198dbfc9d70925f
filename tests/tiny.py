"""Tiny models made on the spot, so that tests need no network and no large files."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from steer.data.corpus import Corpus

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
PROMPT = "Write one question about the sky.\nQuestion:"
LABEL_PROMPT = "Write one {label} question about the sky.\nQuestion:"

_SUBJECTS = ("the moon", "a comet", "the red planet", "a distant galaxy", "the night sky")
_VERBS = ("shine", "move", "change colour", "grow dim", "turn around the sun")
_ENDS = ("every month?", "after sunset?", "in the early universe?", "when it is cold?")

TEXTS = tuple(
    f"{opening} does {subject} {verb} {end}"
    for opening in ("Why", "How often")
    for subject in _SUBJECTS
    for verb in _VERBS
    for end in _ENDS
)
"""200 different short questions: a corpus that a few steps of training can get better at."""

LABELS = tuple("why" if text.startswith("Why") else "how" for text in TEXTS)


def make_tokenizer(vocab_size: int = 384, readable: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on TEXTS; any text goes in and comes out unchanged. A
    `readable` one has printable ASCII only, so nothing that no reader takes is ever written."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if readable:
        alphabet = [letter for letter in alphabet if "!" <= letter <= "~" or letter == "\u0120"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXTS, PROMPT, LABEL_PROMPT], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD
    )


def make_model(
    vocab_size: int, seed: int = 0, max_positions: int = 512, head_dim: int = 8
) -> LlamaForCausalLM:
    """A random fp32 Llama: 2 layers, hidden 32, 4 heads, 2 key-value heads.

    Weights are ten times larger than usual, so that distributions are far from uniform and a
    wrong mask or position shows.
    """
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=max_positions,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def save_tiny_model(
    folder: Path,
    seed: int = 0,
    max_positions: int = 512,
    head_dim: int = 8,
    readable: bool = False,
) -> Path:
    """Save a tiny model and its tokenizer into `folder` as Transformers does."""
    tokenizer = make_tokenizer(readable=readable)
    make_model(len(tokenizer), seed, max_positions, head_dim).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def fit_tiny_expert(out: Path, base: Path, corpus: Corpus, prompt: str = PROMPT) -> Path:
    """Fit an expert of rank 4 for one epoch of a few steps; gives its folder."""
    from steer.models.expert import FitSettings
    from steer.models.fitting import fit  # slow to load, and few tests need it

    settings = FitSettings(epochs=1, rank=4, batch=32, lr=1e-2)
    return fit(corpus, prompt, out, base=str(base), settings=settings).path
