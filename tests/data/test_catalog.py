"""Built-in tasks, tasks in YAML, and the real texts of either."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset

from steer.data.catalog import BUILT_IN, COMMENTS, COMMONSENSE, HYPOTHESES, load_task, load_texts
from steer.data.corpus import Corpus
from steer.data.hub import load_hub
from steer.data.questions import parse_question
from steer.data.tasks import Hub, Task
from steer.errors import SteerError

Write = Callable[[str], Path]
Serve = Callable[[Dataset], list[tuple[Any, ...]]]

CHOICES = {"label": list("ABCDE"), "text": ["shelf", "fridge", "car", "sea", "desk"]}
ROW = {"question": "Where is\n milk?", "choices": CHOICES, "answerKey": "B"}
LINE = "Where is milk? A. shelf B. fridge C. car D. sea E. desk Answer: B"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(content: str) -> Path:
        path = tmp_path / "riddles.yaml"
        path.write_text(content, "utf-8")
        return path

    return make


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Puts a dataset where the hub would be; gives what was asked for."""

    def put(dataset: Dataset) -> list[tuple[Any, ...]]:
        asked: list[tuple[Any, ...]] = []

        def load_dataset(*names: str, split: str) -> Dataset:
            asked.append((*names, split))
            return dataset

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return put


def refused(call: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    with pytest.raises(SteerError) as error:
        call(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["hypotheses", "comments", "commonsense"])
def test_built_in_tasks_are_known_by_name(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert task is BUILT_IN[name]


def test_prompts_and_lengths_are_the_papers() -> None:
    assert HYPOTHESES.render() == (
        "### Instruction: Generate a scientific hypothesis about astronomy in the style of an "
        "Arxiv paper.\n ### Hypothesis:"
    )
    assert COMMENTS.render("non-toxic") == (
        "### Instruction: Generate a non-toxic social media comment.\n ### Comment:"
    )
    assert COMMONSENSE.render() == (
        "### Instruction: Generate a multiple-choice question that relies on common-sense to "
        "answer.\n ### Multiple-choice question:"
    )
    lengths = [task.max_new_tokens for task in (HYPOTHESES, COMMENTS, COMMONSENSE)]
    assert lengths == [100, 75, 75]


WHOLE = """
name: riddle
prompt: "A {label} riddle:"
labels: [easy, hard]
form: text
pattern: '.+\\?'
min_chars: 5
max_new_tokens: 60
hub:
  dataset: someone/riddles
  config: english
  split: "train[:100]"
  text: body
  label: level
  names: {0: easy, 1: hard}
  min_chars: 3
  max_chars: 50
  most: 7
"""


def test_a_file_may_give_everything(write: Write) -> None:
    assert load_task(str(write(WHOLE))) == Task(
        name="riddle",
        prompt="A {label} riddle:",
        labels=("easy", "hard"),
        pattern=r".+\?",
        min_chars=5,
        max_new_tokens=60,
        hub=Hub(
            dataset="someone/riddles",
            config="english",
            split="train[:100]",
            text="body",
            label="level",
            names={0: "easy", 1: "hard"},
            min_chars=3,
            max_chars=50,
            most=7,
        ),
    )


def test_a_prompt_is_enough(write: Write) -> None:
    assert load_task(write('prompt: "A riddle:"')) == Task("A riddle:", name="riddles")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "no keys but NoneType"),
        ("A riddle", "no keys but str"),
        ("- prompt", "no keys but list"),
        ("prompt: A riddle:", "no valid YAML: mapping values are not allowed"),
        ("labels: [a]", "there is no prompt"),
        ("promt: x", "unknown key 'promt'; the keys are prompt, labels, pattern"),
        ("prompt: x\n1: y", "unknown key 1"),
        ("prompt: 7", "prompt is 7: input should be a valid string"),
        ("prompt: ' '", "the prompt is empty"),
        ("prompt: x {label}", "the prompt has {label}"),
        ("prompt: x {label}\nlabels: [null, no]", "labels.0 is None: input should be"),
        ("prompt: x\nlabels: [a]", "the prompt has no {label}"),
        ("prompt: x\nform: poem", "form is 'poem': "),
        ("prompt: x\npattern: (", "is no regular expression"),
        ("prompt: x\nmin_chars: few", "min_chars is 'few'"),
        ("prompt: x\nmax_new_tokens: 0", "max_new_tokens is 0"),
        ("prompt: x\nhub: y", "hub is 'y'"),
        ("prompt: x\nhub: {split: y}", "dataset"),
        ("prompt: x\nhub: {dataset: y, colum: z}", "unknown setting 'colum'; the settings are"),
        ("prompt: x\nhub: {dataset: y, 5: z}", "hub has the key 5; its keys are text"),
        ("prompt: x\nhub: {dataset: y, options: z}", "one of options and answer"),
        ("prompt: !!python/object:os.system x", "no valid YAML"),
        ("prompt: \x01", "no valid YAML"),
    ],
)
def test_mistakes_in_a_file_name_it(write: Write, content: str, found: str) -> None:
    path = write(content)
    message = refused(load_task, path)
    assert message.startswith(f"{path}: ")
    assert found in message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "none.yml"
    assert refused(load_task, path) == f"{path}: cannot read it: No such file or directory"
    path.write_bytes(b"prompt: \xff")
    assert "no valid YAML" in refused(load_task, path)
    (tmp_path / "folder.yaml").mkdir()
    assert "cannot read it" in refused(load_task, tmp_path / "folder.yaml")


@pytest.mark.parametrize("name", ["hypothesis", "Comments", "", "task.json"])
def test_an_unknown_name_lists_the_known(name: str) -> None:
    message = refused(load_task, name)
    assert message.startswith(f"unknown task {name!r}: choose one of hypotheses, comments, common")


def test_questions_from_the_hub(serve: Serve) -> None:
    mixed = {"label": list("EDCBA"), "text": ["desk", "sea", "car", "fridge", "shelf"]}
    rows = [ROW, ROW | {"choices": mixed, "answerKey": "E"}]
    asked = serve(Dataset.from_list([row | {"id": "7"} for row in rows]))
    corpus = load_texts(COMMONSENSE)
    assert asked == [("tau/commonsense_qa", "train")]
    assert corpus == Corpus((LINE, LINE[:-1] + "E"), None, "tau/commonsense_qa:train")
    assert all(parse_question(text) for text in corpus.texts)


@pytest.mark.parametrize(
    "change",
    [
        {"answerKey": ""},
        {"answerKey": "F"},
        {"choices": {"label": list("ABCD"), "text": list("wxyz")}},
        {"choices": {"label": list("ABCDF"), "text": list("vwxyz")}},
        {"choices": {"label": list("AABCDE"), "text": list("uvwxyz")}},
        {"choices": {"label": list("ABCDE"), "text": list("wxyz")}},
        {"choices": None},
    ],
)
def test_a_row_that_is_no_question_is_named(serve: Serve, change: dict[str, Any]) -> None:
    serve(Dataset.from_list([ROW, ROW | change]))
    message = refused(load_texts, COMMONSENSE)
    assert message.startswith("tau/commonsense_qa:train: row 2 has no five options A to E")


def comments(*rows: tuple[str | None, Any]) -> Dataset:
    return Dataset.from_list([{"comment_text": text, "toxic": label} for text, label in rows])


def test_comments_from_the_hub(serve: Serve) -> None:
    """Texts on one line, of 20 to 400 characters, in their order, and labels by their names."""
    kept = ["a\n\n" + "b" * 18, "c" * 400, "d " * 10 + "d"]
    dropped = ["a\n\n\n" + "b" * 17, "c" * 401]
    asked = serve(
        comments((kept[0], 1), (dropped[0], 0), (kept[1], 0), (dropped[1], 1), (kept[2], 1))
    )
    corpus = load_texts(COMMENTS)
    assert asked == [("tasksource/jigsaw_toxicity", "train")]
    assert corpus.texts == ("a " + "b" * 18, kept[1], kept[2])
    assert corpus.labels == ("toxic", "non-toxic", "toxic")
    assert set(corpus.labels) == set(COMMENTS.labels)


def test_the_first_texts_of_each_label(serve: Serve) -> None:
    serve(comments(*((f"{row:030}", int(row % 5 == 0)) for row in range(20))))
    hub = Hub(dataset="x", text="comment_text", label="toxic", most=3)
    corpus = load_hub(hub)
    assert [int(text) for text in corpus.texts] == [0, 1, 2, 3, 5, 10]
    assert corpus.labels == ("1", "0", "0", "0", "1", "1")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (("b" * 30, -1), "row 2 has the label -1, which hub.names has no name for"),
        (("b" * 30, None), "row 2 has the label None"),
        ((None, 1), "row 2 has no value in column 'comment_text'"),
    ],
)
def test_a_bad_comment_is_named(serve: Serve, row: tuple[str | None, Any], found: str) -> None:
    serve(comments(("a" * 30, 1), row))
    assert found in refused(load_texts, COMMENTS)


def test_no_label_is_no_label_called_none(serve: Serve) -> None:
    serve(Dataset.from_list([{"text": "a", "kind": "x"}, {"text": "b", "kind": None}]))
    assert "row 2 has the label None" in refused(load_hub, Hub(dataset="x", label="kind"))


def test_a_dataset_without_the_columns_or_the_lengths(serve: Serve) -> None:
    serve(Dataset.from_list([{"text": "a", "kind": "b"}]))
    message = refused(load_texts, COMMENTS)
    assert "has no column 'comment_text'; its columns: text, kind" in message
    serve(comments(("short", 1)))
    assert "has no text of the wanted length" in refused(load_texts, COMMENTS)


def test_config_and_split_are_asked_for(serve: Serve) -> None:
    asked = serve(Dataset.from_list([{"text": "a"}]))
    assert load_hub(Hub(dataset="x/y", config="z", split="test")).source == "x/y:test"
    assert asked == [("x/y", "z", "test")]


def test_without_network_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: str, split: str) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    message = refused(load_texts, COMMONSENSE)
    assert message.startswith("no Hugging Face dataset can be loaded as tau/commonsense_qa, split")
    assert message.endswith("ConnectionError: no route; or give the real texts as a file")


def test_a_task_without_a_dataset_needs_a_file() -> None:
    message = refused(load_texts, HYPOTHESES)
    assert "the task 'hypotheses' has no dataset on the hub; give DATA" in message
    assert "no task is named; give DATA" in refused(load_texts, None)
    assert "give DATA, or leave --text-column" in refused(load_texts, COMMENTS, None, "body")


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of texts with labels; whatever asks for the hub instead fails."""
    monkeypatch.setattr(datasets, "load_dataset", None)
    path = tmp_path / "local.jsonl"
    rows = [{"text": "a", "label": "toxic", "kind": "x"}, {"text": "b", "label": "y", "kind": "z"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("task", "column", "labels"),
    [
        (COMMENTS, None, ("toxic", "y")),
        (COMMENTS, "kind", ("x", "z")),
        (COMMONSENSE, None, None),  # its "label" column holds the answer, which is in the text
        (HYPOTHESES, None, None),
        (None, None, None),
        (None, "kind", ("x", "z")),
    ],
)
def test_a_file_overrides(
    local: str, task: Task | None, column: str | None, labels: tuple[str, ...] | None
) -> None:
    assert load_texts(task, local, label_column=column) == Corpus(("a", "b"), labels, local)


def test_a_task_may_keep_the_lines_of_the_hubs_texts(serve: Serve) -> None:
    serve(Dataset.from_dict({"text": ["one\n  two", "three  four"]}))
    hub = Hub(dataset="someone/functions")
    assert load_texts(Task("A:", hub=hub)).texts == ("one two", "three four")
    assert load_texts(Task("A:", hub=hub, whitespace="exact")).texts == (
        "one\n  two",
        "three  four",
    )
    assert load_texts(Task("A:", hub=hub, whitespace="line")).texts == ("one two", "three  four")


def test_the_documented_file_works(write: Write) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "tasks.md").read_text("utf-8")
    task = load_task(write(page.split("```yaml\n")[1].split("```")[0]))
    assert task.render("easy") == "Write a easy riddle.\nRiddle:"
    assert task.hub is not None
    assert (task.pattern, task.hub.names) == (r".+\?", {0: "easy", 1: "hard"})


def test_the_documentation_names_every_task_and_dataset() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "tasks.md").read_text("utf-8")
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if "| `" in line}
    assert set(rows) == set(BUILT_IN)
    for name, task in BUILT_IN.items():
        assert all(f"`{label}`" in rows[name] for label in task.labels)
        assert (task.hub.dataset if task.hub else "bring a file") in rows[name]
