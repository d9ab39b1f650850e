"""`unlearn -m`: runs a sweep, many runs from one command line. Nothing here imports torch."""

from unlearning.run.config.flags import wants_multirun
from unlearning.sweep.multirun import multirun
from unlearning.sweep.objectives import read_objectives
from unlearning.sweep.state import is_sweep
from unlearning.sweep.submitit_task import export_environment

__all__ = ["export_environment", "is_sweep", "multirun", "read_objectives", "wants_multirun"]
