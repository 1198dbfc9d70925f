"""Texts that were written lately, so that a reader's verdicts on them become a run."""

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

from steer.config import RunConfig
from steer.data.characters import find_control, is_blank, name_control
from steer.errors import SteerError
from steer.runs.pool import Example
from steer.runs.records import Attempt, Record, Reject, finite_log_probs
from steer.runs.sources import sources
from steer.runs.store import open_store
from steer.serving.bodies import Verdict
from steer.serving.experts import Served
from steer.serving.ordering import Ordered
from steer.serving.refusal import Refusal, shown
from steer.serving.writing import Writing

MOST = 2000
"""Texts that are remembered."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


_Kept = tuple[Served, Ordered, Attempt]


class Recent:
    """The last `MOST` texts, by the id of their answer and their place in it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def keep(
        self, answer: str, place: int, served: Served, ordered: Ordered, writing: Writing
    ) -> None:
        """Remembers a text that has ended."""
        attempt = _attempt(place, served, ordered, writing)
        self._kept[f"{answer}/{place}"] = (served, ordered, attempt)
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)

    def find(self, id: str) -> Example | None:
        """The text of that id; None where it is not, or no longer, known."""
        if id not in self._kept:
            return None
        attempt = self._kept[id][2]
        return Example(id, attempt.text, attempt.prompt)

    def save(self, folder: Path | None, name: str, verdicts: Mapping[str, Verdict]) -> int:
        """Saves the texts judged, by id, as a run called `name` in `folder`: those to keep are its
        records. Gives their number. Raises `Refusal` where that is not possible."""
        if folder is None:
            raise Refusal(400, "this server saves no runs; start it with --save FOLDER")
        if not _NAME.fullmatch(name):
            raise Refusal(400, "the name has letters, digits, - and _ only", param="name")
        if lost := [each for each in verdicts if each not in self._kept]:
            raise Refusal(404, f"the text {shown(lost[0])} is no longer known", param="verdicts")
        known = {each: self._kept[each] for each in verdicts}
        if len({served.name for served, _, _ in known.values()}) != 1:
            raise Refusal(400, "a run has texts of one expert; save them apart", param="verdicts")
        kept = [id for id, verdict in verdicts.items() if verdict == "keep"]
        if not kept:
            raise Refusal(400, "no text is kept; keep one at least", param="verdicts")
        for id in kept:
            if fault := _fault(known[id][0], known[id][2].text):
                raise Refusal(400, f"the text {shown(id)} {fault}; reject it", param="verdicts")
        try:
            _write(folder / name, known, verdicts)
        except SteerError:
            raise Refusal(
                409, f"there is a run {shown(name)} already, or it cannot be written", param="name"
            ) from None
        return len(kept)


def _fault(served: Served, text: str) -> str | None:
    """Says why a text can be no record, if it cannot."""
    if is_blank(text):
        return "is blank"
    if character := find_control(text):
        return f"holds {name_control(character)}, and no reader takes such a text"
    shape = served.task.shape
    return (
        None if shape is None or shape.fits(text) else "has not the shape of the expert's records"
    )


def _write(path: Path, known: Mapping[str, _Kept], verdicts: Mapping[str, Verdict]) -> None:
    served, ordered, _ = [*known.values()][-1]
    if path.exists():
        raise SteerError(f"{path} exists already; choose another name")
    labels = [known[id][2].label for id, verdict in verdicts.items() if verdict == "keep"]
    wanted = {label: labels.count(label) for label in labels if label is not None}
    config = ordered.method.configure(
        {"labels": wanted} if wanted else {"n": len(labels)},
        ordered.orders[0].sampling.max_new_tokens,
    )
    config = RunConfig(**config.model_dump() | {"max_attempts": len(known)})
    source = sources(config, served.real, None, served.expert, served.engine.name, None)
    names = {id: f"rec:{number}" for number, id in enumerate(known)}
    attempts = [_judged(names, id, known[id][2], verdict) for id, verdict in verdicts.items()]
    with open_store(path, config, source) as store:
        store.commit(0, attempts)


def _judged(
    names: Mapping[str, str], id: str, attempt: Attempt, verdict: Verdict
) -> Record | Reject:
    """An attempt as the run has it. Its panels name real texts and texts of the run only."""

    def renamed(panel: Iterable[str]) -> tuple[str, ...]:
        own = (names.get(each, each) for each in panel)
        return tuple(each for each in own if each.startswith(("real:", "rec:")))

    panels = {"panel": renamed(attempt.panel), "positive": renamed(attempt.positive)}
    values = vars(attempt) | panels | {"id": names[id]}
    return Record(**values) if verdict == "keep" else Reject(**values, reason="by hand")


def _attempt(place: int, served: Served, ordered: Ordered, writing: Writing) -> Attempt:
    order, asked, guidance = ordered.orders[place], ordered.answers[place], ordered.method.guidance
    return Attempt(
        id=f"rec:{place}",
        text=served.task.record(writing.sent),
        label=ordered.label,
        prompt=asked.prompt,
        gamma=guidance.gamma,
        eta=guidance.eta,
        rho=guidance.rho,
        alpha=guidance.alpha,
        weights=guidance.weights,
        panel=ordered.negative,
        positive=ordered.positive,
        seed=order.request.seed,
        round=0,
        engine=served.engine.name,
        model=served.expert.base_fingerprint,
        adapter=served.expert.adapter_fingerprint,
        tokens=len(writing.tokens),
        finish_reason=writing.ended or "stop",
        log_probs=finite_log_probs(writing.means),
        asked=asked.id,
        turns=asked.turns,
    )
