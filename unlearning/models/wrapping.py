"""Leaves a model as it was where wrapping it in an adapter fails.

PEFT replaces one layer after the other, and stops where one cannot be: the model is then half
wrapped, its first layers train their adapter and all others their own weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def unchanged_on_failure(model: nn.Module) -> Iterator[None]:
    """Within the block, modules may be replaced, frozen and switched; an exception undoes that.

    Values of weights are not copied: the block must not write to them.
    """
    attributes = [(vars(module), _kept(vars(module))) for module in model.modules()]
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    except BaseException:
        for found, kept in attributes:
            found.clear()
            for name, (value, content) in kept.items():
                if content is not None:
                    value.clear()
                    value.update(content)
                found[name] = value
        for parameter, flag in trained:
            parameter.requires_grad_(flag)
        raise


def _kept(attributes: dict[str, Any]) -> dict[str, tuple[Any, dict[Any, Any] | None]]:
    """Returns each attribute, and what is in those that are mappings (children, weights, hooks):
    they change in place."""
    return {n: (v, dict(v) if isinstance(v, dict) else None) for n, v in attributes.items()}
