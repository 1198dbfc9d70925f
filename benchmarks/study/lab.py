"""Lab of a cell of the study: its expert, and its real texts."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.study.parts import Cell, load_part
from steer.data.corpus import Corpus
from steer.engines.choice import EngineSpec
from steer.engines.interface import Engine
from steer.models.expert import Expert

EXAMPLES = 8  # that the judge reads before a text


@dataclass
class Lab:
    """Lab of a cell."""

    work: Path
    cell: Cell

    @cached_property
    def expert(self) -> Expert:
        """Expert of the cell."""
        return Expert.load(self.work / "experts" / self.cell.expert)

    @cached_property
    def engine(self) -> Engine:
        """Engine of the expert, loaded when first needed: not every step generates."""
        return EngineSpec(self.expert.base, self.expert.path).load()

    @cached_property
    def fit(self) -> Corpus:
        """Texts that the expert was fitted on."""
        return self.corpus("fit")

    def corpus(self, name: str) -> Corpus:
        """Loads the real texts of a part."""
        return load_part(self.work, self.cell, name)

    @property
    def prompt(self) -> str:
        """Prompt that the judge reads before a text: real texts that nothing else reads, so that it
        knows what texts of the domain look like."""
        texts = self.corpus("judge").texts[:EXAMPLES]
        return "".join(f"{text}\n\n" for text in texts)
