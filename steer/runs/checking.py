"""Checks that turn a round's completions into records and rejects, in their order."""

from collections.abc import Iterable, Mapping

from steer.config import RunConfig, Sources
from steer.data.forbidden import Forbidden
from steer.data.tasks import Task
from steer.engines.interface import Completion
from steer.runs.panels import Panel
from steer.runs.records import Attempt, Checker, Record, Reject, Verdict, finite_log_probs
from steer.runs.rounds import Round
from steer.seeds import derive


class RoundChecker:
    """Checks the rounds of a run against its `task`, its `real` texts, its records so far and the
    `forbidden` texts."""

    def __init__(
        self,
        config: RunConfig,
        sources: Sources,
        task: Task,
        real: tuple[str, ...],
        forbidden: Forbidden | None = None,
    ) -> None:
        self._config, self._sources = config, sources
        self._checker = Checker(task, real, config.near, forbidden)

    def keep(self, records: Iterable[Record]) -> None:
        """Takes in accepted records: from now on, texts like theirs are duplicates."""
        for record in records:
            self._checker.keep(record.id, record.text)

    def check(self, round: Round, missing: Mapping[str | None, int]) -> list[Record | Reject]:
        """Turns the completions of a round into attempts. Each accepted one counts for the next;
        for each label, those beyond the `missing` ones are surplus."""
        left = dict(missing)
        attempts: list[Record | Reject] = []
        made = zip(round.labels, round.panels, round.completions or (), strict=True)
        for number, (label, panel, completion) in enumerate(made, round.first):
            verdict = self._checker.check(completion.text, completion.finish_reason)
            if verdict.reason is None and not left[label]:
                verdict = verdict._replace(reason="surplus")
            attempt = self._attempt(round.number, number, label, panel, completion, verdict)
            if isinstance(attempt, Record):
                left[label] -= 1
                self.keep([attempt])
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
        guidance = self._config.guidance
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
            seed=derive(self._config.seed, "record", number),
            round=round,
            engine=self._sources.engine,
            model=self._sources.model_fingerprint,
            adapter=self._sources.adapter_fingerprint,
            tokens=completion.tokens,
            finish_reason=completion.finish_reason,
            log_probs=finite_log_probs(completion.log_probs),
        )
        if verdict.reason is None:
            return Record(**vars(attempt))
        return Reject(**vars(attempt), reason=verdict.reason, of=verdict.of)
