import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from steer.data.corpus import Corpus, as_corpus, load_corpus
from steer.errors import SteerError

ROWS = [
    {"id": 1, "text": "Was, ist „das“?", "kind": "a"},
    {"id": 2, "text": 'two\nlines "quoted"', "kind": "b"},
    {"id": 3, "text": "line\u2028separator", "kind": "a"},
]
TEXTS = tuple(row["text"] for row in ROWS)
KINDS = ("a", "b", "a")

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def refused(source: str | Path, **columns: str) -> str:
    with pytest.raises(SteerError) as error:
        load_corpus(source, **columns)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_jsonl_with_blank_lines_and_byte_order_mark(write: Write) -> None:
    path = write("x.jsonl", "\ufeff" + jsonl(ROWS[:1]) + "\n\r\n" + jsonl(ROWS[1:]))
    corpus = load_corpus(path, label_column="kind")
    assert (corpus.texts, corpus.labels, corpus.source) == (TEXTS, KINDS, str(path))
    assert corpus.label_names == ("a", "b")


def test_csv_with_quoted_commas_quotes_and_newlines(write: Write) -> None:
    content = (
        'kind,text\r\na,"Was, ist „das“?"\r\nb,"two\nlines ""quoted"""\r\na,line\u2028separator'
    )
    corpus = load_corpus(write("x.csv", content), label_column="kind")
    assert (corpus.texts, corpus.labels) == (TEXTS, KINDS)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    corpus = load_corpus(path, label_column="kind")
    assert (corpus.texts, corpus.labels) == (TEXTS, KINDS)


def test_plain_text_is_a_line_each(write: Write) -> None:
    corpus = load_corpus(write("x.TXT", "one\r\n two\u2028 \nthree\n\n \n"))
    assert corpus.texts == ("one", " two\u2028 ", "three")
    assert corpus.labels is None
    assert corpus.label_names == ()


def test_the_only_column_of_strings_is_the_text(write: Write) -> None:
    rows = [{"id": 1, "kind": "a", "question": "Why?"}, {"id": 2, "kind": "b", "question": "How?"}]
    corpus = load_corpus(write("x.jsonl", jsonl(rows)), label_column="kind")
    assert corpus.texts == ("Why?", "How?")


def test_the_text_column_can_be_chosen(write: Write) -> None:
    assert load_corpus(write("x.jsonl", jsonl(ROWS)), text_column="kind").texts == KINDS


def test_numbers_and_booleans_may_be_labels(write: Write) -> None:
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": True}]
    assert load_corpus(write("x.jsonl", jsonl(rows)), label_column="label").labels == ("1", "True")


def test_dataset_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features(
        text=datasets.Value("string"),
        label=datasets.ClassLabel(names=["no", "yes"]),
        vector=datasets.List(datasets.Value("float32")),
    )
    rows = {"text": ["a", "b"], "label": [1, 0], "vector": [[0.5], [1.5]]}
    asked = []

    def load_dataset(name: str, split: str) -> datasets.Dataset:
        asked.append((name, split))
        return datasets.Dataset.from_dict(rows, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = load_corpus("someone/some-data:test[:10]", label_column="label")
    assert corpus == Corpus(("a", "b"), ("yes", "no"), "someone/some-data:test[:10]")
    assert load_corpus("someone/some-data", "text").source == "someone/some-data"
    assert asked == [("someone/some-data", "test[:10]"), ("someone/some-data", "train")]


def test_a_dataset_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(name: str, split: str) -> None:
        raise ConnectionError(f"no route to {name}\nand much more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    message = refused("someone/some-data")
    assert message.startswith("someone/some-data is no file, and no Hugging Face dataset")
    assert message.endswith("ConnectionError: no route to someone/some-data")


BAD_FILES = [
    ("x.jsonl", "", "is empty"),
    ("x.jsonl", "\n \n", "is empty"),
    ("x.txt", "\n\n", "is empty"),
    ("x.csv", "", "is empty"),
    ("x.csv", "text\n", "is empty"),
    ("x.jsonl", '{"text": "a"}\n\n{"text": "b"\n', "line 3 is no valid JSON"),
    ("x.jsonl", "[" * 100_000, "line 1 is no valid JSON"),
    ("x.jsonl", '{"text": "a"}\n["b"]\n', "line 2 is no JSON object but list"),
    ("x.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "line 2 is no valid UTF-8 (byte 0xff after"),
    ("x.csv", b"text\nok\n\xe9t\xe9\n", "line 3 is no valid UTF-8"),
    ("x.jsonl", '{"text": "a"}\n{"text": 7}\n', "line 2 has a int in column 'text'"),
    ("x.jsonl", '{"text": "a"}\n{"text": null}\n', "line 2 has no value in column 'text'"),
    ("x.jsonl", '{"text": "a"}\n{"txt": "b"}\n', "line 2 has no value in column 'text'"),
    ("x.jsonl", '{"text": "a"}\n{"text": " "}\n{"text": ""}', "line 2 has a blank text (2 in all"),
    ("x.jsonl", '{"text": "\\ud800"}', "line 1 holds half a character"),
    ("x.txt", "a\n\nb\n\nc\n", "line 2 has a blank text (2 in all)"),
    ("x.csv", "text,kind\na\n", "row 1 has 1 cells but the first row has 2"),
    ("x.csv", "text,kind\na,b\nc, d, e\n", "row 2 has 3 cells"),
    ("x.csv", 'text\n"a', "no valid CSV"),
    ("x.csv", "text,text\na,b\n", "the column name 'text' occurs twice"),
    ("x.parquet", b"PAR1 but no more", "no valid Parquet"),
    ("x.parquet", b"", "no valid Parquet"),
    ("x.json", "[]", "is empty"),
    ("x.dat", "a", "unknown extension .dat; give --format, such as csv or txt (known are .jsonl"),
    ("x", "a\n", "unknown extension (none)"),
    (
        "x.jsonl",
        '{"a": "x", "b": "y", "c": 1}\n',
        "no column 'text'; choose its column with --text-column: a, b, c",
    ),
    ("x.jsonl", '{"a": 1}\n', "no column 'text'; choose its column with --text-column: a"),
    ("x.jsonl", "{}\n", "no column 'text'; choose its column with --text-column: none"),
]


@pytest.mark.parametrize(("name", "content", "found"), BAD_FILES)
def test_bad_files_say_what_and_where(
    write: Write, name: str, content: str | bytes, found: str
) -> None:
    path = write(name, content)
    message = refused(path)
    assert found in message
    assert str(path) in message


def test_wrong_columns_are_told_the_right_ones(write: Write) -> None:
    path = write("x.jsonl", jsonl(ROWS))
    listed = "its columns: id, text, kind"
    assert f"no text column 'body'; {listed}" in refused(path, text_column="body")
    assert f"no label column 'topic'; {listed}" in refused(path, label_column="topic")


@pytest.mark.parametrize(
    ("label", "found"),
    [(None, "line 2 has no value"), (" ", "blank label"), ([1.5], "a list, which can be no label")],
)
def test_bad_labels(write: Write, label: Any, found: str) -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": label}]
    assert found in refused(write("x.jsonl", jsonl(rows)), label_column="label")


@pytest.mark.parametrize("name", ["no.jsonl", "/no/such/file", "./x", "a/b/c", "no.txt", ""])
def test_missing_files(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no such file" in refused(name)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)


def test_fingerprint_is_of_texts_and_labels_alone() -> None:
    corpus = Corpus(("a", "b"), None, "here")
    assert len(corpus.fingerprint) == 16
    assert corpus.fingerprint == Corpus(("a", "b"), None, "there").fingerprint
    others = [
        Corpus(("b", "a"), None, "here"),
        Corpus(("ab",), None, "here"),
        Corpus(("a", "b"), ("a", "b"), "here"),
        Corpus(("a", "b"), ("b", "a"), "here"),
    ]
    assert len({corpus.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_a_list_of_strings_is_a_corpus() -> None:
    assert Corpus.of(["a", "b"]) == Corpus(("a", "b"), None, "texts")
    assert Corpus.of(iter("ab"), [1, "x"], "mine") == Corpus(("a", "b"), ("1", "x"), "mine")
    assert as_corpus(("a", "b")) == as_corpus(Corpus.of(["a", "b"]))


@pytest.mark.parametrize(
    ("texts", "labels", "found"),
    [
        ("real.jsonl", None, "texts is a str: 'real.jsonl'; give a list of strings or a Corpus"),
        (Path("real.jsonl"), None, "texts is a PosixPath: 'real.jsonl'; give a list"),
        ({"a": "b"}, None, "texts is a dict"),
        ({"a"}, None, "texts is a set"),
        (None, None, "texts is a NoneType"),
        ([], None, "texts is empty"),
        (["a", 5], None, "texts: item 1 has a int in column 'text', not a string: '5'"),
        (["a", " \n"], None, "texts: item 1 has a blank text"),
        (["a", "\ud800"], None, "texts: item 1 holds half a character"),
        (["a", "b"], ["x"], "texts has 2 texts but 1 labels"),
        (["a", "b"], "xy", "labels of texts is a str"),
        (["a", "b"], ["x", None], "texts: item 1 has no value in column 'label'"),
    ],
)
def test_what_is_no_list_of_strings_is_refused(texts: Any, labels: Any, found: str) -> None:
    with pytest.raises(SteerError) as error:
        Corpus.of(texts, labels)
    assert found in str(error.value)
    assert "\n" not in str(error.value)
