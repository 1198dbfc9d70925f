"""Ways to decode, by name: each is a few settings of the one engine.

To add one, add a line to `METHODS`; what its streams are is said in `guidance.build_streams`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from steer.config import Config, Guidance, PanelForm, RunConfig, Sampling, Selection
from steer.errors import SteerError


class Method(Config):
    """A way to decode. `about` says in a line what it is; one that is `labelled` needs labels."""

    name: str
    about: str = ""
    guidance: Guidance = Guidance(gamma=0, eta=0, alpha=0)
    sampling: Sampling = Sampling()
    panel_size: int = RunConfig.model_fields["panel_size"].default
    panel_form: PanelForm = "prompted"
    panel_selection: Selection = "random"
    labelled: bool = False

    def configure(self, others: dict[str, Any], max_new_tokens: int | None) -> RunConfig:
        """Makes the settings of a run with this method; `others` are the other settings of
        `RunConfig`. Without `max_new_tokens` records are as long as the expert's may be."""
        values = {name: value for name, value in self.sampling if name != "max_new_tokens"}
        most = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
        sampling = Sampling(**values | most)
        return RunConfig(
            guidance=self.guidance,
            sampling=sampling,
            panel_size=self.panel_size,
            panel_form=self.panel_form,
            panel_selection=self.panel_selection,
            method=self.name,
            **others,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that differ from plain sampling, in one level."""
        plain = Method(name="plain")
        changed: dict[str, Any] = {}
        for part in ("guidance", "sampling"):
            mine, other = getattr(self, part), getattr(plain, part)
            changed |= {key: value for key, value in mine if value != getattr(other, key)}
        panels = _PANELS if self.guidance.eta or self.guidance.reads_positive else ()
        return changed | {name: getattr(self, name) for name in panels}


def _steer(name: str, about: str, **settings: Any) -> Method:
    """Method STEER at its default strengths but for the `settings` of its guidance."""
    panels = {key: settings.pop(key) for key in list(settings) if key.startswith("panel_")}
    guidance, sampling = Guidance(**settings), Sampling(temperature=0.9)
    return Method(name=name, about=about, guidance=guidance, sampling=sampling, **panels)


def _contrast(name: str, about: str, labelled: bool = False, **settings: Any) -> Method:
    guidance = Guidance(**{"eta": 0, "alpha": 0} | settings)
    return Method(name=name, about=about, guidance=guidance, labelled=labelled)


def _draw(name: str, about: str, **settings: Any) -> Method:
    return Method(name=name, about=about, sampling=Sampling(**settings))


# A method that draws nothing writes the same record again and again; three drawn tokens first.
_OPENING = 3

METHODS = (
    _draw("plain", "the expert's own distribution"),
    _contrast("few-shot", "the base model, unfitted, after a panel", gamma=0, few_shot=True),
    _draw("greedy", "always the likeliest token", temperature=0, opening=_OPENING),
    _draw("beam", "beam search over 4", beams=4, opening=_OPENING),
    _draw("temperature", "at temperature 0.9; 0.5 is what the paper calls greedy", temperature=0.9),
    _draw("top-k", "from the 10 likeliest tokens", top_k=10),
    _draw("nucleus", "from the likeliest 92% (arXiv 1904.09751)", top_p=0.92),
    _draw("typical", "from the most typical 90% (arXiv 2202.00666)", typical_p=0.9),
    _draw("min-p", "from tokens at least 0.1 as likely as the best (arXiv 2407.01082)", min_p=0.1),
    _draw(
        "contrastive-search",
        "likely tokens unlike what was written (arXiv 2202.06417)",
        penalty=0.35,
        candidates=4,
        opening=_OPENING,
    ),
    _contrast(
        "contrastive-decoding",
        "expert against base, plausible tokens only (arXiv 2210.15097, 2309.09117)",
        gamma=0.5,
        alpha=0.1,
    ),
    _contrast("cfg", "the prompt against none (arXiv 2306.17806)", gamma=0.5, contrast="prompt"),
    _contrast("proxy-tuning", "base + 2 x (expert - base) (arXiv 2401.08565)", gamma=1),
    _contrast(
        "dexperts",
        "base + 2 x (label - other labels) (arXiv 2105.03023)",
        labelled=True,
        gamma=2,
        contrast="dexperts",
    ),
    _contrast(
        "label-contrast",
        "a label against the others (after CorrSynth, arXiv 2411.08553)",
        labelled=True,
        gamma=0.5,
        contrast="labels",
    ),
    Method(
        name="steer-published",
        about="as in the paper (arXiv 2308.07645): gamma 0.2, eta 0.6, top-k 10",
        guidance=Guidance(gamma=0.2, eta=0.6, alpha=0, weights="published"),
        sampling=Sampling(top_k=10),
        panel_form="raw",
    ),
    _steer("steer", "balanced weights at its default strengths"),
    _steer("steer-negative", "negative prompting alone", gamma=0),
    _steer("steer-raw", "panels joined with spaces, as published", panel_form="raw"),
    _steer("steer-nearest", "away from what a draft is nearest to", panel_selection="nearest"),
    _steer("steer-crowded", "away from where texts are dense", panel_selection="crowded"),
    _steer("steer-diverse", "away from texts far from each other", panel_selection="diverse"),
    _steer("steer-min", "the least favourable of three panels", negatives=3),
    _steer("steer-positive", "also towards a panel of real texts", rho=0.2),
    _steer("steer-adaptive", "as strong as streams disagree", gamma=1, eta=1, adaptive=True),
)
"""After `plain`, the baselines, those of contrast, and STEER's kinds."""

PROPOSAL, STEERED, CANDIDATES = "temperature", "steer", 3
"""Method of `steer generate` and its candidates for a record, which the study supports
(docs/study.md); and its method where a setting of guidance is given."""

DEFAULT = "plain,greedy,beam,temperature,top-k,nucleus,contrastive-search,steer-published,steer"
ALL = "all"


def usual_method(chosen: Iterable[str]) -> str:
    """Names the method where none is asked for, by the names of the settings that were chosen."""
    return STEERED if any(_home(name) in ("guidance", "") for name in chosen) else PROPOSAL


def find_methods(names: str, labelled: bool) -> tuple[Method, ...]:
    """Finds the methods of a comma-separated list; `ALL` is every one that suits.

    A name may be followed by settings, such as "steer:gamma=0.4:eta=0.1". Raises `SteerError` for
    an unknown name or setting, a name given twice, and a method that needs labels where there are
    none.
    """
    if names == ALL:
        return tuple(method for method in METHODS if labelled or not method.labelled)
    methods = tuple(find_method(name.strip(), labelled) for name in names.split(","))
    if len({method.name for method in methods}) < len(methods):
        raise SteerError(f"--methods names one twice: {names}; name each once")
    return methods


def find_method(name: str, labelled: bool) -> Method:
    """Finds one method, as `find_methods` does."""
    base, *settings = name.split(":")
    known = {method.name: method for method in METHODS}
    if base not in known:
        raise SteerError(f"there is no method {base!r}; choose from {', '.join(known)}, or {ALL}")
    if known[base].labelled and not labelled:
        raise SteerError(f"the method {base} needs labels, and the expert knows none")
    return _adjust(known[base], name, settings)


def _adjust(method: Method, name: str, settings: list[str]) -> Method:
    """Adjusts `method` to settings such as "gamma=0.4"."""
    pairs = [setting.partition("=") for setting in settings]
    for setting, (key, equals, _) in zip(settings, pairs, strict=True):
        if not equals or _home(key) is None:
            raise SteerError(f"{name!r}: {setting!r} is no setting; write such as gamma=0.4")
    return adjust(method, name, {key: value for key, _, value in pairs})


def adjust(method: Method, name: str, settings: Mapping[str, Any]) -> Method:
    """Copies `method` under another name, with `settings` of its guidance, sampling and panels.

    Raises `SteerError` for a value that a setting does not take.
    """
    values: dict[str, dict[str, Any]] = {part: {} for part in ("guidance", "sampling", "")}
    for key, value in settings.items():
        values[_home(key) or ""][key] = value
    guidance = Guidance(**method.guidance.model_dump() | values["guidance"])
    sampling = Sampling(**method.sampling.model_dump() | values["sampling"])
    kept = method.model_dump(exclude={"name", "guidance", "sampling"})
    return Method(**kept | values[""], name=name, guidance=guidance, sampling=sampling)


def _home(key: str) -> str | None:
    """Finds the part of a method that has the setting; "" for the method itself, None for no
    setting."""
    if key in Guidance.model_fields:
        return "guidance"
    if key in Sampling.model_fields:
        return "sampling"
    return "" if key in _PANELS else None


_PANELS = ("panel_size", "panel_form", "panel_selection")
