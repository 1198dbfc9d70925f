"""Suite of comparisons, and their targets."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.llamacpp import LlamaCpp, missing
from benchmarks.memory import Peak, peak
from benchmarks.ours import Endless, Ours
from benchmarks.pairs import Comparison, Group, Load, Ratio, Side
from benchmarks.peers import Peers
from benchmarks.plan import Plan, repeat_doubtful
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
    "plain_int8_over_transformers_1": (">=", 2.0),
    "plain_over_llamacpp_1": (">=", 1.0),
    "steer_over_plain_llama_1b_32": (">=", 0.75),
    "steer_over_plain_llama_1b_256": (">=", 0.45),
    "steer_over_plain_llama_8b_32": (">=", 0.75),
    "steer_over_plain_llama_8b_256": (">=", 0.45),
    "fit_over_steps": (">=", 0.9),
    "fit_over_trainer": (">=", 1.5),
    "fit_time_to_loss_over_before": ("<=", 0.5),
    "steer_start_over_before": ("<=", 0.5),
    "demo_over_before": ("<=", 0.6),
}
"""What each ratio should be; those of the Llamas are measured on a GPU. Of ratios that are measured
of several corpora, the name without the corpus."""

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
    "plain_int8_over_plain_1": "our plain sampling, weights of int8 over those as they are, 1 row",
    "plain_int8_over_transformers_1": "our plain sampling, weights of int8, over Transformers "
    "generate (PEFT), 1 row",
    "plain_over_llamacpp_1": "our plain sampling, weights of int8, over llama.cpp's Q4_0, 1 row",
    "plain_over_llamacpp_q8_1": "the same over llama.cpp's Q8_0, which loses as little",
    "plain_auto_over_llamacpp_1": "the same with our weights as they are",
    "fit_over_steps": "a whole fit over bare training steps",
    "fit_over_trainer": "a whole fit over PEFT with Transformers' Trainer",
    "fit_time_to_loss_over_before": "time until the lowest held-out loss of the version before, "
    "over that version's fit",
    "fit_time_over_before": "time of the whole fit over that of the version before",
    "steer_start_over_before": "time from the shell to the first token, over the version before",
    "help_over_before": "time of steer --help over the version before",
    "demo_over_before": "time of make demo from an empty folder, over the version before",
    "demo_setup_over_before": "the same, its set-up alone",
    "demo_run_over_before": "the same, without its set-up",
}
"""Each ratio in words; ratios are of tokens a second unless they say otherwise. Of ratios that are
measured of several corpora, the name without the corpus."""

OF_CORPORA = ("fit_time_to_loss_over_before", "fit_time_over_before")
"""Ratios that have the name of a corpus after theirs."""


class Suite:
    """Suite of all comparisons; fills `ratios`, `measurements` and `notes`."""

    def __init__(
        self, ours: Ours, plan: Plan, left: Callable[[], float], report: Callable[[str], None]
    ) -> None:
        self.lab, self.ours, self.peers = ours.lab, ours, Peers(ours.lab)
        self.plan, self.left, self.report = plan, left, report
        self.ratios: dict[str, Ratio] = {}
        self.measurements: list[dict[str, Any]] = []
        self.notes: dict[str, str] = {}

    def run(self) -> None:
        """Measures everything at least as often as the plan says, then what is in doubt."""
        groups = [self.at_64(), self.at_1(), self.at_4(), self.guided_at_16(), self.end_to_end()]
        for group in groups:
            group.measure(self.plan.least, self.plan.warm_tokens, self.report)
        memory = self.memory()
        repeat_doubtful(groups, self.plan.most, self.left, self.report)
        for group in groups:
            self.ratios |= group.ratios()
            self.measurements += group.to_json()
        self.ratios |= memory

    def at_64(self) -> Group:
        """Group at 64 rows: our own plain sampling, Transformers and bare forward passes."""
        load = Load(64, 64, self.plan.tokens)
        self.report("64 rows: which Transformers cache is faster")
        kind = self.peers.choose_cache(Load(64, 64, min(8, self.plan.tokens)))
        self.notes["forward_cache"] = f"{kind}, the faster of the dynamic and the static cache"
        sides = [
            Side("steer", self.ours.steer, load),
            Side("plain", self.ours.plain, load),
            Side("plain engine", self.ours.plain_engine, load),
            Side("transformers", self.peers.transformers, load),
            Side("transformers merged", self.peers.transformers_merged, load),
            Side("forward", self.peers.forward, load),
            Side("forward adapted", self.peers.forward_adapted, load),
        ]
        theirs = ("transformers", "transformers merged", "forward", "forward adapted")
        against = [_comparison("plain engine", side, 64) for side in theirs]
        return Group("64 rows", sides, [_comparison("steer", "plain", 64), *against])

    def at_1(self) -> Group:
        """Group at 1 row: both our own kinds of plain sampling, and Transformers."""
        load = Load(1, 2, self.plan.tokens)
        sides = [
            *self._few(load),
            Side("plain engine", self.ours.plain_engine, load),
            Side("transformers", self.peers.transformers, load),
            Side("transformers merged", self.peers.transformers_merged, load),
        ]
        theirs = ("transformers", "transformers merged")
        against = [_comparison("plain engine", side, 1) for side in theirs]
        rounded, more = self._rounded(load)
        return Group("1 row", [*sides, *rounded], [*_against_plain(load), *against, *more])

    def _rounded(self, load: Load) -> tuple[list[Side], list[Comparison]]:
        """Sides whose weights are rounded, on a CPU: ours to int8, and llama.cpp's to four and
        eight bits."""
        if self.lab.device != "cpu":
            return [], []
        ours = Ours(self.lab, Endless(self.lab.base, self.lab.adapter, dtype="int8", device="cpu"))
        sides = [Side("plain engine int8", ours.plain_engine, load)]
        wanted = [
            Comparison("plain_int8_over_transformers_1", "plain engine int8", "transformers"),
            Comparison("plain_int8_over_plain_1", "plain engine int8", "plain engine"),
        ]
        if why := missing(self.peers.merged.config.model_type):
            self.notes["llama.cpp"] = why
            return sides, wanted
        for kind in ("Q4_0", "Q8_0"):
            made = LlamaCpp(self.lab, self.peers.merged, kind)
            sides.append(Side(f"llama.cpp {kind}", made.run, load))
        wanted += [
            Comparison("plain_over_llamacpp_1", "plain engine int8", "llama.cpp Q4_0"),
            Comparison("plain_over_llamacpp_q8_1", "plain engine int8", "llama.cpp Q8_0"),
            Comparison("plain_auto_over_llamacpp_1", "plain engine", "llama.cpp Q4_0"),
        ]
        return sides, wanted

    def at_4(self) -> Group:
        """Group at 4 rows: both our own kinds of plain sampling."""
        load = Load(4, 4, self.plan.tokens)
        return Group("4 rows", self._few(load), _against_plain(load))

    def guided_at_16(self) -> Group:
        """Group at 16 rows with one panel: three streams against Transformers' two."""
        load = Load(16, 16, self.plan.tokens)
        sides = [
            Side("steer", self.ours.steer, load),
            Side("transformers cfg", self.peers.transformers_cfg, load),
            Side("transformers cfg merged", self.peers.transformers_cfg_merged, load),
        ]
        theirs = ("transformers cfg", "transformers cfg merged")
        return Group("16 rows", sides, [_comparison("steer", side, 16) for side in theirs])

    def end_to_end(self) -> Group:
        """Group end to end: `records` records by us, some by the published procedure."""
        plan = self.plan
        self.notes["published"] = (
            f"the published procedure takes the same time for every record, so {plan.published} "
            f"of {plan.records} records is timed in each repeat; models are loaded beforehand"
        )
        sides = [
            Side("published", self.peers.published, Load(1, plan.published, plan.tokens)),
            Side("steer", self.ours.steer, Load(64, plan.records, plan.tokens)),
        ]
        wanted = Comparison("steer_over_published", "steer", "published")
        return Group("end to end", sides, [wanted])

    def memory(self) -> dict[str, Ratio]:
        """Measures ratios of the peaks, in processes of their own; adds a measurement for each.
        Peaks hardly scatter, so they are read again only while there is time."""
        load = Load(64, 64, self.plan.tokens)
        peaks: dict[str, Peak] = {}
        values: dict[str, list[float]] = {"plain": [], "plain_merged": []}
        began = time.monotonic()
        for repeat in range(1, self.plan.memory + 1):
            if repeat > 1 and (time.monotonic() - began) / (repeat - 1) > self.left():
                break
            for kind in ("steer", *values):
                self.report(f"memory: repeat {repeat}, {kind}")
                peaks[kind] = peak(self.lab, kind, load)
                row = {"group": "memory", "side": kind, **asdict(load), **asdict(peaks[kind])}
                self.measurements.append(row)
            for kind, found in values.items():
                found.append(peaks["steer"].peak / peaks[kind].peak)
        return {f"peak_memory_over_{kind}_64": Ratio.of(found) for kind, found in values.items()}

    def _few(self, load: Load) -> list[Side]:
        """Sides of ours where few rows decode."""
        self.notes["small_batches"] = (
            f"at 1 and 4 rows, steer over plain counts the time before the first step at its "
            f"share of {SHARING} records, the default number that share a panel"
        )
        return [
            Side("steer", self.ours.steer, load),
            Side("plain", self.ours.plain, load),
            Side("plain one copy", self.ours.plain_one_copy, load),
        ]


def _against_plain(load: Load) -> list[Comparison]:
    """Comparisons with plain sampling. The start (panel, prompts, index of real texts) is counted
    at the share that falls on so few records when `SHARING` of them share a panel, as they do by
    default."""
    share = load.records / SHARING
    theirs = ("plain", "plain one copy")
    return [_comparison("steer", side, load.rows, share) for side in theirs]


def _comparison(ours: str, theirs: str, rows: int, start_share: float = 1.0) -> Comparison:
    """Makes a comparison, named by its sides and rows, as in `MEANINGS`."""
    name = f"{ours.split()[0]}_over_{theirs.replace(' ', '_')}_{rows}"
    return Comparison(name, ours, theirs, start_share)


def in_words(name: str) -> str:
    """Says what the ratio is of."""
    kind, corpus = _kind(name)
    words = MEANINGS.get(kind, f"`{name}`")
    return f"{words}: {corpus}" if corpus else words


def target(name: str) -> tuple[str, float] | None:
    """Finds what the ratio should be, if anything."""
    return TARGETS.get(_kind(name)[0])


def met(name: str, ratio: Ratio) -> bool | None:
    """Whether the median reaches its target; None without a target."""
    wanted = target(name)
    if wanted is None:
        return None
    sign, limit = wanted
    return ratio.median >= limit if sign == ">=" else ratio.median <= limit


def _kind(name: str) -> tuple[str, str]:
    """Parts a ratio's name into what is measured and the corpus, "" where there is but one."""
    for kind in OF_CORPORA:
        if name.startswith(f"{kind}_"):
            return kind, name.removeprefix(f"{kind}_")
    return name, ""
