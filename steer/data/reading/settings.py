"""Settings of reading: what a user can say about a file that it does not say itself."""

import re
from typing import Literal, get_args

from pydantic import field_validator, model_validator

from steer.config import Config
from steer.errors import SteerError
from steer.shapes import Shape

Format = Literal["jsonl", "json", "csv", "tsv", "txt", "parquet", "arrow", "xlsx"]
FIELD = re.compile(r"\{([^{}]+)\}")
_SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


class Reading(Config):
    """Settings of reading; each is the option of that name.

    The text is the column `text_column`, or is joined of columns by the template `text`, such as
    "{title}: {body}"; or it is an object of several `columns`, or of those that a schema (`shape`)
    names, as JSON. `label_column` is the label's. "a.b" reaches into objects. Where a setting
    is None the file decides: its `format` by its name, the `separator` of cells, whether there is
    a `header`, whether `quotes` hold cells together, its `encoding`. With `whole_files` a file of
    plain text is one text. Rows with a blank text, or with control characters, are an error unless
    `skip_blank` or `skip_control` leaves them out.
    """

    text_column: str | None = None
    label_column: str | None = None
    text: str | None = None
    columns: tuple[str, ...] = ()
    shape: Shape | None = None
    format: Format | None = None
    separator: str | None = None
    header: bool | None = None
    quotes: bool | None = None
    encoding: str | None = None
    whole_files: bool = False
    skip_blank: bool = False
    skip_control: bool = False

    @field_validator("format", mode="before")
    @classmethod
    def _check_format(cls, value: str | None) -> str | None:
        known = get_args(Format)
        if value is not None and value not in known:
            raise SteerError(f"--format is {value!r}: choose one of {', '.join(known)}")
        return value

    @field_validator("separator")
    @classmethod
    def _check_separator(cls, value: str | None) -> str | None:
        value = _SEPARATORS.get(value or "", value)
        if value is not None and (len(value) != 1 or value in '\r\n"'):
            raise SteerError(f"--separator is {value!r}: give one character, such as ';' or tab")
        return value

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str | None) -> str | None:
        try:
            b"a".decode(value or "utf-8", "replace")
        except (LookupError, ValueError):
            raise SteerError(
                f"--encoding is {value!r}, which is not known; such as utf-8, utf-16 or cp1252"
            ) from None
        return value

    @model_validator(mode="after")
    def _check_text(self) -> "Reading":
        given: dict[str, object] = {"--text": self.text, "--text-column": self.text_column}
        given |= {"--columns": self.columns, "--schema": self.shape}
        chosen = [option for option, value in given.items() if value]
        if len(chosen) > 1:
            raise SteerError(f"found {' and '.join(chosen)}; give one of them")
        if self.shape and not self.shape.properties:
            raise SteerError(
                'the schema has no properties; write {"properties": {...}}, a column each'
            )
        if self.text is not None and not self.fields:
            raise SteerError(
                f"--text is {self.text!r}, which names no column; write such as "
                "'{title}: {body}', or --text-column NAME"
            )
        return self

    @property
    def record(self) -> tuple[str, ...]:
        """Columns of a text that is an object; empty where it is none."""
        return self.columns or tuple(self.shape.properties if self.shape else ())

    @property
    def fields(self) -> tuple[str, ...]:
        """Columns that a text is made of, in their order, where it is made of several."""
        return self.record or tuple(FIELD.findall(self.text or ""))

    def of_shape(self, shape: Shape | None) -> "Reading":
        """The same settings for rows that are objects of a schema's columns, where these do not
        say where the text is."""
        columns = shape is not None and shape.properties and self.finds_text
        return self.model_copy(update={"shape": shape}) if columns else self

    @property
    def finds_text(self) -> bool:
        """Whether the file decides where the text is."""
        return self.text_column is None and not self.fields
