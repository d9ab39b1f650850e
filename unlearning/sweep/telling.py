"""What the person who waits for a sweep reads: one line at a time."""

from __future__ import annotations

import signal


def tell(line: str) -> None:
    """Print a line at once, also where the output is a file."""
    print(line, flush=True)


def ending(code: int) -> str:
    """How a job without results ended."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return "no metrics.json" if code == 0 else f"exit code {code}"


def duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
