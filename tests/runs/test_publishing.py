"""Pushing to a Hub on this machine, by the real client library."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pyarrow.parquet
import pytest
import torch
import yaml

from steer.errors import SteerError
from steer.models.expert import Expert
from steer.runs.card import CardSettings
from steer.runs.measured import measured_table
from steer.runs.publishing import PublishSettings, publish
from steer.runs.store import Run
from tests import hubserver
from tests.runs.test_generation import run as make_run

NAME = "org/texts"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[hubserver.Hub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    with hubserver.running() as hub:
        yield hub


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def header(readme: bytes) -> dict[str, object]:
    return yaml.safe_load(readme.decode().split("---\n")[1])  # type: ignore[no-any-return]


def test_a_run_becomes_a_private_dataset(hub: hubserver.Hub, run: Run) -> None:
    card = CardSettings(license="cc-by-4.0", languages=("en",), base_license="apache-2.0")
    done = publish(run.path, NAME, PublishSettings(card=card), endpoint=hub.endpoint)
    assert done.private and done.url == f"{hub.endpoint}/datasets/{NAME}"
    files = hub.files[f"datasets/{NAME}"]
    table = pyarrow.parquet.read_table(io.BytesIO(files["data/train.parquet"]))
    assert table["text"].to_pylist() == run.texts
    said = header(files["README.md"])
    assert (said["license"], said["language"]) == ("cc-by-4.0", ["en"])
    assert said["size_categories"] == ["n<1K"] and "synthetic" in said["tags"]  # type: ignore[operator]
    huggingface_hub.DatasetCard(files["README.md"].decode()).data.to_dict()
    assert b"licence: apache-2.0" in files["README.md"]


def test_public_only_where_it_is_asked_for(hub: hubserver.Hub, run: Run) -> None:
    done = publish(run.path, NAME, PublishSettings(private=False), endpoint=hub.endpoint)
    assert not done.private


def test_what_is_there_is_asked_about(hub: hubserver.Hub, run: Run) -> None:
    publish(run.path, NAME, endpoint=hub.endpoint)
    with pytest.raises(SteerError, match=r"there already, with 2 files.*--overwrite"):
        publish(run.path, NAME, endpoint=hub.endpoint)
    assert hub.commits == 1
    asked: list[str] = []
    publish(
        run.path,
        NAME,
        PublishSettings(split=(50, 25, 25)),
        may_overwrite=lambda what: not asked.append(what),
        endpoint=hub.endpoint,
    )
    assert NAME in asked[0] and hub.commits == 2
    assert "data/test.parquet" in hub.files[f"datasets/{NAME}"]


def test_after_a_stop_large_files_are_not_sent_again(hub: hubserver.Hub, run: Run) -> None:
    hub.fail_commits = 1
    with pytest.raises(SteerError, match="refused org/texts"):
        publish(run.path, NAME, endpoint=hub.endpoint)
    assert len(hub.uploads) == 1 and not hub.commits
    publish(run.path, NAME, endpoint=hub.endpoint)
    assert len(hub.uploads) == 1 and hub.commits == 1


def test_an_expert_becomes_a_peft_repository(
    hub: hubserver.Hub, tiny_expert: Path, tiny_model: Path, tmp_path: Path
) -> None:
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForCausalLM

    with pytest.raises(SteerError, match="--base"):
        publish(tiny_expert, "org/expert", endpoint=hub.endpoint)
    assert "models/org/expert" not in hub.files
    settings = PublishSettings(base="org/tiny")
    publish(tiny_expert, "org/expert", settings, endpoint=hub.endpoint)
    files = hub.files["models/org/expert"]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert PeftConfig.from_pretrained(str(tmp_path)).base_model_name_or_path == "org/tiny"
    said = header(files["README.md"])
    assert (said["base_model"], said["library_name"]) == ("org/tiny", "peft")
    assert str(tiny_model) not in files["adapter_config.json"].decode()
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.tensor([[5, 6, 7]])
    plain = base(ids).logits
    loaded = PeftModel.from_pretrained(base, str(tmp_path))(ids).logits
    ours = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model), str(tiny_expert)
    )(ids).logits
    assert torch.equal(loaded, ours) and not torch.equal(loaded, plain)
    assert Expert.load(tmp_path).prompt == Expert.load(tiny_expert).prompt


@pytest.mark.parametrize(("status", "advice"), [(401, "hf auth login"), (403, "token")])
def test_a_refusal_says_what_to_do(hub: hubserver.Hub, run: Run, status: int, advice: str) -> None:
    hub.refuse = status
    with pytest.raises(SteerError, match=advice):
        publish(run.path, NAME, endpoint=hub.endpoint)


def test_a_hub_that_takes_large_files_in_another_way(
    hub: hubserver.Hub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one knows no Xet, by which the client sends large files where it may."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    with pytest.raises(SteerError, match="HF_HUB_DISABLE_XET=1") as error:
        publish(run.path, NAME, endpoint=hub.endpoint)
    assert "\n" not in str(error.value)


def test_no_hub(hub: hubserver.Hub, run: Run) -> None:
    with pytest.raises(SteerError, match="cannot be reached"):
        publish(run.path, NAME, endpoint="http://127.0.0.1:9")


def test_the_measured_table(tmp_path: Path) -> None:
    columns = [
        {"key": "a", "title": "A", "format": ".1%", "aim": "lower"},
        {"key": "b", "title": "B", "aim": "as real"},  # an older one, which had no formats
    ]
    nothing = {"value": None}
    rows = [
        {"name": "run", "a": {"value": 0.5, "low": 0.4, "high": 0.6}, "b": {"value": 2}},
        {"name": "real", "a": {"value": 0.25, "low": None, "high": None}, "b": nothing},
    ]
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"n": 9, "embedder": "e", "columns": columns, "rows": rows}))
    lines = measured_table(path).splitlines()
    assert lines[0].startswith("9 texts of each set")
    assert lines[2:] == [
        "| metric | run | real | better |",
        "|---|---:|---:|---|",
        "| A | 50.0% ±10.0% | 25.0% | lower |",
        "| B | 2.000 | - | as real |",
    ]
