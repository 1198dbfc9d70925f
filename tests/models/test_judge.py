import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from steer.data.corpus import Corpus
from steer.errors import SteerError
from steer.models.base import load_model
from steer.models.cache import Cache
from steer.models.examples import encode
from steer.models.expert import Expert
from steer.models.judge import load_judge
from steer.models.layouts import Padded, completion_loss
from steer.models.readings import RARE, Readings
from tests import tiny

TEXTS = list(tiny.TEXTS[:6])


def test_an_expert_reads_as_it_was_fitted(tiny_expert: Path) -> None:
    from peft import PeftModel

    judge = load_judge(str(tiny_expert))
    assert judge.name == str(tiny_expert)
    assert judge.ends and judge.task is not None and judge.task.prompt == tiny.PROMPT
    expert = Expert.load(tiny_expert)
    fitted = PeftModel.from_pretrained(load_model(expert.base, "float32"), str(tiny_expert))
    examples = encode(Corpus(tuple(TEXTS), None, ""), expert.task, judge.tokenizer)
    for example, text in zip(examples, TEXTS, strict=True):
        read = Padded(pad=0).lay_out([example])
        with torch.no_grad():
            loss = completion_loss(fitted, read) / len(read.targets)
        found = replace(judge, model=judge.model.float()).read([text]).mean
        assert found[0] == pytest.approx(-loss.item(), abs=0.02)  # the judge is bf16 on some CPUs


def test_an_expert_with_labels_reads_the_prompt_for_each(tiny_label_expert: Path) -> None:
    judge = load_judge(str(tiny_label_expert))
    found = [judge.read(TEXTS, [label] * 6).mean for label in ("how", "why")]
    assert not np.allclose(*found, atol=1e-3)


def test_any_other_model_reads_after_the_prompt_or_nothing(tiny_model: Path) -> None:
    bare, prompted = load_judge(str(tiny_model)), load_judge(str(tiny_model), "Question:")
    assert bare.task is None and not bare.ends
    assert prompted.task is not None and prompted.task.prompt == "Question:"
    assert not np.allclose(bare.read(TEXTS).mean, prompted.read(TEXTS).mean)
    assert bare.fingerprint == prompted.fingerprint


def test_a_prompt_may_hold_the_label(tiny_model: Path) -> None:
    judge = load_judge(str(tiny_model), tiny.LABEL_PROMPT, ["why", "how", "why"])
    assert judge.task is not None and judge.task.labels == ("how", "why")


def test_the_cache_is_used(tiny_expert: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache.sqlite")
    found = load_judge(str(tiny_expert), cache=cache).read(TEXTS).mean
    assert cache.kinds()["reading"][0] == len(TEXTS)
    assert (load_judge(str(tiny_expert), cache=cache).read(TEXTS).mean == found).all()


def test_readings_are_picked_in_the_order_that_is_asked_for(tiny_model: Path) -> None:
    read = load_judge(str(tiny_model)).read(TEXTS)
    assert read.table.shape == (6, 5)
    picked = read.pick([3, 0, 3])
    assert isinstance(picked, Readings)
    assert (picked.table == read.table[[3, 0, 3]]).all()
    assert (picked.mean == read.mean[[3, 0, 3]]).all()
    assert read.pick([]).table.shape == (0, 5)


def test_figures_stand_in_the_order_of_the_fields(tiny_model: Path) -> None:
    read = load_judge(str(tiny_model)).read(TEXTS)
    tokens, mean, sd, minimum, rare = read.table.T
    assert (tokens == read.tokens).all() and (sd == read.sd).all()
    assert (minimum <= mean).all() and (minimum < RARE).tolist() == (rare > 0).tolist()


def test_a_judge_of_the_same_base_model_is_a_sibling(
    tiny_model: Path, tiny_expert: Path, tmp_path: Path
) -> None:
    other = tiny.save_tiny_model(tmp_path / "other", seed=1)
    expert, bare, outside = (load_judge(str(path)) for path in (tiny_expert, tiny_model, other))
    for base, siblings in (
        (str(tiny_model), [True, True, False]),
        (str(other), [False, False, True]),
        (None, [True, False, False]),  # an expert may be one: nothing is known of the texts
    ):
        assert [judge.is_sibling(base) for judge in (expert, bare, outside)] == siblings
    copied = shutil.copytree(tiny_model, tmp_path / "copied")
    assert expert.is_sibling(str(copied))


def test_experts_have_different_fingerprints(tiny_expert: Path, tiny_label_expert: Path) -> None:
    judges = [load_judge(str(path)) for path in (tiny_expert, tiny_label_expert)]
    assert judges[0].fingerprint != judges[1].fingerprint


def test_an_expert_of_another_base_is_refused(tiny_expert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_expert, tmp_path / "expert")
    card = json.loads((folder / "expert.json").read_text())
    (folder / "expert.json").write_text(json.dumps(card | {"base_fingerprint": "0" * 16}))
    with pytest.raises(SteerError, match="another version of") as caught:
        load_judge(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["/no/such/judge", "no-one/no-model"])
def test_an_unknown_judge_is_one_clear_line(name: str) -> None:
    with pytest.raises(SteerError, match=name) as caught:
        load_judge(name)
    assert "\n" not in str(caught.value)
