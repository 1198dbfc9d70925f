"""What a server refuses, and what it does when clients and engines go away."""

import asyncio
import json
import random
import socket
import threading
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest

from steer.cli.main import main
from steer.data.characters import find_control
from steer.data.corpus import Corpus
from steer.engines.hf.live import Live
from steer.errors import SteerError
from steer.models.embedder import Embedder
from steer.models.expert import Expert
from steer.runs.lineage import lineage
from steer.runs.pool import Example
from steer.runs.store import Run, Stream
from steer.serving.bodies import BODIES
from steer.serving.experts import Served
from steer.serving.plane import Plane
from steer.serving.server import load
from steer.serving.settings import ServeSettings
from tests import tiny
from tests.serving.conftest import CLIENT, Running, WordModel, running, spec, until

ASKED = {"model": "tiny", "max_tokens": 8, "seed": 1}
ENDLESS = {"structured_outputs": {"regex": "[ab]{9999}"}}
READABLE = ASKED | {"structured_outputs": {"regex": "[a-z]{3,20}"}}


@pytest.mark.parametrize(
    ("changed", "param", "says"),
    [
        ({"tools": [{"type": "function"}]}, "tools", "'tools' is not supported"),
        ({"gama": 1}, "gama", "gamma"),
        ({"method": "x" * 300}, "method", "at most 200"),
        ({"gamma": -1}, "gamma", "greater than or equal to 0"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"max_tokens": 1000}, None, "the longest is 512"),
        ({"prompt": "Why " * 400}, None, "the longest is 512"),
        ({"prompt": [1, 99999]}, "prompt", "no token 99999"),
        ({"temperature": "hot"}, "temperature", "number"),
        ({"method": "sharp"}, None, "no method 'sharp'"),
        ({"method": "beam"}, "method", "searches"),
        ({"method": "steer-crowded"}, "away", "give the texts in away"),
        ({"method": "dexperts"}, None, "needs labels"),
        ({"label": "how"}, None, "there are none"),
        ({"away": ["a"], "eta": 0}, "away", "eta is 0"),
        ({"towards": ["a"], "rho": 0}, "towards", "rho is 0"),
        ({"away": ["", " "]}, "away", "every text is blank"),
        ({"towards": [""]}, "towards", "every text is blank"),
        ({"away": ["real:200"]}, "away", "no real text 'real:200'"),
        ({"away": ["x" * 5000]}, None, "the longest context"),
        ({"label": "\ud800"}, "label", "string"),
        ({"model": "\ud800"}, "model", "string"),
    ],
)
def test_mistakes_are_named(server: Running, changed: dict, param: str | None, says: str) -> None:
    found = server.send(json.dumps(ASKED | changed))
    error = found.json()["error"]
    assert found.status_code == 400, error
    assert error["type"] == "invalid_request_error"
    assert (error["param"], says in error["message"]) == (param, True), error


def test_what_asks_for_nothing_is_allowed(server: Running) -> None:
    neutral = {"tools": [], "frequency_penalty": 0, "logit_bias": None, "best_of": 1, "user": "u"}
    assert server.post(**ASKED, **neutral).status_code == 200


HOSTILE = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b'"model"',
    b"\xff\xfe",
    b'{"model": NaN}',
    b'{"model": "tiny", "temperature": 1e999}',
    b'{"model": "tiny", "seed": ' + b"9" * 5000 + b"}",
    b'{"model": "tiny", "prompt": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"model": "tiny", "stop": {"a": 1}}',
    b'{"model": "tiny", "away": [[]]}',
    b'{"model": ["tiny"]}',
    b'{"__proto__": {}, "model": "tiny"}',
    b'{"model": "../../etc/passwd"}',
    b'{"model": "tiny", "stream_options": 7}',
)


@pytest.mark.parametrize("path", BODIES)
def test_hostile_bodies_are_refused_and_nothing_is_told(server: Running, path: str) -> None:
    for body in HOSTILE:
        found = server.send(body, path)
        assert 400 <= found.status_code < 500, (body[:60], found.text)
        assert set(found.json()["error"]) == {"message", "type", "param", "code"}
        assert "Traceback" not in found.text and "/steer/" not in found.text
        assert len(found.text) < 2500


def test_random_bodies_never_break_the_server(server: Running) -> None:
    draw = random.Random(0)
    values = [None, -1, 0, 1, 2.5, "", "x", "real:0", [], ["x"], {}, True, [1], 1e308, "\x00"]
    schema = server.get("/openapi.json").json()["components"]["schemas"]
    for name, path in (("CompletionBody", "/v1/completions"), ("ChatBody", "/v1/chat/completions")):
        fields = [*schema[name]["properties"]]
        for _ in range(60):
            some = {each: draw.choice(values) for each in draw.sample(fields, 3)}
            basis = {"messages": [{"role": "user", "content": ""}]} if "Chat" in name else {}
            found = server.post(path, **basis | {"model": "tiny", "max_tokens": 2} | some)
            assert found.status_code < 500, (some, found.text)
    server.settles()


def test_other_kinds_of_request_are_refused(server: Running) -> None:
    form = httpx2.post(f"{server.address}/v1/completions", content=json.dumps(ASKED))
    assert form.status_code == 415
    assert server.get("/v1/nothing").json()["error"]["type"] == "not_found_error"
    assert server.get("/v1/completions").status_code == 405
    assert server.get("/health", host="evil.example").status_code == 421
    assert server.get("/health").json() == {"status": "ok"}
    assert server.get("/static/../app.py").status_code == 404
    assert server.get("/v1/models/gone").status_code == 404
    big = server.send(b" " * (1 << 20) + b"{}")
    assert big.status_code == 413


def test_the_page_forbids_every_foreign_request(server: Running) -> None:
    found = server.get("/")
    assert found.headers["content-type"].startswith("text/html")
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "frame-ancestors 'none'" in policy


def test_a_client_that_goes_away_frees_its_rows(server: Running) -> None:
    tokens = server.metric("steer_tokens_total")
    body = ASKED | ENDLESS | {"max_tokens": 480, "n": 8, "method": "plain"}
    with httpx2.stream(
        "POST", f"{server.address}/v1/completions", json=body | {"stream": True}
    ) as stream:
        next(stream.iter_bytes())
    server.settles()
    half = httpx2.Client()
    with pytest.raises(httpx2.TimeoutException):
        half.post(f"{server.address}/v1/completions", json=body, timeout=0.3)
    half.close()
    server.settles()
    assert server.metric("steer_tokens_total") - tokens < 2 * 8 * 480
    assert server.post(**ASKED).status_code == 200


def test_a_client_that_goes_away_before_its_first_token_leaves_the_queue(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("steer.engines.hf.live.Live._has_room", lambda *_: time.sleep(0.01))
        for stream in (False, True):
            with httpx2.Client() as client, pytest.raises(httpx2.TimeoutException):
                body = ASKED | {"stream": stream}
                client.post(f"{server.address}/v1/completions", json=body, timeout=0.5)
            server.settles()
    assert server.post(**ASKED).status_code == 200


def test_a_broken_body_is_no_error_of_the_server(server: Running) -> None:
    address = server.address.removeprefix("http://").split(":")
    for sent in (b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n", b"\x00\xff\r\n\r\n"):
        with socket.create_connection((address[0], int(address[1]))) as raw:
            raw.sendall(sent)
    with socket.create_connection((address[0], int(address[1]))) as raw:
        raw.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
        )
    assert server.post(**ASKED).status_code == 200


def test_judged_texts_become_a_run(server: Running, served: list[Served]) -> None:
    found = server.post(**READABLE | {"n": 3}).json()
    ids = [f"{found['id']}/{each['index']}" for each in found["choices"]]
    verdicts = dict(zip(ids, ("keep", "reject", "keep"), strict=True))
    saved = server.post("/steer/runs", name="by-hand", verdicts=verdicts)
    assert saved.json() == {"name": "by-hand", "records": 2}
    assert server.saved
    run = Run.open(server.saved / "by-hand")
    assert run.complete and run.reasons == {"by hand": 1}
    texts = [choice["text"] for choice in found["choices"]]
    assert run.texts == [served[0].task.record(texts[row]) for row in (0, 2)]
    assert main(["show", str(server.saved / "by-hand")]) == 0
    again = server.post("/steer/runs", name="by-hand", verdicts=verdicts)
    assert again.status_code == 409
    for name in ("../up", "", "a/b", ".hidden"):
        assert server.post("/steer/runs", name=name, verdicts=verdicts).status_code == 400
    lost = server.post("/steer/runs", name="lost", verdicts={"cmpl-1/0": "keep"})
    assert lost.status_code == 404


def test_real_texts_are_listed_for_the_page(server: Running) -> None:
    found = server.get("/steer/texts?model=labels").json()
    assert found["of"] == len(found["texts"]) == 200
    assert found["texts"][7]["id"] == "real:7"
    assert found["texts"][7]["label"] in ("how", "why")


def test_real_texts_have_a_place_on_the_map(server: Running) -> None:
    until(lambda: server.get("/steer/map").json()["points"] is not None, 60)
    found = server.get("/steer/map").json()
    assert found["done"] == found["of"] == len(found["points"]) == 200
    assert 0 < found["share"] <= 1 and found["method"] == "PCA"
    texts = ["real:7", tiny.TEXTS[7], "Nothing like it"]
    own, same, other = server.post("/steer/nearest", texts=texts).json()["texts"]
    assert own["point"] == same["point"] == pytest.approx(found["points"][7], abs=2e-4)
    # A real text is not the nearest to itself; one that is written like it is.
    assert own["nearest"] != "real:7" and same["nearest"] == "real:7"
    assert same["cosine"] == pytest.approx(1, abs=1e-3) and other["cosine"] < 1
    assert same["marks"] == ["2" * len(tiny.TEXTS[7].split())] * 2
    assert server.post("/steer/nearest", texts=["real:999"]).status_code == 400
    assert server.post("/steer/nearest", texts=[]).status_code == 400


def test_the_map_is_by_umap_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, fake_umap: list[Any]
) -> None:
    monkeypatch.setattr("steer.serving.plane.find_spec", lambda name: name)
    plane = Plane(tiny.TEXTS[:40], None)
    until(lambda: plane.describe()["points"] is not None)
    found = plane.describe()
    rows = Embedder("stub", WordModel()).embed(tiny.TEXTS[:40])
    assert found["method"] == "UMAP" and found["points"] == rows[:, :2].round(4).tolist()
    texts = [Example("real:7", tiny.TEXTS[7]), Example("", tiny.TEXTS[7])]
    own, other = asyncio.run(plane.nearest(texts))
    assert own["point"] == found["points"][7]
    assert other["point"] == rows[7, 2:4].round(4).tolist()
    few = Plane(tiny.TEXTS[:20], None)
    until(lambda: few.describe()["points"] is not None)
    assert few.describe()["method"] == "PCA"
    assert [each["random_state"] for each in fake_umap] == [0]


def test_streams_are_told_and_nothing_is_written(server: Running) -> None:
    tokens = server.metric("steer_tokens_total")
    asked = ASKED | {"away": ["real:3", "Another text."], "gamma": 0.5, "eta": 0.2}
    streams = server.post("/steer/streams", **asked).json()["streams"]
    assert [each["name"] for each in streams] == ["expert", "base", "negative"]
    assert [each["adapter"] for each in streams] == [True, False, True]
    assert streams[2]["texts"] == [f" {tiny.TEXTS[3]}", " Another text."]
    assert sum(each["weight"] for each in streams) == pytest.approx(1)
    assert server.metric("steer_tokens_total") == tokens


def test_kept_texts_join_the_pool_of_their_request(server: Running) -> None:
    found = server.post(**ASKED | {"n": 3}).json()
    ids = [f"{found['id']}/{each['index']}" for each in found["choices"]]
    kept = [*ids[:2], *(f"Kept text {number}." for number in range(200))]
    asked = ASKED | {"gamma": 0, "eta": 0.5, "n": 1, "kept": kept}
    drawn = [
        server.post("/steer/streams", **asked | {"seed": seed}).json()["streams"][-1]["texts"]
        for seed in range(12)
    ]
    texts = {text.strip() for panel in drawn for text in panel}
    known = {*tiny.TEXTS, *kept, *(each["text"].strip() for each in found["choices"][:2])}
    # Of 402 texts half are kept; panels are shared, and the seed chooses one.
    assert texts <= known and 0.25 < len(texts - {*tiny.TEXTS}) / len(texts) < 0.75
    assert len({tuple(panel) for panel in drawn}) <= 8
    once, again = (server.post(**asked).json()["choices"] for _ in range(2))
    assert once == again
    lost = server.post(**asked | {"kept": [f"cmpl-{'0' * 24}/0"]})
    assert lost.status_code == 404 and lost.json()["error"]["param"] == "kept"


def test_a_saved_run_says_which_kept_text_a_panel_held(server: Running) -> None:
    first = server.post(**READABLE).json()
    id = f"{first['id']}/0"
    asked = READABLE | {"gamma": 0, "eta": 0.5, "away": [id, "real:5"]}
    second = server.post(**asked).json()
    verdicts = {id: "keep", f"{second['id']}/0": "keep"}
    assert server.post("/steer/runs", name="lineage", verdicts=verdicts).status_code == 200
    assert server.saved
    run = Run.open(server.saved / "lineage")
    assert run.records[1].panel == ("rec:0", "real:5")
    assert "1 of 2 records had it" in lineage(Stream.open(run.path), "rec:0")[1]


def test_a_text_that_no_reader_takes_is_not_saved(server: Running) -> None:
    """A model of random weights writes control characters soon enough."""
    written = server.post(**ASKED | {"n": 64}).json()
    index, found = next(
        (each["index"], character)
        for each in written["choices"]
        if (character := find_control(" ".join(each["text"].split())))
    )
    verdicts = {f"{written['id']}/{index}": "keep"}
    answer = server.post("/steer/runs", name="unreadable", verdicts=verdicts)
    assert answer.status_code == 400 and f"U+{ord(found):04X}" in answer.text
    assert server.saved and not (server.saved / "unreadable").exists()


def test_what_is_saved_is_read_by_other_commands(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = server.post(**READABLE | {"n": 12}).json()
    verdicts = {f"{found['id']}/{each['index']}": "keep" for each in found["choices"]}
    assert server.post("/steer/runs", name="read", verdicts=verdicts).status_code == 200
    assert server.saved
    run, real = str(server.saved / "read"), tmp_path / "real.jsonl"
    real.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny.TEXTS))
    monkeypatch.setattr(
        "steer.report.report.load_embedder", lambda name, cache: Embedder("stub", WordModel())
    )
    assert main(["show", run]) == 0
    assert main(["export", run, str(tmp_path / "texts.jsonl")]) == 0
    assert len((tmp_path / "texts.jsonl").read_text().splitlines()) == 12
    assert main(["report", run, "--real", str(real), "--out", str(tmp_path / "page.html")]) == 0


def test_experts_of_one_base_share_an_engine(served: list[Served], tiny_label_expert: Path) -> None:
    tiny_one, labels = served
    assert tiny_one.engine is labels.engine and tiny_one.batch == labels.batch
    (alone,) = load([Expert.load(tiny_label_expert)], labels.real, ServeSettings(), spec)
    asked = {"model": "labels", "label": "why", "max_tokens": 12, "seed": 1, "trace": True}
    texts = []
    for experts in (served, [alone]):
        with running(experts, ServeSettings()) as server:
            texts.append(server.post(**asked).json()["choices"])
    assert texts[0][0]["text"] == texts[1][0]["text"]


def test_a_key_is_asked_for_everywhere_but_at_the_door(served: list[Served]) -> None:
    with running(served, ServeSettings(api_key="sésame")) as server:
        for path in ("/v1/models", "/metrics", "/steer/texts?model=tiny", "/openapi.json"):
            assert server.get(path).status_code == 401
            assert server.get(path, authorization="Bearer wrong").status_code == 401
            right = "Bearer sésame".encode()
            found = CLIENT.get(f"{server.address}{path}", headers={"authorization": right})
            assert found.status_code == 200
        assert server.post(**ASKED).json()["error"]["code"] == "invalid_api_key"
        assert server.get("/").status_code == server.get("/health").status_code == 200


def test_a_request_that_takes_too_long_is_ended(served: list[Served]) -> None:
    with running(served, ServeSettings(timeout=0.4)) as server:
        body = ASKED | ENDLESS | {"max_tokens": 400, "n": 8, "method": "plain"}
        found = server.post(**body)
        assert found.status_code == 504
        assert found.json()["error"]["type"] == "timeout_error"
        stream = server.post(**body, stream=True).text
        assert '"timeout_error"' in stream and stream.endswith("data: [DONE]\n\n")
        server.settles()


def test_a_stop_ends_what_runs(served: list[Served]) -> None:
    with running(served, ServeSettings()) as server:
        body = ASKED | {"max_tokens": 60, "temperature": 2}
        found: list[httpx2.Response] = []
        asking = threading.Thread(target=lambda: found.append(server.post(**body)))
        asking.start()
        until(lambda: server.metric("steer_rows ") > 0)
        server.server.should_exit = True
        asking.join(timeout=30)
    assert found[0].status_code == 200 and found[0].json()["choices"][0]["finish_reason"]


def test_an_engine_that_fails_refuses_its_requests_and_goes_on(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("steer.engines.hf.live.LiveBatch.step", _broken)
        found = server.post(**ASKED)
        assert found.status_code == 500 and "secret" not in found.text
        assert '"server_error"' in server.post(**ASKED, stream=True).text
    assert server.post(**ASKED).status_code == 200


def _broken(batch):
    raise RuntimeError("secret path /home/somebody")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org"])
def test_others_are_served_with_a_key_only(host: str) -> None:
    with pytest.raises(SteerError, match="--api-key"):
        ServeSettings(host=host).require_key()
    ServeSettings(host=host, api_key="k").require_key()


def test_this_machine_needs_no_key() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.0.0.9"):
        ServeSettings(host=host).require_key()


def test_experts_of_one_name_are_refused(served: list[Served]) -> None:
    expert = served[0].expert
    with pytest.raises(SteerError, match="two experts are called 'tiny'"):
        load([expert, expert], served[0].real, ServeSettings(), spec)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_the_vllm_engine_says_what_is_missing(served: list[Served]) -> None:
    expert, real = served[0].expert, served[0].real
    with pytest.raises(SteerError, match="needs vLLM, which is not installed; run: pip install"):
        load([expert], real, ServeSettings(), lambda each: replace(spec(each), name="vllm"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0"], "--api-key"),
        (["--port", "99999"], "port"),
        (["--queue", "0"], "queue"),
    ],
)
def test_the_command_says_what_is_wrong(
    tiny_expert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options, says
) -> None:
    real = tmp_path / "real.txt"
    real.write_text("one\ntwo\n")
    assert main(["serve", str(tiny_expert), "--real", str(real), *options]) == 2
    assert says in capsys.readouterr().err


def test_an_engine_has_written_before_a_client_can_ask(
    tiny_expert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote, step = [], Live.step
    monkeypatch.setattr(Live, "step", lambda live: wrote.extend(found := step(live)) or found)
    load([Expert.load(tiny_expert)], Corpus.of(tiny.TEXTS), ServeSettings(), spec)
    assert wrote and wrote[-1].finish
