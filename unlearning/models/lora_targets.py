"""Finds the layers that an adapter goes on.

PEFT's choice for the architecture or, where it has none, the linear layers of the decoder blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from peft.utils import (
    TRANSFORMERS_MODELS_TO_ADALORA_TARGET_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
)
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer, its weight transposed

from unlearning.errors import ConfigError
from unlearning.models.layers import blocks
from unlearning.models.parts import decoder_of

Targets = list[str] | str | None

PEFT_CHOICE = {
    "lora": TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
    "adalora": TRANSFORMERS_MODELS_TO_ADALORA_TARGET_MODULES_MAPPING,
}
ROUTER = re.compile(r"(^|\.)(gate|[^.]*router[^.]*|[^.]*_gate)(\.|$)")
"""Layers that choose experts, or weigh them; a MLP's own gate is called gate_proj."""
EXPERTS = {"w1", "w2", "w3", "gate_proj", "up_proj", "down_proj", "gate_up_proj"}
"""PEFT takes these names for the routed experts, wherever the model has such."""


def default_targets(model: PreTrainedModel, kind: str) -> list[str] | str:
    """Returns the layers that an adapter goes on where none are named: PEFT's choice for the
    architecture (OPT's is that of arXiv 2405.15152).

    Where it has none, all linear layers of the decoder blocks: attention and MLP, not the output
    head and no router. Where routed experts are kept in one tensor, the attention layers alone. Of
    a Mamba mixer its `in_proj`, since kernels read the other weights past their layers.

    Raises:
        ConfigError: the model has no such layers.
    """
    choice = PEFT_CHOICE[kind].get(str(model.config.model_type))
    paths = [path for path, _ in model.named_modules()]
    if choice and (isinstance(choice, str) or any(_named(path, choice) for path in paths)):
        return choice if isinstance(choice, str) else list(choice)
    prefix = {id(module): path for path, module in model.named_modules()}
    mixers = {id(parent) for parent in model.modules() if hasattr(parent, "conv1d")}
    fused, found = has_fused_experts(model), []
    for block in _blocks(model):
        for path, module in block.named_modules():
            parent, _, name = path.rpartition(".")
            if not isinstance(module, (nn.Linear, Conv1D)) or ROUTER.search(path):
                continue
            if type(module).__module__.startswith("transformers.models."):
                continue  # a linear layer of another forward, of which PEFT would not know
            if id(block.get_submodule(parent)) in mixers and not name.startswith("in_proj"):
                continue
            if not (fused and name in EXPERTS):
                found.append(prefix[id(module)])
    if not found:
        raise ConfigError(f"No layers for an adapter were found, of {describe_layers(model, None)}")
    return _shortened(found, linear_layers(model))


def _blocks(model: PreTrainedModel) -> Sequence[nn.Module]:
    """Returns the decoder blocks, or the decoder where its layers are no plain list of them."""
    try:
        return list(blocks(model))
    except ConfigError:
        return [decoder_of(model)]


def has_fused_experts(model: PreTrainedModel) -> bool:
    """Whether routed experts are kept in one tensor [experts, ...], and so are no linear layers."""
    return any(
        parameter.dim() == 3 and ".experts." in f".{name}"
        for name, parameter in model.named_parameters()
    )


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Returns the paths of all linear layers but the output head."""
    head = model.get_output_embeddings()
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    ]


def describe_layers(model: PreTrainedModel, targets: Targets) -> str:
    """Describes what the target modules were, and which the model has."""
    names = {path.rsplit(".", 1)[-1] for path in linear_layers(model)}
    return (
        f"target_modules={targets}. This {type(model).__name__} has the linear layers "
        f"{', '.join(sorted(names))}."
    )


def check_targets(model: PreTrainedModel, targets: Targets) -> None:
    """Checks the target modules that were asked for.

    Raises:
        ConfigError: one of them names nothing.
    """
    paths, fused = [path for path, _ in model.named_modules()], has_fused_experts(model)
    names = targets if isinstance(targets, list) else []
    for name in names:  # PEFT is content with one of them
        if not (any(_named(path, [name]) for path in paths) or (fused and name in EXPERTS)):
            raise ConfigError(f"No module is called {name!r}, of {describe_layers(model, targets)}")


def explain_refusal(error: ValueError, model: PreTrainedModel, targets: Targets) -> ConfigError:
    """Returns what to tell a user of PEFT's refusal."""
    if "lora_dropout" not in str(error):
        return ConfigError(f"{error} This is for {describe_layers(model, targets)}")
    layers = {path.rsplit(".", 1)[-1] for path in linear_layers(model)}
    others = sorted(name for name in layers - EXPERTS if not ROUTER.search(name))
    return ConfigError(
        f"target_modules={targets}: this {type(model).__name__} keeps its routed experts in one "
        "tensor, and an adapter of that takes no dropout. Set the adapter's dropout=0, or name "
        f"other layers: target_modules=[{', '.join(others)}]."
    )


def _named(path: str, names: Iterable[str]) -> bool:
    """Whether PEFT takes the module at this path for one of the names."""
    return any(path == name or path.endswith(f".{name}") for name in names)


def _shortened(wanted: list[str], everything: list[str]) -> list[str]:
    """Returns the layers' last names, where these name no other layer."""
    names = sorted({path.rsplit(".", 1)[-1] for path in wanted})
    if any(name.isdigit() for name in names):
        return wanted  # "0" would name a block, too
    if set(wanted) == {path for path in everything if _named(path, names)}:
        return names
    return wanted
