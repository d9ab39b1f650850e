"""Facts that `metrics.json` records about a run: versions and memory."""

from __future__ import annotations

import resource
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

PACKAGES = (
    "unlearning", "torch", "lightning", "transformers", "datasets", "peft", "torchmetrics",
    "hydra-core", "sacrebleu", "tokenizers", "numpy",
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that numbers depend on."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a source tree that was never installed
            found[name] = "not installed"
    return found


def peak_memory_mb() -> float:
    """Returns the peak resident memory of this process, or of the GPU if larger, in MiB."""
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return round(max(host, device), 1)
