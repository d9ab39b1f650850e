"""Console output of a run: one line per stage; everything else goes to the log file."""

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

from unlearning.files.atomic import write_json
from unlearning.files.parsing import read_json
from unlearning.progress import duration, working

log = logging.getLogger(__name__)
LONG = 30.0  # seconds of a stage that is worth a word

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Prints a line, on the rank that has the terminal, and puts it into the log file."""
    console.print(text, markup=False)
    log.info(text.strip())


def set_up_logging(folder: Path, rank: int = 0) -> None:
    """Sends our own messages to the terminal, and everything to a file.

    The file is `run.log`, and `logs/rank_<n>.log` for the ranks after the first, which have no
    terminal.
    """
    path = folder / (f"logs/rank_{rank}.log" if rank else "run.log")
    path.parent.mkdir(exist_ok=True)
    to_file = logging.FileHandler(path)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, logging.FileHandler):  # of a run before in this process
            handler.close()
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
    """Silences libraries on the terminal; their messages go to the run's log file."""
    transformers.utils.logging.disable_progress_bar()  # a stage has a bar of ours
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "transformers"):
        logger = logging.getLogger(name)
        # Without any handler Python prints warnings itself, until the log file is there.
        logger.handlers, logger.propagate = [logging.NullHandler()], True
    # PEFT asks transformers by an old name, for each adapter.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


class Stages:
    """Prints the stages of a run as they pass, and records their times.

    Args:
        total: how many there are.
        path: where the times are kept, so that those of a run's parts add up; None for nowhere.
    """

    def __init__(self, total: int, path: Path | None = None) -> None:
        self.total, self.path, self.done = total, path, list[str]()
        self.seconds = {} if path is None else _seconds_before(path)
        self._name, self._since = "", 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Times a stage; what is appended to the yielded list ends its line."""
        number, notes = len(self.done) + 1, list[str]()
        started = self._since = time.perf_counter()
        self._name = name
        say(f"[{number}/{self.total}] {name} ...{self._expected(name)}")
        try:
            with working(name):
                yield notes
        finally:
            self.note()
        self.done.append(name)
        note = f" ({'; '.join(notes)})" if notes else ""
        spent = time.perf_counter() - started
        say(f"[{number}/{self.total}] {name}: {spent:.1f} s{note}")

    def _expected(self, name: str) -> str:
        """Says before "evaluate after" how long "evaluate before" took, where that was long."""
        took = self.seconds.get("evaluate before", 0.0)
        if name != "evaluate after" or took < LONG:
            return ""
        training = self.seconds.get("unlearn", took)
        more = ", more than unlearn" if took > training else ""
        return f" (evaluate before took {duration(took)}{more})"

    def note(self) -> None:
        """Records the stage's time so far, which counts whatever happens next."""
        now = time.perf_counter()
        self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._since
        self._since = now
        if self.path is not None:
            write_json(self.path, self.seconds)


def _seconds_before(path: Path) -> dict[str, float]:
    """Reads the times of the run's earlier parts; damaged ones are told and left out."""
    if not path.is_file():
        return {}
    try:
        return {str(name): float(s) for name, s in read_json(path).items()}
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("%s is damaged, and times begin anew: %s", path, error)
        return {}
