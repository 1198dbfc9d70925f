"""A made-up vLLM: source that has every part that the engine needs, and nothing else."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from steer.engines.vllm.parts import CPU_PARTS, PARTS, Part
from steer.engines.vllm.source import Source

EVERY_PART = (*PARTS, *CPU_PARTS)


def stub(part: Part) -> str:
    """Source of one part: a function, or a class with what is asked of it."""
    if any(call.startswith(f"{part.name}(") for call in part.calls):
        return "".join(f"def {call}:\n    ...\n" for call in part.calls)
    body = [
        f"texts = {part.strings!r}",
        *(f"{name}: int" for name in part.attributes.split()),
        *(_method(call) for call in part.calls),
        *(f"@abstractmethod\n    {_method(call)}" for call in part.overrides),
    ]
    return f"class {part.name}:\n" + "".join(f"    {line}\n" for line in body)


def _method(call: str) -> str:
    name, _, given = call.partition("(")
    return f"def {name}(self, {given}:\n        ..."


def write(
    folder: Path, parts: Sequence[Part] = EVERY_PART, instead: Mapping[Part, str] | None = None
) -> Source:
    """Writes the parts into their modules below `folder`; `instead` has other text for some."""
    texts: defaultdict[str, str] = defaultdict(str)
    texts["vllm"] += "# the package\n"
    for part in parts:
        texts[part.module] += (instead or {}).get(part, stub(part))
    packages = {module.rpartition(".")[0] for module in texts} | {"vllm"}
    for module, text in texts.items():
        path = folder / module.replace(".", "/")
        file = path / "__init__.py" if module in packages else path.with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Source(folder)
