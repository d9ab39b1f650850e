"""Lightning callbacks: evaluation during training, collapse guard, samples, loss curve,
checkpoints, signals.

In a `Trainer`, `CollapseGuard` comes first, so that no callback saves weights that it is about to
restore, and `GracefulStop` last, so that a checkpoint holds the state of all callbacks after the
same step.
"""

from unlearning.callbacks.bleu import BleuEvaluation
from unlearning.callbacks.budget import Breach, Budget
from unlearning.callbacks.checkpoint import KeepCheckpoints
from unlearning.callbacks.conflict import GradientConflict
from unlearning.callbacks.guard import CollapseGuard
from unlearning.callbacks.harm import HarmEvaluation
from unlearning.callbacks.interrupt import GracefulStop
from unlearning.callbacks.loss_curve import LossCurve
from unlearning.callbacks.retain_utility import RetainUtility
from unlearning.callbacks.samples import SampleGenerations
from unlearning.callbacks.step import StepCallback

__all__ = [
    "BleuEvaluation",
    "Breach",
    "Budget",
    "CollapseGuard",
    "GracefulStop",
    "GradientConflict",
    "HarmEvaluation",
    "KeepCheckpoints",
    "LossCurve",
    "RetainUtility",
    "SampleGenerations",
    "StepCallback",
]
