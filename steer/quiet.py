"""Keeps other libraries' remarks off the user's terminal; errors still come through."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LIBRARIES = ("transformers", "huggingface_hub", "datasets", "peft", "accelerate")


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Lets the Hugging Face libraries log errors only, and announce no deprecations."""
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


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Also turns off Transformers' own bar over weights: progress is the caller's to draw."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with quiet_logs():
            yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Turns off the bars of datasets."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
