"""Checks that a comparison is fair: what all methods have in common, and prompts kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from unlearning.errors import ConfigError
from unlearning.report.sets import UNSEEN

SPLITS = ("train", "validation", "test")
SAME = (
    "task", "seed", "debug", "oracle", "model", "finetune", "classifier", "trainer.max_epochs",
    "data.seed", "data.forget", "data.retain", "data.related", "data.template", "data.max_length",
    "unlearn.max_steps", "unlearn.batch_size", "unlearn.retain_batch_size",
    "unlearn.accumulate_grad_batches", "callbacks", "evaluation",
)  # fmt: skip
"""Keys that no method may have to itself: what is forgotten by which model, in how many steps, how
it is stopped and how it is measured."""


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
    in_test = _asked(test)
    for name, source, split, part in _asked(trial):
        for other, *of, other_part in in_test:
            apart = part and other_part and part != other_part
            if of == [source, split] and not apart:
                raise ConfigError(
                    f"hydra.sweeper.validation={validation}: {name} asks prompts of the {split} "
                    f"split of {source}, and so does {other} of the test. What was picked by those "
                    "prompts would be judged by them. Choose an evaluation of the validation "
                    "splits alone, as conf/evaluation/validation.yaml is."
                )


def words_apart(trial: DictConfig, test: DictConfig) -> list[str]:
    """Returns overrides that keep the test from what the trials are asked of the same splits.

    Where a trial asks the validation part of a split, what was taught or is held out is all of that
    split, and a set of the test that asks it whole asks the other part.

    Examples:
        >>> from omegaconf import OmegaConf
        >>> book = {"source": "forget", "split": "train"}
        >>> def asking(**sets):
        ...     return OmegaConf.create({"evaluation": {"prompt_sets": sets}})
        >>> words_apart(asking(choose={**book, "part": "validation"}), asking(report=book))
        ['++evaluation.prompt_sets.report.part=test']
    """
    in_part = {(source, split) for _, source, split, part in _asked(trial) if part == "validation"}
    whole = {name for name, each in _sets(test).items() if each.get("split") in SPLITS}
    return [
        f"++evaluation.prompt_sets.{name}.part=test"
        for name, source, split, part in _asked(test)
        if name in whole and not part and (source, split) in in_part
    ]


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
    book = kind == "copyright"  # what was taught is what is forgotten
    if kind and not any(
        each.get("kind") == kind
        and (each.get("split") not in UNSEEN if book else each.get("split") != "train")
        for each in _sets(test).values()
    ):
        which = "prompt set of taught passages" if book else "held-out prompt set"
        raise ConfigError(
            f"{path}: the test asks no {which} of the kind {kind!r}, so that this "
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


def _asked(config: DictConfig) -> list[tuple[str, str, str, str]]:
    """Returns name, source, split and part ("" for all of it) of what each prompt set is from."""
    found = []
    for name, each in _sets(config).items():
        split = each.get("split") or "all"
        for one in SPLITS if split == "all" else (split,):
            found.append((name, str(each.get("source")), one, each.get("part") or ""))
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
