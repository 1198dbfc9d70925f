"""Errors as OpenAI's clients read them."""

from collections.abc import Sequence
from typing import Any, Literal

from starlette.responses import JSONResponse

Kind = Literal[
    "invalid_request_error",
    "authentication_error",
    "not_found_error",
    "rate_limit_error",
    "timeout_error",
    "server_error",
]


class Refusal(Exception):
    """A request that is not answered: the HTTP status, a line for the caller, the field that is at
    fault, a code for programs, and when to come again (seconds)."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: Kind = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind
        self.param, self.code, self.after = param, code, after

    def body(self) -> dict[str, Any]:
        """The error as JSON values."""
        named = {"message": self.message, "type": self.kind}
        return {"error": {**named, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The error as an answer."""
        headers = {} if self.after is None else {"Retry-After": str(self.after)}
        return JSONResponse(self.body(), self.status, headers)


def unknown_model(name: str, known: Sequence[str]) -> Refusal:
    """Refuses a model that is not served."""
    return Refusal(
        404,
        f"there is no model {shown(name)}; choose one of {', '.join(known)}",
        kind="not_found_error",
        param="model",
        code="model_not_found",
    )


def invalid(errors: Sequence[Any], supported: Sequence[str]) -> Refusal:
    """Refuses a body for the first of Pydantic's `errors`."""
    first = errors[0]
    path = [str(part) for part in first["loc"] if part != "body"]
    param = ".".join(path)[:100].encode(errors="replace").decode() or None
    if first["type"] == "extra_forbidden":
        message = f"the field {shown(path[-1])} is not supported; use {', '.join(supported)}"
        return Refusal(400, message, param=param, code="unsupported_field")
    if first["type"] == "json_invalid":
        return Refusal(400, "the body is no JSON", code="invalid_json")
    message = f"{param or 'the body'}: {first['msg'][0].lower()}{first['msg'][1:]}"
    return Refusal(400, message, param=param, code="invalid_value")


def shown(value: object) -> str:
    """Writes what was found into a message: short, and in characters that any encoding has."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
