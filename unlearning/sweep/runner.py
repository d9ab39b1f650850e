"""Runs the jobs of a sweep side by side, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from unlearning.errors import INTERRUPTED as CTRL_C
from unlearning.errors import PREEMPTED, ConfigError
from unlearning.files.locks import take
from unlearning.progress import duration
from unlearning.run.process.signals import handled
from unlearning.sweep import processes
from unlearning.sweep.messages import ending, last_error
from unlearning.sweep.objectives import read_objectives, reverted
from unlearning.sweep.state import (
    DONE,
    FAILED,
    FINISHED,
    INTERRUPTED,
    LOG,
    PENDING,
    REVERTED,
    RUNNING,
    Sweep,
)

POLL_SECONDS = 0.1
STOPPED = (CTRL_C, PREEMPTED, -signal.SIGINT, -signal.SIGTERM)


@dataclass(frozen=True)
class Plan:
    """What to do for one job of the sweep.

    Args:
        number: of the job.
        label: what sets it apart.
        words: of its command line.
        objectives: paths to read when it has finished.
        makes_results: whether a finished run leaves `metrics.json`; `validate=true` does not.
    """

    number: int
    label: str
    words: tuple[str, ...]
    objectives: tuple[str, ...] = ()
    makes_results: bool = True


@dataclass
class _Working:
    plan: Plan
    process: subprocess.Popen[bytes]
    place: int
    since: float


class Runner:
    """Runs plans, and keeps `sweep.json` up to date.

    Args:
        sweep: whose jobs they are.
        places: the environment of each place in which a job can run.
        show: whether a job's output goes to our own; else to `<n>/job.log`.
        tell: takes a line for the person who waits.
    """

    def __init__(
        self, sweep: Sweep, places: Sequence[Mapping[str, str]], show: bool,
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.sweep, self.places, self.show, self.tell = sweep, places, show, tell
        self.signal: int | None = None
        self._arrived = deque[int]()
        self._working: list[_Working] = []
        self._waiting_for: set[int] = set()

    def run(self, plans: Sequence[Plan]) -> int | None:
        """Runs all plans, or until a signal comes; then waits for those that run.

        Returns:
            The signal, if one came.
        """
        queue = deque(plan for plan in plans if not self._was_finished(plan))
        # Taken down here and passed on below: a job being started then gets each one once.
        with handled(self._arrived.append):
            while self._working or (queue and self.signal is None):
                if self.signal is None:
                    self._fill(queue)
                time.sleep(POLL_SECONDS)
                self._pass_signals_on()
                for working in list(self._working):
                    if working.process.poll() is not None:
                        self._end(working)
        return self.signal

    def _was_finished(self, plan: Plan) -> bool:
        job = self.sweep.jobs[plan.number]
        if job.status in DONE and self.sweep.has_finished(plan.number):
            self._finish(plan, job.seconds, "")
            return True
        self.sweep.update(plan.number, status=PENDING)
        return False

    def _pass_signals_on(self) -> None:
        while self._arrived:
            number = self._arrived.popleft()
            if self.signal is None and self._working:
                self.tell(f"Stopping: waiting for {len(self._working)} job(s) to save and end.")
            self.signal = number
            for working in self._working:
                if working.process.poll() is None:
                    working.process.send_signal(number)

    def _fill(self, queue: deque[Plan]) -> None:
        """Starts a job in every free slot; one that an earlier sweep left running has to wait."""
        taken = {working.place for working in self._working}
        free = [place for place in range(len(self.places)) if place not in taken]
        for _ in range(len(queue)):
            if not free:
                return
            plan = queue.popleft()
            lock = take(self.sweep.path(plan.number) / ".job.lock", wait=False)
            if lock is None:
                self._say_once(plan)
                queue.append(plan)
                continue
            try:
                if self.sweep.has_finished(plan.number):
                    self._finish(plan, self.sweep.jobs[plan.number].seconds, "had finished")
                else:
                    self._start(plan, free.pop(0), lock)
            finally:
                os.close(lock)  # the job holds it from now on

    def _say_once(self, plan: Plan) -> None:
        if plan.number not in self._waiting_for:
            self._waiting_for.add(plan.number)
            self.tell(f"job {plan.number} still runs from an earlier start; waiting for its end")

    def _start(self, plan: Plan, place: int, lock: int) -> None:
        folder = self.sweep.path(plan.number)
        goes_on = (folder / "config.yaml").is_file()
        words = [f"resume={folder}"] if goes_on else plan.words
        self.sweep.update(plan.number, status=RUNNING, exit_code=None, objectives=None)
        process = processes.start(
            [*processes.COMMAND, *words],
            processes.job_environment(self.places[place]),
            None if self.show else folder / LOG,
            lock,
        )
        self._working.append(_Working(plan, process, place, time.monotonic()))
        self._line(plan, "goes on" if goes_on else "started")

    def _end(self, working: _Working) -> None:
        self._working.remove(working)
        plan, code = working.plan, working.process.returncode
        took = time.monotonic() - working.since
        seconds = round((self.sweep.jobs[plan.number].seconds or 0.0) + took, 1)
        results = self.sweep.has_finished(plan.number) or not plan.makes_results
        if code == 0 and results:
            return self._finish(plan, seconds, f"finished in {duration(took)}")
        stopped = code in STOPPED or (self.signal is not None and code != 0)
        status = INTERRUPTED if stopped else FAILED
        self.sweep.update(plan.number, status=status, exit_code=code, seconds=seconds)
        log = self.sweep.log(plan.number)
        see = "" if stopped else f"; see {log}"
        if not stopped and code > 0 and not self.show:  # one that was killed wrote nothing to it
            see += last_error(log)
        self._line(plan, f"{status} after {duration(took)} ({ending(code)})", see)

    def _finish(self, plan: Plan, seconds: float | None, how: str) -> None:
        """Reads the objectives, and reports how the job went unless nothing has changed."""
        found, after, status = list[float](), "", FINISHED
        metrics = self.sweep.path(plan.number) / "metrics.json"
        if plan.makes_results and reverted(metrics):
            # Its figures are those of the model before, which nobody should learn from.
            status, after = REVERTED, "; reverted: it ended with the weights it began with"
        elif plan.makes_results:
            try:
                found = read_objectives(metrics, plan.objectives)
            except ConfigError as error:
                after = f"; {error}"
        for path, value in zip(plan.objectives, found, strict=False):
            after += f"; {path} {value:.4g}"
        self.sweep.update(
            plan.number, status=status, exit_code=0, seconds=seconds, objectives=found or None
        )
        if how:
            self._line(plan, how, after)

    def _line(self, plan: Plan, how: str, after: str = "") -> None:
        jobs = self.sweep.jobs.values()
        ended = sum(job.status in (*DONE, FAILED) for job in jobs)
        self.tell(f"[{ended}/{len(jobs)}] job {plan.number} {how}: {plan.label}{after}")
