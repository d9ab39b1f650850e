"""Methods that change the weights without an unlearning step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unlearning.models.decoder import CausalLM


@dataclass(frozen=True)
class ModelNeed:
    """A model that a weight edit needs beside the policy.

    Args:
        path: its folder or hub id; None makes it: the policy, fine-tuned on the forget set.
        tuning: how, by keys of `conf/finetune`.
    """

    path: str | None
    tuning: Mapping[str, Any]


class WeightEdit(ABC):
    """Interface of weight arithmetic in place of training.

    The run makes the models that `needs` names, on all ranks, keeps them for the next run, and
    hands them over on the rank that leads.
    """

    @property
    @abstractmethod
    def needs(self) -> Mapping[str, ModelNeed]:
        """The models it needs, by name."""

    @abstractmethod
    def edit(self, policy: CausalLM, models: Mapping[str, CausalLM]) -> None:
        """Changes the policy's weights in place.

        Args:
            policy: the model before unlearning, without an adapter, in fp32.
            models: those of `needs`, likewise.

        Raises:
            ConfigError: a model does not fit the policy.
        """
