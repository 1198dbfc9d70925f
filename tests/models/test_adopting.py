"""A LoRA that somebody else fitted becomes an expert that is steered."""

import shutil
from pathlib import Path

import pytest

from steer.config import RunConfig
from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.engines.hf.engine import HFEngine
from steer.errors import SteerError
from steer.models.adopting import adopt
from steer.models.expert import Expert
from steer.runs.generation import generate
from tests import tiny


@pytest.fixture
def adapter(tiny_expert: Path, tmp_path: Path) -> Path:
    """The adapter as plain PEFT keeps it, without a card of steer."""
    folder = tmp_path / "adapter"
    shutil.copytree(tiny_expert, folder, ignore=shutil.ignore_patterns("expert.json"))
    return folder


def test_it_generates_as_the_expert_it_was(
    adapter: Path, tiny_expert: Path, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    fitted = Expert.load(tiny_expert)
    made = adopt(adapter, Task(tiny.PROMPT), tmp_path / "adopted", max_new_tokens=20)
    adopted = Expert.load(tmp_path / "adopted")
    assert adopted == made
    assert adopted.adapter_fingerprint == fitted.adapter_fingerprint
    assert adopted.base_fingerprint == fitted.base_fingerprint
    assert (adopted.max_completion_tokens, adopted.trained_on) == (20, 0)
    # Of an adopted one it is not known where the real texts end.
    assert not adopted.end_bias and fitted.end_bias
    config = RunConfig(n=4, max_attempts=4, min_chars=0, end_bias=False)
    runs = [
        generate(config, tiny_corpus, each, HFEngine(each.base, each.path), tmp_path / name)
        for name, each in (("a", adopted), ("b", fitted.model_copy(update={"max_new_tokens": 20})))
    ]
    texts = [[each.text for each in (*made.records, *made.rejects)] for made in runs]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged"),
        ('{"peft_type": "LORA"}', "damaged"),
        ('{"peft_type": "IA3", "r": 4}', "only LoRA"),
        ('{"peft_type": "LORA", "r": 4}', "--base"),
    ],
)
def test_what_cannot_be_adopted(adapter: Path, tmp_path: Path, content: str, message: str) -> None:
    (adapter / "adapter_config.json").write_text(content)
    with pytest.raises(SteerError, match=message):
        adopt(adapter, Task("Write:"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
