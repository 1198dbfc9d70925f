"""What is compared with what, and the targets."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.lab import Lab
from benchmarks.memory import Peak, peak
from benchmarks.ours import Ours
from benchmarks.pairs import Group, Load, Ratio, Side
from benchmarks.peers import Peers
from steer.config import RunConfig

SHARING = RunConfig(n=1).rows_per_panel

TARGETS = {
    "steer_over_plain_64": (">=", 0.30),
    "plain_over_transformers_64": (">=", 2.0),
    "plain_over_forward_64": (">=", 0.85),
    "steer_over_published": (">=", 20.0),
    "steer_over_transformers_cfg_16": (">=", 2.0),
    "peak_memory_over_plain_64": ("<=", 1.5),
    "steer_over_plain_1": (">=", 0.6),
    "steer_over_plain_4": (">=", 0.6),
    "plain_over_transformers_1": (">=", 2.0),
    "steer_over_plain_llama_1b_32": (">=", 0.75),
    "steer_over_plain_llama_1b_256": (">=", 0.45),
    "steer_over_plain_llama_8b_32": (">=", 0.75),
    "steer_over_plain_llama_8b_256": (">=", 0.45),
}
"""What each ratio should be; those of the Llamas are measured on a GPU."""

MEANINGS = {
    "steer_over_plain_64": "STEER over our own plain sampling, 64 rows",
    "plain_over_transformers_64": "our plain sampling over Transformers generate (PEFT), 64 rows",
    "plain_over_transformers_merged_64": "the same with the adapter merged into their weights",
    "plain_over_forward_64": "our plain sampling over bare forward passes (merged), 64 rows",
    "plain_over_forward_adapted_64": "the same, bare forward passes of the PEFT model",
    "steer_over_published": "STEER over the published procedure, end to end",
    "steer_over_transformers_cfg_16": "STEER over Transformers guidance_scale (PEFT), 16 rows",
    "steer_over_transformers_cfg_merged_16": "the same with the adapter merged",
    "peak_memory_over_plain_64": "peak memory of STEER over plain sampling, 64 rows, one copy each",
    "peak_memory_over_plain_merged_64": "the same, plain sampling with its second copy",
    "steer_over_plain_1": "STEER over our own plain sampling, 1 row",
    "steer_over_plain_one_copy_1": "the same, plain sampling from the weights that STEER reads",
    "steer_over_plain_4": "STEER over our own plain sampling, 4 rows",
    "steer_over_plain_one_copy_4": "the same, plain sampling from the weights that STEER reads",
    "plain_over_transformers_1": "our plain sampling over Transformers generate (PEFT), 1 row",
    "plain_over_transformers_merged_1": "the same with the adapter merged",
}
"""Each ratio in words; ratios are of tokens a second unless they say otherwise."""


@dataclass(frozen=True)
class Plan:
    """Sizes: `tokens` a record, `records` end to end, of which `published` are timed for the
    published procedure. `small_repeats` is for what takes a second, 4 rows, and `end_repeats` for
    what is slow: end to end, and memory."""

    tokens: int = 32
    warm_tokens: int = 3
    repeats: int = 3
    small_repeats: int = 9
    end_repeats: int = 2
    records: int = 256
    published: int = 1


QUICK = Plan(tokens=6, warm_tokens=2, repeats=1, small_repeats=1, end_repeats=1, records=64)
CUDA = Plan(tokens=64, warm_tokens=64, repeats=5, end_repeats=3, published=4)


class Suite:
    """All comparisons; fills `ratios`, `measurements` and `notes`."""

    def __init__(self, lab: Lab, plan: Plan, report: Callable[[str], None]) -> None:
        self.lab, self.plan, self.report = lab, plan, report
        self.ours, self.peers = Ours(lab), Peers(lab)
        self.ratios: dict[str, Ratio] = {}
        self.measurements: list[dict[str, Any]] = []
        self.notes: dict[str, str] = {}

    def run(self) -> None:
        self.at_64()
        self.small()
        self.guided_at_16()
        self.end_to_end()
        self.memory()

    def at_64(self) -> None:
        """64 rows: our own plain sampling, Transformers and bare forward passes."""
        load = Load(64, 64, self.plan.tokens)
        self.report("64 rows: which Transformers cache is faster")
        kind = self.peers.choose_cache(Load(64, 64, min(8, self.plan.tokens)))
        self.notes["forward_cache"] = f"{kind}, the faster of the dynamic and the static cache"
        group = self._measure(
            "64 rows",
            Side("steer", self.ours.steer, load),
            Side("plain", self.ours.plain, load),
            Side("plain engine", self.ours.plain_engine, load),
            Side("transformers", self.peers.transformers, load),
            Side("transformers merged", self.peers.transformers_merged, load),
            Side("forward", self.peers.forward, load),
            Side("forward adapted", self.peers.forward_adapted, load),
        )
        self.ratios |= {
            "steer_over_plain_64": group.ratio("steer", "plain"),
            "plain_over_transformers_64": group.ratio("plain engine", "transformers"),
            "plain_over_transformers_merged_64": group.ratio("plain engine", "transformers merged"),
            "plain_over_forward_64": group.ratio("plain engine", "forward"),
            "plain_over_forward_adapted_64": group.ratio("plain engine", "forward adapted"),
        }

    def small(self) -> None:
        """1 and 4 rows. The start (panel, prompts, index of real texts) is counted at the share
        that falls on so few records when `SHARING` of them share a panel, as they do by
        default."""
        self.notes["small_batches"] = (
            f"at 1 and 4 rows, steer over plain counts the time before the first step at its "
            f"share of {SHARING} records, the default number that share a panel"
        )
        for rows in (1, 4):
            load = Load(rows, max(rows, 2), self.plan.tokens)
            sides = [
                Side("steer", self.ours.steer, load),
                Side("plain", self.ours.plain, load),
                Side("plain one copy", self.ours.plain_one_copy, load),
            ]
            if rows == 1:
                sides += [
                    Side("plain engine", self.ours.plain_engine, load),
                    Side("transformers", self.peers.transformers, load),
                    Side("transformers merged", self.peers.transformers_merged, load),
                ]
            name = f"{rows} row{'s' * (rows > 1)}"
            repeats = self.plan.repeats if rows == 1 else self.plan.small_repeats
            group = self._measure(name, *sides, repeats=repeats)
            share = load.records / SHARING
            for theirs in ("plain", "plain one copy"):
                name = f"steer_over_{theirs.replace(' ', '_')}_{rows}"
                self.ratios[name] = group.ratio("steer", theirs, share)
            for theirs in ("transformers", "transformers merged") if rows == 1 else ():
                name = f"plain_over_{theirs.replace(' ', '_')}_1"
                self.ratios[name] = group.ratio("plain engine", theirs)

    def guided_at_16(self) -> None:
        """16 rows with one panel: three streams against Transformers' two."""
        load = Load(16, 16, self.plan.tokens)
        group = self._measure(
            "16 rows",
            Side("steer", self.ours.steer, load),
            Side("transformers cfg", self.peers.transformers_cfg, load),
            Side("transformers cfg merged", self.peers.transformers_cfg_merged, load),
        )
        for theirs in ("transformers cfg", "transformers cfg merged"):
            name = f"steer_over_{theirs.replace(' ', '_')}_16"
            self.ratios[name] = group.ratio("steer", theirs)

    def end_to_end(self) -> None:
        """`records` records by us, a sample of them by the published procedure."""
        plan = self.plan
        self.notes["published"] = (
            f"the published procedure takes the same time for every record, so {plan.published} "
            f"of {plan.records} records is timed in each repeat; models are loaded beforehand"
        )
        group = Group(
            "end to end",
            [
                Side("published", self.peers.published, Load(1, plan.published, plan.tokens)),
                Side("steer", self.ours.steer, Load(64, plan.records, plan.tokens)),
            ],
        )
        group.measure(plan.end_repeats, plan.warm_tokens, self.report)
        self.measurements += group.to_json()
        self.ratios["steer_over_published"] = group.ratio("steer", "published")

    def memory(self) -> None:
        """Peaks in processes of their own."""
        load = Load(64, 64, self.plan.tokens)
        peaks: dict[str, Peak] = {}
        values: dict[str, list[float]] = {"plain": [], "plain_merged": []}
        for repeat in range(1, self.plan.end_repeats + 1):
            for kind in ("steer", *values):
                self.report(f"memory: repeat {repeat} of {self.plan.end_repeats}, {kind}")
                peaks[kind] = peak(self.lab, kind, load)
                row = {"group": "memory", "side": kind, **asdict(load), **asdict(peaks[kind])}
                self.measurements.append(row)
            for kind, found in values.items():
                found.append(peaks["steer"].peak / peaks[kind].peak)
        for kind, found in values.items():
            self.ratios[f"peak_memory_over_{kind}_64"] = Ratio.of(found)

    def _measure(self, name: str, *sides: Side, repeats: int | None = None) -> Group:
        group = Group(name, sides)
        group.measure(repeats or self.plan.repeats, self.plan.warm_tokens, self.report)
        self.measurements += group.to_json()
        return group


def met(name: str, ratio: Ratio) -> bool | None:
    """Whether the median reaches its target; None without a target."""
    if name not in TARGETS:
        return None
    sign, target = TARGETS[name]
    return ratio.median >= target if sign == ">=" else ratio.median <= target
