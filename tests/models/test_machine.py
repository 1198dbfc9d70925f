"""What a processor computes is found out by trying, and a dtype it converts is said to be slow."""

import logging
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from steer.cli.main import main
from steer.models import machine
from steer.models.base import pick_dtype
from steer.runs.store import Run

CPU = torch.device("cpu")
ON = {"architecture": "x86_64", "avx512_bf16": True}


def found(monkeypatch: pytest.MonkeyPatch, features: dict, packs: bool) -> machine.Processor:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    monkeypatch.setattr(machine, "_packs", lambda dtype: packs)
    return machine.find_processor()


def test_a_packed_product_is_the_product() -> None:
    """Or there is none here, and nothing is packed."""
    weight = torch.randn(24, 40).to(torch.bfloat16)
    x = torch.randn(3, 40).to(torch.bfloat16)
    if not machine._packs(torch.bfloat16):
        with pytest.raises((AttributeError, RuntimeError)):
            machine.packed_linear(x, machine.pack(weight), None)
        return
    product = machine.packed_linear(x, machine.pack(weight), None)
    torch.testing.assert_close(product, torch.nn.functional.linear(x, weight), atol=0.1, rtol=0.02)


@pytest.mark.parametrize("columns", [32, 33, 100])
@pytest.mark.parametrize("rows", [1, machine.FEW_ROWS, machine.FEW_ROWS + 1])
def test_a_product_of_int8_is_that_of_what_was_rounded(rows: int, columns: int) -> None:
    """Up to the bf16 of few rows, whatever stands behind the last column."""
    weight, x = torch.randn(7, columns), torch.randn(rows, columns)
    weight[2] = 0
    rounded, scales = machine.to_int8(weight)
    dense = machine.from_int8(rounded, scales, columns)
    assert (dense - weight).abs().max() <= weight.abs().amax(dim=1).max() / 127 / 2 * 1.001
    assert (rounded.abs().amax(dim=1) == torch.tensor([127, 127, 0, 127, 127, 127, 127])).all()
    few = rows <= machine.FEW_ROWS
    product = machine.int8_linear(x, rounded, scales)
    torch.testing.assert_close(product, x @ dense.T, atol=0.2 if few else 1e-4, rtol=0.01)
    exact = x.bfloat16().float() @ machine.from_int8(rounded, scales.bfloat16().float(), columns).T
    if few:
        torch.testing.assert_close(product, exact, atol=1e-3, rtol=2**-8)


def in_four_bits(out: int, into: int, scale: float = 0.01) -> torch.Tensor:
    """A weight as it is stored in four bits: 16 values for each 32 columns of a row."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codes = torch.randint(0, 16, (out, -(-into // 32), 32))
        codes[..., :2] = torch.tensor([0, 15])
        scales, low = torch.rand(2, *codes.shape[:2], 1) + 0.5
        return (scale * (codes * scales - 8 * low)).flatten(1)[:, :into]


QUARTERS = pytest.mark.skipif(
    not machine.processor().quarters, reason="no products with int4 weights here"
)


@QUARTERS
@pytest.mark.parametrize("shape", [(16, 32), (7, 64), (33, 100), (1, 5)])
@pytest.mark.parametrize("rows", [1, machine.FEW_ROWS])
def test_a_product_of_int4_is_that_of_what_was_rounded(shape: tuple[int, int], rows: int) -> None:
    """The nearest of 16 values, up to the bf16 of scales, of x and of the product."""
    weight, x = torch.randn(shape), torch.randn(rows, shape[1])
    weight[0] = 0
    steps, scales, rounded = machine.to_int4(weight)
    for row, values in zip(weight, rounded, strict=True):
        for start in range(0, shape[1], 32):
            group, found = row[start : start + 32], values[start : start + 32]
            filled = torch.cat((group, torch.zeros(max(0, start + 32 - shape[1]))))
            step = (filled.max() - filled.min()) / 15
            assert len(found.unique()) <= 16
            assert (found - group).abs().max() <= 0.6 * step + 1e-6
    packed = machine.pack_int4(steps, scales)
    product = machine.int4_linear(machine.in_groups(x, None, 2), *packed, shape[0])
    assert product.shape == (rows, shape[0]) and product.dtype == x.dtype
    exact = x.bfloat16().float() @ rounded.T
    torch.testing.assert_close(product, exact, atol=0.02, rtol=2**-7)


@QUARTERS
@pytest.mark.parametrize("shape", [(16, 32, 32), (33, 100, 8), (64, 64, 96)])
def test_an_adapter_beside_weights_of_int4_keeps_eight_bits(shape: tuple[int, int, int]) -> None:
    out, columns, ranks = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weight, up = in_four_bits(out, columns), torch.randn(out, ranks)
        x, low = torch.randn(3, columns), torch.randn(3, ranks)
    values, scales, rounded = machine.to_int4(weight, up)
    assert rounded.shape == (out, columns + ranks)
    torch.testing.assert_close(rounded[:, :columns], machine.to_int4(weight)[2], atol=0, rtol=0)
    steps = (up.amax(dim=1) - up.amin(dim=1)).unsqueeze(1) / 15
    assert ((rounded[:, columns:] - up).abs() <= steps / 15).all()
    assert not ((machine.to_int4(up)[2] - up).abs() <= steps / 15).all()  # once is not enough
    packed = machine.pack_int4(values, scales)
    product = machine.int4_linear(machine.in_groups(x, low, 2), *packed, out)
    exact = torch.cat((x, low), dim=1).bfloat16().float() @ rounded.T
    torch.testing.assert_close(product, exact, atol=0.05, rtol=2**-7)


@QUARTERS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_stored_in_four_bits_is_known(dtype: torch.dtype) -> None:
    stored = in_four_bits(600, 128).to(dtype)
    assert machine.is_int4(stored)
    rounded = machine.to_int4(stored)[2]
    assert (rounded - stored.float()).norm() < 0.01 * stored.float().norm()
    assert not machine.is_int4(torch.randn(600, 128).to(dtype))
    mixed = torch.cat((stored, torch.randn(300, 128).to(dtype)))  # of two layers that are joined
    assert not machine.is_int4(mixed)


def test_without_kernels_nothing_is_int4(monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(machine.processor(), quarters=False)
    monkeypatch.setattr(machine, "processor", lambda: found)
    assert not machine.is_int4(in_four_bits(32, 64))


@pytest.mark.skipif(not machine.processor().halves, reason="no products with fp16 weights here")
@pytest.mark.parametrize("bias", [None, torch.linspace(-1, 1, 7)])
@pytest.mark.parametrize("trained", [0, 5, 20])
def test_a_product_with_fp16_weights_is_that_of_fp32(trained: int, bias) -> None:
    """Weights as they are stored in bf16 are exact, and those of the last columns, trained since,
    are held in two parts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weight, x = torch.randn(7, 40), torch.randn(3, 2, 40)
    stored = 40 - trained
    weight[:, :stored] = weight[:, :stored].bfloat16().float()
    made = machine.to_half(weight, bias)
    assert made is not None and made[1] == stored
    exact = x.double() @ weight.double().T + (0 if bias is None else bias)
    torch.testing.assert_close(machine.half_linear(x, *made).double(), exact, atol=5e-6, rtol=0)
    one_part = x.double() @ weight.half().double().T + (0 if bias is None else bias)
    assert trained == 0 or (one_part - exact).abs().max() > 1e-4


def test_weights_that_fp16_does_not_hold_stay_as_they_are() -> None:
    """More than half of them trained, or too large, or far too small."""
    stored = torch.randn(7, 40).bfloat16().float()
    assert machine.to_half(torch.randn(7, 40), None) is None
    assert machine.to_half(stored * 2**17, None) is None
    one = stored.clone()
    one[3, 39] = 1e5
    assert machine.to_half(one, None) is None
    assert machine.to_half(stored * 2**-20, None) is None


def test_bf16_counts_where_the_processor_has_it_and_the_kernels_work(monkeypatch) -> None:
    assert torch.bfloat16 in found(monkeypatch, ON, packs=True).native


@pytest.mark.parametrize(
    ("features", "packs"),
    [
        (ON, False),  # a limit was set: ONEDNN_MAX_CPU_ISA
        ({"architecture": "x86_64", "avx512_f": True}, True),  # packs, but converts
        ({"architecture": "x86_64", "avx2": True}, False),
        ({}, False),
    ],
)
def test_bf16_does_not_count_where_it_is_converted(monkeypatch, features, packs) -> None:
    processor = found(monkeypatch, features, packs)
    assert torch.bfloat16 not in processor.native
    assert (torch.bfloat16 in processor.packed) is packs


def test_arm_needs_no_packing(monkeypatch) -> None:
    assert found(monkeypatch, {"architecture": "aarch64", "bf16": True}, packs=False).native


def test_fused_attention_is_attention(monkeypatch) -> None:
    """On this machine, for every dtype that it is used for; where it is missing, for none."""
    for dtype in machine.processor().fused:
        q, k, v = torch.randn(3, 2, 3, 5, 16).to(dtype)
        out, total = machine.fused_attention(q, k, v, 0.3)
        scores = (q.float() @ k.float().transpose(-1, -2)) * 0.3
        torch.testing.assert_close(out.float(), scores.softmax(-1) @ v.float(), atol=0.05, rtol=0)
        torch.testing.assert_close(total, scores.logsumexp(-1), atol=0.05, rtol=0)
    monkeypatch.setattr(machine, "fused_attention", raising)
    assert not machine._fuses(torch.float32)


def raising(*_):
    raise RuntimeError("needs the cpu support avx_ne_convert")


def test_an_operator_that_is_not_there_is_not_used(monkeypatch) -> None:
    monkeypatch.setattr(machine, "pack", raising)
    assert not machine._packs(torch.bfloat16)
    monkeypatch.setattr(machine, "half_linear", raising)
    assert not machine._halves()


def test_auto_never_converts(plain_processor) -> None:
    assert pick_dtype("auto", CPU) == torch.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_dtype_that_is_converted_is_said_to_be_slow(plain_processor, caplog, dtype) -> None:
    with caplog.at_level(logging.WARNING):
        assert pick_dtype(dtype, CPU) == getattr(torch, dtype)
    (line,) = caplog.messages
    assert dtype in line and "--dtype float32" in line and "\n" not in line


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_command_works_in_a_dtype_that_is_converted(
    plain_processor,
    tiny_expert: Path,
    tiny_corpus,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dtype: str,
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(tiny_corpus.texts), "utf-8")
    command = ["generate", str(tiny_expert), "--real", str(texts), "--n", "2", "--min-chars", "0"]
    code = main([*command, "--dtype", dtype, "--out", str(tmp_path / "run")])
    assert code in (0, 3)
    assert Run.open(tmp_path / "run").rounds
    assert "Traceback" not in capsys.readouterr().err


def test_more_threads_than_processors_are_not_used_and_said(caplog) -> None:
    before = torch.get_num_threads()
    try:
        with caplog.at_level(logging.WARNING):
            machine.use_cpus(machine.cpus() + 1)
        assert torch.get_num_threads() == machine.cpus()
        (line,) = caplog.messages
        assert f"--threads is {machine.cpus() + 1}" in line
        machine.use_cpus(1)
        assert torch.get_num_threads() == 1
        assert len(caplog.messages) == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("busy", "threads", "processors", "fewer"),
    [(1.0, 2, 2, 1), (3.6, 8, 8, 4), (0.3, 2, 2, None), (1.0, 1, 2, None), (1.0, 2, 4, None)],
)
def test_busy_processors_are_said_where_threads_want_them(
    monkeypatch, caplog, busy: float, threads: int, processors: int, fewer: int | None
) -> None:
    """Not with one thread, nor where there are processors enough for both."""
    monkeypatch.setattr(machine, "_seen", (0.0, 500.0))
    monkeypatch.setattr(machine.time, "monotonic", lambda: 2.0)
    monkeypatch.setattr(machine, "_others", lambda: 500.0 + 2.0 * busy)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(machine, "cpus", lambda: processors)
    monkeypatch.setattr(machine.psutil, "cpu_count", lambda: processors)
    with caplog.at_level(logging.WARNING):
        machine.warn_of_others()
    assert [f"OMP_NUM_THREADS={fewer} " in line for line in caplog.messages] == [True] * bool(fewer)


def test_other_processes_are_all_but_this_one() -> None:
    """What this process computes is not counted; what another does is."""
    before, mine = machine._others(), time.process_time()
    while time.process_time() < mine + 0.3:
        pass
    alone = machine._others() - before
    child = "import time\nwhile time.process_time() < 1: pass"
    subprocess.run([sys.executable, "-c", child], check=True)
    assert machine._others() - before >= alone + 0.9
