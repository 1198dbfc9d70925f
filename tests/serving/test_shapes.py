"""Experts of records with a shape, experts of chats, and shapes that a request asks for."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from steer.config import Sampling
from steer.data.corpus import Corpus
from steer.engines.interface import Request
from steer.errors import SteerError
from steer.guidance import Stream
from steer.models.expert import CARD, Expert
from steer.models.prompts import render_chat
from steer.runs.asking import Questions
from steer.runs.store import Run
from steer.seeds import derive
from steer.serving.experts import Served
from steer.serving.fields import LONGEST_SHAPE
from steer.serving.server import load
from steer.serving.settings import ServeSettings
from tests import tiny
from tests.serving.conftest import Running, running, spec

openai = pytest.importorskip("openai", reason="the client is a test dependency")

PATTERN = r"Why (does|is) [a-z ]{3,12}[?]"
REAL = Corpus.of_rows(
    [
        {
            "messages": [
                {"role": "user", "content": f"Question {number}?"},
                {"role": "assistant", "content": text},
            ]
        }
        for number, text in enumerate(tiny.TEXTS[:40])
    ]
)


class Ticket(BaseModel):
    """What OpenAI's client makes a schema of, and reads the answer as."""

    open: bool
    kind: str | None


def adapted(expert: Path, name: str, **changed: object) -> Expert:
    """The same adapter under another card."""
    folder = expert.parent / name
    shutil.copytree(expert, folder)
    card = json.loads((folder / CARD).read_text()) | changed
    (folder / CARD).write_text(json.dumps(card))
    return Expert.load(folder)


@pytest.fixture(scope="module")
def served(tiny_expert: Path) -> list[Served]:
    experts = [
        Expert.load(tiny_expert),
        adapted(tiny_expert, "shaped", shape={"kind": "regex", "source": PATTERN}),
        adapted(tiny_expert, "chats", prompt="{chat}"),
        adapted(tiny_expert, "ending", end_bias=[[0, -99.0], [4, 99.0]]),
    ]
    return load(experts, REAL, ServeSettings(), spec)


@pytest.fixture(scope="module")
def server(served: list[Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(served, ServeSettings(save=tmp_path_factory.mktemp("saved"))) as found:
        yield found


def texts(client, **asked) -> list[str]:
    """Texts that ended by themselves."""
    asked = {"prompt": "", "max_tokens": 60, "seed": 1, "n": 6} | asked
    found = client.completions.create(**asked).choices
    return [each.text for each in found if each.finish_reason == "stop"]


def test_records_of_an_expert_have_its_shape(client) -> None:
    found = texts(client, model="shaped")
    assert len(found) >= 4 and all(re.fullmatch(PATTERN, each) for each in found)
    begun = texts(client, model="shaped", prompt="Why is")
    assert begun and all(re.fullmatch(PATTERN, f"Why is{each}") for each in begun)
    with pytest.raises(openai.BadRequestError, match="no record of that regex begins so"):
        texts(client, model="shaped", prompt="How")
    assert client.models.retrieve("shaped").steer["shape"] == "regex"


def test_records_of_an_expert_end_as_it_has_it(client) -> None:
    """But not those of a shape, which ends them."""
    made = client.completions.create(model="ending", prompt="", max_tokens=60, n=3)
    assert made.usage.completion_tokens == 3 * 5
    assert {each.finish_reason for each in made.choices} == {"stop"}
    choice = {"structured_outputs": {"choice": ["yes", "no"]}}
    assert set(texts(client, model="ending", extra_body=choice)) <= {"yes", "no"}


def test_openais_client_parses_what_it_asked_for(client) -> None:
    asked = {"max_tokens": 80, "temperature": 0.3, "seed": 2}
    message = {"role": "user", "content": ""}
    found = client.chat.completions.parse(
        model="tiny", messages=[message], response_format=Ticket, **asked
    )
    assert isinstance(found.choices[0].message.parsed, Ticket)


@pytest.mark.parametrize(
    ("asked", "pattern"),
    [
        ({"structured_outputs": {"regex": "[ab]{3}"}}, "[ab]{3}"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
        ({"structured_outputs": {"json": {"enum": [1, "é"]}}}, '1|"é"'),
        ({"structured_outputs": {"grammar": 'start: "a" | "bc"'}}, "a|bc"),
        ({"response_format": {"type": "text"}}, ".*"),
    ],
)
def test_a_request_may_say_what_a_text_is(client, asked: dict, pattern: str) -> None:
    found = texts(client, model="tiny", extra_body=asked)
    assert found and all(re.fullmatch(pattern, each, re.DOTALL) for each in found)


def test_requests_of_several_shapes_share_a_batch(client) -> None:
    kinds = [{"structured_outputs": {"regex": f"[a-z]{{{size}}}"}} for size in range(2, 7)]
    streams = [
        client.completions.create(
            model="tiny", prompt="", max_tokens=30, seed=1, stream=True, extra_body=kind
        )
        for kind in kinds
    ]
    found = ["".join(chunk.choices[0].text for chunk in stream) for stream in streams]
    assert [len(each) for each in found] == [2, 3, 4, 5, 6]
    assert found == [texts(client, model="tiny", n=1, extra_body=kind)[0] for kind in kinds]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("response_format", {"type": "json_schema"}, "json_schema is missing"),
        ("response_format.type", {"type": "xml"}, "json_schema"),
        ("structured_outputs", {}, "give one of json, regex, choice and grammar"),
        ("structured_outputs", {"regex": "a", "choice": ["b"]}, "give one of"),
        ("structured_outputs", {"regex": "(?=x)a"}, "look-around"),
        ("structured_outputs", {"regex": "a" * (LONGEST_SHAPE + 1)}, "characters"),
        ("structured_outputs", {"choice": ["a", "a"]}, "different texts"),
        ("structured_outputs", {"json": "{"}, "no valid JSON"),
        ("structured_outputs", {"json": {"const": "\ud800"}}, "allows no record"),
        ("structured_outputs", {"grammar": "start: nothing"}, "unknown name"),
        ("guided_json", {"type": "object"}, "structured_outputs"),
    ],
)
def test_a_shape_that_cannot_be_is_an_error_that_names_its_field(
    server: Running, field: str, value: object, says: str
) -> None:
    body = {"model": "tiny", "max_tokens": 4, field.split(".")[0]: value}
    found = server.send(json.dumps(body))
    error = found.json()["error"]
    assert found.status_code == 400 and error["param"] == field, error
    assert says in error["message"] and len(error["message"]) < 1500


def test_nested_schemas_are_no_error_of_the_server(server: Running) -> None:
    for depth in (100, 400, 5000):
        schema = '{"items":' * depth + "{}" + "}" * depth
        body = f'{{"model": "tiny", "max_tokens": 2, "structured_outputs": {{"json": {schema}}}}}'
        assert server.send(body).status_code in (200, 400)


def test_messages_are_what_an_expert_of_chats_answers(client, served: list[Served]) -> None:
    said = [("system", "Be brief."), ("user", "Why?"), ("assistant", "How?"), ("user", "So?")]
    messages = [{"role": role, "content": text} for role, text in said]
    asked = {"model": "chats", "max_tokens": 12, "seed": 3, "extra_body": {"method": "plain"}}
    found = client.chat.completions.create(messages=messages, **asked)
    engine = served[0].engine
    read = Stream("expert", 1.0, True, render_chat(engine.tokenizer, tuple(said)))
    bias = served[0].expert.end_bias
    request = Request(0, (read,), derive(3, "record", 0), end_bias=bias)
    expected = engine.generate([request], Sampling(max_new_tokens=12))[0].text
    assert found.choices[0].message.content == expected
    begun = [*messages, {"role": "assistant", "content": expected[:5]}]
    assert client.chat.completions.create(messages=begun, **asked).choices[0].message.content


def test_a_completion_of_chats_answers_the_real_one_that_a_run_would(
    server: Running, served: list[Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A model of random weights writes control characters, which are not saved.
    monkeypatch.setattr("steer.serving.recent.find_control", lambda text: None)
    questions = Questions(served[2].task, REAL, served[2].chats, False)
    expected = [questions.of(None, 5, number) for number in range(4)]
    asked = {"model": "chats", "max_tokens": 8, "seed": 5, "panel_size": 2, "eta": 0.5}
    found = server.post(**asked, n=4).json()
    assert found["steer"]["asked"] == [each.id for each in expected]
    streams = server.post("/steer/streams", **asked, away=["real:3", "Away."]).json()["streams"]
    assert {each["prompt"] for each in streams} == {expected[0].prompt}
    assert streams[-1]["texts"] == [tiny.TEXTS[3], "Away."]
    name = {"name": "chats", "verdicts": {f"{found['id']}/2": "keep"}}
    assert server.post("/steer/runs", **name).status_code == 200
    (record,) = Run.open((server.saved or Path()) / "chats").records
    assert (record.asked, record.turns) == (expected[2].id, expected[2].turns)


def test_a_kept_text_without_the_shape_is_not_saved(server: Running) -> None:
    found = server.post(model="shaped", max_tokens=2, seed=1).json()
    verdicts = {f"{found['id']}/0": "keep"}
    refused = server.post("/steer/runs", name="cut", verdicts=verdicts)
    assert refused.status_code == 400 and "has not the shape" in refused.text


def test_an_expert_of_chats_needs_real_chats(tiny_expert: Path) -> None:
    chats = Expert.load(tiny_expert).model_copy(update={"prompt": "{chat}"})
    with pytest.raises(SteerError, match="no turn comes before"):
        load([chats], Corpus.of(tiny.TEXTS), ServeSettings(), spec)
