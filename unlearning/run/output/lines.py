"""Lines of progress for where there is no terminal: a log file, nohup, CI, a sweep's job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread

from unlearning.progress import Advance, Loop, duration


@dataclass
class _Work:
    """A loop that is under way."""

    loop: Loop
    since: float
    done: int = 0
    note: str = ""
    told: bool = False


class Lines:
    """Prints where the innermost loop is, at most every `seconds`, and a last line as it ends.

    Args:
        seconds: between two lines; before the first one, too.
        say: prints a line.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        seconds: float,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds, self._say, self._clock = seconds, say, clock
        self._works: list[_Work] = []
        self._lock = Lock()
        self._last = clock()

    @contextmanager
    def show(self, loop: Loop) -> Iterator[Advance]:
        """Context of a loop; see `unlearning.progress.counting`."""
        work = _Work(loop, self._clock(), done=loop.begun)

        def advance(more: int, note: str | None = None) -> None:
            work.done += more
            work.note = work.note if note is None else note

        with self._lock:
            if not self._works:
                self._last = work.since  # a stage has just printed its own line
            self._works.append(work)
        try:
            yield advance
        except BaseException:
            with self._lock:
                self._works.remove(work)
            raise
        with self._lock:
            self._works.remove(work)
            if work.told and (self._works or work.loop.total is not None):
                self._print(work, ended=True)

    def tick(self) -> float:
        """Prints a line if one is due; returns the seconds until the next may be."""
        with self._lock:
            if self._works and self._clock() - self._last >= self.seconds:
                self._works[-1].told = True
                self._print(self._works[-1])
            return self._last + self.seconds - self._clock() if self._works else self.seconds

    def _print(self, work: _Work, ended: bool = False) -> None:
        self._last = self._clock()
        self._say(line(work.loop, work.done, self._last - work.since, work.note, ended))


@contextmanager
def beating(lines: Lines) -> Iterator[None]:
    """Context in which a thread prints the lines, also during a long batch or a wait for a lock."""
    stop = Event()

    def beat() -> None:
        wait = lines.seconds
        while not stop.wait(max(wait, 0.05)):
            wait = lines.tick()

    thread = Thread(target=beat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def line(loop: Loop, done: int, seconds: float, note: str = "", ended: bool = False) -> str:
    """Formats a line.

    Args:
        done: items, with those of earlier parts.
        seconds: that this part has taken.
        ended: the loop is over.

    Examples:
        >>> line(Loop("unlearn", 150, "step"), 40, 124.0, "forget 1.234")
        'unlearn: 40 of 150 steps, 3.1 s per step, 5 min 41 s left; forget 1.234'
        >>> line(Loop("harmful_heldout", 512, "answer"), 512, 64.0, ended=True)
        'harmful_heldout: 512 of 512 answers in 1 min 4 s, 8.0 answers/s'
        >>> line(Loop("load model"), 0, 30.0)
        'load model: 30 s so far'
    """
    after = f"; {note}" if note else ""
    took = f"in {duration(seconds)}" if ended else f"{duration(seconds)} so far"
    if loop.total is None:
        return f"{loop.name}: {took}{after}"
    count = f"{loop.name}: {done} of {loop.total} {loop.unit}s"
    new = done - loop.begun
    if new <= 0 or seconds <= 0:
        return f"{count}, {took}{after}"
    rate = new / seconds
    speed = f"{rate:.1f} {loop.unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s per {loop.unit}"
    if ended:
        return f"{count} {took}, {speed}{after}"
    return f"{count}, {speed}, {duration(max(loop.total - done, 0) / rate)} left{after}"
