"""The benchmark command on a tiny random model: that it measures, never how fast anything is."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import curves, fitting, gpu, ideas, levers, neardup, report, rounding, scaling
from benchmarks.__main__ import main
from benchmarks.lab import Lab, prepare
from benchmarks.memory import Peak
from benchmarks.ours import Clock, Endless, Ours
from benchmarks.pairs import Group, Load, Ratio, Sample, Side, check_tokens
from benchmarks.peers import Peers, forward
from benchmarks.plan import Plan
from benchmarks.shapes import random_model
from benchmarks.suite import MEANINGS, TARGETS, Suite, met
from steer.config import Sampling
from steer.engines.scoring import Rows
from steer.models.judge import load_judge
from steer.runs.generation import RunProgress
from tests.tiny import TEXTS

KEYS = [
    "steer_over_plain_64",
    "plain_over_transformers_64",
    "plain_over_forward_64",
    "steer_over_published",
    "steer_over_transformers_cfg_16",
    "peak_memory_over_plain_64",
    "peak_memory_over_plain_merged_64",
    "steer_over_plain_1",
    "steer_over_plain_4",
    "plain_over_transformers_1",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return prepare(tmp_path_factory.mktemp("lab"), "tiny", "cpu")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results, made by the command."""
    folder = tmp_path_factory.mktemp("results")
    arguments = ["--quick", "--model", "tiny", "--device", "cpu", "--out"]
    assert main([*arguments, str(folder / "new" / "cpu.json")]) == 0
    return folder / "new"


def plausible(ratio: dict[str, float]) -> bool:
    values = [ratio["low"], ratio["median"], ratio["high"]]
    return all(math.isfinite(v) and v > 0 for v in values) and values == sorted(values)


def test_the_command_writes_every_ratio(results: Path) -> None:
    found = json.loads((results / "cpu.json").read_text())
    for key in KEYS:
        assert set(found[key]) == {"median", "low", "high"}
        assert plausible(found[key]), key
    assert set(KEYS) - {"peak_memory_over_plain_merged_64"} <= set(TARGETS)
    assert found["machine"]["device"] == "cpu"
    assert found["versions"]["torch"]
    assert {"dtype", "capability", "threads"} <= set(found["machine"])
    settings = found["settings"]
    assert (settings["model"], settings["name"], settings["minutes"]) == ("tiny", "quick", 5)
    assert settings["probe"]["tokens_per_second"] > 0
    assert "1 of 64 records" in found["notes"]["published"]


def test_every_measurement_has_its_raw_seconds(results: Path) -> None:
    rows = json.loads((results / "cpu.json").read_text())["measurements"]
    timed = [row for row in rows if row["group"] != "memory"]
    assert {row["group"] for row in timed} == {
        "64 rows",
        "1 row",
        "4 rows",
        "16 rows",
        "end to end",
    }
    for row in timed:
        assert all(seconds > 0 for seconds in row["seconds"])
        assert plausible(row["tokens_per_second"])
    memory = [row for row in rows if row["group"] == "memory"]
    assert {row["side"] for row in memory} == {"steer", "plain", "plain_merged"}
    assert all(row["peak"] >= row["loaded"] > 10**7 for row in memory)


@pytest.mark.parametrize(("left", "times"), [(0.0, 1), (math.inf, 2)])
def test_memory_is_read_again_only_while_there_is_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, left: float, times: int
) -> None:
    monkeypatch.setattr("benchmarks.suite.peak", lambda lab, kind, load: Peak(1, 2))
    suite = Suite(SimpleNamespace(lab=lab), Plan(memory=2), lambda: left, lambda text: None)
    assert suite.memory()["peak_memory_over_plain_64"] == Ratio(1, 1, 1)
    assert len(suite.measurements) == 3 * times


def test_what_can_be_a_ratio() -> None:
    assert Ratio.of([0.5, 0.4, 3]).plausible
    for values in ([0.0, 1.0], [1.0, math.inf], [math.nan], [-1.0]):
        assert not Ratio.of(values).plausible


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--device", "nowhere", "--out", str(tmp_path / "cpu.json")]) == 2
    assert capsys.readouterr().err.startswith("error: device 'nowhere' cannot be used")
    assert not list(tmp_path.iterdir())
    assert main(["--minutes", "0", "--out", str(tmp_path / "cpu.json")]) == 2
    assert "give more than 0 with --minutes" in capsys.readouterr().err


def test_gpu_part_measures_random_shapes_beside_the_limits(lab: Lab) -> None:
    plan = gpu.Plan(("tiny",), rows=(1, 4), tokens=4, repeats=1, probe_mib=1, probe_size=64)
    ratios, rows = gpu.measure(plan, lab.folder, "cpu", lambda text: None)
    assert list(ratios) == ["steer_over_plain_tiny_1", "steer_over_plain_tiny_4"]
    assert all(plausible(dataclasses.asdict(ratio)) for ratio in ratios.values())
    assert len(rows) == 4
    for row in rows:
        assert 0 < row["limit"] <= row["limit_memory"]


def test_limits_count_the_work_of_a_step(lab: Lab) -> None:
    ours = gpu.random_side("tiny", lab.folder, "cpu")
    plain, guided = (gpu.step_work(ours, 4, 8, guided=on) for on in (False, True))
    base = random_model("tiny", "cpu", torch.float32).parameters()
    assert plain.flops >= 2 * 4 * sum(weight.numel() for weight in base if weight.dim() == 2)
    assert guided.flops == 3 * plain.flops
    assert plain.bytes < guided.bytes < 3 * plain.bytes  # the weights are read once for all
    assert gpu.Work(10, 10).seconds(gpu.Limits(2, 5)) == 5


def test_every_lever_is_turned_off_once(tmp_path: Path) -> None:
    out = tmp_path / "levers-cpu.json"
    assert levers.main(["--model", "tiny", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    names = {point["off"] for point in found["steps"]}
    assert names == {levers.AS_IT_IS, levers.NONE, *(lever.name for lever in levers.LEVERS)}
    assert all(point["milliseconds"] > 0 for point in found["steps"])
    assert len(found["steps"]) == len(names) * 2 * 2
    assert {point["off"] for point in found["free"]} == {part.name for part in levers.FREE}
    assert len(found["free"]) == len(levers.FREE) * 2 * 2
    assert {profile["levers"] for profile in found["profiles"]} == {levers.AS_IT_IS, levers.NONE}


def test_a_whole_fit_is_set_beside_bare_steps_and_a_trainer(lab: Lab) -> None:
    plan = fitting.Plan(texts=24, epochs=1, repeats=1)
    ratios, rates = fitting.measure(lab, plan, lambda text: None)
    assert all(rate.plausible for rate in rates.values())
    for other in ("steps", "trainer"):
        expected = rates["steer"].median / rates[other].median
        assert ratios[f"fit_over_{other}"].median == pytest.approx(expected)


@pytest.mark.parametrize("part", levers.FREE, ids=lambda part: part.name)
def test_a_part_that_is_left_out_is_one_that_a_step_goes_through(
    lab: Lab, part: levers.Lever
) -> None:
    used: list[str] = []

    def noted(*given: Any) -> Any:
        used.append(part.name)
        return part.value(*given)

    engine = Endless(lab.base, lab.adapter, device=lab.device)
    engine.lane_model.merge(True)
    with levers.without([dataclasses.replace(part, value=noted)]):
        assert levers.step_seconds(engine, lab, "steer", 2, 4) > 0
    layers = engine.model.kv_shape[0]
    assert len(used) >= 3 * layers  # once a layer, at each of three steps


@pytest.mark.parametrize("command", [main, curves.main, levers.main, neardup.main, scaling.main])
def test_where_results_go_is_tried_before_anything_is_measured(
    command: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for out, said in (
        (tmp_path, "is a folder; name a file in it with --out"),
        (tmp_path / "file" / "x.json", "cannot write the results to"),
    ):
        assert command(["--out", str(out)]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("error: ")
        assert said in " ".join(shown.split())


def test_ideas_are_weighed_with_an_expert(
    tiny_expert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real, out = tmp_path / "real.jsonl", tmp_path / "ideas-cpu.json"
    real.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    arguments = ["--model", "tiny", "--expert", str(tiny_expert), "--real", str(real)]
    assert ideas.main([*arguments, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    shares = found["shares"]
    assert 0 <= shares["single"] < 1
    # What both draw from one number is no more, but for chance, than what they can.
    assert 0 < shares["same"] <= shares["overlap"] + 0.1 < 1.1
    assert [(p["rows"], p["drafted"]) for p in found["speculation"]] == [
        (1, 1), (1, 2), (2, 1), (2, 2)
    ]  # fmt: skip
    ideas_page = report.Results.all(tmp_path, "ideas")
    assert [run.path for run in ideas_page] == [out]
    assert "One token is plausible at" in report.table(["", ""], report._ideas(ideas_page[0]))
    arguments[3] = str(tmp_path)
    assert ideas.main([*arguments, "--out", str(out)]) == 2
    assert "\nerror: " in capsys.readouterr().err


def test_what_int8_gives_and_costs(tiny_expert: Path, tmp_path: Path) -> None:
    real, out = tmp_path / "real.jsonl", tmp_path / "rounding.json"
    real.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    arguments = ["--model", "tiny", "--expert", str(tiny_expert), "--real", str(real)]
    assert rounding.main([*arguments, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [(p["side"], p["rows"]) for p in found["speed"]] == [
        ("plain", 1), ("plain", 2), ("steer", 1), ("steer", 2)
    ]  # fmt: skip
    assert found["nats"]["int8"] == pytest.approx(found["nats"]["auto"], abs=0.1)
    # The expert as a judge reads the same tokens, each text in one piece.
    read = load_judge(str(tiny_expert)).read(TEXTS[: rounding.TINY.texts])
    nats = -(read.mean * read.tokens).sum() / read.tokens.sum()
    exact = found["machine"]["dtype"] == "float32"
    assert found["nats"]["auto"] == pytest.approx(nats, abs=1e-4 if exact else 0.05)


def test_speculation_makes_the_kept_tokens_and_one_more() -> None:
    time = {"drafted": 3, "steer": 10.0, "draft": 2.0, "check": 4.0}
    assert ideas.gain(0.0, time) == pytest.approx(1 * 10 / 10)
    assert ideas.gain(1.0, time) == pytest.approx(3 * 10 / 10)
    assert ideas.gain(0.5, time) == pytest.approx(1.75)


def test_the_overlap_of_two_distributions() -> None:
    seen, rows = ideas.Seen(), Rows(1, Sampling(max_new_tokens=1), torch.device("cpu"))
    rows.draws, rows.counts = torch.tensor([[0.4], [0.4]]).double(), torch.tensor([0, 0])
    steer = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]).log()
    expert = torch.tensor([[0.3, 0.6, 0.1], [0.1, 0.8, 0.1]]).log()
    seen.note(rows, slice(0, 2), steer, expert)
    assert seen.shares() == pytest.approx(
        {"single": 0.5, "overlap": (1 / 3 + 0.5 + 1) / 2, "same": 0.5}
    )


def test_curves_have_their_points_and_are_drawn(
    lab: Lab, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = curves.measure(lab, curves.TINY, lambda text: None)
    assert [p["rows"] for p in points["rows"]] == [1, 1, 4, 4]
    assert {p["panel_tokens"] for p in points["panel_length"]} == {0, 100}
    assert [p["tokens"] for p in points["record_length"]] == [4, 4, 8, 8]
    assert [p["panels"] for p in points["panels"]] == [1, 2]
    run = [p["records"] for p in points["run_length"]]
    assert run == sorted(set(run)) and run[-1] >= curves.TINY.records

    page, text = tmp_path / "performance.md", "between\n".join(map(marked, report.SECTIONS))
    page.write_text(f"before\n{text}after\n")
    machine = json.loads((results / "cpu.json").read_text())
    for kind, dtype in (("avx2", "float32"), ("amx", "bfloat16")):
        machine["machine"]["dtype"] = dtype
        (results / f"cpu-{kind}.json").write_text(json.dumps(machine))
    (results / "curves-cpu.json").write_text(
        json.dumps(points | {key: machine[key] for key in ("machine", "versions")})
    )
    assert report.main(results, tmp_path) == 0
    new = page.read_text()
    assert new.startswith("before\n") and new.endswith("after\n") and "old" not in new
    assert new.count("between\n") == len(report.SECTIONS) - 1
    assert "| bf16 in hardware | AMX, bf16 | AVX2, fp32 |" in new
    assert "### Speed: AVX2, fp32" in new
    assert all(MEANINGS[key] in new for key in KEYS)
    pictures = sorted((tmp_path / "pictures").glob("*.svg"))
    assert len(pictures) == len(report.PICTURES)
    assert all(f"(pictures/{path.name})" in new for path in pictures)
    first = [path.read_bytes() for path in pictures]
    assert report.main(results, tmp_path) == 0
    assert page.read_text() == new
    assert [path.read_bytes() for path in pictures] == first

    page.write_text(marked("expect"))
    assert report.main(results, tmp_path) == 2
    assert page.read_text() == marked("expect")
    assert "has no lines" in capsys.readouterr().err


def marked(name: str) -> str:
    """An old section of a page."""
    return "\nold\n".join(report.marks(name)) + "\n"


def test_the_page_is_what_the_results_give(tmp_path: Path) -> None:
    page = (report.ROOT / "docs" / "performance.md").read_text("utf-8")
    (tmp_path / "performance.md").write_text(page, "utf-8")
    assert report.main(docs=tmp_path) == 0
    assert (tmp_path / "performance.md").read_text("utf-8") == page
    assert all(len(line) <= 100 or line.startswith("|") for line in page.splitlines())


def test_sides_take_turns_and_ratios_are_of_pairs() -> None:
    order: list[str] = []

    def side(name: str) -> Side:
        return Side(name, lambda load: float(order.append(f"{name}{load.tokens}") or 0), LOAD)

    group = Group("g", [side("a"), side("b")])
    group.measure(2, 3, lambda text: None)
    assert order == ["a3", "b3", "a8", "b8", "a8", "b8"]
    group.samples = {"a": [Sample(1, 8), Sample(2, 8)], "b": [Sample(3, 8), Sample(2, 8)]}
    assert group.ratio("a", "b") == Ratio(2.0, 1.0, 3.0)


def test_only_a_share_of_the_start_is_counted() -> None:
    assert Sample(seconds=10, tokens=80, start=6).rate() == 8
    assert Sample(seconds=10, tokens=80, start=6).rate(1 / 3) == pytest.approx(80 / 6)


def test_targets_go_both_ways() -> None:
    assert met("steer_over_plain_64", Ratio(0.31, 0.1, 0.4)) is True
    assert met("steer_over_plain_64", Ratio(0.29, 0.1, 0.4)) is False
    assert met("peak_memory_over_plain_64", Ratio(1.51, 1, 2)) is False
    assert met("plain_over_forward_adapted_64", Ratio(1, 1, 1)) is None


LOAD = Load(rows=2, records=3, tokens=8)


def test_every_side_does_the_whole_load(lab: Lab) -> None:
    """`check_tokens` inside them raises if not; the bare passes are counted here."""
    ours, peers = Ours(lab), Peers(lab)
    sides = [ours.steer, ours.plain, ours.plain_engine, peers.transformers]
    for run in [*sides, peers.transformers_merged, peers.transformers_cfg, peers.published]:
        assert run(LOAD) >= 0
    widths: list[tuple[int, ...]] = []
    peers.merged.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    prompt = peers._ids().shape[1]
    for kind in ("dynamic", "static"):
        peers.cache_kind = kind
        widths.clear()
        peers.forward(LOAD)
        assert widths == [(1, prompt), *[(2, 1)] * 7, (1, prompt), *[(1, 1)] * 7]
    with pytest.raises(RuntimeError, match="23 tokens were made instead of 24"):
        check_tokens(23, LOAD)


def test_the_start_is_what_comes_before_the_first_token(monkeypatch) -> None:
    """Not before the first word of progress, which is told when a round begins."""
    now = iter([0.0, 9.0, 10.0, 11.0, 12.0])
    monkeypatch.setattr("benchmarks.ours.time.perf_counter", lambda: next(now))
    clock = Clock()
    for tokens in (0, 1, 2, 3, 3):
        clock(RunProgress(0, 3, 0, 0, tokens, 0, 3))
    assert clock.tokens == 3
    assert clock.start == 8.0


def test_peers_have_the_adapter_in_the_models_precision(lab: Lab) -> None:
    peers = Peers(lab)
    name = "model.layers.1.mlp.up_proj"
    base, merged = (m.get_submodule(name).weight for m in (peers.base, peers.merged))
    layer = peers.adapted.get_base_model().get_submodule(name)
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert down.dtype == up.dtype == base.dtype == merged.dtype
    change = up.float() @ down.float()
    assert change.abs().mean() > 1e-4
    assert (merged.float() - base.float() - change).abs().mean() < 0.2 * change.abs().mean()


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_bare_passes_share_one_reading_of_the_prompt(lab: Lab, kind: str) -> None:
    peers = Peers(lab)
    prompt = peers._ids()
    whole = torch.cat([prompt, prompt[:, -1:], prompt[:, -1:]], dim=-1)
    expected = peers.merged.float()(whole).logits[0, -1]
    found = forward(peers.merged, prompt, rows=3, tokens=3, cache_kind=kind)
    assert found.shape == (3, len(expected))
    assert torch.allclose(found, expected.expand(3, -1), atol=1e-5)


def test_scaling_writes_every_part(tmp_path: Path) -> None:
    out = tmp_path / "scaling.json"
    assert scaling.main(["--quick", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [point["workers"] for point in found["simulated"]] == [1, 4]
    assert found["sleeping"][0]["records_per_second"] > 0
    assert all(point["rounds_per_second"] > 0 for point in found["simulated"])
    assert found["extrapolated"]["mebibytes"] > found["memory"][-1]["mebibytes"]


def test_near_duplicates_are_measured_at_every_size(tmp_path: Path) -> None:
    out = tmp_path / "neardup.json"
    assert neardup.main(["--quick", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    for points in (found["unrelated"], found["one_opening"]):
        assert [point["records"] for point in points] == [200, 400]
        assert all(point["milliseconds"] > 0 for point in points)
