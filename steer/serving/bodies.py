"""Bodies of requests: OpenAI's fields as far as they mean something here, and ours beside them."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from steer.data.reading.chats import Chat
from steer.serving.fields import Body, Name, ResponseFormat, StructuredOutputs, Text
from steer.serving.refusal import Refusal
from steer.shapes import Shape

Texts = Annotated[list[Text], Field(max_length=64)]
Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=8192)]


class StreamOptions(Body):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class Asked(Body):
    """Fields of all requests; `structured_outputs` is vLLM's. The second half is ours
    (`extra_body`): the strengths and the method as in `steer generate`; `away` and `towards` are
    texts, or ids: of real ones such as "real:17", and of written ones such as "cmpl-1f/0". `kept`
    joins the pool that panels are drawn from. `trace` adds the candidates for each token."""

    model: Name
    n: int = Field(1, ge=1, le=64)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Text | Annotated[list[Text], Field(max_length=4)] = ()  # type: ignore[assignment]
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    user: Name | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None

    method: Name | None = None
    gamma: float | None = Field(None, ge=0, le=10)
    eta: float | None = Field(None, ge=0, le=10)
    rho: float | None = Field(None, ge=0, lt=1)
    alpha: float | None = Field(None, ge=0, lt=1)
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, lt=1)
    panel_size: int | None = Field(None, ge=1, le=64)
    label: Name | None = None
    away: Texts | None = None
    towards: Texts | None = None
    kept: list[Text] = Field(default_factory=list, max_length=2000)
    trace: bool = False

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end a record, without blank ones."""
        given = (self.stop,) if isinstance(self.stop, str) else self.stop
        return tuple(each for each in given if each)

    @property
    def shape(self) -> tuple[str, Shape] | None:
        """What each text must be, and the field that says so. Raises `Refusal` where two do."""
        given = {
            name: field.shape
            for name in ("response_format", "structured_outputs")
            if (field := getattr(self, name)) is not None
        }
        found = [(name, shape) for name, shape in given.items() if shape]
        if len(found) > 1:
            raise Refusal(400, f"{found[0][0]} and {found[1][0]}: give one", param=found[1][0])
        return found[0] if found else None

    @property
    def turns(self) -> Chat:
        """What is said before the text, where it is an answer in a chat; empty without that."""
        return ()

    @property
    def prompts(self) -> list[str | list[int]]:
        """What each text begins with: characters, or token ids."""
        return [""]

    @property
    def instruction(self) -> str:
        """The prompt that the model reads instead of the expert's own; "" for that."""
        return ""

    @property
    def most(self) -> int | None:
        """Most new tokens."""
        raise NotImplementedError

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens are told; None for no log-probability at all."""
        return None

    @property
    def echoes(self) -> bool:
        """Whether the answer begins with what the text began with."""
        return False


class CompletionBody(Asked):
    """Body of /v1/completions. `prompt` is how the text begins, and may be empty; one that begins
    with the expert's own prompt is that prompt and the beginning after it."""

    prompt: Text | Tokens | Texts = ""
    max_tokens: int | None = Field(None, ge=1)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False

    @property
    def prompts(self) -> list[str | list[int]]:
        given = self.prompt
        if isinstance(given, str) or not given or isinstance(given[0], int):
            return [given or ""]  # type: ignore[list-item]
        return list(given)

    @property
    def most(self) -> int | None:
        return self.max_tokens

    @property
    def top(self) -> int | None:
        return self.logprobs

    @property
    def echoes(self) -> bool:
        return self.echo


class Part(Body):
    """A part of a message; only text is read."""

    type: Literal["text"]
    text: Text


class Message(Body):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(max_length=64)] = ""
    name: Text | None = None

    @property
    def speaker(self) -> str:
        """Who speaks, as chat templates know them."""
        return "system" if self.role == "developer" else self.role

    @property
    def text(self) -> str:
        """All of its text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatBody(Asked):
    """Body of /v1/chat/completions. An expert of chats answers the messages. For another, what the
    system and the user say is the prompt; where that is empty, it is the expert's own. A last
    message of the assistant is how the text begins."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=64)]
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)

    @property
    def prompts(self) -> list[str | list[int]]:
        last = self.messages[-1]
        return [last.text if last.role == "assistant" else ""]

    @property
    def turns(self) -> Chat:
        answered = self.messages[: -1 if self.messages[-1].role == "assistant" else None]
        said = tuple((each.speaker, each.text) for each in answered)
        return said if any(text.strip() for _, text in said) else ()

    @property
    def instruction(self) -> str:
        said = [each.text for each in self.messages if each.role != "assistant"]
        return "\n\n".join(each for each in said if each.strip())

    @property
    def most(self) -> int | None:
        given = (self.max_completion_tokens, self.max_tokens)
        return min((each for each in given if each is not None), default=None)

    @property
    def top(self) -> int | None:
        return self.top_logprobs if self.logprobs or self.top_logprobs else None


class Near(Body):
    """Body of /steer/nearest: texts, or ids of real ones."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=64)]


Verdict = Literal["keep", "reject"]


class Judged(Body):
    """Body of /steer/runs: verdicts on texts of this server, by the id of their answer and their
    place in it, such as "cmpl-1f/0"; they become a run of that name."""

    name: str = Field(max_length=64)
    verdicts: dict[str, Verdict] = Field(min_length=1, max_length=2000)


BODIES: Mapping[str, type[BaseModel]] = {
    "/v1/completions": CompletionBody,
    "/v1/chat/completions": ChatBody,
    "/steer/streams": CompletionBody,
    "/steer/nearest": Near,
    "/steer/runs": Judged,
}
"""What each path is sent."""
