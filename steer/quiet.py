"""Keep other libraries' remarks off the user's terminal; errors still come through."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LIBRARIES = ("transformers", "huggingface_hub", "datasets", "peft", "accelerate")


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Within it, the Hugging Face libraries log errors only, and announce no deprecations."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
