"""State of a run between its rounds: planned ones, those being made, and committed ones.

Round r is planned, panels and all, from the rounds up to r - lag and from the sizes of those
between; rounds are checked and committed in order. So up to `lag` rounds can be made at once, by
whoever, and what they hold does not depend on who made them or when.
"""

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

from steer.config import RunConfig
from steer.correction.selector import LEAST, LEAST_LENGTHS, compared_by, least
from steer.data.forbidden import Forbidden
from steer.data.scripts import strange
from steer.data.tasks import Task
from steer.engines.interface import Completion
from steer.errors import SteerError
from steer.runs.checking import RoundChecker
from steer.runs.correcting import Corrector
from steer.runs.panels import Panels
from steer.runs.records import UNLIKE, Record, Reject
from steer.runs.requests import RoundRequests
from steer.runs.rounds import ANY_SIZE, Known, Round, Tally, plan_round
from steer.runs.sources import Inputs
from steer.runs.store import Store

log = logging.getLogger(__name__)

_SEARCHED = 5_000
"""Real texts of which at most it is looked whether they are forbidden, and at their script."""

_ATTEMPTS = 2
"""Attempts of a first round for each candidate that a selector needs: many do not pass."""

_FEW = 5
"""Records of a round whose script says something."""


class RunState:
    """Counts, pool and rounds of one run, all derived from the committed rounds."""

    def __init__(self, config: RunConfig, inputs: Inputs) -> None:
        self.config = config
        self.sources = inputs.sources(config)
        self.tallies: dict[str | None, Tally] = {label: Tally() for label in config.wanted}
        self.tokens = 0
        task = _task(inputs.expert.task, config)
        panels = Panels(
            config,
            task,
            inputs.real,
            inputs.towards,
            inputs.embedder,
            inputs.chats,
            inputs.towards_chats,
        )
        panels.require()
        self._pool = panels.pool
        self._requests = RoundRequests(config, task, panels, inputs.expert.end_bias)
        self._corrector = _corrector(config, inputs)
        # Where nothing can be corrected, the run is planned as one that asks for no correction.
        alone = config.model_copy(update={"candidates": 1})
        self._planned_by = config if self._corrector else alone
        self._first = _first_round(self._corrector)
        self._checker = RoundChecker(
            config,
            self.sources,
            task,
            inputs.real.texts,
            self._corrector,
            _forbidden(inputs, task, config.near),
        )
        self._committed = 0
        self._real, self._looked = inputs.real.texts, False
        self._planned: deque[Round] = deque()
        self._known = deque([self._now()], maxlen=config.lag)

    def start(self, store: Store) -> None:
        """Takes in the rounds that are in the store."""
        self._store = store
        for attempts in store.rounds():
            self._checker.keep(_accepted(attempts))
            if self._corrector:
                self._corrector.replay(attempts)
            self._absorb(attempts)

    @property
    def given_out(self) -> list[Round]:
        """Rounds that were begun and are not committed."""
        return [round for round in self._planned if round.started]

    def next_round(self) -> Round | None:
        """Finds the next round to give out; None when it must wait for others, or the run is over.

        It is the same one until `begin` was called with it.
        """
        if self._planned and not self._planned[-1].started and self._planned[-1].size:
            return self._planned[-1]
        while not self._over and len(self._planned) < self.config.lag:
            planned = self._plan()
            self._planned.append(planned)
            if planned.size:
                return planned
            planned.finish(())
            self._commit()
        return None

    def begin(self, round: Round) -> None:
        """Gives the round its first requests."""
        self._requests.begin(round)

    def answer(self, round: Round, completions: Sequence[Completion]) -> bool:
        """Takes the answers to a round's requests, and commits what can be. False when the round
        has further requests: its panels were chosen by these answers."""
        if not round.panels:
            self._requests.go_on(round, completions)
            return False
        round.finish(completions)
        self._commit()
        return True

    @property
    def _over(self) -> bool:
        """Whether every record is there or all attempts are used up, as far as is committed."""
        return not plan_round(self._planned_by, self.tallies)

    def _plan(self) -> Round:
        """Plans the next round; it has no attempts where those between what it may know and itself
        are expected to bring all that is missing."""
        known = self._known[max(0, len(self._known) + len(self._planned) - self.config.lag)]
        flying = {
            label: tally.attempts
            - known.tallies[label].attempts
            + sum(round.counts.get(label, 0) for round in self._planned)
            for label, tally in self.tallies.items()
        }
        tried = sum(tally.attempts for tally in known.tallies.values()) + sum(flying.values())
        counts = plan_round(self._planned_by, known.tallies, flying, known.candidates, self._first)
        return Round(self._committed + len(self._planned), counts, tried, known)

    def _commit(self) -> None:
        """Checks and commits the rounds whose turn it is."""
        while self._planned and self._planned[0].completions is not None:
            round = self._planned[0]
            self.tokens += sum(completion.tokens for completion in round.completions or ())
            checked = self._checker.check(round, self._missing())
            self._store.commit(round.number, checked.attempts, checked.corrections)
            self._look_at_scripts(checked.attempts)
            self._planned.popleft()
            self._absorb(checked.attempts)
            if self._over:
                self._planned.clear()  # what these rounds would bring, nobody asked for

    def _look_at_scripts(self, attempts: Sequence[Record | Reject]) -> None:
        """Warns once, early, of records in another script than the real texts."""
        if self._looked or len(texts := [record.text for record in _accepted(attempts)]) < _FEW:
            return
        self._looked = True
        if name := strange(self._real[:_SEARCHED], texts):
            log.warning(
                "most records are in %s script, which hardly any real text is in: the base model "
                "may not know their language; stop, look at some (steer show), and fit on another "
                "--base",
                name,
            )

    def _missing(self) -> dict[str | None, int]:
        return {
            label: wanted - self.tallies[label].accepted
            for label, wanted in self.config.wanted.items()
        }

    def _absorb(self, attempts: Sequence[Record | Reject]) -> None:
        """Counts a committed round; its accepted records join the pool."""
        self._pool.add(_accepted(attempts))
        for attempt in attempts:
            old = self.tallies[attempt.label]
            accepted = isinstance(attempt, Record)
            passed = isinstance(attempt, Record) or attempt.reason in ("surplus", UNLIKE)
            self.tallies[attempt.label] = Tally(
                old.attempts + 1, old.passed + passed, old.accepted + accepted
            )
        self._committed += 1
        self._known.append(self._now())

    def _now(self) -> Known:
        candidates = self._corrector.candidates if self._corrector else 1
        return Known(dict(self.tallies), self._pool.sizes(self.tallies), candidates)


def _task(task: Task, config: RunConfig) -> Task:
    """Adapts the expert's task to what the run sets itself. Raises `SteerError` for labels that the
    expert does not know."""
    for label in config.wanted:
        task.render(label, "")
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


def _first_round(corrector: Corrector | None) -> range:
    """Sizes that a first round may have: enough for a selector, and no more where that decides how
    many candidates are made."""
    if corrector is None:
        return ANY_SIZE
    enough = _ATTEMPTS * least(corrector.by)
    return range(enough, enough + 1 if corrector.by == "length" else ANY_SIZE.stop)


def _corrector(config: RunConfig, inputs: Inputs) -> Corrector | None:
    """Makes the corrector of a run that asks for one and has the real texts for it."""
    if config.candidates == 1:
        return None
    by, source = compared_by(inputs.real.texts), inputs.real.source
    if by is None:
        log.warning(
            "candidates is %d, but %s has fewer than %d different texts: too few to tell what is "
            "unlike them; nothing is corrected",
            config.candidates,
            source,
            LEAST_LENGTHS,
        )
        return None
    if by == "length":
        log.warning(
            "%s has fewer than %d different texts: only lengths are compared with it; where they "
            "differ, %d candidates are made for each record, as --candidates says",
            source,
            LEAST,
            config.candidates,
        )
    assert inputs.selector is not None
    return Corrector(config, inputs.real, inputs.selector, by)


def _forbidden(inputs: Inputs, task: Task, near: float) -> Forbidden | None:
    """Reads the forbidden texts, and warns of real ones that are too close to them: the expert may
    have learned these."""
    if inputs.forbid is None:
        return None
    forbidden = Forbidden([task.compared(text) for text in inputs.forbid.texts], near)
    real = [task.compared(text) for text in inputs.real.texts[:_SEARCHED]]
    if overlap := sum(forbidden.find(text) is not None for text in real):
        log.warning(
            "%d of %d real texts are too close to a forbidden one themselves: an expert that was "
            "fitted on them knows the test set; fit one without them",
            overlap,
            len(real),
        )
    return forbidden


def _accepted(attempts: Iterable[Record | Reject]) -> list[Record]:
    return [attempt for attempt in attempts if isinstance(attempt, Record)]
