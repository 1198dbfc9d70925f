"""An expert whose attempts pass, and its real texts, for pipelines that start from folders."""

import json
import shutil
from pathlib import Path

from tests.tiny import TEXTS

SCHEMA = {
    "type": "object",
    "properties": {
        "why": {"type": "string", "minLength": 12, "maxLength": 24},
        "of": {"enum": ["moon", "comet"]},
    },
    "required": ["why", "of"],
    "additionalProperties": False,
}


def shaped(tiny_expert: Path, folder: Path) -> dict[str, str]:
    """Settings of a supply of records with two columns."""
    shutil.copytree(tiny_expert, folder / "expert")
    card = json.loads((folder / "expert" / "expert.json").read_text())
    card |= {"shape": {"kind": "schema", "source": json.dumps(SCHEMA)}, "min_chars": 1}
    card |= {"whitespace": "exact", "max_new_tokens": 60}
    (folder / "expert" / "expert.json").write_text(json.dumps(card))
    rows = [{"why": text[:24], "of": "moon"} for text in TEXTS]
    (folder / "real.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return {
        "expert": str(folder / "expert"),
        "real": str(folder / "real.jsonl"),
        "run": str(folder / "run"),
        "device": "cpu",
        "dtype": "float32",
    }
