"""Checks that a comparison is fair: what all methods have in common, and prompts kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError

SAME = (
    "task", "seed", "debug", "oracle", "model", "finetune", "classifier", "trainer.max_epochs",
    "data.seed", "data.forget", "data.retain", "data.related", "data.template", "data.max_length",
    "unlearn.max_steps", "unlearn.batch_size", "unlearn.retain_batch_size",
    "unlearn.accumulate_grad_batches", "evaluation",
)  # fmt: skip
"""Keys that no method may have to itself: what is forgotten by which model, in how many steps, and
how it is measured."""


def check_same(configs: Mapping[str, DictConfig]) -> None:
    """Checks that the methods differ in nothing that makes a comparison unfair.

    Args:
        configs: of a trial of each method.

    Raises:
        ConfigError: naming the methods and the key.
    """
    (first, of_first), *others = ((name, _plain(config)) for name, config in configs.items())
    for name, plain in others:
        for key in SAME:
            if plain[key] != of_first[key]:
                raise ConfigError(
                    f"{name} and {first} are not compared on equal terms: {key} is "
                    f"{_short(plain[key])} for {name} and {_short(of_first[key])} for {first}. "
                    f"Give it to all of them on the command line ({key}=...) and leave it out of "
                    "hydra.sweeper.own."
                )


def check_apart(trial: DictConfig, test: DictConfig, validation: str) -> None:
    """Checks that no prompt that a trial is asked is asked in the test, too.

    Raises:
        ConfigError: a prompt set of the trials is of a split that one of the test is of.
    """
    asked = dict(_splits(trial))
    in_test = {part: name for name, parts in _splits(test) for part in parts}
    for name, parts in asked.items():
        for source, split in parts:
            other = in_test.get((source, split))
            if other is not None:
                raise ConfigError(
                    f"hydra.sweeper.validation={validation}: {name} asks prompts of the {split} "
                    f"split of {source}, and so does {other} of the test. What was picked by those "
                    "prompts would be judged by them. Choose an evaluation of the validation "
                    "splits alone, as conf/evaluation/validation.yaml is."
                )


def check_path(path: str, trial: DictConfig, test: DictConfig) -> None:
    """Checks that a figure's prompt set is asked in the trials, and its like in the test.

    Raises:
        ConfigError: there is no such set, or none of its kind.
    """
    _, slash, _ = path.partition("/")
    name = path.partition(".")[2].rpartition("/")[0]
    if not slash or name == "aggregates":
        return
    sets = _sets(trial)
    if name not in sets:
        raise ConfigError(
            f"{path}: the trials are not asked a prompt set {name!r}; they are asked "
            f"{', '.join(sets)}. Set hydra.sweeper.forget and hydra.sweeper.budget to figures of "
            "these, or hydra.sweeper.validation to an evaluation with that set."
        )
    kind = sets[name].get("kind")
    if kind and not any(
        each.get("kind") == kind and each.get("split") != "train" for each in _sets(test).values()
    ):
        raise ConfigError(
            f"{path}: the test asks no held-out prompt set of the kind {kind!r}, so that this "
            "figure would be missing there. Add one under evaluation.prompt_sets."
        )


def _plain(config: DictConfig) -> dict[str, Any]:
    found = {}
    for key in SAME:
        node = OmegaConf.select(config, key)
        found[key] = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
    return found


def _sets(config: DictConfig) -> dict[str, dict[str, Any]]:
    plain: Any = OmegaConf.to_container(config.evaluation.prompt_sets)
    return {name: each for name, each in plain.items() if each is not None}


def _splits(config: DictConfig) -> list[tuple[str, list[tuple[str, str]]]]:
    """Returns the parts of data sets that each prompt set is from."""
    found = []
    for name, each in _sets(config).items():
        source, split = str(each.get("source")), each.get("split") or "all"
        splits = ("train", "validation", "test") if split == "all" else (split,)
        found.append((name, [(source, part) for part in splits]))
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
