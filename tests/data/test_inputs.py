"""Files as people have them, format by oddity: each is read right to the byte, or refused in one
line that names the file, the row, what was found and the option that helps.

The options are those of the command line. `$d` is the case's folder, and the source unless the
case names another; `FILE` is the one file in it.
"""

import bz2
import gzip
import io
import json
import lzma
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import datasets
import openpyxl
import pandas
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
import typer

from steer.cli.groups import with_groups
from steer.cli.main import main
from steer.cli.reading import ReadingOptions
from steer.data.corpus import Corpus, load_corpus

TEXTS = ("Was, ist „das“; ja?", 'two\nlines\t"quoted"', "  indented\u2028 ", "日本語の文です。")
LINES = ("Was, ist „das“; ja?", 'a "quoted" word', "  indented\u2028 ", "日本語の文です。")
LABELS = ("a", "b", "a", "b")
WESTERN = ("Grüße, naïve café", "“quoted” … 5 €", "Ça va être l'été à Orléans")
LONG = "long " * 40_000

Make = bytes | str | Callable[[Path], Any]


class Case(NamedTuple):
    """A source made in a folder: a file of that name and content, or what a function makes."""

    name: str
    file: str
    content: Make
    options: str = ""
    texts: Sequence[str] = ()
    labels: Sequence[str] | None = None
    says: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = "$d/FILE"


def rows(texts: Sequence[str] = TEXTS, **more: Sequence[Any]) -> list[dict[str, Any]]:
    columns = {"text": texts, **more}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def jsonl(items: Sequence[Any], end: str = "\n") -> str:
    return "".join(json.dumps(item, ensure_ascii=False) + end for item in items)


def table(separator: str = ",", texts: Sequence[str] = TEXTS, end: str = "\n") -> str:
    lines = (
        f'"{t.replace(chr(34), 2 * chr(34))}"{separator}{label}'
        for t, label in zip(texts, LABELS, strict=False)
    )
    return end.join((f"text{separator}kind", *lines, ""))


def frame() -> pandas.DataFrame:
    return pandas.DataFrame({"text": TEXTS, "kind": LABELS})


def arrow(**columns: Sequence[Any]) -> pyarrow.Table:
    return pyarrow.table({name: list(values) for name, values in columns.items()})


def labelled() -> datasets.Dataset:
    features = {"text": datasets.Value("string"), "kind": datasets.ClassLabel(names=["a", "b"])}
    values = {"text": list(TEXTS), "kind": [0, 1, 0, 1]}
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def parquet(made: pyarrow.Table) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(made, out)
    return out.getvalue()


def arrow_stream(made: pyarrow.Table) -> bytes:
    out = io.BytesIO()
    with pyarrow.ipc.new_stream(out, made.schema) as writer:
        writer.write_table(made)
    return out.getvalue()


def zstd(content: bytes) -> bytes:
    return pyarrow.compress(content, "zstd", asbytes=True)


def book(*sheets: Sequence[Sequence[Any]], names: Sequence[str] = ("First", "Second")) -> bytes:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for name, lines in zip(names, sheets, strict=False):
        sheet = made.create_sheet(name)
        for line in lines:
            sheet.append(list(line))
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def files(**contents: str | bytes) -> Callable[[Path], None]:
    """Makes several files; `__` in a name stands for a folder, a last `_` for the dot."""

    def make(folder: Path) -> None:
        for name, content in contents.items():
            path = folder / (name.replace("__", "/")[::-1].replace("_", ".", 1)[::-1])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def saved(folder: Path) -> None:
    labelled().save_to_disk(str(folder / "FILE"))


def saved_splits(folder: Path) -> None:
    splits = {"train": labelled(), "test": labelled().select([1])}
    datasets.DatasetDict(splits).save_to_disk(str(folder / "FILE"))


def dataset_parquet(folder: Path) -> None:
    labelled().to_parquet(str(folder / "FILE"))


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}
PLAIN: dict[str, tuple[str, Sequence[str]]] = {
    "jsonl": (jsonl(rows(kind=LABELS)), TEXTS),
    "json": (json.dumps(rows(kind=LABELS), ensure_ascii=False, indent=1), TEXTS),
    "csv": (table(), TEXTS),
    "tsv": (table("\t", LINES), LINES),
    "txt": ("\n".join(LINES), LINES),
}
KIND = "--label-column kind"
TURNS = [
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Because."},
    {"role": "user", "content": "Really?"},
    {"role": "assistant", "content": "Yes,\nreally."},
]


def same(kind: str) -> dict[str, Any]:
    labels = None if kind == "txt" else LABELS
    return {"texts": PLAIN[kind][1], "labels": labels, "options": KIND if labels else ""}


def good() -> list[Case]:
    """What is read, and to what."""
    cases = []
    for kind, (content, _) in PLAIN.items():
        cases.append(Case(f"{kind}: plain", f"x.{kind}", content, **same(kind)))
        cases.append(Case(f"{kind}: BOM", f"x.{kind}", "\ufeff" + content, **same(kind)))
        utf16 = content.encode("utf-16")
        said = {"notes": ("utf-16",)}
        cases.append(Case(f"{kind}: UTF-16", f"x.{kind}", utf16, **same(kind), **said))
        bare = same(kind) | {"options": f"{same(kind)['options']} --encoding utf-16-be"}
        cases.append(
            Case(f"{kind}: UTF-16 named", f"x.{kind}", content.encode("utf-16-be"), **bare)
        )
        for ending, pack in PACKERS.items():
            packed = pack(content.encode())
            cases.append(Case(f"{kind}.{ending}", f"x.{kind}.{ending}", packed, **same(kind)))
        hidden = gzip.compress(content.encode())
        cases.append(Case(f"{kind}: gzip by another name", f"x.{kind}", hidden, **same(kind)))
        cases.append(Case(f"{kind}: no ending", "x", content, **same(kind)))
        cases[-1] = cases[-1]._replace(options=f"{cases[-1].options} --format {kind}")
    for kind, end in [
        (kind, end) for kind in ("jsonl", "csv", "tsv", "txt") for end in ("\r\n", "\r")
    ]:
        content = {
            "jsonl": jsonl(rows(kind=LABELS), end),
            "csv": table(end=end),
            "tsv": table("\t", LINES, end),
            "txt": end.join(LINES),
        }[kind]
        cases.append(Case(f"{kind}: lines end {end!r}", f"x.{kind}", content, **same(kind)))
    return cases


GOOD = [
    *good(),
    # CSV
    Case("csv: semicolons", "x.csv", table(";"), KIND, TEXTS, LABELS, notes=("semicolon",)),
    Case("csv: tabs", "x.csv", table("\t", LINES), KIND, LINES, LABELS, notes=("tab",)),
    Case("csv: pipes", "x.csv", table("|"), KIND, TEXTS, LABELS),
    Case("csv: said to be semicolons", "x.csv", table(";"), f"{KIND} --separator ;", TEXTS, LABELS),
    Case("csv: sep= line", "x.csv", "sep=;\n" + table(";"), KIND, TEXTS, LABELS),
    Case(
        "tsv: commas in it", "x.tsv", "text\tkind\na, b\tx\nc, d\ty\n", KIND, ["a, b", "c, d"], "xy"
    ),
    Case(
        "csv: no header",
        "x.csv",
        "One text.,a\nTwo texts.,b\n",
        "--no-header --text-column 1 --label-column 2",
        ["One text.", "Two texts."],
        "ab",
    ),
    Case(
        "csv: one column, no header",
        "x.csv",
        "One text.\nTwo texts.\n",
        "--no-header",
        ["One text.", "Two texts."],
    ),
    Case("csv: header of one's own", "x.csv", "Frage\nWas?\nWie?\n", "--header", ["Was?", "Wie?"]),
    Case(
        "csv: header before long texts",
        "x.csv",
        "Kommentar\nDas ist ein langer Text.\nDas ist noch so einer.\n",
        "",
        ["Das ist ein langer Text.", "Das ist noch so einer."],
    ),
    Case("csv: pandas index", "x.csv", lambda d: frame().to_csv(d / "x.csv"), KIND, TEXTS, LABELS),
    Case(
        "csv: pandas index and another name",
        "x.csv",
        lambda d: frame().rename(columns={"text": "comment"}).to_csv(d / "x.csv"),
        KIND,
        TEXTS,
        LABELS,
    ),
    Case(
        "csv: numbers beside the texts",
        "x.csv",
        "id,comment\n1,Fine by me\n2,Not by me\n",
        "",
        ["Fine by me", "Not by me"],
    ),
    Case(
        "csv: very long cell",
        "x.csv",
        f'text,kind\n"{LONG}",a\nshort one,b\n',
        KIND,
        [LONG, "short one"],
        "ab",
    ),
    Case(
        "csv: cells after the last column",
        "x.csv",
        "text,kind,,\nfine,a,,\ngood,b,,\n",
        KIND,
        ["fine", "good"],
        "ab",
    ),
    Case(
        "csv: blank rows left out",
        "x.csv",
        "text,kind\none,a\n,\n\ntwo,b\n , \n",
        f"{KIND} --skip-blank",
        ["one", "two"],
        "ab",
        notes=("2 rows with a blank text",),
    ),
    Case("csv: CR LF within a cell", "x.csv", 'text,kind\r\n"a\r\nb",x\r\n', KIND, ["a\r\nb"], "x"),
    Case(
        "csv: Windows-1252",
        "x.csv",
        "\n".join(("text", *(f'"{t}"' for t in WESTERN))).encode("cp1252"),
        "--encoding cp1252",
        WESTERN,
    ),
    Case(
        "tsv: quotation marks are text",
        "x.tsv",
        'text\tkind\n"Oh" he said\ta\n"no\tb\n',
        f"{KIND} --no-quotes",
        ['"Oh" he said', '"no'],
        "ab",
    ),
    Case(
        "csv: joined columns",
        "x.csv",
        "title,body\nA,one\nB,two\n",
        "--text '{title}: {body}'",
        ["A: one", "B: two"],
    ),
    Case(
        "csv: TRUE of a spreadsheet",
        "x.csv",
        "text,kind\na b,TRUE\nc d,false\n",
        KIND,
        ["a b", "c d"],
        ["True", "False"],
    ),
    Case("csv: 1.0 of pandas", "x.csv", "text,kind\na b,1.0\nc d,2\n", KIND, ["a b", "c d"], "12"),
    Case(
        "csv: labels alike",
        "x.csv",
        "text,kind\na,Toxic\nb,toxic \nc,toxic\n",
        KIND,
        "abc",
        ["Toxic", "toxic", "toxic"],
        notes=("'Toxic' (1), 'toxic' (2) look alike",),
    ),
    # JSON
    Case("jsonl: blank lines", "x.jsonl", jsonl(rows(), "\n\n \n"), "", TEXTS),
    Case(
        "jsonl: true and 1.0",
        "x.jsonl",
        jsonl(rows(["a", "b", "c"], kind=[True, 1.0, 2])),
        KIND,
        "abc",
        ["True", "1", "2"],
    ),
    Case(
        "jsonl: float labels",
        "x.jsonl",
        jsonl(rows(["a", "b"], kind=[0.5, 1.5])),
        KIND,
        "ab",
        ["0.5", "1.5"],
    ),
    Case(
        "jsonl: nested",
        "x.jsonl",
        jsonl([{"a": {"b": t}, "m": {"k": n}} for t, n in zip(TEXTS, LABELS, strict=True)]),
        "--text-column a.b --label-column m.k",
        TEXTS,
        LABELS,
    ),
    Case(
        "jsonl: a dot in a name",
        "x.jsonl",
        jsonl([{"a.b": "x", "c": "y"}]),
        "--text-column a.b",
        ["x"],
    ),
    Case(
        "jsonl: an item of a list",
        "x.jsonl",
        jsonl([{"a": ["x", "y"]}]),
        "--text-column a.1",
        ["y"],
    ),
    Case(
        "jsonl: OpenAI messages",
        "x.jsonl",
        jsonl([{"messages": TURNS}]),
        "",
        ["Yes,\nreally."],
        notes=("last answer in messages", "--text-column"),
    ),
    Case(
        "jsonl: a message of one's own",
        "x.jsonl",
        jsonl([{"messages": TURNS}]),
        "--text-column messages.1.content",
        ["Because."],
    ),
    Case(
        "jsonl: parts of a message",
        "x.jsonl",
        jsonl(
            [
                {
                    "messages": [
                        {
                            "role": "assistant",
                            "content": [
                                {"type": "text", "text": "one"},
                                {"type": "image"},
                                {"type": "text", "text": "two"},
                            ],
                        }
                    ]
                }
            ]
        ),
        "",
        ["one\ntwo"],
    ),
    Case(
        "jsonl: ShareGPT",
        "x.jsonl",
        jsonl(
            [
                {
                    "id": "1",
                    "conversations": [
                        {"from": "human", "value": "Hi"},
                        {"from": "gpt", "value": "Hello"},
                    ],
                    "source": "s",
                    "lang": "en",
                }
            ]
        ),
        "",
        ["Hello"],
    ),
    Case(
        "jsonl: Alpaca",
        "x.jsonl",
        jsonl([{"instruction": "i", "input": "", "output": "o"}]),
        "",
        ["o"],
        notes=("column output",),
    ),
    Case(
        "jsonl: prompt and completion",
        "x.jsonl",
        jsonl([{"prompt": "p", "completion": "c"}]),
        "",
        ["c"],
    ),
    Case(
        "jsonl: a template with numbers",
        "x.jsonl",
        jsonl([{"n": 1, "t": {"u": "x"}}]),
        "--text '{n}. {t.u}'",
        ["1. x"],
    ),
    Case(
        "jsonl: missing and blank left out",
        "x.jsonl",
        jsonl([{"text": "a"}, {"text": None}, {"text": "\u200b"}, {"x": 1}]),
        "--skip-blank",
        ["a"],
        notes=("3 rows",),
    ),
    Case(
        "jsonl: control characters left out",
        "x.jsonl",
        jsonl(rows(["a", "b\x1b[2J", "c\0"])),
        "--skip-control",
        ["a"],
        notes=("2 rows with control characters",),
    ),
    Case(
        "jsonl: joiners and marks stay",
        "x.jsonl",
        jsonl(rows(["👨‍👩‍👧", "می‌خواهم", "\u00ad-"])),
        "",
        ["👨‍👩‍👧", "می‌خواهم", "\u00ad-"],
    ),
    Case("json: an array of strings", "x.json", json.dumps(TEXTS), "", TEXTS),
    Case(
        "json: under a key",
        "x.json",
        json.dumps({"version": 2, "data": rows(kind=LABELS)}),
        KIND,
        TEXTS,
        LABELS,
    ),
    Case("json: lines after all", "x.json", jsonl(rows(kind=LABELS)), KIND, TEXTS, LABELS),
    Case("json: one object", "x.json", json.dumps({"text": "one"}), "", ["one"]),
    Case("json: one chat", "x.json", json.dumps({"messages": TURNS}), "", ["Yes,\nreally."]),
    *(
        Case(
            f"json: pandas {orient}",
            "x.json",
            lambda d, o=orient: frame().to_json(d / "x.json", orient=o),
            KIND,
            TEXTS,
            LABELS,
        )
        for orient in ("columns", "records", "split", "table")
    ),
    Case(
        "json: columns as lists",
        "x.json",
        json.dumps({"text": TEXTS, "kind": LABELS}),
        KIND,
        TEXTS,
        LABELS,
    ),
    Case("ndjson", "x.ndjson", jsonl(rows()), "", TEXTS),
    # Plain text
    Case("txt: blank lines at the end", "x.txt", "one\ntwo\n\n \n", "", ["one", "two"]),
    Case(
        "txt: paragraphs",
        "x.txt",
        "one\n\ntwo\n\n\nthree\n",
        "--skip-blank",
        ["one", "two", "three"],
        notes=("3 rows",),
    ),
    Case("txt: mixed line ends", "x.txt", "one\r\ntwo\rthree\n", "", ["one", "two", "three"]),
    Case(
        "txt: other separators of lines stay",
        "x.txt",
        "a\u2028b\x85c\x0bd\x0ce\n",
        "",
        ["a\u2028b\x85c\x0bd\x0ce"],
    ),
    Case(
        "txt: Windows-1252",
        "x.txt",
        "\n".join(WESTERN).encode("cp1252"),
        "--encoding cp1252",
        WESTERN,
    ),
    Case(
        "txt: Shift JIS",
        "x.txt",
        "日本語\n漢字\n".encode("shift_jis"),
        "--encoding shift_jis",
        ["日本語", "漢字"],
    ),
    Case(
        "txt: JSON after all",
        "x.txt",
        jsonl(rows(["a"])),
        "",
        ['{"text": "a"}'],
        notes=("--format jsonl",),
    ),
    Case("txt: ending in capitals", "x.TXT", "one\n", "", ["one"]),
    # Parquet, Arrow and datasets
    Case("parquet", "x.parquet", parquet(arrow(text=TEXTS, kind=LABELS)), KIND, TEXTS, LABELS),
    Case("parquet.gz", "x.parquet.gz", gzip.compress(parquet(arrow(text=TEXTS))), "", TEXTS),
    Case(
        "parquet: pandas",
        "x.parquet",
        lambda d: frame().set_index("kind").to_parquet(d / "x.parquet"),
        KIND,
        TEXTS,
        LABELS,
    ),
    Case(
        "parquet: categories",
        "x.parquet",
        lambda d: frame().astype({"kind": "category"}).to_parquet(d / "x.parquet"),
        KIND,
        TEXTS,
        LABELS,
    ),
    Case(
        "parquet: class labels", "FILE", dataset_parquet, f"{KIND} --format parquet", TEXTS, LABELS
    ),
    Case(
        "parquet: nested",
        "x.parquet",
        parquet(arrow(a=[{"b": t} for t in TEXTS])),
        "--text-column a.b",
        TEXTS,
    ),
    Case(
        "parquet: messages",
        "x.parquet",
        parquet(arrow(messages=[TURNS], n=[1])),
        "",
        ["Yes,\nreally."],
    ),
    Case(
        "parquet: booleans",
        "x.parquet",
        parquet(arrow(text=["a", "b"], kind=[True, False])),
        KIND,
        "ab",
        ["True", "False"],
    ),
    Case(
        "parquet: pictures are not read",
        "x.parquet",
        parquet(arrow(picture=[b"\xff"], n=[1], body=["a"])),
        "",
        ["a"],
    ),
    Case(
        "arrow stream", "x.arrow", arrow_stream(arrow(text=TEXTS, kind=LABELS)), KIND, TEXTS, LABELS
    ),
    Case(
        "arrow: class labels", "x.arrow", arrow_stream(labelled().data.table), KIND, TEXTS, LABELS
    ),
    Case(
        "feather",
        "x.feather",
        lambda d: pyarrow.feather.write_feather(arrow(text=TEXTS, kind=LABELS), d / "x.feather"),
        KIND,
        TEXTS,
        LABELS,
    ),
    Case("save_to_disk", "FILE", saved, KIND, TEXTS, LABELS),
    Case(
        "save_to_disk: splits",
        "FILE",
        saved_splits,
        KIND,
        TEXTS,
        LABELS,
        notes=("train of test, train",),
    ),
    Case(
        "save_to_disk: a split", "FILE", saved_splits, KIND, TEXTS[1:2], "b", source="$d/FILE:test"
    ),
    # Excel
    Case(
        "xlsx",
        "x.xlsx",
        book([["text", "kind"], *zip(TEXTS, LABELS, strict=True)]),
        KIND,
        TEXTS,
        LABELS,
    ),
    Case(
        "xlsx: escapes of Excel",
        "x.xlsx",
        book([["text"], ["a_x000D_\nb"], ["_x005F_x000D_"], ["in\ncell"]]),
        "",
        ["a\r\nb", "_x000D_", "in\ncell"],
    ),
    Case(
        "xlsx: numbers as labels",
        "x.xlsx",
        book([["text", "kind"], ["a", 1], ["b", 2.0], [None, None], ["c", True]]),
        KIND,
        "abc",
        ["1", "2", "True"],
    ),
    Case("xlsx: an empty sheet beside it", "x.xlsx", book([["text"], ["a"]], []), "", ["a"]),
    Case(
        "xlsx: a sheet by name",
        "x.xlsx",
        book([["text"], ["a"]], [["text"], ["b"]]),
        "",
        ["b"],
        source="$d/FILE:Second",
    ),
    Case(
        "xlsx: no header",
        "x.xlsx",
        book([["One text."], ["Two texts."]]),
        "--no-header",
        ["One text.", "Two texts."],
    ),
    # Several files
    Case(
        "a folder in natural order",
        "",
        files(part_10_txt="c\n", part_2_txt="b\n", part_1_txt="a\n"),
        "",
        "abc",
        source="$d",
    ),
    Case(
        "a folder with folders",
        "",
        files(b__x_txt="b\n", a__x_txt="a\n", _c_txt="no\n"),
        "",
        "ab",
        source="$d",
    ),
    Case(
        "a folder with a card",
        "",
        files(README_md="# x", data__train_jsonl=jsonl(rows())),
        "",
        TEXTS,
        notes=("README.md",),
        source="$d",
    ),
    Case(
        "a folder of splits",
        "",
        files(train_csv=table(), test_csv="text\nno\n"),
        KIND,
        TEXTS,
        LABELS,
        notes=("train of test, train",),
        source="$d",
    ),
    Case(
        "a split of a folder",
        "",
        files(train_txt="no\n", dev_txt="b\n"),
        "",
        ["b"],
        source="$d:validation",
    ),
    Case(
        "packed parts",
        "",
        files(
            a_jsonl=jsonl(rows(["a"])), **{"b.jsonl_gz": gzip.compress(jsonl(rows(["b"])).encode())}
        ),
        "",
        "ab",
        source="$d",
    ),
    Case(
        "a pattern",
        "",
        files(part_10_txt="b\n", part_9_txt="a\n", other_txt="no\n"),
        "",
        "ab",
        source="$d/part*.txt",
    ),
    Case(
        "files of several kinds",
        "",
        files(a_csv="text,kind\nx,true\n", b_jsonl=jsonl(rows(["y"], kind=[True]))),
        KIND,
        "xy",
        ["True", "True"],
        source="$d/a.csv,$d/b.jsonl",
    ),
    Case("a comma in a name", "a,b.txt", "one\n", "", ["one"]),
    Case("brackets in a name", "a[1].txt", "one\n", "", ["one"]),
    Case("standard input: JSONL", "", jsonl(rows()), "", TEXTS, source="-"),
    Case(
        "standard input: packed JSON",
        "",
        gzip.compress(json.dumps(rows()).encode()),
        "",
        TEXTS,
        source="-",
    ),
    Case("standard input: Parquet", "", parquet(arrow(text=TEXTS)), "", TEXTS, source="-"),
    Case("standard input: CSV", "", table(), f"{KIND} --format csv", TEXTS, LABELS, source="-"),
]


def bad(
    name: str, file: str, content: Make, options: str, *says: str, source: str = "$d/FILE"
) -> Case:
    return Case(name, file, content, options, says=says, source=source)


BAD = [
    # Which separator, which header
    bad(
        "csv: two separators fit",
        "x.csv",
        "a;text,kind\nb;c,d\n",
        "",
        "x.csv",
        "comma or semicolon",
        "--separator",
    ),
    bad(
        "csv: a ragged other separator",
        "x.csv",
        "text;kind\none;a\ntwo\n",
        "",
        "x.csv",
        "text;kind",
        "--separator",
    ),
    bad(
        "csv: unlike rows",
        "x.csv",
        "text,kind\none,a\ntwo, or three,b\n",
        "",
        "x.csv",
        "row 2 has 3 cells",
        "--separator",
    ),
    bad(
        "csv: short row", "x.csv", "text,kind\none,a\ntwo\n", "", "row 2 has 1 cells", "--separator"
    ),
    bad(
        "csv: no header",
        "x.csv",
        "One text.\nAnother text.\n",
        "",
        "x.csv",
        "One text.",
        "--no-header",
        "--header",
    ),
    bad(
        "csv: no header, labels",
        "x.csv",
        "Good film,pos\nBad film,neg\nFine,pos\n",
        "",
        "Good film, pos",
        "--no-header",
    ),
    bad("csv: words without a header", "x.csv", "apple\npear\nplum\n", "", "apple", "--no-header"),
    bad("csv: a name twice", "x.csv", "text,text\na,b\n", "", "'text' occurs twice", "--no-header"),
    bad("csv: open quote", "x.csv", 'text\n"a\nb\n', "", "x.csv", "line", "--no-quotes"),
    bad(
        "tsv: quotation marks that swallow rows",
        "x.tsv",
        'text\tkind\n"a\tx\nb"\ty\n',
        "",
        "x.tsv",
        "line 3",
        "--no-quotes",
    ),
    bad(
        "csv: separator of two characters",
        "x.csv",
        table(),
        "--separator ;;",
        "--separator",
        "';;'",
    ),
    # Which column
    bad(
        "csv: which column",
        "x.csv",
        "title,body\na b,c d\n",
        "",
        "x.csv",
        "title, body",
        "--text-column",
        "--text",
    ),
    bad(
        "csv: no such column",
        "x.csv",
        table(),
        "--text-column body",
        "'body'",
        "text, kind",
        "--text-column",
    ),
    bad(
        "csv: no such label",
        "x.csv",
        table(),
        "--label-column topic",
        "'topic'",
        "text, kind",
        "--label-column",
    ),
    bad(
        "jsonl: nested", "x.jsonl", jsonl([{"d": {"t": "x"}, "e": "1"}]), "", "d.t", "--text-column"
    ),
    bad(
        "jsonl: no such field",
        "x.jsonl",
        jsonl([{"d": {"t": "x"}}]),
        "--text-column d.u",
        "'d.u'",
        "d.t",
    ),
    bad(
        "jsonl: unknown in the template",
        "x.jsonl",
        jsonl([{"a": "x"}]),
        "--text '{a} {b}'",
        "'b'",
        "--text",
    ),
    bad(
        "a template without columns",
        "x.jsonl",
        jsonl([{"a": "x"}]),
        "--text hello",
        "--text",
        "names no column",
    ),
    bad(
        "template and column",
        "x.jsonl",
        jsonl([{"a": "x"}]),
        "--text {a} --text-column a",
        "both --text and --text-column",
    ),
    bad(
        "jsonl: a chat without an answer",
        "x.jsonl",
        jsonl([{"messages": TURNS}, {"messages": TURNS[:1]}]),
        "",
        "line 2",
        "messages",
        "--skip-blank",
    ),
    # Values
    bad(
        "jsonl: a number",
        "x.jsonl",
        '{"text": "a"}\n{"text": 7}\n',
        "",
        "line 2",
        "int",
        "'7'",
        "--text-column",
    ),
    bad(
        "jsonl: a missing text",
        "x.jsonl",
        '{"text": "a"}\n{"body": "b"}\n',
        "",
        "line 2",
        "no value",
        "--skip-blank",
    ),
    bad(
        "jsonl: blank texts",
        "x.jsonl",
        jsonl(rows(["a", " ", "\t\n"])),
        "",
        "line 2",
        "blank text (2 in all)",
        "--skip-blank",
    ),
    bad(
        "jsonl: zero-width only",
        "x.jsonl",
        jsonl(rows(["a", "\u200b\ufeff", "\u3164"])),
        "",
        "line 2",
        "(2 in all)",
        "--skip-blank",
    ),
    bad(
        "csv: blank rows",
        "x.csv",
        "text,kind\none,a\n,\n,\n",
        "",
        "row 2",
        "(2 in all)",
        "--skip-blank",
    ),
    bad(
        "txt: paragraphs",
        "x.txt",
        "one\n\ntwo\n\nthree\n",
        "",
        "line 2",
        "(2 in all)",
        "--skip-blank",
    ),
    bad(
        "jsonl: ESC",
        "x.jsonl",
        jsonl(rows(["a", "\x1b[31mred", "\x1b[0m"])),
        "",
        "line 2",
        "U+001B (ESC)",
        "(2 in all)",
        "--skip-control",
    ),
    bad(
        "txt: NUL",
        "x.txt",
        "one\ntw\0o and more of it\n",
        "",
        "line 2",
        "U+0000 (NUL)",
        "(1 in all)",
        "--skip-control",
    ),
    bad("csv: C1", "x.csv", "text\nthey\x92re\n".encode(), "", "row 1", "U+0092", "--skip-control"),
    bad(
        "jsonl: half a character",
        "x.jsonl",
        '{"text": "\\ud800"}\n',
        "",
        "line 1",
        "half a character",
    ),
    bad(
        "jsonl: null label",
        "x.jsonl",
        jsonl(rows(["a", "b"], kind=["x", None])),
        KIND,
        "line 2",
        "no value",
        "--label-column",
    ),
    bad(
        "jsonl: NaN label",
        "x.jsonl",
        '{"text": "a", "kind": NaN}\n',
        KIND,
        "line 1",
        "no value",
        "--label-column",
    ),
    bad(
        "jsonl: list label",
        "x.jsonl",
        jsonl(rows(["a"], kind=[["x", "y"]])),
        KIND,
        "line 1",
        "a list",
        "--label-column",
    ),
    bad(
        "csv: blank label",
        "x.csv",
        "text,kind\na,x\nb, \n",
        KIND,
        "row 2",
        "blank label",
        "--label-column",
    ),
    bad(
        "parquet: null text",
        "x.parquet",
        parquet(arrow(text=["a", None])),
        "",
        "row 2",
        "no value",
        "--skip-blank",
    ),
    bad(
        "parquet: bytes",
        "x.parquet",
        parquet(arrow(text=[b"a"])),
        "",
        "row 1",
        "bytes",
        "--text-column",
    ),
    bad(
        "xlsx: a number",
        "x.xlsx",
        book([["text"], ["a"], [5]]),
        "",
        "row 3",
        "int",
        "--text-column",
    ),
    # Structure
    bad(
        "jsonl: a key twice",
        "x.jsonl",
        '{"text": "a"}\n{"text": "b", "text": "c"}\n',
        "",
        "line 2",
        "'text' twice",
    ),
    bad(
        "json: a key twice", "x.json", '[{"text": "a", "text": "b"}]', "", "x.json", "'text' twice"
    ),
    bad(
        "parquet: a column twice",
        "x.parquet",
        parquet(pyarrow.Table.from_arrays([["a"], ["b"]], names=["text", "text"])),
        "",
        "x.parquet",
        "'text' occurs twice",
    ),
    bad(
        "arrow: a column twice",
        "x.arrow",
        arrow_stream(pyarrow.Table.from_arrays([["a"], ["b"]], names=["text", "text"])),
        "",
        "'text' occurs twice",
    ),
    bad(
        "xlsx: a column twice",
        "x.xlsx",
        book([["text", "text"], ["a", "b"]]),
        "",
        "'text' occurs twice",
    ),
    bad(
        "jsonl: a broken line",
        "x.jsonl",
        '{"text": "a"}\n{"text": \n',
        "",
        "line 2",
        "no valid JSON",
        "--format",
    ),
    bad("jsonl: an array", "x.jsonl", json.dumps(rows()), "", "line 1", "list", "--format json"),
    bad("json: broken", "x.json", "[{", "", "x.json", "no valid JSON"),
    bad("json: too deep", "x.json", "[" * 100_000, "", "x.json", "no valid JSON"),
    bad(
        "json: several arrays",
        "x.json",
        json.dumps({"train": rows(), "test": rows()}),
        "",
        "train, test",
    ),
    bad("json: numbers", "x.json", "[1, 2]", "", "item 1", "int"),
    bad("csv: empty", "x.csv", "", "", "x.csv", "is empty"),
    bad("csv: header only", "x.csv", "text,kind\n", "", "is empty"),
    bad("parquet: no rows", "x.parquet", parquet(arrow(text=[])), "", "is empty"),
    bad("xlsx: empty", "x.xlsx", book([]), "", "is empty"),
    bad("jsonl: all left out", "x.jsonl", jsonl(rows([" "])), "--skip-blank", "is empty", "1 rows"),
    bad(
        "xlsx: two sheets",
        "x.xlsx",
        book([["text"], ["a"]], [["text"], ["b"]]),
        "",
        "First, Second",
        "x.xlsx:First",
    ),
    bad(
        "xlsx: no such sheet",
        "x.xlsx",
        book([["text"], ["a"]]),
        "",
        "no sheet 'Third'",
        "First",
        source="$d/FILE:Third",
    ),
    # Bytes
    bad(
        "txt: Windows-1252",
        "x.txt",
        "\n".join(("ok", *WESTERN)).encode("cp1252"),
        "",
        "line 2",
        "0xfc",
        "--encoding cp1252",
    ),
    bad(
        "csv: Windows-1252",
        "x.csv",
        "\n".join(("text", *WESTERN)).encode("cp1252"),
        "",
        "line 2",
        "--encoding cp1252",
    ),
    bad(
        "jsonl: invalid in one line",
        "x.jsonl",
        b'{"text": "a"}\n{"text": "\xff"}\n',
        "",
        "line 2",
        "0xff",
        "--encoding",
    ),
    bad(
        "txt: UTF-16 without a mark",
        "x.txt",
        "one two three\n".encode("utf-16-le"),
        "",
        "x.txt",
        "--encoding utf-16-le",
    ),
    bad(
        "txt: the wrong encoding",
        "x.txt",
        "one\n日本\n".encode(),
        "--encoding ascii",
        "line 2",
        "ASCII",
        "--encoding",
    ),
    bad("an unknown encoding", "x.txt", "one\n", "--encoding klingon", "--encoding", "klingon"),
    bad(
        "gzip: cut off",
        "x.jsonl.gz",
        gzip.compress(PLAIN["jsonl"][0].encode())[:-20],
        "",
        "x.jsonl.gz",
        "damaged or incomplete",
    ),
    bad("xz: damaged", "x.txt.xz", lzma.compress(b"one\n" * 99)[:40], "", "damaged or incomplete"),
    bad("zst: cut off", "x.txt.zst", zstd(LONG.encode())[:30], "", "damaged or incomplete"),
    bad("zip", "x.zip", b"PK\x03\x04 and more", "", "x.zip", "ZIP archive", "--format xlsx"),
    bad("zip named csv", "x.csv", b"PK\x03\x04 and more", "", "x.csv", "ZIP archive"),
    bad("pickle", "x.pkl", b"\x80\x04\x95", "", "pickle", "JSONL"),
    bad("parquet named csv", "x.csv", parquet(arrow(text=["a"])), "", "x.csv", "--format parquet"),
    bad(
        "parquet: cut off",
        "x.parquet",
        parquet(arrow(text=TEXTS))[:-30],
        "",
        "no valid Parquet",
        "--format",
    ),
    bad(
        "parquet: damaged within",
        "x.parquet",
        b"PAR1" + b"\0" * 200 + b"\0\0\0\0PAR1",
        "",
        "no valid Parquet",
    ),
    bad(
        "arrow: cut off", "x.arrow", arrow_stream(arrow(text=TEXTS))[:-100], "", "x.arrow", "Arrow"
    ),
    bad("xlsx: no workbook", "x.xlsx", b"not a workbook", "", "no valid .xlsx"),
    # Names
    bad("no such file", "", "", "", "no such file", "none.csv", source="$d/none.csv"),
    bad("no such file, no ending", "", "", "", "no such file", "OWNER/NAME", source="hypotheses"),
    bad(
        "a path that looks like a dataset",
        "",
        files(data__x_txt="a\n"),
        "",
        "no such file",
        "OWNER/NAME",
        source="data/missing",
    ),
    bad("an address", "", "", "", "https://", "download", source="https://example.org/x.csv"),
    bad("no match", "", files(a_txt="a\n"), "", "no such file", source="$d/*.csv"),
    bad(
        "one of several is not there",
        "",
        files(a_txt="a\n"),
        "",
        "no such file",
        "none.txt",
        source="$d/a.txt,$d/none.txt",
    ),
    bad(
        "no such split",
        "",
        files(train_txt="a\n", test_txt="b\n"),
        "",
        "no split 'dev'",
        "test, train",
        source="$d:dev",
    ),
    bad("unknown ending", "x.dat", "one\n", "", ".dat", "--format"),
    bad("unknown format", "x.dat", "one\n", "--format docx", "--format", "jsonl"),
    bad("no ending", "x", jsonl(rows()), "", "--format jsonl"),
    bad(
        "standard input of any kind", "", "one\ntwo\n", "", "standard input", "--format", source="-"
    ),
    bad(
        "a folder of several kinds",
        "",
        files(a_txt="a\n", b_csv="text\na\n"),
        "",
        "txt, csv",
        source="$d",
    ),
    bad("a folder of none", "", files(a_md="a\n"), "", "without a file to read", source="$d"),
]


def test_there_are_enough() -> None:
    assert len(GOOD) + len(BAD) >= 120
    for cases in (GOOD, BAD):
        assert len({case.name for case in cases}) == len(cases)


def prepare(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the case's files, and standard input; gives the source."""
    content = case.content.encode() if isinstance(case.content, str) else case.content
    if callable(content):
        content(folder)
    elif case.file:
        (folder / case.file).write_bytes(content)
    else:
        stdin = SimpleNamespace(buffer=io.BytesIO(content))
        monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.chdir(folder)
    return case.source.replace("FILE", case.file or "FILE").replace("$d", str(folder))


def read(source: str, options: str) -> Corpus:
    """Loads a source with options as a command would."""
    made: list[Corpus] = []

    def load(source: str, *, reading: ReadingOptions) -> None:
        made.append(load_corpus(source, reading=reading.settings()))

    app = typer.Typer(add_completion=False)
    app.command()(with_groups(load))
    app([*shlex.split(options), "--", source], standalone_mode=False)
    return made[0]


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_read_right(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = read(prepare(case, tmp_path, monkeypatch), case.options)
    assert corpus.texts == tuple(case.texts)
    assert corpus.labels == (None if case.labels is None else tuple(case.labels))
    said = " ".join(corpus.notes)
    assert all(note in said for note in case.notes), said
    assert bool(said) == bool(case.notes) or case.name.startswith(QUIET), said


QUIET = (
    "jsonl: ShareGPT",
    "jsonl: prompt",
    "jsonl: parts",
    "json: one chat",
    "parquet: messages",
    "csv: pipes",
    "csv: sep=",
)
"""Cases whose notes are those of another."""


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_refused_in_one_line(
    case: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source = prepare(case, tmp_path, monkeypatch)
    command = ["fit", "--prompt", "A text:", "--out", str(tmp_path / "new")]
    code = main([*command, *shlex.split(case.options), "--", source])
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line]
    assert code == 2
    assert line.startswith("error: ")
    assert [word for word in case.says if word not in line] == [], line
