"""The process of the command `steer`: signals are handled before anything else is imported."""

import gc
import sys

from steer.cli.signals import stoppable

OBJECTS = 10_000
"""New objects after which garbage is looked for, instead of Python's 700: the model libraries make
a million that all stay, and their import takes a sixth longer if each few hundred are looked
through."""


def main() -> int:
    """Runs the process's own command line and gives its exit code."""
    gc.set_threshold(OBJECTS)
    with stoppable(sys._getframe()) as asked:
        try:
            from steer.cli.main import main as run

            return run()
        except KeyboardInterrupt:
            return asked.code
