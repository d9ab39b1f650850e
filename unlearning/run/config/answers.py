"""`data.answers`: whose answers to the retain prompts are trained on."""

from __future__ import annotations

from omegaconf import DictConfig

from unlearning.errors import ConfigError
from unlearning.generation.sampling import Sampling
from unlearning.methods.on_policy import CACHED, MAX_NEW_TOKENS, NO_RETAIN, STREAMED, OnPolicy
from unlearning.run.config.method import edits_weights, method_class

OF_DATA, OF_MODEL = ("data", "both"), ("model", "both")


def answers_of(config: DictConfig, term: str) -> str:
    """Returns whose answers a term is on: `data`, `model` or `both`.

    Args:
        term: `retain` or `mismatch`.
    """
    node = config.data.get("answers")  # absent in configurations of version 0.6
    return "data" if node is None else str(node[term])


def asks_model(config: DictConfig) -> bool:
    """Whether the model answers the retain prompts before it unlearns."""
    used = {answers_of(config, term) for term in ("retain", "mismatch")}
    return used != {"data"} and not edits_weights(config)


def sampling_of(config: DictConfig) -> Sampling | None:
    """Returns how the model's answers are drawn; None is greedy."""
    node = config.data.answers
    return None if node.temperature is None else sampling_with(node)


def sampling_with(node: DictConfig) -> Sampling:
    """Returns the sampling of settings with a temperature."""
    return Sampling(node.temperature, 1.0 if node.top_p is None else node.top_p, node.seed)


def alternates_of_model(config: DictConfig) -> DictConfig | None:
    """Returns the settings of alternate answers that the model gives; None where it gives none."""
    node = config.data.get("alternate")
    return (
        node if isinstance(node, DictConfig) and "of" in node and "_target_" not in node else None
    )


def asks_for_alternates(config: DictConfig) -> bool:
    """Whether the model gives other answers to the forget prompts before it unlearns."""
    return alternates_of_model(config) is not None and not edits_weights(config)


def asks_model_alone(config: DictConfig) -> bool:
    """Whether no answer of the retain set itself is trained on."""
    used = {answers_of(config, term) for term in ("retain", "mismatch")}
    return used == {"model"} and asks_model(config)


def check_answers(config: DictConfig, streamed: bool, has_answers: bool = True) -> None:
    """Checks that the model can be asked for its answers, before or during the training.

    Args:
        streamed: whether the retain set is read as the training goes on.
        has_answers: whether it has answers, and not prompts alone.

    Raises:
        ConfigError: the prompts are known only then, the reference knows no such answers, or there
            are none and the model is not asked for all of them.
    """
    if not (has_answers or asks_model_alone(config) or edits_weights(config)):
        raise ConfigError(
            "data.retain holds prompts without answers, and data.answers.retain="
            f"{answers_of(config, 'retain')}, data.answers.mismatch="
            f"{answers_of(config, 'mismatch')} ask for some of its own. Choose data/answers=model."
        )
    if asks_model(config) and streamed:
        named = next(t for t in ("retain", "mismatch") if answers_of(config, t) != "data")
        raise ConfigError(
            f"data.answers.{named}={answers_of(config, named)}: the model answers the retain "
            "prompts before the training, and data.retain is streamed. Set "
            f"data.retain.streaming=false, or data.answers.{named}=data."
        )
    if samples_on_policy(config) and config.reference.mode == "cached":
        raise ConfigError(CACHED)
    if samples_on_policy(config) and streamed:
        raise ConfigError(STREAMED)
    if samples_on_policy(config) and not any(_on_retain(t) for t in config.objective.values()):
        raise ConfigError(NO_RETAIN)
    _check_room(config)


def _on_retain(term: DictConfig) -> bool:
    roles = [term.role] if isinstance(term.role, str) else term.role
    return term.weight > 0 and "retain" in roles


def _check_room(config: DictConfig) -> None:
    """Checks that answers of the model leave room for a prompt, which needs no tokenizer."""
    given = {}
    if asks_model(config):
        given["data.answers.max_new_tokens"] = config.data.answers.max_new_tokens
    if asks_for_alternates(config):
        given["data.alternate.max_new_tokens"] = config.data.alternate.max_new_tokens
    if samples_on_policy(config):
        given["method.max_new_tokens"] = config.method.get("max_new_tokens", MAX_NEW_TOKENS)
    for key, new in given.items():
        if new >= config.data.max_length:
            raise ConfigError(
                f"{key}={new} leaves no room for a prompt in data.max_length="
                f"{config.data.max_length}. Lower the first, or raise the second."
            )


def samples_on_policy(config: DictConfig) -> bool:
    """Whether retain answers are sampled while the model unlearns."""
    return issubclass(method_class(config), OnPolicy)
