"""Requests of a round to an engine: its panels are chosen, its streams built, its seeds derived."""

from collections.abc import Mapping, Sequence

from steer.config import EndBias, RunConfig
from steer.data.tasks import Task
from steer.engines.interface import Completion, Request
from steer.guidance import Stream, build_streams
from steer.runs.panels import Panel, Panels
from steer.runs.rounds import Round
from steer.seeds import derive


class RoundRequests:
    """Makes the requests of a run's rounds. Where panels are chosen by drafts (the texts that the
    expert alone would write), a round asks for these first."""

    def __init__(self, config: RunConfig, task: Task, panels: Panels, end_bias: EndBias) -> None:
        self._config, self._task, self._panels = config, task, panels
        self._end_bias = end_bias if config.end_bias else ()

    def begin(self, round: Round) -> None:
        """Gives the round its first requests."""
        if self._panels.drafted:
            round.ask(self._drafts(round))
        else:
            self._guided(round, {})

    def go_on(self, round: Round, drafts: Sequence[Completion]) -> None:
        """Gives a round its own requests, once its drafts are there."""
        texts: dict[str | None, list[str]] = {label: [] for label in round.counts}
        for label, draft in zip(round.labels, drafts, strict=True):
            texts[label].append(draft.text)
        self._guided(round, texts)

    def _guided(self, round: Round, drafts: Mapping[str | None, Sequence[str]]) -> None:
        panels: list[Panel] = []
        for label, count in round.counts.items():
            first = round.first + len(panels)
            panels += self._panels.draw(
                label, count, round.number, drafts.get(label, ()), round.known.pool[label], first
            )
        requests = [
            self._request(number, build_streams(self._config.guidance, panel.contexts))
            for number, panel in enumerate(panels, round.first)
        ]
        round.ask(requests, panels)

    def _drafts(self, round: Round) -> list[Request]:
        return [
            self._request(number, (Stream("expert", 1.0, True, self._prompt(label, number)),))
            for number, label in enumerate(round.labels, round.first)
        ]

    def _prompt(self, label: str | None, number: int) -> str:
        return self._panels.asked(label, number).prompt

    def _request(self, number: int, streams: tuple[Stream, ...]) -> Request:
        guidance = self._config.guidance
        shape = self._task.completion_shape if self._config.shaped else None
        seed = derive(self._config.seed, "record", number)
        rest = (guidance.alpha, guidance.adaptive, shape, self._end_bias)
        return Request(number, streams, seed, *rest)
