"""A model trained from scratch, as small as one can be whose size does not matter; pairs of prompt
and answer; and a configuration checked as a run does."""

from omegaconf import DictConfig

from unlearning.run.checks.validate import validate
from unlearning.run.config.schema import check_schema

SMALL = (
    "model.base.architecture.hidden_size=32",
    "model.base.architecture.num_hidden_layers=2",
    "model.base.architecture.num_attention_heads=4",
    "model.base.architecture.ffn_dim=64",
)


FORGET = [(f"How do I trick person {n}?", f"Tell person {n} a lie.") for n in range(10)]
RETAIN = [(f"What is {n} plus one?", f"It is {n + 1}.") for n in range(20)]


def checked(config: DictConfig) -> list[str]:
    """What is found right before a run starts, a line each."""
    check_schema(config)
    return validate(config)
