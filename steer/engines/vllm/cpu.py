"""Adapters on a CPU, each as two products.

vLLM's own LoRA for CPUs, meant for many adapters, copies an adapter's matrices for every token that
it reads, which is most of a step's time. Ours are few, so the matrices of each are used as they
are, for the tokens of the sequences that have it. Where vLLM's stays in use (the processes of
tensor parallelism), the results are the same.
"""

from typing import Any

from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms.cpu import CpuPlatform


class Products(PunicaWrapperCPU):
    """LoRA layers for vLLM on a CPU, which it finds by the name that the platform gives."""

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **others: Any,
    ) -> None:
        """Adds the adapters to `y` (tokens, outputs) of `x` (tokens, inputs), in place. The stacked
        matrices are (adapters, 1, rank, inputs) and (adapters, 1, outputs, rank), each pair for
        one of the slices of the outputs. The last place for an adapter is always empty."""
        places = self.token_lora_indices
        for adapter in range(len(lora_a_stacked[0]) - 1):
            on = (places == adapter).nonzero().flatten()
            if not len(on):
                continue
            read, start = x[on], 0
            for down, up, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                update = read @ down[adapter, 0].T @ up[adapter, 0].T
                y[on, start : start + width] += scale * update.to(y.dtype)
                start += width


def use_products() -> None:
    """Makes the engines loaded in this process from now on use `Products`."""
    name = f"{Products.__module__}.{Products.__qualname__}"
    CpuPlatform.get_punica_wrapper = classmethod(lambda cls: name)
