"""The run folder: whether it is a new run's own, and its configuration."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearning.errors import ConfigError
from unlearning.files.atomic import aside_of, write_text
from unlearning.files.made import RECORD, Made
from unlearning.names_0_4 import current_config
from unlearning.run.output.claim import CLAIM

CONFIG, FINGERPRINTS = "config.yaml", "fingerprints.json"
METRICS, REPORT = "metrics.json", "report.html"
UNLEARNED, SECONDS = "unlearned.json", "seconds.json"
RUN_LOG = "run.log"
# There before a run looks: the lock, and what a sweep and Hydra have written about the job.
BEFORE = (CLAIM, ".job.lock", ".hydra")
HARMLESS = (".gitignore", ".gitkeep", ".DS_Store", "lost+found")


def check_folder(folder: Path, resume: bool = False) -> None:
    """Checks that a folder is a new run's own, or that the run in there can be resumed.

    A run that was killed between its metrics and its report may be resumed for the latter.

    Raises:
        ConfigError: it holds a finished run or an interrupted one, or what no run has made; or its
            record of that is damaged.
    """
    if (folder / METRICS).exists() and not (resume and not (folder / REPORT).exists()):
        raise ConfigError(
            f"{folder} holds a finished run, which is never overwritten. "
            "Choose another folder with hydra.run.dir=<folder>, or move it away."
        )
    begun = (folder / UNLEARNED).exists() or any((folder / "checkpoints").glob("*.ckpt"))
    if begun and not resume:
        raise ConfigError(
            f"{folder} holds a run that was interrupted. Go on with it (unlearn resume={folder}), "
            "choose another folder, or move it away."
        )
    # Listed first: a rank that comes late sees what rank 0 has made, and then its record.
    found = [] if resume else foreign(folder, BEFORE)
    # A run that ended before it had a result, and made the folder, leaves it to the next one.
    if not Made(folder).has(CONFIG) and found:
        raise ConfigError(
            f"{folder} holds what this run has not made: {', '.join(found[:4])}"
            f"{', ...' if found[4:] else ''}. A run needs a folder of its own, in which it "
            "overwrites and removes what is its own alone. Choose a new or an empty one with "
            "hydra.run.dir=<folder>."
        )


def foreign(folder: Path, ours: Collection[str]) -> list[str]:
    """Returns the names in a folder, except those given, logs, and what nobody minds."""
    if not folder.is_dir():
        return []
    known = {*ours, *HARMLESS, aside_of(Path(RECORD)).name}
    logs = (".log", ".out", ".err")  # of a shell or scheduler that was told to write there
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in known and (path.name == RUN_LOG or path.suffix not in logs)
    )


def forget_earlier_run(folder: Path) -> None:
    """Removes what a run that ended without a result has recorded of its data and times."""
    for name in (FINGERPRINTS, SECONDS):
        (folder / name).unlink(missing_ok=True)


def save_config(config: DictConfig, folder: Path) -> None:
    """Writes `config.yaml` atomically, since a resume reads it; the folder is a run's from now."""
    Made(folder).note(CONFIG)
    write_text(folder / CONFIG, OmegaConf.to_yaml(config, resolve=True))


def load_config(folder: Path) -> DictConfig:
    """Loads the run's configuration, with the keys of version 0.4 translated.

    Raises:
        ConfigError: the folder holds no run, or its configuration cannot be read.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ConfigError(f"{folder} is no run folder: it has no {CONFIG}.")
    try:
        found: Any = OmegaConf.to_container(OmegaConf.load(path))
    except (
        OSError, ValueError, yaml.YAMLError, OmegaConfBaseException, RecursionError
    ) as error:  # fmt: skip
        nested = isinstance(error, RecursionError) or "RecursionError" in str(error)
        why = "it is nested too deeply" if nested else " ".join(str(error).split())
        raise ConfigError(f"{path} cannot be read: {why}. Was it cut off or edited?") from error
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"{path} holds no configuration. Was it cut off or edited?")
    return OmegaConf.create(current_config(found))
