"""`unlearn evaluate`: its command line, and the part of the configuration that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from unlearning.errors import ConfigError
from unlearning.run.config.resolving import unresolved

if TYPE_CHECKING:
    from omegaconf import DictConfig

EVALUATE, TASKS = "evaluate", ("unlearn", "evaluate")
_KEPT = (
    "task", "compare_with", "name", "description", "seed", "validate", "sweep", "debug",
    "cache_dir", "model", "classifier", "evaluation", "trainer", "logger", "sources",
)  # fmt: skip
_WITH_VALUE = (
    "--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn",
    "--config-dir", "-cd", "--info", "-i", "--experimental-rerun",
)  # fmt: skip
"""Flags of Hydra whose value is the next word, where they have no "=" in them."""
_DATA = ("forget", "retain", "related")


def evaluation_overrides(arguments: Sequence[str]) -> list[str]:
    """Translates the arguments after `unlearn evaluate` to overrides of a run.

    A word with "=" in it is a setting; a folder of such a name is written `./name=...`.

    Raises:
        ConfigError: more than two models are named.

    Examples:
        >>> evaluation_overrides(["gpt2", "evaluation=copyright"])
        ['task=evaluate', 'name=evaluate', "model.name_or_path='gpt2'", 'evaluation=copyright']
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    models, others = list[str](), list[str]()
    for before, word in pairwise(("", *arguments)):
        # "./a=b" is a path, as is any word that begins so; no key does.
        setting = "=" in word and not word.startswith((".", "/"))
        plain = not (before in _WITH_VALUE or word.startswith(("-", "~")) or setting)
        (models if plain else others).append(word)
    if len(models) > 2:
        raise ConfigError(
            f"unlearn evaluate takes one model, or two to compare, not {len(models)}: "
            f"{', '.join(models)}. Settings are written key=value."
        )
    keys = ("model.name_or_path", "compare_with")
    texts = [QuotedString(text=model, quote=Quote.single).with_quotes() for model in models]
    named = [f"{key}={text}" for key, text in zip(keys, texts, strict=False)]
    return [f"task={EVALUATE}", f"name={EVALUATE}", *named, *others]


def evaluated_models(config: DictConfig) -> dict[str, str | None]:
    """Returns the models to evaluate by stage; None is the one that `model.base` makes."""
    name = config.model.name_or_path
    if config.compare_with is None:
        return {"model": name}
    return {"before": name, "after": config.compare_with}


def evaluation_config(config: DictConfig) -> DictConfig:
    """Returns what of the configuration an evaluation needs; itself for other tasks.

    Data sets that no prompt set uses are left out, with whatever is missing there. So is the
    recipe of a base model where a model is named; an adapter keeps it as that of its base.

    Raises:
        ConfigError: the task is unknown, or a value does not resolve.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    task = config.get("task", "unlearn")
    if task not in TASKS:
        raise ConfigError(f"task={task!r}: choose {' or '.join(TASKS)}.")
    if task != EVALUATE:
        return config

    def plain(node: Any) -> Any:
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node

    try:
        found: dict[str, Any] = {key: plain(config[key]) for key in _KEPT if key in config}
        used = ("seed", "template", "max_length", *_used_data(found.get("evaluation")))
        data = {name: plain(config.data[name]) for name in used if name in config.data}
    except OmegaConfBaseException as error:
        raise unresolved(config, error) from error
    found["data"] = {**dict.fromkeys(_DATA), **data}
    model = found.get("model")
    if isinstance(model, dict) and model.get("tokenizer") == model.get("name_or_path"):
        model["tokenizer"] = None  # each model's own
    return OmegaConf.create({**found, "finetune": None, "oracle": False})


def _used_data(evaluation: Any) -> list[str]:
    """Returns the names of the data sets that prompt sets take their prompts from.

    What is no mapping here is refused by the schema, which looks at the result.
    """
    sets = evaluation.get("prompt_sets") if isinstance(evaluation, Mapping) else None
    nodes = sets.values() if isinstance(sets, Mapping) else ()
    sources = (settings.get("source") for settings in nodes if isinstance(settings, Mapping))
    return list(dict.fromkeys(source for source in sources if isinstance(source, str)))
