"""Advice for a run that gave up: in words, with the option that helps."""

import math

from steer.runs.store import Run

_LEAST_SHARE = 0.15
_NEAR = "where real texts share one form, let records be more alike with --near 0.95, in a new run"
_STEER = (
    "steer harder away from what exists (--eta) or draw more widely (--temperature), in a new run"
)
_ADVICE = {
    "unfinished": "had no end after {tokens} tokens: in a new run give more --max-new-tokens, if "
    "they break off within a good text; if they run on and on, the expert never learned to stop, "
    "so fit one with more --epochs",
    "unparsed": "were empty, held control characters or were not of the form asked for: look at "
    "some, then at --pattern and at the task's form, or fit with more --epochs",
    "short": "were shorter than the least characters: in a new run give less --min-chars",
    "copy": "repeat a real text: the expert knows them by heart, so fit with fewer --epochs, or "
    + _STEER,
    "near-copy": "nearly repeat a real text: fit with fewer --epochs; or " + _NEAR,
    "duplicate": "repeat an earlier record: " + _STEER,
    "forbidden": "come too close to a text of --forbid: see whether the real texts overlap with it",
    "unlike the real texts": "were left out by the selector, as is meant with --candidates: give "
    "more --max-attempts",
    "near-duplicate": "nearly repeat an earlier record: " + _STEER + "; or " + _NEAR,
}


def reasons(run: Run) -> list[str]:
    """Says of each reason for which many attempts were rejected what it means and what helps, the
    most frequent first."""
    attempts = len(run.records) + len(run.rejects)
    tokens = run.config.sampling.max_new_tokens
    return [
        f"{count} of {attempts} {_ADVICE[reason].format(tokens=tokens)}."
        for reason, count in run.reasons.items()
        if reason in _ADVICE and count >= _LEAST_SHARE * attempts
    ]


def going_on(run: Run) -> str:
    """Says with how many attempts in all the run would have its records, at the rate so far."""
    attempts = len(run.records) + len(run.rejects)
    passed = len(run.records) + run.reasons.get("surplus", 0)
    if not passed:
        return "None passed, so more attempts (--max-attempts) alone will hardly help."
    missing = run.config.total - len(run.records)
    enough = _round_up(attempts + 1.25 * missing * attempts / passed)
    return f"To go on where it stopped: the same command with --max-attempts {enough}"


def _round_up(number: float) -> int:
    """Rounds up to two digits that count."""
    unit = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / unit) * unit
