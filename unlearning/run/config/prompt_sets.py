"""Builds prompt sets and their metrics from `evaluation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import chain
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from unlearning.data.digests import digests
from unlearning.data.examples import ExampleDataModule
from unlearning.data.split import SPLITS
from unlearning.data.template import Template
from unlearning.errors import ConfigError
from unlearning.imports import import_object
from unlearning.metrics.kinds import KINDS
from unlearning.metrics.metric import Metric
from unlearning.run.config.arguments import check_arguments
from unlearning.run.config.build import build_template, own_source
from unlearning.run.config.targets import build
from unlearning.types import Example, PromptSet

SET_KEYS = ("source", "split", "part", "limit", "kind", "metrics", "template", "max_length")
PARTS = ("validation", "test")
_METRIC = ("path", "name", "label", "direction", "interval", "options")


def prompt_sets(
    config: DictConfig, data: Mapping[str, ExampleDataModule | None]
) -> list[PromptSet]:
    """Builds the prompt sets that every model answers. A set whose source is null in `data` is left
    out.

    Raises:
        ConfigError: a set is empty, or asks for a source, kind, split or metric that there is not.
    """
    found = []
    for name, node in config.evaluation.prompt_sets.items():
        where = f"evaluation.prompt_sets.{name}"
        if node is None:  # switched off from the command line
            continue
        settings = checked_mapping(node, SET_KEYS, where)
        module, source = _source(str(name), settings.get("source"), data, where)
        if module is None:
            continue
        template = build_template(config)
        found.append(_prompt_set(str(name), settings, module, source, where, template))
    return found


def _prompt_set(
    name: str,
    settings: Mapping[str, Any],
    module: ExampleDataModule,
    source: str,
    where: str,
    template: Template,
) -> PromptSet:
    kind, split = settings.get("kind") or "", settings.get("split") or "all"
    if kind not in KINDS:
        known = ", ".join(filter(None, KINDS))
        raise ConfigError(f"{where}: kind={kind!r} must be one of {known}, or absent.")
    if split not in (*SPLITS, "all"):
        raise ConfigError(f"{where}: split={split!r} must be one of {', '.join(SPLITS)} or all.")
    part = settings.get("part") or ""
    if part and (part not in PARTS or split == "all"):
        raise ConfigError(
            f"{where}: part={part!r} must be one of {', '.join(PARTS)}, of one split; split is "
            f"{split}."
        )
    splits = [each for each in SPLITS if split in (each, "all")]
    asked = [module.examples(each) for each in splits]
    examples = one_per_prompt(asked, settings.get("limit"), part)
    if not examples:
        of_part = f" for the {part} part" if part else ""
        raise ConfigError(
            f"{where}: {source} has no example in its {split} split{of_part}. Change the "
            "fractions of its data set, or remove the set."
        )
    own = _own_template(settings.get("template") or {}, template, f"{where}.template")
    metrics = tuple(
        build_metric(node, f"{where}.metrics[{number}]")
        for number, node in enumerate(settings.get("metrics") or ())
    )
    length = settings.get("max_length")
    return PromptSet(name, kind, examples, split, source, metrics, own, length, part)


def _own_template(node: Any, template: Template, where: str) -> Mapping[str, Any] | Template:
    """Returns a template of the set's own, or its own settings of the run's template."""
    if isinstance(node, Mapping) and "_target_" in node:
        return build(node, Template, where)  # type: ignore[no-any-return]
    own = checked_mapping(node, [field.name for field in fields(template)], where)
    replace(template, **own)  # says what is wrong with it
    return own


def _source(
    name: str, source: Any, data: Mapping[str, ExampleDataModule | None], where: str
) -> tuple[ExampleDataModule | None, str]:
    key = own_source(name) if isinstance(source, Mapping) else str(source)
    if key not in data:
        raise ConfigError(
            f"{where}: source={source!r} must be one of {sorted(data)}, the data sets under `data`,"
            " or a data set of its own (a mapping with _target_)."
        )
    return data[key], key


def build_metric(node: Any, where: str) -> Metric:
    """A metric from its import path, from a mapping with `path`, or from one with `_target_`.

    Raises:
        ConfigError: nothing to import, no declared metric, or an option that it does not take.
    """
    settings: Any = {"path": node} if isinstance(node, str) else node
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{where} is {node!r}; expected an import path or a mapping with path.")
    if "_target_" in settings:
        found = build(settings, Metric, where)
    else:
        checked_mapping(settings, _METRIC, where)
        found = _imported(settings.get("path"), where)
    if not isinstance(found, Metric):
        raise ConfigError(
            f"{where}: {node!r} is a {type(found).__name__}; expected a function declared with "
            "@unlearning.metrics.metric.metric(label, unit=..., direction=...)."
        )
    if "_target_" in settings:
        return found
    if "/" in str(settings.get("name", "")):
        raise ConfigError(f"{where}.name={settings['name']!r} must not have a '/' in it.")
    given = ("name", "label", "direction")
    changed: dict[str, Any] = {key: settings[key] for key in given if key in settings}
    if "interval" in settings:
        changed["interval"] = _interval(settings["interval"], where)
    options = settings.get("options") or {}
    check_arguments(found.function, options, f"{where}.options", 2 if found.against else 1)
    return replace(found, **changed).with_options(options)


def _interval(path: Any, where: str) -> Any:
    found = _imported(path, f"{where}.interval")
    methods = (getattr(found, name, None) for name in ("interval", "interval_of_change"))
    if isinstance(found, type) or not all(map(callable, methods)):
        raise ConfigError(
            f"{where}.interval={path} is no interval: expected an object with the methods of "
            "unlearning.metrics.bootstrap.IntervalMethod."
        )
    return found


def _imported(path: Any, where: str) -> Any:
    try:
        return import_object(str(path))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def check_metrics(config: DictConfig) -> None:
    """Imports the metrics of every prompt set, which needs no data.

    Raises:
        ConfigError: one cannot be imported, or is not declared as a metric.
    """
    for name, node in config.evaluation.prompt_sets.items():
        metrics = [] if node is None else node.get("metrics") or []
        plain = OmegaConf.to_container(metrics) if OmegaConf.is_config(metrics) else metrics
        for number, each in enumerate(plain):  # type: ignore[arg-type, var-annotated]
            build_metric(each, f"evaluation.prompt_sets.{name}.metrics[{number}]")


def checked_mapping(node: Any, known: Sequence[str], where: str) -> dict[str, Any]:
    """Checks a mapping of the configuration, and returns it as a plain one.

    Raises:
        ConfigError: it is none, or has a key that is not known.
    """
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{where} is {plain!r}; expected a mapping of {', '.join(known)}.")
    if unknown := sorted(set(plain) - set(known)):
        raise ConfigError(f"{where}: unknown {unknown[0]!r}; expected {', '.join(known)}.")
    return dict(plain)


def one_per_prompt(
    parts: Sequence[Sequence[Example]], limit: int | None, part: str = ""
) -> list[Example]:
    """The first Example of each prompt: greedy answers to one prompt are all the same.

    Prompts come in the order in which they stand for the last time. Only what is returned is held.

    Args:
        part: `validation` takes every third prompt, `test` the others.
    """
    prompts = digests(example.conversation for part in parts for example in part)
    first = np.unique(prompts, return_index=True)[1]
    last = len(prompts) - 1 - np.unique(prompts[::-1], return_index=True)[1]
    ordered = first[np.argsort(last)]
    if part:
        to_choose_by = np.arange(len(ordered)) % 3 == 2
        ordered = ordered[to_choose_by if part == "validation" else ~to_choose_by]
    chosen = ordered[:limit].tolist()
    wanted = set(chosen)
    numbered = enumerate(chain.from_iterable(parts))
    found = {number: example for number, example in numbered if number in wanted}
    return [found[number] for number in chosen]
