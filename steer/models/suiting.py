"""Signs that a base model does not suit the texts it is fitted on, or a fit goes on too long."""

from collections.abc import Sequence

from steer.data.scripts import per_letter
from steer.models.expert import EpochLoss

MOST_TOKENS = 0.6
"""Tokens a letter above which a tokenizer hardly knows a language. SmolLM2's needs 0.24 for an
English sentence, 0.35 to 0.48 for German, French, Spanish and Polish, 0.63 for Chinese, 0.83 for
Russian, 1.2 for Korean."""

LEAST_FALL = 0.03
"""Share of the held-out loss by which the first epoch lowers it at least, where fitting helps."""

_PLAIN = 0.95


def costly(texts: Sequence[str], tokens: Sequence[int], base: str) -> str | None:
    """Warns of a tokenizer that cuts texts, with so many `tokens` each, into small pieces; None
    where it does not. Texts that are nearly all ASCII are left alone: digits and signs take a token
    each in every model."""
    joined = "".join(texts)
    if not joined or sum(map(str.isascii, joined)) >= _PLAIN * len(joined):
        return None
    found = per_letter(texts, tokens)
    if found <= MOST_TOKENS:
        return None
    return (
        f"These texts take {found:.2f} tokens a letter with {base}, English 0.2 to 0.3. It "
        "was hardly trained on texts like them: choose a base model that was (--base)."
    )


def hardly_falls(losses: Sequence[EpochLoss]) -> str | None:
    """Warns of a held-out loss that the first epoch lowered by little only; None where it fell
    more, rose, or is not known yet."""
    if len(losses) < 2:
        return None
    before, after = losses[0].held_out, losses[1].held_out
    if after >= before or after <= (1 - LEAST_FALL) * before:
        return None
    return (
        f"The held-out loss hardly falls: {before:.3f} before, {after:.3f} after the first epoch. "
        "The base model may know such texts already, or does not suit them: see what it writes, "
        "then try a higher --lr or another --base."
    )


def rises(losses: Sequence[EpochLoss]) -> str | None:
    """Warns of a held-out loss that rose above the lowest one: the expert overfits, that is, it
    learns its texts by heart. None where it did not."""
    best = min(losses[1:], key=lambda loss: loss.held_out, default=None)
    if best is None or losses[-1].held_out <= best.held_out:
        return None
    return (
        f"The expert overfits after epoch {best.epoch}: the held-out loss rose from "
        f"{best.held_out:.3f} to {losses[-1].held_out:.3f}. Epoch {best.epoch} is kept."
    )
