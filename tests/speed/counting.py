"""What a step does, counted: operators, sizes, and where the host asks for a value."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten
# What ends in a read by the host wherever the tensors are; `item`, `float`, `bool` and `equal` of
# the first kind, boolean indices and masks of the second.
WAITS = {
    aten._local_scalar_dense, aten.is_nonzero, aten.equal, aten.nonzero, aten.masked_select,
    aten._unique2, aten.unique_dim, aten.unique_consecutive,
}  # fmt: skip


class Watch(TorchDispatchMode):
    """Calls `saw(func, args, output)` for every operator, those of the backward included."""

    def __init__(self, saw: Any) -> None:
        super().__init__()
        self.saw = saw

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.saw(func, args, output)
        return output


class Waits:
    """Where the host reads a value: (operator, file:function of the code that is nearest)."""

    def __init__(self) -> None:
        self.found: Counter[tuple[str, str]] = Counter()

    def saw(self, func: Any, args: Any, output: Any) -> None:
        packet = func.overloadpacket
        if packet in WAITS or (packet is aten.index and _by_mask(args[1])):
            self.add(str(packet).removeprefix("aten."))

    def add(self, name: str) -> None:
        self.found[name, _nearest()] += 1

    @contextmanager
    def counted(self) -> Iterator[None]:
        tolist = Tensor.tolist  # on a CPU it reads memory without an operator

        def counting(tensor: Tensor) -> Any:
            self.add("tolist")
            return tolist(tensor)

        Tensor.tolist = counting  # type: ignore[method-assign]
        try:
            with Watch(self.saw):
                yield
        finally:
            Tensor.tolist = tolist  # type: ignore[method-assign]


def _by_mask(indices: Any) -> bool:
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)


def _nearest() -> str:
    """The innermost function that is neither torch's nor of this file; or `autograd`, where that
    runs a gradient of its own."""
    frame = sys._getframe(1)
    while "/torch/" in frame.f_code.co_filename or frame.f_code.co_filename == __file__:
        if frame.f_code.co_name == "_engine_run_backward":
            return "autograd"
        assert frame.f_back is not None
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


ATTENTION = {  # torch leaves a CPU's attention out
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def flops(work: Any) -> dict[str, int]:
    """Of matrix products (`products`) and of attention, forward and backward."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        work()
    found = {"products": 0, "attention": 0}
    for operator, count in counter.get_flop_counts()["Global"].items():
        found["attention" if "dot_product" in str(operator) else "products"] += count
    return found


def allocations(work: Any, size: int) -> int:
    """How often exactly so many bytes were asked for."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    found = profiler.profiler
    assert found is not None and found.kineto_results is not None
    events = found.kineto_results.events()
    return sum(event.name() == "[memory]" and event.nbytes() == size for event in events)
