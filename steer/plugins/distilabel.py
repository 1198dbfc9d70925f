"""distilabel: a generator step that gives a run's records, and an LLM that is an expert."""

from typing import Any

from distilabel.models.llms import LLM
from distilabel.steps import GeneratorStep
from pydantic import Field, PrivateAttr

from steer.plugins.supply import Supply, content, likelihood

COLUMNS = ("record", "label", "record_id", "log_prob")


class SteerGenerator(GeneratorStep):
    """Gives `n` records of a supply; its settings are those of `steer.plugins.supply.Supply`.

    A row is the record (its text, or the object that it is), its label, its id in the run, and its
    mean log-probability under the expert. The run is kept, so a pipeline that goes on after a stop,
    at whatever offset, gets the records that it would have had.
    """

    n: int = Field(ge=1)
    supply: dict[str, Any]

    @property
    def outputs(self) -> list[str]:
        return list(COLUMNS)

    def process(self, offset: int = 0) -> Any:
        """Yields rows from the one at `offset`, and whether they are the last."""
        supply = Supply(**self.supply)
        supply.skip(offset)
        for start in range(offset, self.n, self.batch_size):
            count = min(self.batch_size, self.n - start)
            rows = [
                dict(
                    zip(COLUMNS, (content(r), r.label, r.id, likelihood(r)), strict=True),
                )
                for r in supply.take([None] * count)
            ]
            yield rows, start + count >= self.n


class SteerLLM(LLM):
    """An expert as an LLM. Where they are given, it moves away from its base model (gamma) and is
    held to what is plausible (alpha). There are no panels, so nothing keeps it from repeating
    itself but chance.

    The last message of an input is the prompt, as it stands: an expert knows the prompt that it was
    fitted with, and no chat.
    """

    expert: str
    gamma: float = 0.0
    alpha: float = 0.0
    temperature: float = 0.9
    max_new_tokens: int | None = None
    seed: int = 0
    dtype: str = "auto"
    device: str = "auto"
    _engine: Any = PrivateAttr(None)
    _expert: Any = PrivateAttr(None)
    _made: int = PrivateAttr(0)

    def load(self) -> None:
        """Loads the expert and its engine."""
        from steer.engines.choice import EngineSpec
        from steer.models.expert import Expert

        super().load()
        self._expert = found = Expert.load(self.expert)
        spec = EngineSpec(found.base, found.path, dtype=self.dtype, device=self.device)
        self._engine = spec.load()

    @property
    def model_name(self) -> str:
        """Folder of the expert."""
        return self.expert

    def generate(self, inputs: list[Any], num_generations: int = 1) -> list[Any]:
        """Generates `num_generations` completions of each input's last message."""
        from steer.config import Guidance, Sampling
        from steer.engines.interface import Request
        from steer.guidance import Contexts, build_streams
        from steer.seeds import derive

        guidance = Guidance(gamma=self.gamma, eta=0, alpha=self.alpha)
        tokens = self.max_new_tokens or self._expert.max_completion_tokens
        sampling = Sampling(temperature=self.temperature, max_new_tokens=tokens)
        prompts = [_prompt(each) for each in inputs for _ in range(num_generations)]
        requests = [
            Request(
                number,
                build_streams(guidance, Contexts(prompt)),
                derive(self.seed, "distilabel", self._made + number),
                guidance.alpha,
                shape=self._expert.task.completion_shape,
                end_bias=self._expert.end_bias,
            )
            for number, prompt in enumerate(prompts)
        ]
        self._made += len(requests)
        done = self._engine.generate(requests, sampling)
        task = self._expert.task
        groups = [
            done[start : start + num_generations] for start in range(0, len(done), num_generations)
        ]
        return [
            {
                "generations": [task.record(each.text) for each in group],
                "statistics": {"output_tokens": [each.tokens for each in group]},
            }
            for group in groups
        ]


def _prompt(given: Any) -> str:
    """The last message of an input, which may come with what its structure is to be."""
    messages = given[0] if isinstance(given, tuple) else given
    return str(messages[-1]["content"])
