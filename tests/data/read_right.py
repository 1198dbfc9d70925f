"""What is read, and to what."""

import decimal
import gzip
import json

import pyarrow
import pyarrow.feather
import pyarrow.parquet

from tests.data.inputs import (
    KIND,
    LABELS,
    LINES,
    LONG,
    PACKERS,
    PLAIN,
    TEXTS,
    TURNS,
    WESTERN,
    Case,
    arrow,
    arrow_stream,
    book,
    cells,
    dataset_parquet,
    edited,
    files,
    frame,
    jsonl,
    labelled,
    nested_labels,
    parquet,
    rows,
    same,
    saved,
    saved_splits,
    table,
)


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
    Case(
        "csv: sep= line with a tab and a mark",
        "x.csv",
        "\ufeffsep=\t\r\ntext\tkind\r\none\tx\r\n",
        KIND,
        ["one"],
        "x",
        notes=("tab",),
    ),
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
        notes=("first row", "'Kommentar'", "--no-header"),
    ),
    Case(
        "csv: a header that its looks tell, above two columns",
        "x.csv",
        "Kommentar,Sterne\nDas ist ein langer Text.,5\nDas ist noch so einer.,4\n",
        "",
        ["Das ist ein langer Text.", "Das ist noch so einer."],
        notes=("'Kommentar, Sterne'", "--no-header", "column Kommentar", "--text-column"),
    ),
    Case(
        "csv: spaces before quotation marks",
        "x.csv",
        'text, kind\n"one, two", "a"\n"  three", "b"\n',
        KIND,
        ["one, two", "  three"],
        "ab",
        notes=("spaces before quotation marks",),
    ),
    Case(
        "csv: spaces before quotation marks of texts",
        "x.csv",
        'kind, text\na, "one, two; three"\nb, "four; ""five"""\n',
        KIND,
        ["one, two; three", 'four; "five"'],
        "ab",
        notes=("spaces before quotation marks",),
    ),
    Case(
        "csv: quotation marks after a comma in a text",
        "x.csv",
        'text\n"She said, ""no"", and left"\n"He said, ""yes"""\n',
        "",
        ['She said, "no", and left', 'He said, "yes"'],
    ),
    Case(
        "csv: an unnamed index of words",
        "x.csv",
        ",text,kind\nrow a,one,x\nrow b,two,y\n",
        KIND,
        ["one", "two"],
        "xy",
    ),
    Case(
        "csv: single quotes",
        "x.csv",
        "text,kind\n'a, b','x'\n'it''s\nc','y'\n",
        KIND,
        ["a, b", "it's\nc"],
        "xy",
        notes=("single quotes", "--no-quotes"),
    ),
    Case(
        "csv: single quotes, semicolons and spaces",
        "x.csv",
        "id; text; kind\n1; 'a; b'; 'x'\n2; 'c'; 'y'\n",
        KIND,
        ["a; b", "c"],
        "xy",
        notes=("semicolon", "single quotes", "spaces before quotation marks"),
    ),
    Case(
        "csv: single quotes that are part of the texts",
        "x.csv",
        "text\n'Hello there.'\n'Good bye.'\n",
        "--no-quotes",
        ["'Hello there.'", "'Good bye.'"],
    ),
    Case(
        "csv: apostrophes",
        "x.csv",
        "text,kind\n'Tis so,'x'\n\"the dogs', he said\",'y'\n\"['a','b']\",z\n",
        "",
        ["'Tis so", "the dogs', he said", "['a','b']"],
    ),
    Case(
        "tsv: lists of Python",
        "x.tsv",
        "text\tkind\none\t['a','b','c']\ntwo\t['a','b','c']\n",
        "",
        ["one", "two"],
    ),
    Case(
        "csv: chats as JSON",
        "x.csv",
        cells(["id", "messages"], ["1", json.dumps(TURNS)], ["2", json.dumps(TURNS[:2])]),
        "",
        ["Yes,\nreally.", "Because."],
        notes=("last answer in messages", "strings in messages"),
    ),
    Case(
        "csv: chats as pandas writes them",
        "x.csv",
        cells(["source", "talk"], ["web", str(TURNS)]),
        "--text-column talk",
        ["Yes,\nreally."],
        notes=("strings in talk",),
    ),
    Case(
        "csv: a chat in a template",
        "x.csv",
        cells(["title", "talk"], ["A", json.dumps(TURNS[:2])]),
        "--text '{title}: {talk}'",
        ["A: Because."],
        notes=("strings in talk",),
    ),
    Case(
        "csv: names of columns again",
        "x.csv",
        "text,kind\none,x\n\ufefftext,kind\ntwo,y\n",
        KIND,
        ["one", "\ufefftext", "two"],
        ["x", "kind", "y"],
        notes=("the names of the columns stand again in 1 row,",),
    ),
    Case(
        "csv: what stands for nothing",
        "x.csv",
        "text,kind\nnan,x\n\\N,NULL\nnone of it,none\n",
        KIND,
        ["nan", "\\N", "none of it"],
        ["x", "NULL", "none"],
        notes=("2 of its texts say only 'nan'", "1 of its labels are such as 'NULL'"),
    ),
    Case(
        "csv: read in a wrong encoding before",
        "x.csv",
        "text\nDon\u00e2\u20ac\u2122t\nfa\ufffdade\nÂge\n",
        "",
        ["Don\u00e2\u20ac\u2122t", "fa\ufffdade", "Âge"],
        notes=("2 of its texts hold characters that a wrong encoding leaves",),
    ),
    Case(
        "csv: labels in brackets",
        "x.csv",
        "text,kind\none,[unk]\ntwo,{x}\n",
        KIND,
        ["one", "two"],
        ["[unk]", "{x}"],
    ),
    Case("csv: pandas index", "x.csv", lambda d: frame().to_csv(d / "x.csv"), KIND, TEXTS, LABELS),
    Case(
        "csv: pandas index and another name",
        "x.csv",
        lambda d: frame().rename(columns={"text": "comment"}).to_csv(d / "x.csv"),
        KIND,
        TEXTS,
        LABELS,
        notes=("column comment", "--text-column"),
    ),
    Case(
        "csv: numbers beside the texts",
        "x.csv",
        "id,comment\n1,Fine by me\n2,Not by me\n",
        "",
        ["Fine by me", "Not by me"],
        notes=("column comment", "--text-column"),
    ),
    Case(
        "csv: questions and answers",
        "x.csv",
        "question,answer\nWhy so?,Because.\nWhy not?,No reason.\n",
        "",
        ["Because.", "No reason."],
        notes=("column answer", "--columns question,answer"),
    ),
    Case(
        "csv: pairs",
        "x.csv",
        "question,answer\nWhy so?,Because.\nWhy not?,\n",
        "--columns question,answer",
        [
            '{"question": "Why so?", "answer": "Because."}',
            '{"question": "Why not?", "answer": ""}',
        ],
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
        notes=("left out 2 rows with a blank text",),
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
        "jsonl: a chat beside a name",
        "x.jsonl",
        jsonl([{"id": "identity 0", "messages": TURNS}]),
        "",
        ["Yes,\nreally."],
        notes=("last answer in messages",),
    ),
    Case(
        "jsonl: a chat that goes on after its answer",
        "x.jsonl",
        jsonl([{"messages": TURNS}, {"messages": TURNS[:3]}]),
        "",
        ["Yes,\nreally.", "Because."],
        notes=("1 of its chats go on after their last answer, the first ends with 'Really?'",),
    ),
    Case(
        "jsonl: Alpaca",
        "x.jsonl",
        jsonl([{"instruction": "i", "input": "", "output": "o"}]),
        "",
        ["o"],
        notes=("column output", "--columns instruction,output"),
    ),
    Case(
        "jsonl: prompt, chosen and rejected",
        "x.jsonl",
        jsonl([{"prompt": "p", "chosen": "good", "rejected": "bad"}]),
        "",
        ["good"],
        notes=("column chosen", "--columns prompt,chosen"),
    ),
    Case(
        "jsonl: prompt, and chats that are chosen",
        "x.jsonl",
        jsonl([{"prompt": "Why?", "chosen": TURNS[:2], "rejected": TURNS}]),
        "",
        ["Because."],
        notes=("last answer in chosen",),
    ),
    Case(
        "jsonl: Dolly",
        "x.jsonl",
        jsonl([{"instruction": "i", "context": "", "response": "r", "category": "c"}]),
        "",
        ["r"],
        notes=("column response", "--columns instruction,response"),
    ),
    Case(
        "jsonl: a chat on each line",
        "x.jsonl",
        jsonl([TURNS, TURNS[:2]]),
        "",
        ["Yes,\nreally.", "Because."],
        notes=("last answer in messages",),
    ),
    Case(
        "jsonl: an object beside the only texts",
        "x.jsonl",
        jsonl([{"title": "A", "parts": [{"body": "one"}]}]),
        "",
        ["A"],
        notes=("column title", "--text-column"),
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
        "json: pandas index",
        "x.json",
        lambda d: frame().to_json(d / "x.json", orient="index"),
        KIND,
        TEXTS,
        LABELS,
    ),
    Case(
        "json: pandas index of one row",
        "x.json",
        json.dumps({"0": {"title": "A", "text": "one"}}),
        "",
        ["one"],
    ),
    Case(
        "json: rows by an id",
        "x.json",
        json.dumps({"x": {"title": "A", "text": "one"}, "y": {"title": "B", "text": "two"}}),
        "",
        ["one", "two"],
    ),
    Case(
        "json: an export of Claude",
        "x.json",
        json.dumps(
            [
                {
                    "name": "A talk",
                    "chat_messages": [
                        {"sender": "human", "text": "Why?"},
                        {"sender": "assistant", "text": "Because."},
                    ],
                }
            ]
        ),
        "",
        ["Because."],
        notes=("last answer in chat_messages",),
    ),
    Case(
        "jsonl: contents of Gemini",
        "x.jsonl",
        jsonl(
            [
                {
                    "contents": [
                        {"role": "user", "parts": [{"text": "Why?"}]},
                        {"role": "model", "parts": [{"text": "Because."}]},
                    ]
                }
            ]
        ),
        "",
        ["Because."],
        notes=("last answer in contents",),
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
        "txt: CSV after all",
        "x.txt",
        "text,label\none,a\n",
        "",
        ["text,label", "one,a"],
        notes=("'text,label'", "--format csv"),
    ),
    Case(
        "txt: commas in a first line that names nothing",
        "x.txt",
        "Well, then; a text, said he.\nOne, two.\n",
        "",
        ["Well, then; a text, said he.", "One, two."],
    ),
    Case(
        "txt: JSON after all",
        "x.txt",
        jsonl(rows(["a"])),
        "",
        ['{"text": "a"}'],
        notes=("--format jsonl",),
    ),
    Case(
        "txt: a JSON array after all",
        "x.txt",
        '[{"text": "a"},\n{"text": "b"}]\n',
        "",
        ['[{"text": "a"},', '{"text": "b"}]'],
        notes=("--format json",),
    ),
    Case(
        "txt: brackets",
        "x.txt",
        "[Music] hey\n[softly] you\n",
        "",
        ["[Music] hey", "[softly] you"],
    ),
    Case(
        "txt: an export of a chat",
        "x.txt",
        "\u200e[31.12.26, 10:00:00] Ann: Hello\n12/31/26, 10:01 - Bob: Hi\nthere\n",
        "",
        ["\u200e[31.12.26, 10:00:00] Ann: Hello", "12/31/26, 10:01 - Bob: Hi", "there"],
        notes=("begin with a date and a time",),
    ),
    Case(
        "txt: labels of fastText",
        "x.txt",
        "__label__a one\n__label__b two\n",
        "",
        ["__label__a one", "__label__b two"],
        notes=("begin with __label__",),
    ),
    Case(
        "txt: a page of HTML",
        "x.txt",
        "<!DOCTYPE html>\n<p>one</p>\n",
        "",
        ["<!DOCTYPE html>", "<p>one</p>"],
        notes=("HTML",),
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
    *(
        Case(
            f"parquet: class labels in {path}",
            "FILE",
            nested_labels,
            f"--label-column {path} --format parquet",
            ["a", "b"],
            ["yes", "no"],
        )
        for path in ("one.kind", "several.0", "objects.0.kind")
    ),
    Case(
        "parquet: numbers and nothing in a record",
        "x.parquet",
        parquet(arrow(body=["a"], price=[decimal.Decimal("1.50")], x=[float("nan")])),
        "--columns body,price,x",
        ['{"body": "a", "price": 1.5, "x": null}'],
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
        "parquet: answers beside what they answer",
        "x.parquet",
        parquet(arrow(prompt=["p"], completion=["c"], n=[1])),
        "--text-column completion",
        ["c"],
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
        notes=("column body",),
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
    Case(
        "xlsx: formulas beside the texts",
        "x.xlsx",
        book([["text", "n"], ["a", "=1+1"], ["b", "=1+2"]]),
        "",
        "ab",
    ),
    Case(
        "xlsx: formulas with their values",
        "x.xlsx",
        edited(
            book([["text"], ["a"], ["=A2"], ["=A3"]]),
            (b'<c r="A3"><f>A2</f><v></v>', b'<c r="A3" t="str"><f>A2</f><v>a</v>'),
            (b'<c r="A4"><f>A3</f><v></v>', b'<c r="A4" t="str"><f>A3</f><v>b</v>'),
        ),
        "",
        "aab",
    ),
    Case(
        "xlsx: formulas and errors left out",
        "x.xlsx",
        book([["text"], ["a"], ["=A2"], ["#REF!"], ["b"]]),
        "--skip-blank",
        "ab",
        notes=("2 rows with a formula or an error",),
    ),
    Case(
        "xlsx: a false size",
        "x.xlsx",
        edited(
            book([["text", "kind"], ["a", "x"], ["b", "y"]]),
            (b'<dimension ref="A1:B3"', b'<dimension ref="A1:A2"'),
        ),
        KIND,
        "ab",
        "xy",
    ),
    # Several files
    Case(
        "a folder of documents, by lines",
        "",
        files(a_txt="one\ntwo\n", b_txt="three\nfour\n"),
        "",
        ["one", "two", "three", "four"],
        notes=("each line of 2 files is a text", "--whole-files"),
        source="$d",
    ),
    Case(
        "a folder of documents",
        "",
        files(pos__b_txt="one\r\n\r\ntwo\r\n", pos__a_txt="\ufeffthree\n\n", neg__c_txt=" four"),
        "--whole-files --label-column folder",
        [" four", "three\n", "one\r\n\r\ntwo"],
        ["neg", "pos", "pos"],
        source="$d",
    ),
    Case(
        "a document by another name",
        "x.md",
        "# one\n\ntwo\n",
        "--whole-files --format txt",
        ["# one\n\ntwo"],
    ),
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
        "the same of many files",
        "",
        files(**{f"part_{n}_txt": f"{n}\n\n.\n" for n in range(12)}),
        "--skip-blank",
        [text for n in range(12) for text in (str(n), ".")],
        notes=(
            "each line of 12 files",
            "part_0.txt and 11 more files, each: left out 1 row with a blank",
        ),
        source="$d",
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
