"""Whether a resumed run goes on with the configuration and the data it was begun with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.files.atomic import write_json
from unlearning.files.parsing import read_json
from unlearning.nested import leaves
from unlearning.run.output.run_folder import FINGERPRINTS, load_config

NOT_COMPARED = ("validate", "sweep", "progress_seconds", "finetune.require")
"""Keys, and parents of keys, that change nothing of what a run computes."""


class Difference(NamedTuple):
    """A dotted key with its two values; `absent` where one side lacks it."""

    key: str
    saved: Any
    given: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.saved!r} in the run, {self.given!r} now"


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


def config_differences(saved: DictConfig, given: DictConfig) -> list[Difference]:
    """Compares two complete configurations, and returns the keys that differ.

    Args:
        saved: the run's, which has its debug limits applied.
        given: likewise; see `unlearning.run.config.debug.limited`.
    """
    first, second = (
        dict(leaves(OmegaConf.to_container(config, resolve=True))) for config in (saved, given)
    )
    found = []
    for key in sorted(first.keys() | second.keys()):
        ours, theirs = first.get(key, ABSENT), second.get(key, ABSENT)
        same = ours == theirs or (ours != ours and theirs != theirs)  # NaN
        if not same and not any(f"{key}.".startswith(f"{name}.") for name in NOT_COMPARED):
            found.append(Difference(key, ours, theirs))
    return found


def check_config(folder: Path, given: DictConfig) -> None:
    """Checks that a run folder was made with this configuration.

    Raises:
        ConfigError: it was not; names the keys, or the folder holds no run.
    """
    saved = load_config(folder)
    if found := config_differences(saved, given):
        lines = "".join(f"\n  {difference}" for difference in found)
        raise ConfigError(
            f"{folder} was made with another configuration:{lines}\nTo go on with it as it is, "
            f"give unlearn resume={folder} alone; for other settings start a run of its own."
        )


def check_data_unchanged(folder: Path, fingerprints: Mapping[str, str]) -> None:
    """Records the fingerprints of the data sets when a run starts, and compares them on resume.

    Args:
        fingerprints: by the data set's name.

    Raises:
        ConfigError: a data set is no longer what it was, which is named; or the record of what it
            was is damaged.
    """
    path = folder / FINGERPRINTS
    found = dict(fingerprints)
    if not path.is_file():
        write_json(path, found)
        return
    earlier = _recorded(path)
    changed = [n for n in sorted(earlier.keys() | found.keys()) if earlier.get(n) != found.get(n)]
    if changed:
        named = ", ".join(
            f"data.{name} ({_short(earlier.get(name))} then, {_short(found.get(name))} now)"
            for name in changed
        )
        raise ConfigError(
            f"{folder} was started with other data: {named}. Put back the records it began with, "
            "or start a run of its own; half a run on each would be a result of neither."
        )


def _recorded(path: Path) -> dict[str, str]:
    try:
        earlier = read_json(path)
    except ValueError as error:
        earlier, why = None, str(error)
    else:
        why = f"it holds a {type(earlier).__name__}"
    if isinstance(earlier, dict):
        return earlier
    raise ConfigError(
        f"{path} should say which data the run was started with, and is damaged: {why}. If they "
        "are still the same, remove that file and go on."
    )


def _short(fingerprint: str | None) -> str:
    return "none" if fingerprint is None else f"{fingerprint[:12]}..."
