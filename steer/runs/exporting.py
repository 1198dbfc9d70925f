"""A run's records as a file of another kind, or as a Hugging Face dataset."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.files import disk_errors, new_folder, refuse_existing, write_atomic
from steer.runs.records import STREAMS, Record
from steer.runs.store import Run

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


def export(run_path: str | Path, out: str | Path) -> int:
    """Writes the accepted records of a run to `out` and gives their number.

    `out` ends in .jsonl, .csv or .parquet, or is a folder: a Hugging Face dataset with its
    dataset card. It appears whole or not at all. Raises `SteerError` when it exists, has another
    ending, or the run has no records.
    """
    run, out = Run.open(run_path), Path(out)
    if out.suffix and out.suffix not in _WRITERS:
        raise SteerError(
            f"{out} ends in {out.suffix}; end it in {', '.join(_WRITERS)}, or in nothing for a "
            "folder with a Hugging Face dataset"
        )
    if not run.records:
        raise SteerError(f"{run.path} has no records yet; continue the run first")
    refuse_existing(out)
    if out.suffix:
        _write(out, _WRITERS[out.suffix](run))
    else:
        with new_folder(out) as folder:
            (folder / "data").mkdir()
            _write(folder / "data" / "train.parquet", _parquet(run))
            _write(folder / "README.md", dataset_card(run).encode())
    return len(run.records)


def dataset_card(run: Run) -> str:
    """The README.md of a Hugging Face dataset: how the records were made, in full."""
    return _CARD.format(
        size=next((name for limit, name in _SIZES if len(run.records) < limit), "n>100K"),
        task="text-generation" if run.config.n else "text-classification",
        records=len(run.records),
        wanted=run.config.total,
        real=run.sources.real,
        data=run.sources.data_fingerprint,
        base=run.sources.base,
        model=run.sources.model_fingerprint,
        adapter=run.sources.adapter_fingerprint,
        prompt=_indented(run.sources.prompt),
        counts=_table("label", "records", {str(k or "(none)"): n for k, n in run.counts.items()}),
        reasons=_table("reason", "rejected", run.reasons or {"(none)": 0}),
        version=run.version,
        config=_indented(run.config.model_dump_json(indent=2)),
    )


def _write(path: Path, content: bytes) -> None:
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)


def _origin(run: Run) -> dict[str, Any]:
    """Columns that are equal for all records of a run, as the file has no run.json beside it."""
    return {
        "method": run.config.method,
        "settings": run.config.model_dump(mode="json", exclude={"method"}),
        "expert": run.sources.expert,
        "base": run.sources.base,
        "run": str(run.path),
        "steer": run.version,
    }


def _rows(run: Run) -> list[dict[str, Any]]:
    """The records with their log-probabilities as columns of their own, and their origin with its
    settings as JSON text."""
    origin = _origin(run)
    origin["settings"] = json.dumps(origin["settings"], ensure_ascii=False)
    return [_row(record) | origin for record in run.records]


def _row(record: Record) -> dict[str, Any]:
    row = record.to_json() | {"score": record.score}
    log_probs: Mapping[str, float | None] = row.pop("log_probs")
    return row | {f"log_prob_{name}": log_probs.get(name) for name in STREAMS}


def _jsonl(run: Run) -> bytes:
    origin = _origin(run)
    lines = (json.dumps(record.to_json() | origin, ensure_ascii=False) for record in run.records)
    return "".join(f"{line}\n" for line in lines).encode()


def _csv(run: Run) -> bytes:
    rows = [
        row | {name: " ".join(row[name]) for name in ("panel", "positive")} for row in _rows(run)
    ]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(run: Run) -> bytes:
    import pyarrow
    import pyarrow.parquet

    rows = _rows(run)
    # Types are set where a column may be all null or empty, so that parts always fit together.
    ids = pyarrow.list_(pyarrow.string())
    types = {"panel": ids, "positive": ids}
    types |= {name: pyarrow.string() for name in ("label", "method", "expert")}
    types["score"] = pyarrow.float64()
    types |= {f"log_prob_{name}": pyarrow.float64() for name in STREAMS}
    columns = {
        name: pyarrow.array([row[name] for row in rows], type=types.get(name)) for name in rows[0]
    }
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


_WRITERS: dict[str, Callable[[Run], bytes]] = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _table(name: str, value: str, rows: Mapping[str, int]) -> str:
    cells = [(name, value), ("---", "---:"), *((k.replace("|", "\\|"), n) for k, n in rows.items())]
    return "\n".join(f"| {left} | {right} |" for left, right in cells)


_CARD = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train.parquet
size_categories:
- {size}
task_categories:
- {task}
tags:
- synthetic
- steer
---

# Synthetic texts made with steer

{records} synthetic texts (of {wanted} wanted), generated by a language model; none was written by
a person. Texts that equal or nearly equal a real one or each other were rejected.

| from | name | fingerprint |
| --- | --- | --- |
| real texts | `{real}` | `{data}` |
| base model | `{base}` | `{model}` |
| expert (LoRA adapter) | | `{adapter}` |

Prompt:

{prompt}

## Counts

{counts}

{reasons}

## How they were made

With steer {version}: STEER, arXiv 2308.07645. Every row says in its columns which method, settings,
expert, panel and seed it came from; `panel` names real texts ("real:" and the row, from 0) and
records of this run ("rec:" and the attempt). Log-probabilities are means in nats a token. Settings:

{config}
"""
