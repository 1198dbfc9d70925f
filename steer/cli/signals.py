"""Signals that ask a command to stop: all end it as Ctrl-C does.

While libraries load, Ctrl-C can be lost in an `except` of theirs, or end in their traceback. So it
waits until the import is done; asked a second time, the process ends at once.
"""

import _thread
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPED = 130
"""Exit code after Ctrl-C; after another signal it is 128 and the signal's number."""

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RETRY_SECONDS = 0.05
_IMPORTING = "<frozen importlib._bootstrap>"


class Asked:
    """Handler of the signals: raises `KeyboardInterrupt` in the main thread, once no import is
    under way above the frame `root`. `code` is the exit code."""

    def __init__(self, root: FrameType) -> None:
        self.code = STOPPED
        self._root = root
        self._waits = self._again = self._over = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        again, self._again = self._again, False
        self.code = 128 + number
        if not self._importing(frame):
            self._waits = False
            raise KeyboardInterrupt
        if self._waits and not again:
            os._exit(self.code)
        self._waits = True
        timer = threading.Timer(_RETRY_SECONDS, self._retry, (number,))
        timer.daemon = True
        timer.start()

    def end(self) -> None:
        """Lets a signal that still waits go."""
        self._over = True

    def _retry(self, number: int) -> None:
        if not self._over:
            self._again = True
            _thread.interrupt_main(signal.Signals(number))

    def _importing(self, frame: FrameType | None) -> bool:
        while frame is not None and frame is not self._root:
            if frame.f_code.co_filename == _IMPORTING:
                return True
            frame = frame.f_back
        return False


@contextmanager
def stoppable(root: FrameType) -> Iterator[Asked]:
    """Handles the signals while the block runs, as far as nobody else does or has them ignored, as
    `nohup` has. `root` is the frame that the block stands in."""
    asked, before = Asked(root), dict[int, Any]()
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _ASKING}
        before = {number: old for number, old in before.items() if _is_ours(old)}
    for number in before:
        signal.signal(number, asked)
    try:
        yield asked
    finally:
        asked.end()
        for number, old in before.items():
            signal.signal(number, old)


def _is_ours(handler: Callable[..., Any] | int | None) -> bool:
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    return handler in defaults or isinstance(handler, Asked)
