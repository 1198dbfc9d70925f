"""The options that say how texts are read, for every command that reads some."""

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated

import typer

from steer.cli import terminal
from steer.data.reading.settings import Reading
from steer.shapes import Shape

if TYPE_CHECKING:
    from steer.data.corpus import Corpus
    from steer.data.tasks import Task

READING = "Reading"


def _option(help: str, *names: str, metavar: str | None = None) -> object:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=READING)


@dataclass(frozen=True)
class ReadingOptions:
    """Options of reading, as they were given; each is a field of `Reading`."""

    text_column: Annotated[
        str | None,
        _option(
            'Column of the texts; a.b reaches into objects. (default: "text", or the only one)'
        ),
    ] = None
    label_column: Annotated[str | None, _option("Column of the labels, if there are any.")] = None
    text: Annotated[
        str | None,
        _option('Joins columns to a text, as "{title}: {body}".', metavar="TEMPLATE"),
    ] = None
    columns: Annotated[
        str | None,
        _option("Makes a text an object of these columns, as JSON.", metavar="NAME,..."),
    ] = None
    schema: Annotated[
        str | None,
        _option("The same of the columns that a JSON Schema in a file names.", metavar="FILE"),
    ] = None
    format: Annotated[
        str | None,
        _option(
            "What kind of file it is. (default: as its name ends)",
            metavar="jsonl|json|csv|tsv|txt|parquet|arrow|xlsx",
        ),
    ] = None
    separator: Annotated[
        str | None,
        _option("What ends a cell of CSV, as ';' or tab. (default: found)", metavar="CHARACTER"),
    ] = None
    header: Annotated[
        bool | None,
        _option(
            "Whether the first row names the columns. (default: found)", "--header/--no-header"
        ),
    ] = None
    quotes: Annotated[
        bool | None,
        _option(
            "Whether quotation marks hold a cell of CSV together. (default: yes)",
            "--quotes/--no-quotes",
        ),
    ] = None
    encoding: Annotated[
        str | None,
        _option("Such as cp1252 or utf-16. (default: UTF-8, or as its first bytes say)"),
    ] = None
    whole_files: Annotated[
        bool,
        _option("Read each file of plain text as one text. (default: a line is)", "--whole-files"),
    ] = False
    skip_blank: Annotated[
        bool, _option("Leave out rows without a text, and count them.", "--skip-blank")
    ] = False
    skip_control: Annotated[
        bool,
        _option("Leave out texts with control characters, and count them.", "--skip-control"),
    ] = False

    def settings(self) -> Reading:
        """The same as settings. Raises `SteerError` for a value that is none."""
        values = asdict(self)
        schema, columns = values.pop("schema"), values.pop("columns")
        values["shape"] = Shape.of({"schema": schema}) if schema else None
        named = (name.strip() for name in (columns or "").split(","))
        return Reading(**values, columns=tuple(name for name in named if name))

    def load(self, source: str, shape: Shape | None = None) -> "Corpus":
        """Loads texts as `load_corpus` does, objects of a `shape` if the options do not say where
        the text is; says what was decided."""
        from steer.data.corpus import load_corpus

        return _said(load_corpus(source, reading=self.settings().of_shape(shape)))

    def load_without_labels(self, source: str, shape: Shape | None = None) -> "Corpus":
        """The same for texts whose labels do not matter."""
        from steer.data.corpus import load_corpus

        unlabelled = self.settings().model_copy(update={"label_column": None})
        return _said(load_corpus(source, reading=unlabelled.of_shape(shape)))

    def load_for(self, task: "Task | None", source: str | None) -> "Corpus":
        """The same for the texts of a task, as `load_texts` does."""
        from steer.data.catalog import load_texts

        return _said(load_texts(task, source, reading=self.settings()))

    def words(self) -> tuple[str, ...]:
        """Writes the options that were given as words of a command line."""
        found: list[str] = []
        for field in fields(self):
            value, name = getattr(self, field.name), field.name.replace("_", "-")
            if value is True:
                found.append(f"--{name}")
            elif value is False and field.default is None:
                found.append(f"--no-{name}")
            elif value not in (None, False):
                found += [f"--{name}", str(value)]
        return tuple(found)


def _said(corpus: "Corpus") -> "Corpus":
    terminal.say(corpus.notes)
    return corpus
