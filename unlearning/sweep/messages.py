"""Progress messages of a sweep, one line at a time."""

from __future__ import annotations

import re
import signal
from pathlib import Path

END_OF_LOG = 20_000  # bytes
# Our own way to say it, and the last line of a traceback.
ERROR = re.compile(r"^(error: .*|[A-Za-z_][\w.]*(Error|Exception): .*)$", re.MULTILINE)


def tell(line: str) -> None:
    """Prints a line and flushes it, also where the output is a file."""
    print(line, flush=True)


def ending(code: int) -> str:
    """Describes how a job without results ended."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return "no metrics.json" if code == 0 else f"exit code {code}"


def last_error(log: Path) -> str:
    """Returns the line of a job's log that says why it failed, or an empty string."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - END_OF_LOG))
        found = list(ERROR.finditer(file.read().decode("utf-8", errors="replace")))
    return f"\n      {found[-1][0].rstrip()}" if found else ""


def duration(seconds: float) -> str:
    """Formats seconds: `12 s`, `3 min 20 s`, `2 h 5 min`.

    Examples:
        >>> duration(12), duration(200), duration(7500)
        ('12 s', '3 min 20 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
