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
