"""Says which value of the configuration does not resolve, and what it lacks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unlearning.errors import ConfigError
from unlearning.nested import leaves

if TYPE_CHECKING:  # OmegaConf is imported where a run is, not by its command line
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException


def unresolved(config: DictConfig, error: OmegaConfBaseException) -> ConfigError:
    """Makes a sentence of OmegaConf's error about a value that other values or an environment
    variable should give.

    Args:
        config: as it was composed.
        error: of resolving it.
    """
    from omegaconf import OmegaConf

    said = str(error).splitlines()[0]
    at = f" (in {error.full_key})" if error.full_key else ""
    lacking = re.search(r"Environment variable '([^']+)' not found", said)
    if lacking is None:
        return ConfigError(f"The configuration does not resolve: {said}{at}.")
    variable = lacking[1]
    values = leaves(OmegaConf.to_container(config, resolve=False))
    asking = re.compile(rf"\$\{{oc\.env:{re.escape(variable)}\s*[,}}]")
    keys = [path for path, value in values if isinstance(value, str) and asking.search(value)]
    key = keys[0] if keys else error.full_key
    return ConfigError(
        f"{key} is taken from the environment variable {variable}, which is not set. Set it, or "
        f"give {key}=... on the command line."
    )
