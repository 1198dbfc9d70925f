"""One run between its rounds: what is planned, what is being made, what is committed.

Round r is planned, panels and all, from the rounds up to r - lag and from the sizes of those
between; rounds are checked and committed in order. So up to `lag` rounds can be made at once, by
whoever, and what they hold does not depend on who made them or when.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from steer.config import RunConfig, Sources
from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.engines.interface import Completion, Request
from steer.errors import SteerError
from steer.guidance import Stream, build_streams
from steer.models.embedder import Embedder
from steer.runs.panels import Panel, Panels
from steer.runs.records import Attempt, Checker, Record, Reject, Verdict, finite_log_probs
from steer.runs.rounds import Tally, plan_round
from steer.runs.store import Store
from steer.seeds import derive


class ExpertLike(Protocol):
    """What a run needs to know of an expert; `steer.models.fitting.Expert` has it."""

    @property
    def task(self) -> Task: ...
    @property
    def prompt(self) -> str: ...
    @property
    def base(self) -> str: ...
    @property
    def base_fingerprint(self) -> str: ...
    @property
    def adapter_fingerprint(self) -> str: ...


class EngineLike(Protocol):
    """What a run needs to know of the engine, wherever it is; every engine has it."""

    @property
    def name(self) -> str: ...
    @property
    def base_fingerprint(self) -> str: ...
    @property
    def end_of_text(self) -> str: ...


@dataclass(frozen=True)
class Parts:
    """What the runs made together share."""

    real: Corpus
    towards: Corpus | None
    expert: ExpertLike
    engine: EngineLike
    embedder: Embedder | None

    def sources(self, config: RunConfig) -> Sources:
        """What a run with these settings reads."""
        name = self.embedder.name if self.embedder else None
        return sources(config, self.real, self.towards, self.expert, self.engine.name, name)


def sources(
    config: RunConfig,
    real: Corpus,
    towards: Corpus | None,
    expert: ExpertLike,
    engine: str,
    embedder: str | None,
) -> Sources:
    """What a run with these settings reads, with an engine and an embedder of these names."""
    moved = towards if config.guidance.rho else None
    return Sources(
        engine=engine,
        prompt=expert.prompt,
        model_fingerprint=expert.base_fingerprint,
        adapter_fingerprint=expert.adapter_fingerprint,
        data_fingerprint=real.fingerprint,
        base=expert.base,
        real=real.source,
        towards_fingerprint=moved.fingerprint if moved else None,
        embedder=embedder if config.panel_selection != "random" else None,
    )


@dataclass(frozen=True)
class _Known:
    """What a round may know: the counts for each label, and how large the pool was."""

    tallies: Mapping[str | None, Tally]
    pool: Mapping[str | None, int]


@dataclass
class Round:
    """A round in the making: `counts` attempts for each label, numbered from `first`.

    `requests` are what an engine is to answer next: the records, or, where panels are chosen by
    drafts, first those. `panels` has one for each attempt, `completions` the answers.
    """

    number: int
    counts: Mapping[str | None, int]
    first: int
    known: _Known
    requests: Sequence[Request] = ()
    panels: Sequence[Panel] = ()
    completions: Sequence[Completion] | None = None
    started: bool = False

    @property
    def size(self) -> int:
        """How many records it attempts."""
        return sum(self.counts.values())

    @property
    def labels(self) -> list[str | None]:
        """The label of each attempt, in order."""
        return [label for label, count in self.counts.items() for _ in range(count)]


class RunLoop:
    """A run: the state between its rounds, all of it derived from the committed ones."""

    def __init__(self, config: RunConfig, parts: Parts) -> None:
        self.config = config
        self.sources = parts.sources(config)
        self.tallies: dict[str | None, Tally] = {label: Tally() for label in config.wanted}
        self.tokens = 0
        self._task = _task(parts.expert.task, config)
        self._panels = Panels(config, self._task, parts.real, parts.towards, parts.embedder)
        self._panels.require()
        self._checker = Checker(self._task, parts.real.texts)
        self._committed = 0
        self._planned: deque[Round] = deque()
        self._states = deque([self._state()], maxlen=config.lag)

    def start(self, store: Store) -> None:
        """Takes in the rounds that are there."""
        self._store = store
        for attempts in store.rounds():
            for record in _accepted(attempts):
                self._checker.keep(record.id, record.text)
            self._absorb(attempts)

    @property
    def given_out(self) -> list[Round]:
        """The rounds that were begun and are not committed."""
        return [round for round in self._planned if round.started]

    def next_round(self) -> Round | None:
        """The next round to give out; None when it must wait for others, or the run is over.

        It is the same one until `begin` was called with it.
        """
        if self._planned and not self._planned[-1].started and self._planned[-1].size:
            return self._planned[-1]
        while not self._over and len(self._planned) < self.config.lag:
            planned = self._plan()
            self._planned.append(planned)
            if planned.size:
                return planned
            planned.completions = ()
            self._commit()
        return None

    def begin(self, round: Round) -> None:
        """Gives the round its first requests."""
        round.started = True
        if self._panels.drafted:
            round.requests = self._unguided(round)
        else:
            self._draw(round, {})

    def answer(self, round: Round, completions: Sequence[Completion]) -> bool:
        """Takes the answers to a round's requests, and commits what can be. False when the round
        has further requests: its panels were chosen by these answers."""
        if not round.panels:
            self._draw(round, _texts(round, completions))
            return False
        round.completions = completions
        self._commit()
        return True

    @property
    def _over(self) -> bool:
        """Whether every record is there or all attempts are used up, as far as is committed."""
        return not plan_round(self.config, self.tallies)

    def _plan(self) -> Round:
        """The round after those planned; one of no attempts where those between what it may know
        and itself are expected to bring all that is missing."""
        known = self._states[max(0, len(self._states) + len(self._planned) - self.config.lag)]
        flying = {
            label: tally.attempts
            - known.tallies[label].attempts
            + sum(round.counts.get(label, 0) for round in self._planned)
            for label, tally in self.tallies.items()
        }
        tried = sum(tally.attempts for tally in known.tallies.values()) + sum(flying.values())
        counts = plan_round(self.config, known.tallies, flying)
        return Round(self._committed + len(self._planned), counts, tried, known)

    def _draw(self, round: Round, drafts: Mapping[str | None, Sequence[str]]) -> None:
        """Chooses the round's panels and makes its requests."""
        panels: list[Panel] = []
        for label, count in round.counts.items():
            panels += self._panels.draw(
                label, count, round.number, drafts.get(label, ()), round.known.pool[label]
            )
        round.panels = panels
        round.requests = [
            self._request(number, build_streams(self.config.guidance, panel.contexts))
            for number, panel in enumerate(panels, round.first)
        ]

    def _request(self, number: int, streams: tuple[Stream, ...]) -> Request:
        guidance = self.config.guidance
        seed = derive(self.config.seed, "record", number)
        return Request(number, streams, seed, guidance.alpha, guidance.adaptive)

    def _unguided(self, round: Round) -> list[Request]:
        """What asks for the texts that the expert alone would write."""
        return [
            self._request(number, (Stream("expert", 1.0, True, self._task.render(label)),))
            for number, label in enumerate(round.labels, round.first)
        ]

    def _commit(self) -> None:
        """Checks and commits the rounds whose turn it is."""
        while self._planned and self._planned[0].completions is not None:
            round = self._planned[0]
            self.tokens += sum(completion.tokens for completion in round.completions or ())
            attempts = self._judge(round)
            self._store.commit(round.number, attempts)
            self._planned.popleft()
            self._absorb(attempts)
            if self._over:
                self._planned.clear()  # what these rounds would bring, nobody asked for

    def _judge(self, round: Round) -> list[Record | Reject]:
        """Checks a round in the order of its records; each accepted one counts for the next."""
        missing = {
            label: wanted - self.tallies[label].accepted
            for label, wanted in self.config.wanted.items()
        }
        attempts: list[Record | Reject] = []
        made = zip(round.labels, round.panels, round.completions or (), strict=True)
        for number, (label, panel, completion) in enumerate(made, round.first):
            verdict = self._checker.check(completion.text, completion.finish_reason)
            if verdict.reason is None and not missing[label]:
                verdict = verdict._replace(reason="surplus")
            attempt = self._attempt(round.number, number, label, panel, completion, verdict)
            if isinstance(attempt, Record):
                missing[label] -= 1
                self._checker.keep(attempt.id, attempt.text)
            attempts.append(attempt)
        return attempts

    def _attempt(
        self,
        round: int,
        number: int,
        label: str | None,
        panel: Panel,
        completion: Completion,
        verdict: Verdict,
    ) -> Record | Reject:
        guidance = self.config.guidance
        attempt = Attempt(
            id=f"rec:{number}",
            text=verdict.text,
            label=label,
            prompt=panel.contexts.prompt,
            gamma=guidance.gamma,
            eta=guidance.eta,
            rho=guidance.rho,
            alpha=guidance.alpha,
            weights=guidance.weights,
            panel=panel.negative,
            positive=panel.positive,
            seed=derive(self.config.seed, "record", number),
            round=round,
            engine=self.sources.engine,
            model=self.sources.model_fingerprint,
            adapter=self.sources.adapter_fingerprint,
            tokens=completion.tokens,
            finish_reason=completion.finish_reason,
            log_probs=finite_log_probs(completion.log_probs),
        )
        if verdict.reason is None:
            return Record(**vars(attempt))
        return Reject(**vars(attempt), reason=verdict.reason, of=verdict.of)

    def _absorb(self, attempts: Sequence[Record | Reject]) -> None:
        """Counts a committed round; its accepted records join the pool."""
        self._panels.pool.add(_accepted(attempts))
        for attempt in attempts:
            old = self.tallies[attempt.label]
            accepted = isinstance(attempt, Record)
            passed = isinstance(attempt, Record) or attempt.reason == "surplus"
            self.tallies[attempt.label] = Tally(
                old.attempts + 1, old.passed + passed, old.accepted + accepted
            )
        self._committed += 1
        self._states.append(self._state())

    def _state(self) -> _Known:
        return _Known(dict(self.tallies), self._panels.pool.sizes(self.tallies))


def _task(task: Task, config: RunConfig) -> Task:
    """The expert's task with what the run sets itself. Raises `SteerError` for labels that the
    expert does not know."""
    for label in config.wanted:
        task.render(label)
    if config.guidance.contrast in ("labels", "dexperts") and len(task.labels) < 2:
        raise SteerError(
            f"contrast is {config.guidance.contrast!r}, but the expert has no labels to contrast; "
            "fit one on labelled texts, or choose another contrast"
        )
    return replace(
        task,
        pattern=task.pattern if config.pattern is None else config.pattern,
        min_chars=task.min_chars if config.min_chars is None else config.min_chars,
    )


def _texts(round: Round, completions: Sequence[Completion]) -> dict[str | None, list[str]]:
    """The drafts of each label."""
    drafts: dict[str | None, list[str]] = {label: [] for label in round.counts}
    for label, completion in zip(round.labels, completions, strict=True):
        drafts[label].append(completion.text)
    return drafts


def _accepted(attempts: Iterable[Record | Reject]) -> list[Record]:
    return [attempt for attempt in attempts if isinstance(attempt, Record)]
