"""Seconds, bytes and FLOPs of a piece of work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

Work = Callable[[], object]


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Work, device: str) -> float:
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def both_seconds(work: Work, device: str) -> tuple[float, float]:
    """By the clock, and of the processor: those do not grow when other programs take their turn,
    as long as waiting threads sleep (OMP_WAIT_POLICY=PASSIVE)."""
    start = time.process_time()
    wall = seconds(work, device)
    return wall, time.process_time() - start


def peak_bytes(work: Work, device: str) -> int:
    """The most that was allocated at once, above what stood before."""
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    found = profiler.profiler
    assert found is not None and found.kineto_results is not None
    changes = [e for e in found.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def flops(work: Work) -> int:
    """Of matrix products and attention, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def matmul_rate(dtype: torch.dtype, device: str) -> float:
    """FLOP/s that this machine reaches with large square products: the best of some."""
    if device == "cuda":
        return _rate(8192, dtype, device)
    probed = _rate(256, dtype, device)  # bf16 without its instructions would take minutes
    return max(probed, _rate(1536, dtype, device)) if probed > 2e10 else probed


def _rate(size: int, dtype: torch.dtype, device: str) -> float:
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product: Tensor = a @ b
    assert product.isfinite().all()
    return 2 * size**3 / min(seconds(lambda: a @ b, device) for _ in range(7))


def median(values: list[float]) -> float:
    return statistics.median(values)


def spread(values: list[float]) -> tuple[float, float]:
    """First and third quartile."""
    if len(values) < 3:
        return min(values), max(values)
    first, _, third = statistics.quantiles(values, n=4)
    return first, third
