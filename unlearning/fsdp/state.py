"""Gathers whole weights and optimizer state from the ranks' shards, and scatters them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FullOptimStateDictConfig, FullStateDictConfig, OptimStateKeyType
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP  # noqa: N817
from torch.distributed.fsdp.api import StateDictType
from torch.optim import Optimizer

from unlearning.errors import ConfigError

WRAPPED = "_fsdp_wrapped_module."
"""What FSDP puts into the name of everything below a unit."""


def plain_name(name: str) -> str:
    """Returns the name that a weight has in a model that is not sharded."""
    return name.replace(WRAPPED, "")


def offloads(root: FSDP) -> bool:
    """Whether gathered weights have to be moved to the host. On a CPU torch moves them nowhere,
    and frees what it believes to have copied."""
    return torch.device(root.compute_device or "cpu").type != "cpu"


@contextmanager
def full_state(root: FSDP) -> Iterator[None]:
    """Context in which state dicts are whole, in the host's memory, and on rank 0 only."""
    offload = offloads(root)
    with warnings.catch_warnings():
        # Torch announces an interface that covers both generations of FSDP; this one is stable.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
        with FSDP.state_dict_type(
            root,
            StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(offload_to_cpu=offload, rank0_only=True),
            FullOptimStateDictConfig(offload_to_cpu=offload, rank0_only=True),
        ):
            yield


def optimizer_state(root: FSDP, optimizer: Optimizer) -> dict[str, Any]:
    """Gathers the whole optimizer state on rank 0, numbered as in one process; collective."""
    with full_state(root):
        state = FSDP.optim_state_dict(root, optimizer)
        if distributed.get_rank() > 0:
            return state
        return FSDP.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_ID, root, optim=optimizer)


def load_optimizer_state(root: FSDP, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Scatters what `optimizer_state` returned; collective.

    Args:
        state: rank 0's; what the others give is not looked at.
    """
    whole: list[Any] = [bool(state.get("state"))]
    distributed.broadcast_object_list(whole, src=0)
    if not whole[0]:
        return  # saved before the first step
    with full_state(root):
        named: dict[str, Any] = {}
        if distributed.get_rank() == 0:
            named = FSDP.rekey_optim_state_dict(
                dict(state), OptimStateKeyType.PARAM_NAME, root, optim=optimizer
            )
        optimizer.load_state_dict(FSDP.optim_state_dict_to_load(root, optimizer, named))


@torch.no_grad()
def load_weights(root: FSDP, state: Mapping[str, Tensor]) -> None:
    """Scatters whole weights by their ordinary names; collective.

    Args:
        state: rank 0's; what the others give is not looked at.

    Raises:
        ConfigError: on every rank, where a trained weight is missing or one is too many.
    """
    with FSDP.summon_full_params(root, writeback=True):
        ours = {plain_name(n): t for n, t in _named_tensors(root)}
        trained = {n for n, t in ours.items() if isinstance(t, nn.Parameter) and t.requires_grad}
        found: list[Any] = [list(state)]
        distributed.broadcast_object_list(found, src=0)
        names = set(found[0])
        twice = {plain_name(n) for n, _ in root.named_parameters(remove_duplicate=False)}
        missing, unknown = sorted(trained - names), sorted(names - ours.keys() - twice)
        if missing or unknown:
            raise ConfigError(
                f"The checkpoint is of another model or adapter: it lacks {missing[:3]} and has "
                f"{unknown[:3]} besides."
            )
        for name, tensor in ours.items():
            if name in names:
                if distributed.get_rank() == 0:
                    tensor.copy_(state[name])
                distributed.broadcast(tensor.data, src=0)


def _named_tensors(root: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields weights, each once, and buffers; in the same order on every rank."""
    return chain(root.named_parameters(), root.named_buffers())
