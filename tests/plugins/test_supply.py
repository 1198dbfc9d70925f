"""Records for pipelines: each is given once, and a pipeline that goes on gets the same ones."""

import subprocess
import sys
from pathlib import Path

import pytest

from steer.errors import SteerError
from steer.plugins.supply import Supply, content, likelihood
from steer.runs.store import Run
from tests.plugins.shaped import SCHEMA, shaped

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def settings(tiny_expert, tmp_path_factory) -> dict[str, str]:
    return shaped(tiny_expert, tmp_path_factory.mktemp("supply"))


def test_every_record_is_given_once(settings):
    supply = Supply(**settings)
    first, second = supply.take([None] * 3), supply.take([None] * 2)
    run = Run.open(settings["run"])
    assert [*first, *second] == list(run.records)
    for record in run.records:
        assert list(content(record)) == list(SCHEMA["properties"])
        assert likelihood(record) < 0


def test_whoever_goes_on_gets_what_comes_next(settings):
    again = Supply(**settings)
    again.skip(2)
    assert again.take([None] * 2) == list(Run.open(settings["run"]).records[2:4])


@pytest.mark.parametrize(
    ("given", "method", "gamma"),
    [({}, "temperature", 0), ({"gamma": 0.2}, "steer", 0.2), ({"method": "plain"}, "plain", 0)],
)
def test_without_a_method_it_is_that_of_generate(settings, tmp_path, given, method, gamma):
    Supply(**settings | {"run": str(tmp_path / "run")} | given).take([None])
    config = Run.open(tmp_path / "run").config
    assert (config.method, config.guidance.gamma) == (method, gamma)


def test_too_few_records_are_an_error(settings, tmp_path):
    few = settings | {"run": str(tmp_path / "run"), "max_attempts": 2}
    with pytest.raises(SteerError, match="max_attempts is 2"):
        Supply(**few).take([None] * 3)


def test_nothing_heavy_is_loaded_before_it_is_needed():
    code = "import steer.plugins.supply, sys; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.strip() == "False", found.stderr
