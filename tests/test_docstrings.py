"""The demo's corpus."""

import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "docstrings.py"


def test_the_corpus_is_large_clean_and_the_same_each_time() -> None:
    summaries = runpy.run_path(str(EXAMPLE))["stdlib_summaries"]
    texts = summaries()
    assert len(texts) > 1200
    assert len(set(texts)) == len(texts)
    assert all(text == text.strip() and text.endswith(".") for text in texts)
    assert summaries() == texts
