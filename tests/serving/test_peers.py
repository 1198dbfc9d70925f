"""Other packages' clients against the real server, as docs/serve.md has them; where they are
installed."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from steer.serving.bodies import Asked
from steer.serving.ordering import order
from tests.serving.conftest import Running

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
SHOW = """
import json
print("texts:", json.dumps(list(texts)))
"""
TROVE = """
import json, pathlib
rows = [json.loads(row) for file in pathlib.Path("texts").iterdir() for row in file.open()]
print("texts:", json.dumps([each for row in rows for each in row["metadata"]["rollout_results"]]))
"""


def lines_of(package: str, server: Running) -> str:
    """The lines of the page that import `package`, with the server of the test."""
    blocks = re.findall(r"```py\n(.+?)```", PAGE.read_text(), re.DOTALL)
    (found,) = [each for each in blocks if re.search(rf"^(from|import) {package}\b", each, re.M)]
    found = found.replace("http://127.0.0.1:8000", server.address)
    return re.sub(r'((model|model_name_or_path)=)"expert"', r'\1"tiny"', found)


@pytest.fixture
def asked(monkeypatch) -> list[Asked]:
    """What the server was asked."""
    seen = []

    def order_and_tell(served, asked, find):
        seen.append(asked)
        return order(served, asked, find)

    monkeypatch.setattr("steer.serving.app.order", order_and_tell)
    return seen


@pytest.mark.parametrize(
    ("package", "show"), [("distilabel", SHOW), ("data_designer", SHOW), ("datatrove", TROVE)]
)
def test_a_package_writes_texts(
    server: Running, package: str, show: str, tmp_path: Path, asked: list[Asked]
) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    command = [sys.executable, "-c", lines_of(package, server) + show]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (told,) = [line for line in done.stdout.splitlines() if line.startswith("texts: ")]
    texts = json.loads(told.removeprefix("texts: "))
    assert len(texts) == 4 and all(isinstance(text, str) for text in texts)
    assert len({text for text in texts if text}) >= 2  # a random model may also write nothing
    assert len(asked) >= 4
    assert {(each.gamma, each.eta, each.temperature) for each in asked[-4:]} == {(0.3, 0.2, 0.9)}
