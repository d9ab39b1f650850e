"""Prints `unlearn --help` as Hydra would, without importing Hydra.

It would compose a configuration that the text does not show, and copy all it has read for every
group that it lists: seconds, for what one file and the names of others tell.
"""

from __future__ import annotations

from pathlib import Path
from string import Template

import yaml


def help_text(conf: Path) -> str:
    """Fills the groups and their choices into `hydra.help.template` of `config.yaml`.

    Args:
        conf: the folder of the configuration.
    """
    config = yaml.safe_load((conf / "config.yaml").read_text(encoding="utf-8"))
    template = Template(config["hydra"]["help"]["template"])
    return template.substitute(APP_CONFIG_GROUPS="".join(f"{line}\n" for line in _groups(conf)))


def _groups(conf: Path) -> list[str]:
    """Returns a line per group; Hydra's own groups are left to `--hydra-help`."""
    choices: dict[str, list[str]] = {}
    for file in conf.rglob("*.yaml"):
        parts = file.relative_to(conf).parts[:-1]
        if parts and parts[0] != "hydra":
            choices.setdefault("/".join(parts), []).append(file.stem)
    return [f"{group}: {', '.join(sorted(found))}" for group, found in sorted(choices.items())]
