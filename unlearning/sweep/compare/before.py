"""Looks at a comparison before its first job: what is asked for, and whether it is fair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from unlearning.errors import ConfigError
from unlearning.report.compare.rule import Goal, Limit
from unlearning.report.compare.study import Study
from unlearning.run.config.schema import check_schema
from unlearning.sweep.compare.fair import check_apart, check_path, check_same, words_apart
from unlearning.sweep.compare.space import Space, ends, find_space, split
from unlearning.sweep.compare.words import test_words, trial_words
from unlearning.sweep.launcher import MODULE
from unlearning.sweep.words import key_of


def checked_study(
    context: HydraContext,
    config: DictConfig,
    arguments: Sequence[str],
    goal: Goal,
    budget: tuple[Limit, ...],
) -> Study:
    """Returns what is to be compared, all of it composed and checked.

    Raises:
        ConfigError: naming the setting, and what it should be.
    """
    sweeper = config.hydra.sweeper
    _check_launcher(config)
    _check_counts(sweeper)
    methods = _methods(context, sweeper)
    validation = str(sweeper.validation)
    _check_choice(context, "evaluation", [validation], "hydra.sweeper.validation")
    space = find_space(sweeper, methods, arguments)
    _check_words(arguments, space)
    arguments, _ = split(arguments)
    seed = int(config.seed)
    trials: dict[str, DictConfig] = {}
    for method in methods:
        words = trial_words(arguments, method, validation, seed)
        for chosen in ends(space[method]):
            trials.setdefault(method, _composed(context, config, [*chosen, *words], method))
    test_of = test_words(arguments, trial_words(arguments, methods[0], validation, seed), seed)
    test = _composed(context, config, test_of, methods[0])
    check_same(trials)
    first = trials[methods[0]]
    apart = words_apart(first, test)
    test = _composed(context, config, [*test_of, *apart], methods[0])
    check_apart(first, test, validation)
    for path in (goal.path, *(limit.path for limit in budget)):
        check_path(path, first, test)
    return Study(
        space=space,
        n_trials=sweeper.n_trials,
        seed=seed,
        seeds=tuple(seed + number for number in range(1, sweeper.seeds + 1)),
        steps=int(first.unlearn.max_steps),
        validation=validation,
        goal=goal,
        budget=budget,
        told={},
        apart=tuple(apart),
    )


def _check_launcher(config: DictConfig) -> None:
    launcher = str(config.hydra.launcher.get("_target_"))
    if launcher != f"{MODULE}.ProcessLauncher":
        raise ConfigError(
            "A comparison reads its jobs' results from the sweep folder, which "
            f"{launcher.rpartition('.')[2]} does not keep. Leave hydra/launcher=processes."
        )
    if config.sweep.objectives:
        raise ConfigError(
            "A comparison takes what it looks for from hydra.sweeper.forget and "
            "hydra.sweeper.budget; leave out sweep.objectives."
        )


def _check_counts(sweeper: DictConfig) -> None:
    for key in ("n_trials", "seeds"):
        value = sweeper[key]
        if not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
            raise ConfigError(
                f"hydra.sweeper.{key}={value!r} must be a whole number of at least 1."
            )


def _methods(context: HydraContext, sweeper: DictConfig) -> list[str]:
    found: Any = sweeper.methods
    methods = list(map(str, found)) if OmegaConf.is_list(found) else [str(found)]
    if len(methods) < 2 or len(set(methods)) < len(methods):
        raise ConfigError(
            f"hydra.sweeper.methods={methods} must be two or more different choices of method: "
            "hydra.sweeper.methods=[paper,npo]."
        )
    _check_choice(context, "method", methods, "hydra.sweeper.methods")
    _check_choice(context, "method", [*(sweeper.get("own") or {})], "hydra.sweeper.own")
    return methods


def _check_choice(context: HydraContext, group: str, names: Sequence[str], where: str) -> None:
    known = context.config_loader.get_group_options(group)
    for name in names:
        if name not in known:
            raise ConfigError(f"{where}: there is no {group}={name}; there is {', '.join(known)}.")


def _check_words(arguments: Sequence[str], space: Space) -> None:
    """Refuses words that say what the comparison itself says."""
    if typed := [word for word in arguments if key_of(word) == "method"]:
        raise ConfigError(f"{typed[0]}: the methods are those of hydra.sweeper.methods.")
    for words in space.values():
        for key in words:
            if key in ("seed", "method", "evaluation") or key.startswith("evaluation."):
                raise ConfigError(
                    f"{key}={words[key]}: it is no part of a method. The comparison sets it, the "
                    "same for all: hydra.sweeper.methods, hydra.sweeper.validation and, of the "
                    "tests, the hydra.sweeper.seeds seeds after that of the trials."
                )


def _composed(
    context: HydraContext, config: DictConfig, words: Sequence[str], method: str
) -> DictConfig:
    """Composes and checks the configuration of one job.

    Raises:
        ConfigError: naming the method.
    """
    try:
        found = context.config_loader.load_sweep_config(config, list(words))
        with open_dict(found):
            found.pop("hydra", None)
        check_schema(found)
    except (HydraException, OmegaConfBaseException) as error:
        key = next((k for k in map(key_of, words) if k in str(error)), "<key>")
        raise ConfigError(
            f"{method} with {' '.join(words)}: {' '.join(str(error).split())} If {method} has "
            f"no such key, take it out of its search in hydra.sweeper.own: {{{method}: {{{key}: "
            "null}}."
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{method} with {' '.join(words)}: {error}") from error
    return found
