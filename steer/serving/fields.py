"""Fields of bodies: what they all have in common, and what a text must be."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from steer.errors import SteerError
from steer.serving.refusal import Refusal
from steer.shapes import Shape

NEUTRAL: dict[str, Any] = {
    "best_of": 1,
    "frequency_penalty": 0,
    "logit_bias": {},
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "service_tier": "auto",
    "store": False,
    "suffix": "",
    "tools": [],
}
"""Fields that are not supported, with the value that asks for nothing, and so is allowed."""

LONGEST_SHAPE = 32_768
"""Characters of a schema, a grammar and the like: longer ones take a second and more to read."""

Text = Annotated[str, Field(max_length=100_000)]
Name = Annotated[str, Field(max_length=200)]


class Body(BaseModel):
    """What the bodies of requests, and the objects in them, have in common."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, values: Any) -> Any:
        """Leaves out what asks for nothing, which clients may send: null, and `NEUTRAL`."""
        if not isinstance(values, dict):
            return values
        return {
            name: value
            for name, value in values.items()
            if value is not None and not (name in NEUTRAL and value == NEUTRAL[name])
        }


class JsonSchema(Body):
    """OpenAI's `json_schema`; it is always held to, `strict` or not."""

    schema_: dict[str, Any] = Field(alias="schema")
    name: Name = ""
    description: Text = ""
    strict: bool = True


class ResponseFormat(Body):
    """OpenAI's `response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @property
    def shape(self) -> Shape | None:
        """What the text must be. Raises `Refusal` where a schema is not said."""
        if self.type == "text":
            return None
        if self.type == "json_schema" and self.json_schema is None:
            say = "response_format: json_schema is missing"
            raise Refusal(400, say, param="response_format")
        schema = self.json_schema.schema_ if self.json_schema else {"type": "object"}
        return _shape("response_format", "schema", schema)


class StructuredOutputs(Body):
    """vLLM's `structured_outputs`."""

    json_: dict[str, Any] | Text | None = Field(None, alias="json")
    regex: Text | None = None
    choice: Annotated[list[Text], Field(max_length=2000)] | None = None
    grammar: Text | None = None

    @property
    def shape(self) -> Shape:
        """What the text must be. Raises `Refusal` where nothing, or more than one thing, is
        said."""
        kinds = {"schema": self.json_, "regex": self.regex, "choices": self.choice}
        given = {name: value for name, value in kinds.items() if value is not None}
        given |= {"grammar": self.grammar} if self.grammar is not None else {}
        if len(given) != 1:
            say = "structured_outputs: give one of json, regex, choice and grammar"
            raise Refusal(400, say, param="structured_outputs")
        return _shape("structured_outputs", *given.popitem())


def _shape(field: str, kind: Any, value: Any) -> Shape:
    """Makes a shape; raises `Refusal` for one that is too long, or none."""
    try:
        source = value if isinstance(value, str) else json.dumps(value)
        if len(source) <= LONGEST_SHAPE:
            return Shape(kind, source)
        say = f"it has {len(source)} characters; give {LONGEST_SHAPE} at most"
    except RecursionError:
        say = "it is nested too deeply"
    except SteerError as error:
        say = str(error)
    raise Refusal(400, f"{field}: {say}", param=field)
