"""How a server's speed is measured, with a tiny model."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from benchmarks import serving
from tests.tiny import TEXTS


def test_all_clients_are_served_and_those_that_break_off_leave_nothing(
    tiny_expert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = tmp_path / "real.jsonl"
    real.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    options = ["--clients", "1,4", "--texts", "6", "--tokens", "4", "--break-off", "0.3"]
    assert serving.main([str(tiny_expert), "--real", str(real), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    rates = [re.match(r"(\d+) clients: ([\d.]+) tokens/s", line) for line in lines[1:]]
    assert [found and found[1] for found in rates] == ["1", "4"]
    assert all(found and float(found[2]) > 0 for found in rates)


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert serving.main(["/no/such/expert", "--real", "/no/such/texts"]) == 2
    assert "does not exist" in capsys.readouterr().err
