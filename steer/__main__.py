"""`python -m steer` is the command `steer`, also from a source tree that is not installed."""

import sys

from steer.cli.start import main

sys.exit(main())
