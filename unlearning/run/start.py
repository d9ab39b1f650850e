"""Start a run, on one process or several, and end with a code and a sentence, never a riddle."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from omegaconf import DictConfig

from unlearning.errors import BAD_INPUT, INTERRUPTED, ConfigError
from unlearning.run.console import console, quiet_libraries, set_up_logging
from unlearning.run.pipeline import check, go, prepare
from unlearning.run.ranks import Ranks, surroundings
from unlearning.run.spawn import spawn


def start(config: DictConfig, folder: Path, resume: bool = False, checked: bool = False) -> int:
    """Check everything, then run; starts the other ranks where nobody else has.

    Args:
        config: composed.
        folder: the run folder; Hydra may have made it already.
        resume: go on with the folder's run.
        checked: by the process that spawned this rank, which prepared the folder, too.

    Returns:
        The exit code, see `unlearning.errors`.
    """
    ranks = None
    try:
        surrounded = surroundings()
        ranks = Ranks(surrounded)
        folder = _shared_folder(folder, ranks)
        return _run(config, folder, resume, checked, ranks)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except (KeyboardInterrupt, SystemExit) as stop:
        # In a training Lightning makes the second of the first.
        if not any(isinstance(e, KeyboardInterrupt) for e in (stop, stop.__context__)):
            raise
        if ranks is None or ranks.leads:
            print(f"\nStopped. To go on: {_resume_command(folder)}", file=sys.stderr)
        return INTERRUPTED
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # Hydra made it; nothing ran


def _run(config: DictConfig, folder: Path, resume: bool, checked: bool, ranks: Ranks) -> int:
    console.quiet = not ranks.leads
    quiet_libraries()
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
    report = go(config, folder, ranks)
    ranks.leave()
    return INTERRUPTED if report is None else 0


def _shared_folder(folder: Path, ranks: Ranks) -> Path:
    """Rank 0's: started apart, the others may have named theirs by another second."""
    if ranks.world == 1:
        return folder
    shared = Path(ranks.share(str(folder.resolve())))
    if shared != folder.resolve() and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    return shared


def _resume_command(folder: Path) -> str:
    return f"unlearn resume={shlex.quote(str(folder))}"
