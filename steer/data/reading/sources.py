"""What a source names: files in one fixed order, datasets on disk, or one on the hub."""

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from steer.data.reading.streams import STANDARD_INPUT
from steer.errors import SteerError

HUB_NAME = re.compile(r"([\w-][\w.-]*)/[\w-][\w.-]*(:.+)?")
KINDS = {
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonlines"), "jsonl"),
    ".json": "json",
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".txt", ".text"), "txt"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".arrow", ".feather"), "arrow"),
    **dict.fromkeys((".xlsx", ".xlsm"), "xlsx"),
}
"""Formats by the ending of a file's name."""

_PACKED = (".gz", ".zst", ".zstd", ".bz2", ".xz")
_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_SPLITS |= dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation")
_SPLIT = re.compile(rf"({'|'.join(_SPLITS)})(?![^\W\d_])")


@dataclass(frozen=True)
class Part:
    """One thing to read: a file, or a dataset on disk or on the hub. `name` is that of a sheet or a
    split, if one is named."""

    kind: Literal["file", "disk", "hub"]
    place: str
    name: str | None = None


def find_parts(source: str, notes: list[str]) -> list[Part]:
    """Finds what to read: a file, a folder's files, those of a pattern such as "parts/*.csv", all
    of "a.csv,b.csv", standard input ("-"), or a dataset; `PATH:NAME` chooses a split or a sheet.

    `notes` takes what was left out. Raises `SteerError` when there is nothing of that name.
    """
    if not source.strip() or "\0" in source:
        raise SteerError(f"no such file: {source!r}; give the path of a file")
    found = _on_disk(source, notes)
    if found is not None:
        return found
    if "," in source:
        several = [_on_disk(each, notes) for each in source.split(",")]
        if any(each is not None for each in several):
            for name, each in zip(source.split(","), several, strict=True):
                if each is None:
                    raise SteerError(f"no such file: {name!r}, of {source}; check the path")
            return [part for each in several for part in each or ()]
    return [_on_hub(source)]


def file_kind(path: str | Path) -> str | None:
    """Format of a file by its name, without the ending of a compression; None if not known."""
    path = Path(path)
    while path.suffix.lower() in _PACKED:
        path = path.with_suffix("")
    return KINDS.get(path.suffix.lower())


def _on_disk(source: str, notes: list[str]) -> list[Part] | None:
    """What is there under that name; None if nothing."""
    if source == STANDARD_INPUT:
        return [Part("file", source)]
    try:
        if os.path.isdir(source):
            return _folder(Path(source), None, notes)
        if os.path.exists(source):
            return [Part("file", source)]
        place, _, name = source.rpartition(":")
        if place and os.path.isdir(place):
            return _folder(Path(place), name, notes)
        if place and os.path.exists(place):
            return [Part("file", place, name)]
        files = sorted(glob.glob(source, recursive=True), key=_natural)
        return [Part("file", file) for file in files if not os.path.isdir(file)] or None
    except (OSError, ValueError, re.error):
        return None


def _on_hub(source: str) -> Part:
    """The dataset of that name, if it is one."""
    if "://" in source:
        raise SteerError(f"{source} is an address, no file; download it first, or pipe it into -")
    name = HUB_NAME.fullmatch(source)
    path = source.partition(":")[0]
    if name is None or file_kind(path) or Path(name[1]).is_dir():
        raise SteerError(
            f"no such file: {source}; check the path (a dataset on the Hugging Face hub is named "
            "OWNER/NAME or OWNER/NAME:SPLIT)"
        )
    return Part("hub", path, source.partition(":")[2] or None)


def _folder(folder: Path, split: str | None, notes: list[str]) -> list[Part]:
    """Reads the marks of what made a folder, or else lists its files."""
    if (folder / "run.json").is_file() or (folder / "rounds").is_dir():
        raise SteerError(
            f"{folder} is a run, no folder of texts; steer export {folder} FILE.jsonl makes one"
        )
    if (folder / "expert.json").is_file():
        raise SteerError(f"{folder} is an expert, no folder of texts; name the texts themselves")
    if (folder / "dataset_dict.json").is_file():
        names = [path.name for path in folder.iterdir() if (path / "state.json").is_file()]
        chosen = _choose_split(folder, sorted(names), split, notes)
        return [Part("disk", str(folder / chosen))]
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return [Part("disk", str(folder))]
    return [Part("file", str(path)) for path in _files(folder, split, notes)]


def _files(folder: Path, split: str | None, notes: list[str]) -> list[Path]:
    """Files of the folder and those below it in natural order, of one kind and of one split."""
    every = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: _natural(str(p)))
    plain = [p for p in every if not _is_hidden(p.relative_to(folder).parts)]
    known = [path for path in plain if file_kind(path)]
    if not known:
        raise SteerError(
            f"{folder} is a folder without a file to read: no name ends in {', '.join(KINDS)}; "
            f"name others by a pattern and --format, as '{folder}/*.md' --format txt"
        )
    kinds = list(dict.fromkeys(str(file_kind(path)) for path in known))
    if len(kinds) > 1:
        raise SteerError(
            f"{folder} is a folder with files of several kinds: {', '.join(kinds)}; name those to "
            f"read, as '{folder}/*.{kinds[0]}'"
        )
    if len(plain) > len(known):
        others = [path.name for path in plain if path not in known]
        notes.append(f"{folder}: left out {_some(others)}, whose endings are of no texts")
    names = sorted({name for path in known if (name := _split_of(path, folder))})
    if split is None and len(names) < 2:
        return known
    chosen = _choose_split(folder, names, split, notes)
    return [path for path in known if _split_of(path, folder) == _SPLITS.get(chosen, chosen)]


def _choose_split(folder: Path, names: Sequence[str], split: str | None, notes: list[str]) -> str:
    wanted = split or ("train" if "train" in names or len(names) != 1 else names[0])
    if wanted not in names and _SPLITS.get(wanted) not in names:
        raise SteerError(
            f"{folder} has no split {wanted!r}; its splits: {', '.join(names) or 'none'}; name "
            f"one, as {folder}:{names[0] if names else 'train'}"
        )
    if split is None and len(names) > 1:
        notes.append(
            f"{folder}: read the split {wanted} of {', '.join(names)}; {folder}:SPLIT names another"
        )
    return wanted if wanted in names else _SPLITS[wanted]


def _split_of(path: Path, folder: Path) -> str | None:
    """Split that a file's name, or its folder's, begins with."""
    for part in reversed(path.relative_to(folder).parts):
        if found := _SPLIT.match(part.lower()):
            return _SPLITS[found[1]]
    return None


def _is_hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith((".", "_")) for part in parts)


def _natural(path: str) -> list[tuple[int, str]]:
    """Key by which part-2 comes before part-10."""
    pieces = re.split(r"(\d+)", path)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
