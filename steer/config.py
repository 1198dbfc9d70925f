"""Settings of a user: guidance, sampling, runs; and the sources that identify a run."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from steer.errors import SteerError
from steer.shapes import Shape

Weights = Literal["balanced", "published"]
PanelForm = Literal["prompted", "raw"]
Selection = Literal["random", "nearest", "crowded", "diverse"]
Contrast = Literal["base", "prompt", "labels", "dexperts"]
MOST_RECORDS = 1_000_000_000
"""Records, or attempts, that somebody can mean; more is a slip of the finger."""

_FOR_A_SELECTOR = 500  # attempts, so that a small run too has the candidates to fit one


EndBias = tuple[tuple[int, float], ...]
"""What is added to the logits of the ends of a text: from so many tokens on, so many nats."""


class Config(BaseModel):
    """Frozen settings; an unknown key or a value out of range is a `SteerError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SteerError(_explain(type(self), error)) from None

    def fingerprint(self) -> str:
        """Fingerprint: the first 16 hex digits of the SHA-256 of the canonical JSON."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Guidance(Config):
    """Strengths of the streams: gamma is contrastive expert guidance, eta negative prompting
    (arXiv 2308.07645), rho the pull towards a positive panel, alpha the plausibility constraint
    (arXiv 2210.15097).

    `contrast` is what gamma moves away from: the base model; the expert without a prompt
    (classifier-free guidance); the expert asked for the other labels; or both, as in DExperts
    (`steer.guidance.build_streams`). With `negatives` panels, a token counts as repeated as the
    one of them says that finds it likeliest. `adaptive` scales each stream at each step by how
    much it disagrees with the expert. `few_shot` is prompting without an expert: the base model
    alone reads a positive panel, so the strengths are 0 but alpha.
    """

    gamma: float = Field(0.1, ge=0, le=10)
    eta: float = Field(0.2, ge=0, le=10)
    rho: float = Field(0.0, ge=0, lt=1)
    alpha: float = Field(0.001, ge=0, lt=1)
    weights: Weights = "balanced"
    contrast: Contrast = "base"
    negatives: int = Field(1, ge=1, le=8)
    adaptive: bool = False
    few_shot: bool = False

    @property
    def reads_positive(self) -> bool:
        """Whether a stream reads a positive panel."""
        return self.few_shot or self.rho > 0

    @model_validator(mode="after")
    def _check_few_shot(self) -> "Guidance":
        if self.few_shot and (self.gamma or self.eta or self.rho or self.adaptive):
            raise SteerError(
                f"found few_shot with gamma {self.gamma:g}, eta {self.eta:g}, rho {self.rho:g}, "
                f"adaptive {self.adaptive}: one stream reads the panel, and none steers it; set "
                "the others to 0 and adaptive to false"
            )
        return self

    @model_validator(mode="after")
    def _check_contrast(self) -> "Guidance":
        if self.contrast == "dexperts" and not self.gamma:
            raise SteerError("gamma is 0: with the contrast dexperts it is the expert's own weight")
        return self


class Sampling(Config):
    """Settings by which a token is drawn from the scores, or searched for.

    0 (top_k, min_p) and 1 (temperature, top_p, typical_p) leave the distribution as it is;
    temperature 0 is greedy. More than one of `beams` is beam search; a `penalty` above 0 is
    contrastive search (arXiv 2202.06417) among so many `candidates`. A search draws nothing, so
    it allows no temperature other than 0 and 1, and no cuts. The first `opening` tokens of a record
    are always drawn from the scores as they are: a method that draws nothing would otherwise write
    the same record again and again.
    """

    temperature: float = Field(1.0, ge=0, le=100)
    top_k: int = Field(0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    min_p: float = Field(0.0, ge=0, lt=1)
    typical_p: float = Field(1.0, gt=0, le=1)
    beams: int = Field(1, ge=1, le=1_000)
    penalty: float = Field(0.0, ge=0, le=1)
    candidates: int = Field(4, ge=1, le=1_000)
    opening: int = Field(0, ge=0, le=1_000_000)
    max_new_tokens: int = Field(128, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _check(self) -> "Sampling":
        if self.beams == 1 and not self.penalty:
            return self
        if self.beams > 1 and self.penalty:
            raise SteerError(
                f"found beams {self.beams} and penalty {self.penalty}: beam search and contrastive "
                "search exclude each other; set beams to 1 or penalty to 0"
            )
        search = f"beams {self.beams}" if self.beams > 1 else f"penalty {self.penalty}"
        plain = {"temperature": (0, 1), "top_k": (0,), "top_p": (1,), "min_p": (0,)}
        for name, allowed in (plain | {"typical_p": (1,)}).items():
            if (value := getattr(self, name)) not in allowed:
                raise SteerError(
                    f"found {name} {value} with {search}: a search draws no tokens; "
                    f"set {name} to {allowed[-1]}"
                )
        return self


class RunConfig(Config):
    """Settings of a run: `n` records, or a count for each of `labels`.

    A round has at most `round_size` records and `rows_per_panel` of them share a panel of
    `panel_size` examples, selected as `steer.runs.panels` says. `max_attempts` (default: four for
    each candidate wanted) ends a run whose records are rejected too often. A record must match the
    regular expression `pattern` and have `min_chars` characters; where they are None, the task's
    hold. It is too near to a real text or an earlier record where the Jaccard index of their
    character 5-grams is at least `near`. A sampling without `max_new_tokens` takes those of the
    expert. `method` is the name that the settings go by, for readers. Round r knows the rounds up
    to r - `lag`, so that up to `lag` rounds can be made at once. With more than one of
    `candidates`, a round makes so many times as many attempts, and a selector that reads the
    embedder called `selector` (default: MiniLM) decides which become records (docs/correction.md).
    Decoding is held to the shape of the task, if it has one, unless `shaped` is false. Texts end as
    the expert's `end_bias` has it, unless `end_bias` is false.
    """

    n: int | None = Field(None, ge=1, le=MOST_RECORDS)
    labels: dict[str, Annotated[int, Field(ge=1, le=MOST_RECORDS)]] = Field(default_factory=dict)
    guidance: Guidance = Guidance()
    sampling: Sampling = Sampling()
    seed: int = Field(0, ge=0)
    round_size: int = Field(256, ge=1, le=100_000)
    panel_size: int = Field(10, ge=1, le=10_000)
    rows_per_panel: int = Field(32, ge=1, le=100_000)
    lag: int = Field(1, ge=1, le=1_000)
    panel_form: PanelForm = "prompted"
    panel_selection: Selection = "random"
    pattern: str | None = None
    min_chars: int | None = Field(None, ge=0, le=1_000_000)
    near: float = Field(0.8, gt=0, le=1)
    max_attempts: int | None = Field(None, ge=1, le=100 * MOST_RECORDS)
    method: str | None = None
    candidates: int = Field(1, ge=1, le=20)
    selector: str | None = None
    shaped: bool = True
    end_bias: bool = True

    @model_validator(mode="after")
    def _check(self) -> "RunConfig":
        if (self.n is None) == (not self.labels):
            which = "both" if self.labels else "neither"
            raise SteerError(f"found {which} of n and labels; give --n, or --label LABEL=N")
        if self.panel_selection == "nearest" and self.guidance.negatives > 1:
            raise SteerError(
                f"negatives is {self.guidance.negatives}, but there is one nearest panel; "
                "choose another selection, or 1"
            )
        if self.attempts < self.total:
            raise SteerError(
                f"max_attempts is {self.attempts}: fewer than the {self.total} records wanted"
            )
        return self

    @property
    def says_how_long(self) -> bool:
        """Whether the most tokens of a record were given; else the run takes the expert's."""
        return "max_new_tokens" in self.sampling.model_fields_set

    def up_to(self, tokens: int) -> "RunConfig":
        """Copies the settings, for records of so many `tokens` at most."""
        sampling = Sampling(**dict(self.sampling) | {"max_new_tokens": tokens})
        return self.model_copy(update={"sampling": sampling})

    @property
    def wanted(self) -> dict[str | None, int]:
        """Records wanted for each label, in the order of the labels; None is no label."""
        if self.n is not None:
            return {None: self.n}
        # Sorted: equal settings must plan equal runs, and equality ignores a dict's order.
        return dict(sorted(self.labels.items()))

    @property
    def total(self) -> int:
        """Records wanted in all."""
        return sum(self.wanted.values())

    @property
    def attempts(self) -> int:
        """Number of completions that the run may generate at most."""
        if self.max_attempts is not None:
            return self.max_attempts
        wanted = 4 * self.total * self.candidates
        return wanted if self.candidates == 1 else max(wanted, _FOR_A_SELECTOR)


class Sources(Config):
    """Sources that a run read: its engine, prompt, and fingerprints. Some are a help to readers,
    and may differ when a run is resumed: the names of the base model, of the real texts' source and
    of the expert's folder. So may `dtype`, `threads` and `compiled`, which rounding depends
    on. `towards_fingerprint` is that of the texts positive panels are drawn from,
    `forbid_fingerprint` that of those no record may come close to, `embedder` what selected the
    panels; None where there are none. `shape` is that of the expert's task."""

    engine: str
    prompt: str
    model_fingerprint: str
    adapter_fingerprint: str
    data_fingerprint: str
    base: str
    real: str
    towards_fingerprint: str | None = None
    forbid_fingerprint: str | None = None
    embedder: str | None = None
    expert: str | None = None
    dtype: str | None = None
    threads: int | None = None
    compiled: bool | None = None
    shape: Shape | None = None


def differences(saved: Config, given: Config, ignore: tuple[str, ...] = ()) -> list[str]:
    """Lists a phrase for each setting that differs, nested ones named with dots."""
    old, new = _settings(saved), _settings(given)
    return [
        f"{name} is {old[name]!r} there and {new[name]!r} now"
        for name in old
        if name not in ignore and old[name] != new[name]
    ]


def _explain(kind: type[Config], error: ValidationError) -> str:
    """Writes one line for the first failed field: its name, what was found, what is allowed."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown setting '{name}'; the settings are {', '.join(kind.model_fields)}"
    value = first.get("input")
    return f"{name} is {value!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _settings(config: Config, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config:
        nested = isinstance(value, Config)
        flat |= _settings(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat
