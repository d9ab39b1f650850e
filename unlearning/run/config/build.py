"""Builds objects from the composed configuration; errors name the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import Callback, Trainer
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedTokenizerBase as Tokenizer

from unlearning.classifier import JigsawDataModule
from unlearning.data.examples import ExampleDataModule
from unlearning.data.pretraining import PretrainingDataModule
from unlearning.data.template import PromptTemplate, Template, unescaped
from unlearning.errors import ConfigError
from unlearning.evaluation import EvaluationSettings
from unlearning.metrics.settings import ComparisonSettings
from unlearning.run.config.answers import alternates_of_model
from unlearning.run.config.precision import precision
from unlearning.run.config.targets import build, check_call, made_arguments
from unlearning.run.process.ranks import surroundings

Data = Mapping[str, ExampleDataModule | None]
"""The data sets by their key in `data`; None where there is none."""


def build_data(config: DictConfig) -> dict[str, ExampleDataModule | None]:
    """Builds all data sets under `data`, by name, and those that stand right in a prompt set.

    `forget`, `retain` and `related` are always among them, None where there is none.
    """
    names = ["forget", "retain", "related"]
    others = [name for name in config.data if name not in (*names, "alternate", "template")]
    names += [name for name in others if _is_target(config.data[name])]
    found = {name: _built(config.data.get(name), f"data.{name}") for name in map(str, names)}
    for name, settings in config.evaluation.prompt_sets.items():
        if settings is not None and _is_target(settings.get("source")):
            found[own_source(str(name))] = _built(
                settings.source, f"evaluation.prompt_sets.{name}.source"
            )
    return found


def own_source(prompt_set: str) -> str:
    """Names a data set that is defined inside a prompt set."""
    return f"evaluation.{prompt_set}"


def _is_target(node: Any) -> bool:
    return isinstance(node, DictConfig) and "_target_" in node


def _built(node: DictConfig | None, key: str) -> ExampleDataModule | None:
    return None if node is None else build(node, ExampleDataModule, key)


def build_alternate(config: DictConfig) -> Any:
    """Builds the alternate answers to the forget prompts: texts, a data set, or None.

    None too where the model gives them: they are there after the stage `alternate answers`.
    """
    node = config.data.get("alternate")
    if node is None or alternates_of_model(config) is not None:
        return None
    if OmegaConf.is_list(node):
        return [str(text) for text in node]
    return build(node, ExampleDataModule, "data.alternate")


def build_base_data(config: DictConfig) -> PretrainingDataModule:
    """Builds what a base model is trained on from scratch, in the template of the run.

    Raises:
        ConfigError: that template needs a tokenizer, of which there is none yet.
    """
    found: PretrainingDataModule = build(
        config.model.base.data, PretrainingDataModule, "model.base.data"
    )
    template = build_template(config)
    if not isinstance(template, PromptTemplate):
        raise ConfigError(
            f"data.template is a {type(template).__name__}, and a model from scratch (model.base) "
            "has no chat format. Choose data/template=question, or a chat model by "
            "model.name_or_path with model.base=null."
        )
    found.template = template
    return found


def build_classifier_data(config: DictConfig) -> JigsawDataModule:
    """Builds what the harm classifier is trained on."""
    return build(config.classifier.train.data, JigsawDataModule, "classifier.train.data")


def build_classifier_tokenizer(config: DictConfig) -> Tokenizer | None:
    """Builds the tokenizer of a tiny classifier; None where it is trained on its texts."""
    node = config.classifier.tiny.tokenizer
    return None if node is None else build(node, Tokenizer, "classifier.tiny.tokenizer")


def build_template(config: DictConfig) -> Template:
    """Builds the template: a `PromptTemplate`, or what `data.template._target_` names.

    Raises:
        ConfigError: it is none, or does not take a setting.
    """
    node: dict[str, Any] = OmegaConf.to_container(config.data.template, resolve=True)  # type: ignore[assignment]
    return build({"_target_": "unlearning.data.PromptTemplate", **node}, Template, "data.template")


def stop_strings(config: DictConfig) -> tuple[str, ...]:
    r"""Returns `evaluation.stop`, the texts before which an answer ends; `\n` is a newline."""
    value = config.evaluation.get("stop")  # absent in configurations of version 0.5
    found = [] if value is None else [value] if isinstance(value, str) else value
    return tuple(unescaped(text) for text in found)


def evaluation_settings(config: DictConfig) -> EvaluationSettings:
    return EvaluationSettings(
        max_new_tokens=config.evaluation.max_new_tokens,
        batch_size=config.evaluation.batch_size,
        max_length=config.data.max_length,
        cache_dir=config.cache_dir,
        stop=stop_strings(config),
    )


def comparison_settings(config: DictConfig) -> ComparisonSettings:
    return ComparisonSettings(
        harm_threshold=config.classifier.threshold,
        rouge_threshold=config.evaluation.rouge_threshold,
        n_resamples=config.evaluation.resamples,
    )


def build_trainer(config: DictConfig, alone: bool = False, **settings: Any) -> Trainer:
    """Builds a Trainer with the configured devices and precision, see `trainer_options`."""
    try:
        return Trainer(**trainer_options(config, alone, **settings))
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise ConfigError(f"The trainer cannot be made of these settings: {error}") from error


OF_SCHEMA = ("accelerator", "devices", "precision")
"""Keys of `trainer` that take more than Lightning's Trainer does; the schema looks at them."""


def check_trainer(options: dict[str, Any]) -> None:
    """Checks the other arguments of `lightning.Trainer`, and what is to be made for them."""
    check_call(Trainer, {n: v for n, v in options.items() if n not in OF_SCHEMA}, "trainer")


def trainer_options(config: DictConfig, alone: bool = False, **settings: Any) -> dict[str, Any]:
    """Returns the arguments of `lightning.Trainer`.

    Args:
        alone: on one device, whatever the configuration says: for what rank 0 trains by itself.
        settings: more of them, which come before the configuration's.
    """
    options: dict[str, Any] = OmegaConf.to_container(config.trainer, resolve=True)  # type: ignore[assignment]
    environment = surroundings()
    if alone:
        devices = options.get("devices", 1)
        if isinstance(devices, str) and "," in devices:  # "2,3" names GPUs, as a list does
            devices = [int(number) for number in devices.split(",") if number.strip()]
        one = devices[:1] if isinstance(devices, list) else 1
        options.update(devices=one, num_nodes=1, strategy="auto")
        environment = LightningEnvironment()
    check_trainer(options)
    options = made_arguments(Trainer, options, "trainer")
    options = {
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,  # ours counts the steps of a stage
        "logger": False,
        **options,
        **settings,
    }
    if options["logger"]:
        options["callbacks"] = _with_learning_rate(options.get("callbacks"))
    if environment is not None:  # decided in one place, not guessed again
        options["plugins"] = [*options.get("plugins", []), environment]
    options["precision"] = precision(config, options.get("precision"))
    return options


def _with_learning_rate(callbacks: Any) -> list[Callback]:
    """Adds the learning rate to what is logged, as `lr-<optimizer>`."""
    found = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
    monitored = any(isinstance(callback, LearningRateMonitor) for callback in found)
    return found if monitored else [LearningRateMonitor("step"), *found]


def numerics(config: DictConfig) -> dict[str, Any]:
    """Returns the trainer's settings that change the result of a training on one device."""
    return {
        "precision": precision(config),
        "deterministic": config.trainer.get("deterministic", False),
        "device": config.trainer.accelerator if config.trainer.accelerator != "auto" else None,
    }
