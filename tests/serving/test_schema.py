"""Hostile bodies from the server's own OpenAPI page: needs the package schemathesis."""

import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from steer.serving.bodies import BODIES
from tests.serving.conftest import Running

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

EACH = 500 // len(BODIES)
QUICK = {"model": "tiny", "max_tokens": 2, "max_completion_tokens": 2, "n": 1}
"""Fields that let a body get as far as the engine, which then has little to write."""


@pytest.mark.parametrize("path", BODIES)
def test_no_body_is_an_error_of_the_server(server: Running, path: str) -> None:
    schema = schemathesis.openapi.from_dict(server.get("/openapi.json").json())
    kinds = schemathesis.GenerationMode
    bodies = schema[path]["POST"].as_strategy(generation_mode=kinds.POSITIVE) | schema[path][
        "POST"
    ].as_strategy(generation_mode=kinds.NEGATIVE)
    sent = 0

    @settings(
        max_examples=EACH,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(bodies)
    def send(case: Any) -> None:
        nonlocal sent
        sent += 1
        body = case.body
        if isinstance(body, dict) and sent % 2 and path.startswith(("/v1", "/steer/streams")):
            body = body | {name: value for name, value in QUICK.items() if name in body}
        found = server.post(path, **body) if _is_json(body) else server.send(str(body), path)
        assert found.status_code < 500, (body, found.text)
        assert "Traceback" not in found.text

    send()
    assert sent >= EACH
    server.settles()


def _is_json(body: Any) -> bool:
    return isinstance(body, dict) and all(isinstance(name, str) for name in body)
