"""What a run says while it works: one line a stage; everything else into a file."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import transformers
from rich.console import Console

console = Console(highlight=False, soft_wrap=True)


def set_up_logging(folder: Path, rank: int = 0) -> None:
    """Our own messages to the terminal, everything to a file; libraries' chatter to the file alone.

    The file is `run.log`, and `logs/rank_<n>.log` for the ranks after the first, which have no
    terminal.
    """
    path = folder / (f"logs/rank_{rank}.log" if rank else "run.log")
    path.parent.mkdir(exist_ok=True)
    to_file = logging.FileHandler(path)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [to_file]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    if rank:
        return
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setFormatter(logging.Formatter("  %(message)s"))
    to_terminal.setLevel(logging.WARNING)
    logging.getLogger("unlearning").handlers = [to_terminal]


def quiet_libraries() -> None:
    """What they have to say goes to the run's file, once there is one."""
    transformers.utils.logging.disable_progress_bar()  # a stage has a bar of ours
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "transformers"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True


class Stages:
    """Names the stages as they pass, and keeps their times.

    Args:
        total: how many there are.
    """

    def __init__(self, total: int) -> None:
        self.total, self.seconds = total, dict[str, float]()

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time a stage; what is appended to the yielded list ends its line."""
        number, started, notes = len(self.seconds) + 1, time.perf_counter(), list[str]()
        console.print(f"[{number}/{self.total}] {name} ...", markup=False)
        yield notes
        self.seconds[name] = time.perf_counter() - started
        note = f" ({'; '.join(notes)})" if notes else ""
        console.print(
            f"[{number}/{self.total}] {name}: {self.seconds[name]:.1f} s{note}", markup=False
        )
