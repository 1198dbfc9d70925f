"""What a user may set: guidance, sampling, and the identity of a run."""

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from steer.errors import SteerError

Weights = Literal["balanced", "published"]
PanelForm = Literal["prompted", "raw"]


class Config(BaseModel):
    """Frozen settings; an unknown key or a value out of range is a `SteerError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SteerError(_explain(type(self), error)) from None

    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Guidance(Config):
    """Strengths of the streams: gamma is contrastive expert guidance, eta negative
    prompting (arXiv 2308.07645), alpha the plausibility constraint (arXiv 2210.15097)."""

    gamma: float = Field(0.2, ge=0, le=10)
    eta: float = Field(0.2, ge=0, le=10)
    alpha: float = Field(0.002, ge=0, lt=1)
    weights: Weights = "balanced"


class Sampling(Config):
    """How a token is drawn from the scores; 0 (top_k, min_p) and 1 (temperature, top_p)
    leave the distribution as it is. Temperature 0 is greedy."""

    temperature: float = Field(1.0, ge=0, le=100)
    top_k: int = Field(0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    min_p: float = Field(0.0, ge=0, lt=1)
    max_new_tokens: int = Field(128, ge=1)


def _explain(kind: type[Config], error: ValidationError) -> str:
    """One line for the first failed field: its name, what was found, what is allowed."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown setting '{name}'; the settings are {', '.join(kind.model_fields)}"
    found = first.get("input")
    return f"{name} is {found!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
