"""Builds what every stage of a run works with: configuration, data, store, trackers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lightning import seed_everything
from omegaconf import DictConfig

from unlearning.progress import working
from unlearning.run.checks.devices import take_device
from unlearning.run.config.build import Data, build_data
from unlearning.run.output.console import Stages
from unlearning.run.output.progress import showing
from unlearning.run.output.run_folder import SECONDS
from unlearning.run.output.same_run import check_data_unchanged
from unlearning.run.output.store import Store
from unlearning.run.process.ranks import Ranks
from unlearning.run.stages.facts import fingerprints
from unlearning.run.tracking.trackers import Tracking
from unlearning.types import PromptSet

KEPT = "kept from an earlier run"
PROGRESS_SECONDS = 30.0  # of a run folder of before this was a setting


@dataclass
class RunContext:
    """Configuration, data and helpers of one run, on one of its ranks.

    Args:
        config: composed, complete and with its debug limits applied.
        folder: the run folder.
        data: the data sets by name.
        sets: the prompts to answer.
        store: kept results.
        stages: names the stages on the terminal and keeps their times.
    """

    config: DictConfig
    folder: Path
    data: Data
    sets: list[PromptSet]
    store: Store
    stages: Stages
    tracking: Tracking
    ranks: Ranks

    def stage(self, name: str) -> AbstractContextManager[list[str]]:
        """Announces and times a stage; what is appended to the yielded list ends its line."""
        return self.stages.stage(name)


@contextmanager
def run_context(
    config: DictConfig,
    folder: Path,
    ranks: Ranks,
    num_stages: int,
    look_through: Callable[[DictConfig, Data], list[PromptSet]],
) -> Iterator[RunContext]:
    """Seeds, takes the device, builds the data sets and opens the trackers of a run.

    Args:
        look_through: checks what a hub has, which is known only now, and gives the prompt sets.
    """
    seed_everything(config.seed, verbose=False)
    take_device(config)
    with showing(config.get("progress_seconds", PROGRESS_SECONDS)):
        with working("reading the data"):
            data = build_data(config)
            sets = look_through(config, data)
            if ranks.leads:
                check_data_unchanged(folder, fingerprints(config, data))
        stages = Stages(num_stages, folder / SECONDS if ranks.leads else None)
        store = Store(config.cache_dir, ranks)
        store.remove_unfinished()
        with Tracking(config, folder, ranks.rank) as tracking:
            yield RunContext(config, folder, data, sets, store, stages, tracking, ranks)
