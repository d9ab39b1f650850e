"""What each method is given in `steps.py`: shape of the model, settings, random tokens."""

from __future__ import annotations

import math
import random
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from plain import REFUSAL
from workload import Lengths, RandomData, Shape

from unlearning.run.config.folder import config_folder
from unlearning.run.config.method import mismatch_per_prompt, objective_of
from unlearning.types import TokenizedExample

SHAPES = {"full": Shape(512, 8), "small": Shape(64, 2, 1000)}
LENGTHS = {"full": Lengths(), "small": Lengths().times(0.3)}
EXAMPLES = 32
"""Of each set; where the reference is cached, its states of all of them are computed before."""


class MethodData(RandomData):
    """Random sequences with an alternate answer to every forget prompt.

    Args:
        alternates: tokens of one, from and to; None for no alternates.
    """

    def __init__(self, *args: Any, alternates: tuple[int, int] | None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.alternate = None if alternates is None else ["drawn in setup"]
        self.alternate_tokens = alternates

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        if self.alternate_tokens is not None:
            self.alternates = RandomAlternates(self.alternate_tokens, self.vocabulary)  # type: ignore[assignment]


class RandomAlternates:
    """Draws one answer for a forget example."""

    def __init__(self, tokens: tuple[int, int], vocabulary: int) -> None:
        self.tokens, self.vocabulary = tokens, vocabulary

    def draw(self, example: int, epoch: int) -> list[tuple[int, TokenizedExample]]:
        drawn = random.Random(f"alternate/{example}/{epoch}")
        length = drawn.randint(*self.tokens)
        ids = tuple(drawn.choices(range(4, self.vocabulary), k=length))
        return [(example, TokenizedExample((), ids))]


def layers_of(name: str, shape: Shape) -> list[int]:
    """Decoder blocks that a method's terms read: RMU's default, and for rerouting those as deep as
    the paper's are among the 32 of its models."""
    if name in ("rmu", "adaptive_rmu"):
        return [min(7, shape.layers - 1)]
    return [round(n * shape.layers / 32) for n in (9, 19)] if name == "rerouting" else []


def settings(name: str, shape: Shape) -> list[str]:
    """What a method needs beside its defaults to run here."""
    layers = layers_of(name, shape)
    found = ["model.lora=null", "cache_dir=null", "reference.mode=auto"]
    if name in ("rmu", "adaptive_rmu"):
        found.append(f"method.layer={layers[0]}")
    if name == "rerouting":
        found.append(f"method.layers={layers}")
    if name == "jensun":
        found.append(f"method.refusal={list(REFUSAL)}")  # the words of these data are none
    if name == "pdu":
        found.append("method.epsilon=100")  # else it is measured before the first step
    if name in ("bounded", "sam", "on_policy"):
        found.append(f"objective.forget.options.cap={cap_of(shape)}")
    return found


def cap_of(shape: Shape) -> float:
    """A cap that about half of the tokens are above: random weights guess, and the default cap
    would leave no gradient."""
    return math.log(shape.vocabulary) + 0.1


def config_of(name: str, shape: Shape) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("config", overrides=[f"method={name}", *settings(name, shape)])


def trained_of(name: str, shape: Shape) -> str:
    """A pattern of the trained weights' names: RMU's are the last map of the MLP in three blocks,
    all others' are all."""
    if name not in ("rmu", "adaptive_rmu"):
        return ""
    (layer,) = layers_of(name, shape)
    numbers = "|".join(str(n) for n in range(max(0, layer - 2), layer + 1))
    return rf"\.layers\.({numbers})\.fc2\."


def data_of(name: str, config: DictConfig, shape_name: str) -> MethodData:
    """The method's data: alternate answers of dpo are as long as those to forget, refusals as
    short as mismatch answers."""
    shape, lengths = SHAPES[shape_name], LENGTHS[shape_name]
    alternates = lengths.forget if name == "dpo" else lengths.mismatch
    objective = objective_of(config)
    assert objective is not None
    return MethodData(
        config.unlearn.batch_size, mismatch_per_prompt(config), lengths=lengths,
        vocabulary=shape.vocabulary, examples=EXAMPLES,
        alternates=alternates if "alternate" in objective.roles else None,
    )  # fmt: skip
