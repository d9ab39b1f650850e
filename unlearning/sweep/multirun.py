"""Runs `unlearn -m`: checks, claims the folder, starts Hydra's sweeper, and sums up."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from unlearning.errors import BAD_INPUT, FAILED, INTERRUPTED, PREEMPTED, ConfigError
from unlearning.report.compare import is_comparison
from unlearning.report.sweep import write_sweep_report
from unlearning.run.config.folder import config_folder
from unlearning.run.config.hydra_node import check_hydra
from unlearning.run.config.overrides import check_overrides, explained
from unlearning.sweep.checks import check_cluster, check_numbered, check_other_launcher
from unlearning.sweep.compare.summary import sum_up_comparison
from unlearning.sweep.job import InProcess, JobFailedError
from unlearning.sweep.launcher import MODULE, SweepStoppedError
from unlearning.sweep.messages import tell
from unlearning.sweep.plugins import register_plugins
from unlearning.sweep.state import REVERTED, Sweep, check_new, claimed, forget_empty
from unlearning.sweep.words import (
    key_of,
    label,
    overrides_of,
    quoted,
    resume_folder,
    resumed_words,
    swept_keys,
)
from unlearning.version import __version__


def multirun(arguments: Sequence[str]) -> int:
    """Runs a sweep, or resumes one.

    Args:
        arguments: of the command line, `-m` among them.

    Returns:
        The exit code, see `unlearning.errors`; what happened was said.
    """
    try:
        return _multirun(overrides_of(arguments))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:  # before the sweep had begun
        return INTERRUPTED


def _multirun(words: list[str]) -> int:
    going_on = resume_folder(words)
    if going_on is not None:
        words = resumed_words(Sweep.load(going_on).overrides, words, going_on)
        words = [word for word in words if key_of(word) != "hydra.sweep.dir"]
        words.append(f"hydra.sweep.dir={quoted(str(going_on))}")
    register_plugins(str(check_overrides(words).hydra.sweeper.get("_target_")))
    try:
        with initialize_config_dir(str(config_folder()), job_name="unlearn", version_base="1.3"):
            return _launch(words, going_on is not None)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explained(words, error) + _hint(error)) from error


def _launch(words: list[str], goes_on: bool) -> int:
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    config = hydra.compose_config("config", words, RunMode.MULTIRUN, with_log_configuration=False)
    check_hydra(config)
    ours = str(config.hydra.launcher.get("_target_")).startswith(f"{MODULE}.")
    swept = swept_keys(words, config)
    if not ours:
        check_other_launcher(config, swept, goes_on)
        check_cluster(config)
    else:
        check_numbered(config)
    folder = Path(str(config.hydra.sweep.dir))
    # Said once and for all: composed again, the clock in it would have moved on.
    words = [word for word in words if key_of(word) != "hydra.sweep.dir"]
    words.append(f"hydra.sweep.dir={quoted(str(folder))}")
    with claimed(folder):
        if not goes_on:
            check_new(folder, ours)
        if ours:
            _begin(folder, words, goes_on)
        job = InProcess(str(config.sweep.name or folder.name), tuple(swept))
        try:
            hydra.multirun("config", job, words, with_log_configuration=False)
        except SweepStoppedError as stop:
            return _stopped(folder, stop.signal)
        except KeyboardInterrupt:  # while no job was running
            return _stopped(folder, signal.SIGINT) if ours else INTERRUPTED
        except (ConfigError, HydraException, OmegaConfBaseException):
            if ours:
                forget_empty(folder)
            raise
        except JobFailedError as error:
            tell(f"{error} The other jobs may have finished; the sweep is in {folder}.")
            return FAILED
        searches = bool(config.sweep.objectives) or "objectives" in config.hydra.sweeper
        return _sum_up(folder, swept, searches) if ours else 0


def _begin(folder: Path, words: Sequence[str], goes_on: bool) -> None:
    """Writes `sweep.json`, or says what was done with the existing one."""
    typed = [word for word in words if key_of(word) != "hydra.sweep.dir"]
    if not goes_on:
        Sweep(folder, typed).save()
        return tell(f"Sweep: {folder}")
    sweep = Sweep.load(folder)
    if sweep.version != __version__:
        tell(
            f"This sweep was begun by version {sweep.version}, and goes on with {__version__}: "
            "its runs may not be comparable."
        )
    sweep.overrides = typed
    sweep.save()
    tell(f"Sweep: {folder}, going on; {len(sweep.jobs) - len(sweep.unfinished())} job(s) finished")


def _stopped(folder: Path, number: int) -> int:
    tell(f"Stopped. To go on: unlearn -m sweep.resume={shlex.quote(str(folder))}")
    return PREEMPTED if number == signal.SIGTERM else INTERRUPTED


def _sum_up(folder: Path, swept: Sequence[str], searches: bool) -> int:
    """Lists the jobs that did not finish, were reverted, or lack an objective."""
    sweep = Sweep.load(folder)
    left, total = sweep.unfinished(), len(sweep.jobs)
    back = [number for number, job in sweep.jobs.items() if job.status == REVERTED]
    tell(f"{total - len(left) - len(back)} of {total} jobs finished: {folder}")
    for number in back:
        name = label(sweep.jobs[number].overrides, swept)
        tell(f"  job {number} reverted: it ended with the weights it began with{_after(name)}")
    for number in left:
        job = sweep.jobs[number]
        log = sweep.log(number)
        name = label(job.overrides, swept)
        tell(f"  job {number} {job.status} (exit code {job.exit_code}), see {log}{_after(name)}")
    if any(map(sweep.has_finished, sweep.jobs)):  # with validate=true there is nothing to report
        if is_comparison(folder):
            return sum_up_comparison(folder)
        tell(f"Report: {write_sweep_report(folder)}")
    if left:
        tell(f"To run them again: unlearn -m sweep.resume={shlex.quote(str(folder))}")
    judged = {n: job for n, job in sweep.jobs.items() if n not in (*left, *back)}
    blank = [number for number, job in judged.items() if job.objectives is None]
    if searches and blank:
        tell(f"  without objectives: job {', '.join(map(str, blank))}")
    return FAILED if left or (searches and blank) else 0


def _after(name: str) -> str:
    return f": {name}" if name else ""


def _hint(error: Exception) -> str:
    if "does not support sweep type" not in str(error):
        return ""
    return ". An interval is for a search: add hydra/sweeper=pareto."
