"""A Hugging Face dataset in a folder, written row by row: for this disk, or for the Hub."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from steer.quiet import quiet_datasets
from steer.runs.formats import Arrow, Parquet, Writer


class DatasetFolder(Protocol):
    """A folder that a dataset is written to, one writer a split."""

    def writer(self, split: str, types: Mapping[str, Any]) -> Writer:
        """Makes the writer of a split; `types` are those of the records' own columns."""
        ...

    def finish(self, splits: Sequence[str]) -> tuple[dict[str, str], Any]:
        """Completes the folder once all writers are closed; gives where each split is, as a card
        names it, and the `datasets.Features` of the rows."""
        ...


class OnDisk:
    """As `save_to_disk` lays a folder out, so that `load_from_disk` opens it in place; with the
    card, `load_dataset` reads it too."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def writer(self, split: str, types: Mapping[str, Any]) -> Writer:
        return Arrow(self._raw(split), types)

    def finish(self, splits: Sequence[str]) -> tuple[dict[str, str], Any]:
        from datasets import Dataset, DatasetDict

        made = {split: Dataset.from_file(str(self._raw(split))) for split in splits}
        with quiet_datasets():
            DatasetDict(made).save_to_disk(str(self._path))
        for split in splits:
            self._raw(split).unlink()
        return {split: f"{split}/*.arrow" for split in splits}, made[splits[0]].features

    def _raw(self, split: str) -> Path:
        return self._path / f"{split}.arrow"


class ForHub:
    """One Parquet file a split, which the Hub shows and other tools read without a library."""

    def __init__(self, path: Path) -> None:
        self._path = path / "data"
        self._path.mkdir()

    def writer(self, split: str, types: Mapping[str, Any]) -> Writer:
        return Parquet(self._path / f"{split}.parquet", types)

    def finish(self, splits: Sequence[str]) -> tuple[dict[str, str], Any]:
        import pyarrow.parquet
        from datasets import Features

        schema = pyarrow.parquet.read_schema(self._path / f"{splits[0]}.parquet")
        features = Features.from_arrow_schema(schema)
        return {split: f"data/{split}.parquet" for split in splits}, features
