"""Catalogue of tasks: the built-in ones, a user's own in YAML, and the real texts of either."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from steer.data.corpus import Corpus, load_corpus
from steer.data.hub import load_hub
from steer.data.labels import spell
from steer.data.questions import GRAMMAR
from steer.data.reading.settings import Reading
from steer.data.tasks import Hub, Task
from steer.errors import SteerError
from steer.files import read_regular
from steer.shapes import Shape
from steer.values import NOT_OURS

# Prompts and lengths are the paper's (arXiv 2308.07645).
HYPOTHESES = Task(
    name="hypotheses",
    prompt="### Instruction: Generate a scientific hypothesis about astronomy in the style of an "
    "Arxiv paper.\n ### Hypothesis:",
    max_new_tokens=100,
)
COMMENTS = Task(
    name="comments",
    prompt="### Instruction: Generate a {label} social media comment.\n ### Comment:",
    labels=("toxic", "non-toxic"),
    min_chars=20,
    max_new_tokens=75,
    hub=Hub(
        dataset="tasksource/jigsaw_toxicity",
        text="comment_text",
        label="toxic",
        names={0: "non-toxic", 1: "toxic"},
        min_chars=20,
        max_chars=400,
        most=4000,
    ),
)
COMMONSENSE = Task(
    name="commonsense",
    prompt="### Instruction: Generate a multiple-choice question that relies on common-sense to "
    "answer.\n ### Multiple-choice question:",
    form="question",
    shape=Shape("grammar", GRAMMAR),
    max_new_tokens=75,
    hub=Hub(dataset="tau/commonsense_qa", text="question", options="choices", answer="answerKey"),
)
BUILT_IN = {str(task.name): task for task in (HYPOTHESES, COMMENTS, COMMONSENSE)}

_SUFFIXES = (".yaml", ".yml")
LARGEST, MOST_VALUES = 2**20, 100_000
"""Bytes of a task's file, and values in it once its aliases are written out."""


def may_insult(name: str | None, prompts: Iterable[str]) -> bool:
    """Whether the texts of a task may insult: those of "comments" do, by name or by prompt."""
    return name == COMMENTS.name or COMMENTS.prompt in prompts


def load_task(name_or_path: str | Path) -> Task:
    """Loads a built-in task by its name, or a user's own from a YAML file.

    The file's keys are the fields of `Task`; those of `hub` are the fields of `Hub`, and `shape`
    is as `Shape.of` reads it, with files beside the YAML. A record with a shape may be short unless
    `min_chars` says otherwise. The task's name is the file's unless it gives one. Raises
    `SteerError` for an unknown name or key, a value of the wrong kind and what `Task`, `Shape` and
    `Hub` refuse.
    """
    if str(name_or_path) in BUILT_IN:
        return BUILT_IN[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix.lower() not in _SUFFIXES:
        raise SteerError(
            f"unknown task {str(name_or_path)!r}: choose one of {', '.join(BUILT_IN)}, "
            "or give a .yaml file"
        )
    try:
        return _task({"name": path.stem} | _shaped(_read_yaml(path), path.parent))
    except SteerError as error:
        raise SteerError(f"{path}: {error}") from None


def load_texts(
    task: Task | None,
    source: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    reading: Reading | None = None,
) -> Corpus:
    """Loads the real texts in `source`, or those the task has on the hub when there is no source.

    `source` and what says how it is read are those of `load_corpus`; the label column of a
    labelled task is "label" unless another is named. Rows are objects with the columns of the
    task's schema, if it has one, unless the text is named. Raises `SteerError` as `load_corpus` and
    `load_hub` do, and when there is no source at all.
    """
    reading = reading or Reading()
    label_column = label_column or reading.label_column
    if source is not None:
        if task and not text_column:
            reading = reading.of_shape(task.shape)
        default = "label" if task and task.labels else None
        return load_corpus(source, text_column, label_column or default, reading)
    if task is None or task.hub is None:
        which = f"the task {task.name!r} has no dataset on the hub" if task else "no task is named"
        raise SteerError(
            f"there are no real texts: {which}; give DATA, a file with one text a row or a "
            "Hugging Face dataset's name"
        )
    if text_column or label_column or reading != Reading():
        raise SteerError(
            "a column is named or another option of reading given, but no DATA; give DATA, or "
            "leave --text-column, --label-column and the like out"
        )
    return load_hub(task.hub, task.whitespace or "single")


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        values = _load_yaml(read_regular(path, LARGEST).decode("utf-8"))
    except OSError as error:
        raise SteerError(f"cannot read it: {error.strerror or error}") from None
    except (yaml.YAMLError, *NOT_OURS) as error:
        raise SteerError(f"no valid YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(values, dict):
        raise SteerError(
            f"no keys but {type(values).__name__}; write a line such as 'prompt: \"A hypothesis:\"'"
        )
    return values


def _shaped(values: dict[Any, Any], folder: Path) -> dict[Any, Any]:
    if "shape" not in values:
        return values
    return {"min_chars": 1} | values | {"shape": Shape.of(values["shape"], folder)}


def _load_yaml(text: str) -> Any:
    """Loads YAML with labels as they are written: `yes` is no boolean, and 1.0 and 1 are one."""
    loader = yaml.SafeLoader(text)
    try:
        document = loader.get_single_node()
        if document is not None and _size(document, {}) > MOST_VALUES:
            raise ValueError(f"with its aliases it has over {MOST_VALUES:,} values")
        for place in (("labels",), ("hub", "names")):
            _spell(document, place)
        return loader.construct_document(document) if document is not None else None
    finally:
        loader.dispose()


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Counts the values in a node, each alias as all that it stands for. Raises `ValueError` for
    an alias of what it is in."""
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise ValueError("an alias stands for what it is in")
        return sizes[id(node)]
    sizes[id(node)] = 0
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    inner = [each for part in parts for each in (part if isinstance(part, tuple) else (part,))]
    sizes[id(node)] = 1 + sum(_size(each, sizes) for each in inner)
    return sizes[id(node)]


def _spell(node: yaml.Node | None, path: tuple[str, ...]) -> None:
    """Makes strings of the scalars under a path of keys, and of a mapping's keys such as `yes`."""
    if path:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        for key, value in pairs:
            if key.value == path[0]:
                _spell(value, path[1:])
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _spell(value, ())
            if key.tag == "tag:yaml.org,2002:bool":
                _spell(key, ())
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _spell(each, ())
    elif isinstance(node, yaml.ScalarNode) and node.tag != "tag:yaml.org,2002:null":
        node.tag, node.value = "tag:yaml.org,2002:str", spell(node.value)


def _task(values: dict[Any, Any]) -> Task:
    known = [field.name for field in fields(Task)]
    for key in values:
        if key not in known:
            raise SteerError(f"unknown key {key!r}; the keys are {', '.join(known)}")
    if "prompt" not in values:
        raise SteerError("there is no prompt; write in a line what a record is")
    hub = values.get("hub")
    for key in hub if isinstance(hub, dict) else ():
        if not isinstance(key, str):
            raise SteerError(f"hub has the key {key!r}; its keys are text")
    try:
        return TypeAdapter(Task).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"][0].lower() + first["msg"][1:]
        raise SteerError(f"{place} is {first['input']!r}: {message}") from None
