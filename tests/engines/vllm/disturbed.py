"""What vLLM's scheduler does to a group when its cache is full."""

import time


def preempt_the_last_sequence(engine) -> None:
    """Takes one back; in the next step there is no room for it yet."""
    from vllm.v1.core.sched.interface import PauseState

    scheduler = engine.llm.engine_core.engine_core.scheduler
    scheduler._preempt_request(scheduler.running.pop(), time.monotonic())
    scheduler.set_pause_state(PauseState.PAUSED_NEW)


def resume(engine) -> None:
    """Lets sequences start again."""
    from vllm.v1.core.sched.interface import PauseState

    engine.llm.engine_core.engine_core.scheduler.set_pause_state(PauseState.UNPAUSED)
