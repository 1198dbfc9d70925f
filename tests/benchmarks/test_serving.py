"""How a server's speed is measured, with a tiny model."""

import json
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from benchmarks import serving
from steer.errors import SteerError
from tests.tiny import TEXTS


def test_all_clients_are_served_and_those_that_break_off_leave_nothing(
    tiny_expert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real, out = tmp_path / "real.jsonl", tmp_path / "figures.json"
    real.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    options = ["--clients", "1,4", "--texts", "6", "--tokens", "4", "--break-off", "0.3"]
    given = [str(tiny_expert), "--real", str(real), *options, "--out", str(out)]
    assert serving.main(given) == 0
    figures = json.loads(out.read_text())["figures"]
    assert [each["clients"] for each in figures] == [1, 4]
    for each in figures:
        assert each["whole"] + each["broken_off"] == 6 and each["broken_off"]
        assert each["tokens_per_second"] > 0 and len(each["memory_mib"]) == 4
    assert "4 clients" in capsys.readouterr().out


@pytest.mark.parametrize("events", [[{}], [{"choices": [{"finish_reason": None}]}, {"usage": {}}]])
def test_a_text_that_does_not_come_whole_is_an_error(events: list[dict]) -> None:
    with pytest.raises(SteerError, match="did not come whole"):
        serving._tokens(events)


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert serving.main(["/no/such/expert", "--real", "/no/such/texts"]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert serving.main([]) == 2
    assert "--tiny" in capsys.readouterr().err
