"""The card of a dataset: how its records were made, in full, and nothing that is not known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from steer.config import Config, RunConfig, Sources
from steer.data.characters import printable
from steer.data.tasks import CHAT
from steer.runs.formats import markdown
from steer.runs.records import Record

# The Hub's own list of size categories.
_SIZES = (
    *((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")),
    *((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B")),
    *((10**11, "10B<n<100B"), (10**12, "100B<n<1T")),
)
_LARGEST = "n>1T"


class CardSettings(Config):
    """What only the user knows: the `license` of the dataset and the `languages` of its texts, as
    the Hub spells them; nothing is assumed. `measured` is a table in Markdown that says how good
    the records are, `base_license` the licence of the base model."""

    license: str | None = None
    languages: tuple[str, ...] = ()
    measured: str | None = None
    base_license: str | None = None


@dataclass(frozen=True)
class CardFacts:
    """What is known of an exported run: its settings and sources, and the records written by their
    `splits`, with their `counts` by label, the `reasons` of rejects and a `sample`; the `files` of
    each split, and the `datasets.Features` of a row."""

    version: str
    config: RunConfig
    sources: Sources
    splits: Mapping[str, int]
    counts: Mapping[str, int]
    reasons: Mapping[str, int]
    sample: Sequence[Record]
    files: Mapping[str, str]
    features: Any

    @property
    def records(self) -> int:
        """Number of records in all splits."""
        return sum(self.splits.values())


def size_category(records: int) -> str:
    """Names the Hub's category for a number of records."""
    return next((name for limit, name in _SIZES if records < limit), _LARGEST)


def dataset_card(facts: CardFacts, settings: CardSettings) -> str:
    """Writes the README.md of a Hugging Face dataset."""
    config, sources = facts.config, facts.sources
    return _CARD.format(
        header=yaml.safe_dump(_header(facts, settings), sort_keys=False, allow_unicode=True),
        records=facts.records,
        wanted=config.total,
        real=_name(sources.real),
        data=sources.data_fingerprint,
        base=_name(sources.base),
        licence=markdown(settings.base_license or "not known to steer: see its page"),
        model=sources.model_fingerprint,
        adapter=sources.adapter_fingerprint,
        prompt=_indented(sources.prompt),
        chats=_CHATS if CHAT in sources.prompt else "",
        counts=_table("label", "records", facts.counts),
        reasons=_table("reason", "rejected", facts.reasons or {"(none)": 0}),
        measured=settings.measured or _UNMEASURED,
        sample="\n".join(f"{n}. {_plain(each.text)}" for n, each in enumerate(facts.sample, 1)),
        version=facts.version,
        config=_indented(config.model_dump_json(indent=2)),
    )


def _header(facts: CardFacts, settings: CardSettings) -> dict[str, Any]:
    """The card's YAML, as the Hub reads it."""
    files = [{"split": name, "path": path} for name, path in facts.files.items()]
    given: dict[str, Any] = {"license": settings.license, "language": list(settings.languages)}
    return {name: value for name, value in given.items() if value} | {
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": _info(facts.features),
        "size_categories": [size_category(facts.records)],
        "task_categories": ["text-generation" if facts.config.n else "text-classification"],
        "tags": ["synthetic", "synthetic-data", "steer"],
    }


def _info(features: Any) -> Any:
    """The card's `dataset_info`, written by the library that reads it."""
    from datasets.info import DatasetInfo, DatasetInfosDict
    from huggingface_hub import DatasetCardData

    data = DatasetCardData()
    DatasetInfosDict(default=DatasetInfo(features=features)).to_dataset_card_data(data)
    return data.to_dict()["dataset_info"]


def _indented(text: str) -> str:
    return "\n".join(f"    {printable(line)}" for line in text.splitlines())


def _plain(text: str) -> str:
    """Writes a text on one line that Markdown and HTML leave alone."""
    return f"`{_name(text)}`"


def _name(text: str) -> str:
    """Writes a text for between back quotes, also in a cell of a table."""
    return printable(" ".join(text.split())).replace("`", "'").replace("|", "\u2502")


def _table(name: str, value: str, rows: Mapping[str, int]) -> str:
    cells = [(name, value), ("---", "---:"), *((markdown(k), n) for k, n in rows.items())]
    return "\n".join(f"| {left} | {right} |" for left, right in cells)


_CHATS = (
    " Each is the last answer in `messages`; the turns before it are real, those of the chat that "
    "`asked` names."
)
_UNMEASURED = "These records were not measured when this card was written."

_CARD = """\
---
{header}---

# Synthetic texts made with steer

{records} synthetic texts (of {wanted} wanted), generated by a language model; none was written by
a person.{chats} Texts that equal or nearly equal a real one or each other were rejected.

| from | name | fingerprint |
| --- | --- | --- |
| real texts | `{real}` | `{data}` |
| base model | `{base}` (licence: {licence}) | `{model}` |
| expert (LoRA adapter) | | `{adapter}` |

Prompt:

{prompt}

## Sample

{sample}

## Counts

{counts}

{reasons}

## How good they are

{measured}

## How they were made

With steer {version}: STEER, arXiv 2308.07645. Every row says in its columns which method, settings,
expert, panel and seed it came from; `panel` names real texts ("real:" and the row, from 0) and
records of this run ("rec:" and the attempt). Log-probabilities are means in nats a token. Settings:

{config}

## Limits

The texts may be wrong, biased or offensive, as those that the models learned from may be. What they
say was checked by nobody. Copies of real texts were looked for by their wording only: a record can
still carry what was in a real text, and no privacy is claimed. What the licences of the real texts
and of the base model ask for holds for whoever uses these texts.
"""
