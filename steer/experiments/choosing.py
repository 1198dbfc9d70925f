"""Choice of the next trial: one that was stopped, the starting points, then what the sampler
says."""

from collections.abc import Sequence
from statistics import median

from steer.experiments.spaces import Space, find_starts, propose
from steer.experiments.trials import Origin, Trial
from steer.experiments.tuning_file import TuneSettings, TuningInputs
from steer.seeds import derive


def next_trial(inputs: TuningInputs, space: Space, trials: Sequence[Trial]) -> Trial | None:
    """Chooses the trial to make after `trials`; None when the tuning is over."""
    finished = [trial for trial in trials if trial.state != "running"]
    stopped = next((trial for trial in trials if trial.state == "running"), None)
    settings = inputs.settings
    if settings.trials is not None and len(finished) >= settings.trials:
        return None
    if finished:
        usual = median(trial.seconds for trial in finished)
        if seconds_left(settings, trials) < usual - (stopped.seconds if stopped else 0.0):
            return None
    return stopped or _new_trial(inputs, space, trials)


def seconds_left(settings: TuneSettings, trials: Sequence[Trial]) -> float:
    """Computes the seconds of the budget that the `trials` have not spent; below 0 when they spent
    more."""
    return settings.budget - sum(trial.seconds for trial in trials)


def _new_trial(inputs: TuningInputs, space: Space, trials: Sequence[Trial]) -> Trial:
    number = len(trials)
    starts = list(find_starts(inputs.method, space).items())
    if number < len(starts):
        origin: Origin = "defaults" if starts[number][0] == "defaults" else "plain"
        return Trial(number, origin, starts[number][1])
    # A failed trial counts as the worst there is, or the tuning would stay where trials fail.
    tried = [
        (trial.settings, [trial.components.get(part, 0.0) for part in inputs.settings.parts])
        for trial in trials
    ]
    seed = derive(inputs.settings.seed, "trial", number)
    return Trial(number, "search", propose(space, tried, seed))
