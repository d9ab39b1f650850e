"""Checks numbers of the configuration."""

from __future__ import annotations

from unlearning.errors import ConfigError


def check_whole_number(key: str, value: object) -> None:
    """Refuses what is not a whole number of at least 1.

    Raises:
        ConfigError: naming the key and the value.
    """
    if not (isinstance(value, int) and value >= 1):
        raise ConfigError(f"{key}={value!r} must be a whole number of at least 1.")
