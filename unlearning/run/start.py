"""Starts a run on one or several processes, and maps failures to exit codes and messages."""

from __future__ import annotations

import logging
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path

from omegaconf import DictConfig

from unlearning.errors import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    PREEMPTED,
    ConfigError,
    RequirementError,
)
from unlearning.run.output.claim import claim, remove_if_empty
from unlearning.run.output.console import console, quiet_libraries, set_up_logging
from unlearning.run.output.same_run import check_config
from unlearning.run.pipeline import check, effective_config, go, prepare
from unlearning.run.process.failures import explain, sigterm_exits
from unlearning.run.process.ranks import Ranks, surroundings
from unlearning.run.process.spawn import spawn
from unlearning.run.tracking.secrets import check_secrets

log = logging.getLogger(__name__)


def start(
    config: DictConfig,
    folder: Path,
    resume: bool = False,
    compare: bool = False,
    checked: bool = False,
) -> int:
    """Checks everything, then runs; starts the other ranks where nothing else has.

    Args:
        config: composed.
        folder: the run folder; Hydra may have made it already.
        resume: resume the folder's run.
        compare: the configuration was given anew, and has to be the one the folder was made with.
        checked: by the process that spawned this rank, which prepared the folder, too.

    Returns:
        The exit code, see `unlearning.errors`.
    """
    ranks = None
    try:
        with sigterm_exits():
            ranks = Ranks(surroundings())
            folder = _shared_folder(folder, ranks)
            console.quiet = not ranks.leads
            quiet_libraries()
            if not checked:
                check_secrets([], config)  # first: other errors repeat values
            if compare:
                check_config(folder, effective_config(config))
            # A folder is held by whoever started its run, and by rank 0 where that was not us.
            holds = ranks.leads and not (checked or config.validate)
            with claim(folder) if holds else nullcontext():
                return _run(config, folder, resume, checked, ranks)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except RequirementError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except (KeyboardInterrupt, SystemExit) as stop:
        return _stopped(stop, folder, speaks=ranks is None or ranks.leads)
    except Exception as error:
        told = explain(error, folder)
        if told is None:
            raise
        log.info("What ended the run", exc_info=error)  # to run.log
        print(f"error: {told}", file=sys.stderr)
        return FAILED
    finally:
        if ranks is None or ranks.leads:
            remove_if_empty(folder)  # Hydra made it; nothing ran


def _run(config: DictConfig, folder: Path, resume: bool, checked: bool, ranks: Ranks) -> int:
    if not checked:
        world = check(config, folder, resume, ranks.world)
        if config.validate:
            return 0
        if ranks.leads:
            prepare(config, folder, resume)
        if world > ranks.world:
            return spawn(folder, world, resume)
    ranks.share()  # the folder stands
    set_up_logging(folder, ranks.rank)
    code = go(config, folder, ranks)
    ranks.leave()
    return code


def _stopped(stop: BaseException, folder: Path, speaks: bool) -> int:
    # In a training Lightning makes the second of the first.
    pressed = any(isinstance(e, KeyboardInterrupt) for e in (stop, stop.__context__))
    preempted = isinstance(stop, SystemExit) and stop.code == PREEMPTED
    if not (pressed or preempted):
        raise stop
    if speaks and (folder / "config.yaml").is_file():
        again = f"unlearn resume={shlex.quote(str(folder))}"
        print(f"\nStopped. To go on: {again}", file=sys.stderr)
    return PREEMPTED if preempted else INTERRUPTED


def _shared_folder(folder: Path, ranks: Ranks) -> Path:
    """Returns rank 0's folder: started separately, ranks may name theirs by another second."""
    if ranks.world == 1:
        return folder
    shared = Path(ranks.share(str(folder.resolve())))
    if shared != folder.resolve():
        remove_if_empty(folder)
    return shared
