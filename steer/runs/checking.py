"""Checks that turn a round's completions into records and rejects, in their order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from steer.config import RunConfig, Sources
from steer.correction.outcome import Correction
from steer.data.forbidden import Forbidden
from steer.data.tasks import Task
from steer.runs.correcting import Batch, Choice, Corrector
from steer.runs.records import UNLIKE, Attempt, Checker, Record, Reject, Verdict, finite_log_probs
from steer.runs.rounds import Round
from steer.seeds import derive


@dataclass(frozen=True)
class Checked:
    """A round once it is checked: its attempts in order, and how its records were chosen."""

    attempts: list[Record | Reject]
    corrections: tuple[Correction, ...] = ()


class RoundChecker:
    """Checks the rounds of a run against its `task`, its `real` texts, its records so far and the
    `forbidden` texts."""

    def __init__(
        self,
        config: RunConfig,
        sources: Sources,
        task: Task,
        real: tuple[str, ...],
        corrector: Corrector | None = None,
        forbidden: Forbidden | None = None,
    ) -> None:
        self._config, self._sources, self._corrector = config, sources, corrector
        self._task = task
        self._checker = Checker(task, real, config.near, forbidden)

    def keep(self, records: Iterable[Record]) -> None:
        """Takes in accepted records: from now on, texts like theirs are duplicates."""
        for record in records:
            self._checker.keep(record.id, record.text)

    def check(self, round: Round, missing: Mapping[str | None, int]) -> Checked:
        """Turns the completions of a round into attempts. Each accepted one counts for the next;
        for each label, those beyond the `missing` ones are surplus. With a corrector, all that pass
        are candidates, of those alike the first; it chooses among them."""
        if self._corrector is None:
            return Checked(self._accepted(round, missing))
        verdicts = self._verdicts(round)
        passed = [row for row, verdict in enumerate(verdicts) if verdict.reason is None]
        batch = Batch(
            [f"rec:{round.first + row}" for row in passed],
            [verdicts[row].text for row in passed],
            [round.labels[row] for row in passed],
        )
        choice = self._corrector.choose(batch, missing, round.known.candidates)
        return Checked(self._chosen(round, verdicts, choice), choice.corrections)

    def _accepted(self, round: Round, missing: Mapping[str | None, int]) -> list[Record | Reject]:
        left = dict(missing)
        attempts: list[Record | Reject] = []
        for number, completion in enumerate(round.completions or ()):
            label = round.labels[number]
            verdict = self._checker.check(completion.text, completion.finish_reason)
            if verdict.reason is None and not left[label]:
                verdict = verdict._replace(reason="surplus")
            attempt = self._attempt(round, number, verdict)
            if isinstance(attempt, Record):
                left[label] -= 1
                self.keep([attempt])
            attempts.append(attempt)
        return attempts

    def _verdicts(self, round: Round) -> list[Verdict]:
        """Verdicts on a round's completions before any is accepted."""
        verdicts, passed = [], self._checker.fresh()
        for number, completion in enumerate(round.completions or (), round.first):
            verdict = self._checker.check(completion.text, completion.finish_reason, passed)
            if verdict.reason is None:
                passed.add(f"rec:{number}", self._task.compared(verdict.text))
            verdicts.append(verdict)
        return verdicts

    def _chosen(
        self, round: Round, verdicts: Sequence[Verdict], choice: Choice
    ) -> list[Record | Reject]:
        """Makes the attempts of a round whose records were chosen."""
        attempts: list[Record | Reject] = []
        for number, verdict in enumerate(verdicts):
            id = f"rec:{round.first + number}"
            if verdict.reason is None and id not in choice.accepted:
                verdict = verdict._replace(reason=UNLIKE if id in choice.scores else "surplus")
            attempt = self._attempt(round, number, verdict, choice.scores.get(id))
            attempts.append(attempt)
        self.keep(attempt for attempt in attempts if isinstance(attempt, Record))
        return attempts

    def _attempt(
        self, round: Round, number: int, verdict: Verdict, score: float | None = None
    ) -> Record | Reject:
        guidance, panel = self._config.guidance, round.panels[number]
        completion = (round.completions or ())[number]
        attempt = Attempt(
            id=f"rec:{round.first + number}",
            text=verdict.text,
            label=round.labels[number],
            prompt=panel.contexts.prompt,
            gamma=guidance.gamma,
            eta=guidance.eta,
            rho=guidance.rho,
            alpha=guidance.alpha,
            weights=guidance.weights,
            panel=panel.negative,
            positive=panel.positive,
            seed=derive(self._config.seed, "record", round.first + number),
            round=round.number,
            engine=self._sources.engine,
            model=self._sources.model_fingerprint,
            adapter=self._sources.adapter_fingerprint,
            tokens=completion.tokens,
            finish_reason=completion.finish_reason,
            log_probs=finite_log_probs(completion.log_probs),
            score=score,
            asked=panel.asked.id,
            turns=panel.asked.turns,
        )
        if verdict.reason is None:
            return Record(**vars(attempt))
        return Reject(**vars(attempt), reason=verdict.reason, of=verdict.of)
