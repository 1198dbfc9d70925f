"""OpenAI's own client against the server."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.serving.conftest import Running

openai = pytest.importorskip("openai", reason="the client is a test dependency")

PLAIN = {"method": "plain"}


def write(client, **asked):
    """The texts of one request, with the extra fields in `ours`."""
    ours = asked.pop("ours", {})
    asked = {"model": "tiny", "prompt": "", "max_tokens": 12, "seed": 3} | asked
    return client.completions.create(**asked, extra_body=ours)


def test_models_are_listed(client) -> None:
    listed = {each.id: each for each in client.models.list()}
    assert [*listed] == ["tiny", "labels"]
    assert listed["labels"].steer["labels"] == ["how", "why"]
    assert client.models.retrieve("tiny").id == "tiny"


def test_a_completion_is_what_the_client_expects(client) -> None:
    found = write(client, n=3, user="somebody")
    assert [each.index for each in found.choices] == [0, 1, 2]
    assert len({each.text for each in found.choices}) == 3
    assert {each.finish_reason for each in found.choices} <= {"stop", "length"}
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert found.usage.completion_tokens <= 36


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_says_what_the_whole_says(client, seed: int) -> None:
    whole = write(client, n=2, seed=seed)
    texts = ["", ""]
    ended = {}
    chunks = list(
        write(client, n=2, seed=seed, stream=True, stream_options={"include_usage": True})
    )
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        texts[choice.index] += choice.text
        ended |= {choice.index: choice.finish_reason} if choice.finish_reason else {}
    assert texts == [each.text for each in whole.choices]
    assert ended == {each.index: each.finish_reason for each in whole.choices}
    assert chunks[-1].usage == whole.usage
    assert len(chunks) > 4


def test_a_chat_is_the_expert_behind_its_prompt(client) -> None:
    asked = {"model": "tiny", "max_tokens": 12, "seed": 3}
    own = client.models.retrieve("tiny").steer["prompt"]
    expected = write(client).choices[0].text
    for content in ("", own):
        messages = [{"role": "user", "content": content}]
        found = client.chat.completions.create(messages=messages, **asked)
        assert found.choices[0].message.content == expected
    other = [{"role": "user", "content": "Write about frogs."}]
    assert client.chat.completions.create(messages=other, **asked).choices[0].message.content
    begun = [{"role": "user", "content": ""}, {"role": "assistant", "content": "Why does"}]
    stream = client.chat.completions.create(messages=begun, **asked, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == write(client, prompt="Why does").choices[0].text


def test_a_prompt_is_how_the_text_begins(client) -> None:
    own = client.models.retrieve("tiny").steer["prompt"]
    texts = {write(client, prompt=each).choices[0].text for each in ("Why", f"{own} Why")}
    assert len(texts) == 1
    echoed = write(client, prompt="Why", echo=True).choices[0].text
    assert echoed == f"Why{texts.pop()}"
    several = write(client, prompt=["Why", "How"], n=2).choices
    assert several[0].text == write(client, prompt="Why").choices[0].text
    assert several[2].text == write(client, prompt="How").choices[0].text


def test_a_text_goes_on_from_its_own_tokens(client) -> None:
    whole = write(client, ours={"trace": True}).choices[0]
    tokens = [each["id"] for each in whole.steer["tokens"]]
    rest = write(client, prompt=tokens[:4], max_tokens=8)
    begun = write(client, prompt=tokens[:4], max_tokens=8, echo=True).choices[0].text
    assert begun.lstrip(" ") == whole.text
    assert begun.endswith(rest.choices[0].text)


def test_requests_of_all_kinds_share_a_batch_and_do_not_notice(client) -> None:
    kinds = [
        {"seed": 1},
        {"seed": 2, "temperature": 0},
        {"seed": 3, "top_p": 0.5, "ours": {"gamma": 1.0, "eta": 0}},
        {"seed": 4, "ours": PLAIN},
        {"seed": 5, "ours": {"away": ["Why does a comet shine?"], "towards": ["real:3"]}},
        {"seed": 6, "model": "labels", "ours": {"label": "why"}},
        {"seed": 7, "model": "labels", "ours": {"label": "how", "method": "dexperts"}},
        {"seed": 8, "ours": {"method": "steer-min"}},
        {"seed": 9, "prompt": "How often", "ours": {"alpha": 0.1, "rho": 0.3}},
    ]
    alone = [write(client, **kind).choices[0].text for kind in kinds]
    with ThreadPoolExecutor(len(kinds)) as pool:
        together = list(pool.map(lambda kind: write(client, **kind).choices[0].text, kinds))
    assert together == alone


@pytest.mark.parametrize(
    ("ours", "method"),
    [
        ({}, "temperature"),
        ({"top_k": 7}, "temperature"),
        ({"eta": 0.4}, "steer"),
        ({"away": ["Why does a comet shine?"]}, "steer"),
        ({"kept": ["Why does a comet shine?"] * 9}, "steer"),
    ],
)
def test_without_a_method_it_is_that_of_generate(client, ours: dict, method: str) -> None:
    texts = [each.text for each in write(client, n=4, ours=ours).choices]
    same = {"temperature": [], "steer": []}
    for name, found in same.items():
        given = {key: value for key, value in ours.items() if name == "steer" or key == "top_k"}
        found += [each.text for each in write(client, n=4, ours=given | {"method": name}).choices]
    assert [name for name, found in same.items() if found == texts] == [method]


def test_a_stop_ends_the_text_before_it(client) -> None:
    whole = write(client).choices[0].text
    stop = whole[4:7]
    cut = write(client, stop=[stop, "never"]).choices[0]
    assert (cut.text, cut.finish_reason) == (whole[: whole.find(stop)], "stop")
    parts = [chunk.choices[0].text for chunk in write(client, stop=stop, stream=True)]
    assert "".join(parts) == cut.text


def test_log_probabilities_are_those_of_the_guided_distribution(client) -> None:
    found = write(client, logprobs=3, temperature=0).choices[0].logprobs
    for token, value, top in zip(
        found.tokens, found.token_logprobs, found.top_logprobs, strict=True
    ):
        assert len(top) <= 3 and value == max(top.values()) <= 0
        assert top[token] == value
    chat = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": ""}], max_tokens=12, seed=3,
        temperature=0, logprobs=True, top_logprobs=3,
    ).choices[0].logprobs.content  # fmt: skip
    assert [each.token for each in chat] == found.tokens
    assert [each.logprob for each in chat] == found.token_logprobs


def test_a_stream_tells_the_same_log_probabilities(client) -> None:
    whole = write(client, logprobs=2, n=2)
    for choice in whole.choices:
        told = [
            chunk.choices[0].logprobs
            for chunk in write(client, logprobs=2, n=2, stream=True)
            if chunk.choices[0].index == choice.index and chunk.choices[0].logprobs
        ]
        for name in ("tokens", "token_logprobs", "text_offset"):
            parts = [value for each in told for value in getattr(each, name)]
            assert parts == getattr(choice.logprobs, name)


def test_a_trace_has_the_candidates_of_every_token(client) -> None:
    ours = {"trace": True, "gamma": 1, "eta": 0.5, "alpha": 0.1}
    found = write(client, ours=ours)
    assert found.steer["streams"] == ["expert", "base", "negative"]
    assert sum(found.steer["weights"]) == pytest.approx(1)
    cut = 0
    for token in found.choices[0].steer["tokens"]:
        by_id = {each["id"]: each for each in token["candidates"]}
        assert by_id[token["id"]]["kept"]
        cut += sum(not each["kept"] for each in by_id.values())
        assert all((each["final"] is None) is not each["kept"] for each in by_id.values())
    assert cut


def test_errors_are_the_clients_own(client, server: Running) -> None:
    with pytest.raises(openai.NotFoundError, match="choose one of tiny, labels"):
        write(client, model="gpt-4")
    with pytest.raises(openai.BadRequestError, match="'logit_bias' is not supported"):
        write(client, logit_bias={"5": 1})
    with pytest.raises(openai.BadRequestError, match="a label is needed"):
        write(client, model="labels")
    with pytest.raises(openai.RateLimitError, match="come again later") as refused:
        write(client, n=64, prompt=["a", "b"])
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    server.settles()
