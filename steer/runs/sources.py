"""Sources that runs are made from, and which of them are part of a run's identity."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from steer.config import RunConfig, Sources
from steer.correction.features import Embeds
from steer.data.corpus import Corpus
from steer.engines.interface import Arithmetic
from steer.models.embedder import Embedder
from steer.models.expert import Expert


class EngineLike(Protocol):
    """Facts that a run needs of its engine, wherever it is; every engine has them."""

    @property
    def name(self) -> str: ...
    @property
    def base_fingerprint(self) -> str: ...
    @property
    def arithmetic(self) -> Arithmetic: ...


@dataclass(frozen=True)
class Inputs:
    """Inputs that the runs made together share. `embedder` chooses panels, and `selector` is what a
    selector reads. `chats` are what came before the real texts, `towards_chats` before those in
    `towards` (else the same), where texts are answers."""

    real: Corpus
    towards: Corpus | None
    expert: Expert
    engine: EngineLike
    embedder: Embedder | None
    selector: Embeds | None = None
    forbid: Corpus | None = None
    chats: Sequence[str] | None = None
    towards_chats: Sequence[str] | None = None

    def sources(self, config: RunConfig) -> Sources:
        """Sources of a run with these settings: what it reads, and how it computes."""
        embedder = self.embedder.name if self.embedder else None
        read = sources(
            config,
            self.real,
            self.towards,
            self.expert,
            self.engine.name,
            embedder,
            forbid=self.forbid,
        )
        how = self.engine.arithmetic
        return read.model_copy(update=asdict(how))


def sources(
    config: RunConfig,
    real: Corpus,
    towards: Corpus | None,
    expert: Expert,
    engine: str,
    embedder: str | None,
    *,
    forbid: Corpus | None = None,
) -> Sources:
    """Sources of a run with these settings, with an engine and an embedder of these names."""
    moved = towards if config.guidance.reads_positive else None
    return Sources(
        engine=engine,
        prompt=expert.prompt,
        shape=expert.task.shape,
        model_fingerprint=expert.base_fingerprint,
        adapter_fingerprint=expert.adapter_fingerprint,
        data_fingerprint=_fingerprint(real, expert),
        base=expert.base,
        real=real.source,
        expert=str(expert.path),
        forbid_fingerprint=forbid.fingerprint if forbid else None,
        towards_fingerprint=_fingerprint(moved, expert) if moved else None,
        embedder=embedder if config.panel_selection != "random" else None,
    )


def _fingerprint(corpus: Corpus, expert: Expert) -> str:
    return corpus.chat_fingerprint if expert.task.chats else corpus.fingerprint
