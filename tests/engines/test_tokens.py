"""What a context is in token ids: a panel reads as its texts did in training."""

import pickle

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.engines.tokens import Known, encode, known_ids
from steer.guidance import Shown
from steer.models import examples
from steer.models.base import EMBEDDED, default_model, encode_prompt, load_tokenizer
from steer.runs.pool import Example, render_panel
from tests.tiny import BOS, EOS, make_tokenizer

TEXTS = ("Why does a comet shine?", "«Où», 3 fois…\tand a tab", "x" * 30, "How often?")


def beginning():
    """A tokenizer that begins every text, and ends it, as some do."""
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A {EOS}",
        special_tokens=[(BOS, tokenizer.bos_token_id), (EOS, tokenizer.eos_token_id)],
    )
    return tokenizer


@pytest.fixture(scope="module", params=["tiny", "beginning", "embedded"])
def tokenizer(request):
    if request.param == "embedded":
        if default_model() != EMBEDDED:
            pytest.skip("the embedded model is not installed")
        return load_tokenizer(EMBEDDED)
    return make_tokenizer() if request.param == "tiny" else beginning()


@pytest.fixture
def spelling(tokenizer) -> tuple[str, str]:
    """Texts that spell special tokens."""
    begin, end = tokenizer.bos_token, tokenizer.eos_token
    return f"Why {end} is it?", f"{begin} x{end}"


def panel(texts, form: str, prompt: str) -> Shown:
    examples = [Example(f"real:{row}", text) for row, text in enumerate(texts)]
    return render_panel(examples, form, Task(prompt), prompt)


def test_each_text_of_a_panel_may_have_a_prompt_of_its_own(tokenizer):
    """The same tokens as under one prompt where they are equal, else each before its text."""
    texts = tuple(f" {text}" for text in TEXTS)
    alike = Shown(texts, "Line:", ("Line:",) * len(texts))
    assert encode(tokenizer, alike) == encode(tokenizer, Shown(texts, "Line:"))
    own = tuple(f"Line {number}:" for number in range(len(texts)))
    written = "".join(f"{a}{b}{tokenizer.eos_token}" for a, b in zip(own, texts, strict=True))
    ids = encode(tokenizer, Shown(texts, "Line:", own))
    assert tokenizer.decode(ids).endswith(f"{written}Line:")


@pytest.mark.parametrize("prompt", ["Write a line.\nLine:", "Write a line:\n", "Q"])
@pytest.mark.parametrize("form", ["prompted", "raw"])
def test_a_panel_of_plain_texts_reads_as_one_string(tokenizer, form, prompt):
    task = Task(prompt)
    if form == "raw":
        written = " ".join(TEXTS)
    else:
        written = "".join(f"{prompt}{task.completion(t)}{tokenizer.eos_token}" for t in TEXTS)
        written += prompt
    assert encode(tokenizer, panel(TEXTS, form, prompt)) == encode_prompt(tokenizer, written)


def test_a_text_of_a_panel_is_read_as_it_was_fitted(tokenizer, spelling):
    corpus, task = Corpus(spelling, None, "test"), Task(f"Say {tokenizer.bos_token}:")
    first, second = (each["input_ids"] for each in examples.encode(corpus, task, tokenizer))
    again = tokenizer(task.prompt, add_special_tokens=False).input_ids
    start = encode_prompt(tokenizer, task.prompt)
    ids = encode(tokenizer, panel(spelling, "prompted", task.prompt))
    assert ids == [*first, *again, *second[len(start) :], *again]


def test_texts_joined_with_a_space_spell_no_special_token(tokenizer, spelling):
    ids = encode(tokenizer, panel(spelling, "raw", "Q:"))
    begun = encode(tokenizer, "Q:")[0] == ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[begun:]) == " ".join(spelling)
    assert not set(tokenizer.all_special_ids) & set(ids[begun:])


def test_a_prompt_may_hold_special_tokens(tokenizer):
    assert tokenizer.eos_token_id in encode(tokenizer, f"One{tokenizer.eos_token}Two:")


def test_a_context_without_tokens_is_the_start_of_text():
    tokenizer = make_tokenizer()
    assert encode(tokenizer, "") == [tokenizer.bos_token_id]
    tokenizer.bos_token = None
    assert encode(tokenizer, "") == [tokenizer.eos_token_id]


def test_a_panel_is_equal_to_its_copy_in_another_process():
    shown = panel(TEXTS, "prompted", "Q:")
    copy = pickle.loads(pickle.dumps(shown))
    assert {shown: 1}[copy] == 1
    assert shown not in {panel(TEXTS, "raw", "Q:"), panel(TEXTS[:2], "prompted", "Q:")}


def test_known_ids_are_those_of_tokens(tokenizer):
    assert known_ids(tokenizer, len(tokenizer) + 40) == Known(len(tokenizer))
    assert known_ids(tokenizer, len(tokenizer) - 1) == Known(len(tokenizer) - 1)


def test_known_logits_are_a_view_and_holes_are_ruled_out():
    class Gappy:
        def get_vocab(self):
            return {"a": 0, "b": 2, "c": 3, "beyond": 90}

    known = known_ids(Gappy(), 6)
    assert known == Known(4, (1,))
    logits = torch.ones(2, 6)
    found = known.among(logits)
    assert found.tolist() == [[1, -torch.inf, 1, 1]] * 2
    assert found.data_ptr() == logits.data_ptr()
