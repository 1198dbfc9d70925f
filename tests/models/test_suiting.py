"""A base model that does not suit the texts is warned of early."""

import logging
from pathlib import Path

import pytest

from steer.data.corpus import Corpus
from steer.models.expert import EpochLoss, FitSettings
from steer.models.fitting import fit
from steer.models.suiting import costly, hardly_falls

HAN = "今天天气很好我们去公园"


@pytest.mark.parametrize(
    ("text", "tokens", "warned"),
    [
        ("An English sentence.", 40, False),  # digits and signs may take a token each
        ("Привет, как дела?", 16, True),
        ("Привет, как дела?", 6, False),
        (HAN, 22, True),  # two tokens a character
        (HAN, 7, False),
        ("", 0, False),
    ],
)
def test_many_tokens_a_letter(text: str, tokens: int, warned: bool) -> None:
    said = costly([text] * 3, [tokens] * 3, "a-model")
    assert (said is not None) == warned
    assert not said or ("--base" in said and "a-model" in said)


@pytest.mark.parametrize(
    ("held_out", "warned"),
    [((3.0,), False), ((3.0, 2.95), True), ((3.0, 2.5), False), ((3.0, 3.1), False)],
)
def test_a_loss_that_hardly_falls(held_out: tuple[float, ...], warned: bool) -> None:
    losses = [EpochLoss(epoch=n, train=None, held_out=loss) for n, loss in enumerate(held_out)]
    assert (hardly_falls(losses) is not None) == warned


def test_fit_says_both_before_it_ends_and_keeps_them(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = Corpus(tuple(f"{HAN}{HAN[n % 11]}{n}" for n in range(30)), None, "han")
    settings = FitSettings(epochs=1, rank=2, batch=16, lr=1e-4)
    with caplog.at_level(logging.WARNING):
        expert = fit(corpus, "写:", tmp_path / "out", base=str(tiny_model), settings=settings)
    for part in ("tokens a letter", "hardly falls"):
        assert part in caplog.text
        assert any(part in warning for warning in expert.warnings)
