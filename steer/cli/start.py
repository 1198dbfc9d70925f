"""The process of the command `steer`: signals are handled before anything else is imported."""

import sys

from steer.cli.signals import stoppable


def main() -> int:
    """Runs the process's own command line and gives its exit code."""
    with stoppable(sys._getframe()) as asked:
        try:
            from steer.cli.main import main as run

            return run()
        except KeyboardInterrupt:
            return asked.code
