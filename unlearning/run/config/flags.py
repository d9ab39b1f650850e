"""Recognises flags of the command line before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence

MULTIRUN = ("-m", "--multirun")
HELP = ("--help", "-h")
# With these Hydra shows something and runs nothing.
SHOWING = {
    "--cfg", "-c", *HELP, "--hydra-help", "--info", "-i", "--version", "--shell-completion", "-sc",
}  # fmt: skip


def wants_multirun(arguments: Sequence[str]) -> bool:
    """Whether these command-line arguments ask for a sweep."""
    flags = {word.partition("=")[0] for word in arguments}
    asked = any(word in (*MULTIRUN, "hydra.mode=MULTIRUN") for word in arguments)
    return asked and not flags & SHOWING
