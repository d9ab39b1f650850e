"""Finds the configuration folder."""

from __future__ import annotations

from pathlib import Path


def config_folder() -> Path:
    """Returns `conf/`: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[2]
    inside, beside = package / "conf", package.parent / "conf"
    return inside if inside.is_dir() else beside
