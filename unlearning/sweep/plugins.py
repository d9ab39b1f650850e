"""Registers the launcher, the search and the comparison with Hydra."""

from __future__ import annotations

import warnings

from hydra.core.plugins import Plugins
from hydra.plugins.plugin import Plugin

from unlearning.sweep.launcher import MODULE, ProcessLauncher


def register_plugins(sweeper: str) -> None:
    """Registers the launcher, and of the sweepers the one that is asked for, since it loads Optuna.

    Args:
        sweeper: `hydra.sweeper._target_`.
    """
    _register(ProcessLauncher)
    if sweeper in (f"{MODULE}.Search", f"{MODULE}.Compare"):
        with warnings.catch_warnings():
            # SQLAlchemy 1.4, the newest that this Optuna takes, speaks of SQLAlchemy 2.
            warnings.simplefilter("ignore", DeprecationWarning)
            from unlearning.sweep.compare.sweeper import Compare
            from unlearning.sweep.search import Search

        _register(Search)
        _register(Compare)


def _register(plugin: type[Plugin]) -> None:
    plugins = Plugins.instance()
    plugins.register(plugin)
    plugins.class_name_to_class[f"{MODULE}.{plugin.__name__}"] = plugin
