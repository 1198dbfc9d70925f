"""A small network that names the label of a text, trained from nothing in a second or two.

The mean of vectors that are learnt for words, word pairs and character n-grams, and a linear layer
on it: fastText's classifier (Joulin et al. 2017, arXiv 1607.01759). On 1,000 real comments of 32
words, tested on 1,000 others, it reaches a balanced accuracy of 0.80, in 2 s of one busy core. To
read them through all-MiniLM-L6-v2 once took 39 s there, before any step of fine-tuning, which was
given up for that.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from steer.data.words import ngrams, words

if TYPE_CHECKING:
    import torch
    from torch import nn

SLOTS = 2**16
WIDTH = 16
EPOCHS = 5
RATE = 0.1
BATCH = 32
_CHARACTERS = (3, 4)


@dataclass(frozen=True)
class Network:
    """A trained network: vectors by the n-gram's hash, and scores of the labels from their mean."""

    vectors: "nn.EmbeddingBag"
    scores: "nn.Linear"

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Gives the number of each text's likeliest label, int (texts,)."""
        import torch

        with torch.inference_mode():
            return self([_ngrams(text) for text in texts]).argmax(1).numpy()

    def __call__(self, grams: Sequence[np.ndarray]) -> "torch.Tensor":
        """Scores every label for texts given by their n-grams, (texts, labels)."""
        import torch

        starts = np.cumsum([0, *map(len, grams[:-1])])
        joined = torch.from_numpy(np.concatenate(grams))
        return self.scores(self.vectors(joined, torch.from_numpy(starts)))


def train(texts: Sequence[str], labels: np.ndarray, seed: int) -> Network:
    """Trains a network on texts and the numbers of their labels, int (texts,): all from 0 to the
    highest. Labels weigh the same however many texts have them."""
    import torch
    from torch import nn

    counts = np.bincount(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vectors = nn.EmbeddingBag(SLOTS, WIDTH, mode="mean", sparse=True)
        nn.init.uniform_(vectors.weight, -1 / WIDTH, 1 / WIDTH)
        network = Network(vectors, nn.Linear(WIDTH, len(counts)))
        weights = torch.tensor(len(labels) / len(counts) / counts, dtype=torch.float32)
        # Said out loud, as PyTorch warns where it is not.
        with torch.sparse.check_sparse_tensor_invariants(False):
            _fit(network, [_ngrams(text) for text in texts], labels, nn.CrossEntropyLoss(weights))
    return network


def _fit(
    network: Network, grams: Sequence[np.ndarray], labels: np.ndarray, loss: "nn.Module"
) -> None:
    import torch

    weights = [*network.vectors.parameters(), *network.scores.parameters()]
    # Its steps are fitted to each n-gram, of which most are rare.
    optimiser = torch.optim.Adagrad(weights, lr=RATE)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(grams)).split(BATCH):
            optimiser.zero_grad()
            said = network([grams[i] for i in chosen.tolist()])
            loss(said, torch.from_numpy(labels[chosen.numpy()])).backward()
            optimiser.step()


def _ngrams(text: str) -> np.ndarray:
    """Hashes the words, pairs of words and character n-grams of a text; one number for a text
    without words."""
    each = words(text)
    plain = " ".join(each)
    found = [*each, *map(" ".join, ngrams(each, 2))]
    found += [plain[i : i + n] for n in _CHARACTERS for i in range(len(plain) - n + 1)]
    hashes = [zlib.crc32(gram.encode(errors="surrogatepass")) % SLOTS for gram in found or [""]]
    return np.array(hashes, dtype=np.int64)
