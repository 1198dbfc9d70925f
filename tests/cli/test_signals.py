"""Whatever asks a command to stop, it ends as Ctrl-C ends it."""

import importlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from steer.cli import main as command
from steer.cli import progress as console
from steer.cli.signals import stoppable


@pytest.fixture(autouse=True)
def _usual_handlers() -> Iterator[None]:
    """As in a terminal: what runs in the background, or by nohup, ignores some signals."""
    usual = {signal.SIGINT: signal.default_int_handler}
    usual |= {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_every_signal_ends_a_command_with_its_message_and_code(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(**_: object) -> int:
        with console.on_stop("the same command continues"):
            os.kill(os.getpid(), number)
            time.sleep(5)
        return 0

    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    monkeypatch.setattr(command, "app", app)
    assert command.main(["anything"]) == code
    assert capsys.readouterr().err == "stopped: the same command continues\n"
    assert handlers == [
        signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ]


def test_what_the_command_line_library_makes_of_it_keeps_the_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def app(**_: object) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt:
            raise typer.Abort from None
        return 0

    monkeypatch.setattr(command, "app", app)
    assert command.main(["anything"]) == 143


SWALLOWS = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.{name})
    time.sleep(0.2)
except BaseException:
    raise ImportError("this library lost it")
loaded = True
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_a_library_loads_waits_for_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"swallows_{name.lower()}"
    (tmp_path / f"{module}.py").write_text(SWALLOWS.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    with stoppable(sys._getframe()) as asked:
        with pytest.raises(KeyboardInterrupt):
            importlib.import_module(module)
            time.sleep(5)
        assert sys.modules.pop(module).loaded
        assert asked.code == 128 + getattr(signal, name)


def test_an_ignored_signal_stays_ignored() -> None:
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable(sys._getframe()):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ray_takes_no_handler_away() -> None:
    from steer.runs.cluster import _connect

    class Ray:
        def init(self, **_: object) -> None:
            signal.signal(signal.SIGTERM, lambda *_: os.abort())

    _connect(Ray(), "local", {})
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with stoppable(sys._getframe()) as asked:
        _connect(Ray(), "local", {})
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
    assert asked.code == 143
