"""Hostile requests from the server's own OpenAPI page: needs the package schemathesis."""

import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from steer.serving.bodies import BODIES
from tests.serving.conftest import Running

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import requests

EACH = 500 // len(BODIES)
PLAIN = {
    "/v1/models": 10,
    "/v1/models/{name}": EACH,
    "/steer/texts": EACH,
    "/steer/map": 10,
    "/health": 10,
    "/metrics": 10,
}
"""Paths without a body, and how many requests to each."""

QUICK = {"model": "tiny", "max_tokens": 2, "max_completion_tokens": 2, "n": 1}
"""Fields that let a body get as far as the engine, which then has little to write."""


def test_every_path_is_sent_requests(server: Running) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    assert set(paths) == {*BODIES, *PLAIN}
    assert {path for path, kinds in paths.items() if "post" in kinds} == set(BODIES)


@pytest.mark.parametrize("path", [*BODIES, *PLAIN])
def test_no_request_is_an_error_of_the_server(server: Running, path: str) -> None:
    schema = schemathesis.openapi.from_dict(server.get("/openapi.json").json())
    operation = schema[path]["POST" if path in BODIES else "GET"]
    kinds = schemathesis.GenerationMode
    cases = operation.as_strategy(generation_mode=kinds.POSITIVE)
    if path not in PLAIN or PLAIN[path] == EACH:  # others take nothing that could be wrong
        cases |= operation.as_strategy(generation_mode=kinds.NEGATIVE)
    session, sent = requests.Session(), 0

    @settings(
        max_examples=PLAIN.get(path, EACH),
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def send(case: Any) -> None:
        nonlocal sent
        sent += 1
        if isinstance(case.body, dict) and sent % 2 and path.startswith(("/v1", "/steer/streams")):
            case.body |= {name: value for name, value in QUICK.items() if name in case.body}
        found = case.call(base_url=server.address, session=session)
        assert found.status_code < 500, (case, found.text)
        assert "Traceback" not in found.text
        if found.status_code >= 400:
            assert found.json()["error"]["message"]

    send()
    assert sent
    server.settles()
