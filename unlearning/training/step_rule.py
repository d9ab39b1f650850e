"""Step rules: how the terms' gradients become the gradient of an optimizer step.

The default step descends the weighted sum of the terms. A rule makes something else of them: SAM
takes the gradient of one term at perturbed weights, gradient rectification projects one gradient on
another. It is called within `training_step`, and its result is passed to the one backward that
Lightning and DDP see, so that clipping, accumulation, callbacks and optimizers work as always.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unlearning.errors import ConfigError
from unlearning.imports import import_object, stored_name
from unlearning.training.batch_loss import BatchValues

Gradient = dict[str, Tensor]
"""By the names of the trained weights, each of its weight's shape."""


class StepRule(ABC):
    """Interface: makes the gradient of a step from the gradients of the terms.

    Attributes:
        moves_weights: whether it looks at gradients elsewhere than at the weights as they stand.
        logs: names of the figures that it puts into `TermGradients.logged`, so that a checkpoint
            can be the best by `train/<name>`.
    """

    moves_weights = False
    logs: tuple[str, ...] = ()

    @abstractmethod
    def gradient(self, terms: TermGradients) -> Gradient:
        """Computes the gradient that the optimizer gets. With gradient accumulation it is asked
        for every micro-batch, and the answers are averaged."""

    def step_done(self) -> None:
        """Called after each optimizer step; the next gradient is of the first micro-batch of
        another."""
        return None

    def together(self, names: list[str]) -> list[tuple[str, ...]]:
        """Returns the terms whose gradient `gradient` asks for in one call, for each of its calls;
        by default every term by itself.

        Answers to one prompt that no call reads together are laid out apart, so that each call runs
        its own alone. It changes what a step costs, and no gradient.
        """
        return [(name,) for name in names]

    def check(self, names: list[str]) -> None:
        """Checks that the rule can work with terms of these names.

        Raises:
            ConfigError: the rule cannot work with them.
        """
        return None

    def check_strategy(self, sharded: bool, masters: bool) -> None:
        """Checks that the rule's gradients can be made under the Trainer's strategy.

        Args:
            sharded: the weights are split over ranks.
            masters: they compute in bf16, beside fp32 copies.

        Raises:
            ConfigError: naming what to take instead.
        """
        name = type(self).__name__
        if sharded:
            raise ConfigError(
                f"The step rule {name} needs every weight whole on every device. Take trainer=ddp."
            )
        if masters and self.moves_weights:
            raise ConfigError(
                f"The step rule {name} moves weights by less than bf16 can tell apart. Take "
                "precision=bf16-mixed or 32-true."
            )

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs, as plain values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        return None


class TermGradients:
    """Computes the gradients of an objective's terms on one batch.

    Args:
        parameters: the trained weights by name.
        compute: names of terms -> their weighted sum on the batch, at the weights as they stand.
        names: of all terms.
        average: of a gradient over the ranks.
        total: terms' values -> their weighted sum, for the log.

    Attributes:
        logged: further figures of a rule, by name, on every rank; each is logged as
            `train/<name>`. They are the rule's `logs`.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        compute: Callable[[tuple[str, ...]], BatchValues],
        names: list[str],
        average: Callable[[Gradient], Gradient] = lambda gradient: gradient,
        total: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
    ) -> None:
        self.parameters, self.names = parameters, names
        self._compute, self._average, self._total = compute, average, total
        self._moved = False
        self.logged: dict[str, Tensor] = {}
        self.values = BatchValues(torch.zeros(()))  # of the terms that were asked for, unmoved

    def __call__(self, *names: str) -> Gradient:
        """Computes the gradient of the weighted sum of these terms (of all, if none is named),
        averaged over the ranks; 0 for a weight that they do not depend on.

        Raises:
            ConfigError: there is no term of that name, or its weight is 0.
        """
        names = names or tuple(self.names)
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise ConfigError(
                f"The rule asks for the terms {unknown}; the objective's are {self.names}."
            )
        with torch.enable_grad():
            values = self._compute(names)
            weights = list(self.parameters.values())
            found = torch.autograd.grad(values.total, weights, allow_unused=True)
        if not self._moved:
            self._note(values)
        pairs = zip(self.parameters.items(), found, strict=True)
        return self._average(
            {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}
        )

    def others(self, *names: str) -> tuple[str, ...]:
        """Returns the names of all other terms."""
        return tuple(name for name in self.names if name not in names)

    def _note(self, values: BatchValues) -> None:
        """Keeps values for the log."""
        known = self.values.terms
        new = {name: v.detach() for name, v in values.terms.items() if name not in known}
        terms, tokens = {**known, **new}, {**self.values.tokens, **values.tokens}
        total = values.total.detach() if self._total is None else self._total(terms)
        self.values = BatchValues(total, terms, tokens)

    @contextmanager
    @torch.no_grad()
    def moved(self, by: Gradient) -> Iterator[None]:
        """Moves the weights by `by` within the block; afterwards they are bit by bit what they
        were, whatever happens in it."""
        saved = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._moved = True
        try:
            for name, parameter in self.parameters.items():
                parameter.add_(by[name])
            torch.clear_autocast_cache()  # else the products would go on with the old weights
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.copy_(saved[name])
            torch.clear_autocast_cache()
            self._moved = False


def make_rule(rule: StepRule | Mapping[str, Any] | None) -> StepRule | None:
    """Builds a rule from its `_target_` and arguments, or returns it as it is.

    Raises:
        ConfigError: they do not make a rule.
    """
    if not isinstance(rule, Mapping):
        return rule
    arguments = {name: value for name, value in rule.items() if name != "_target_"}
    target = str(rule.get("_target_"))
    found = import_object(target)
    if not (inspect.isclass(found) and issubclass(found, StepRule)):
        raise ConfigError(f"rule: {target} is no StepRule.")
    try:
        return found(**arguments)
    except TypeError as error:
        raise ConfigError(f"rule: {target} cannot take {arguments}: {error}.") from error


def rule_settings(rule: StepRule | Mapping[str, Any] | None) -> Any:
    """Returns what stands for a rule in a checkpoint: its `_target_` and public attributes."""
    if not isinstance(rule, StepRule):
        return rule
    settings = {name: value for name, value in vars(rule).items() if not name.startswith("_")}
    return {"_target_": stored_name(type(rule)), **settings}


def gram(one: Gradient, other: Gradient) -> Tensor:
    """Computes the inner products of two gradients over all weights, [[one one, one other],
    [other one, other other]], in fp64: a sign decides, and large parts may cancel."""
    return torch.stack([_gram(one[n].reshape(-1), other[n].reshape(-1)) for n in one]).sum(0)


def _gram(one_N: Tensor, other_N: Tensor) -> Tensor:
    """Computes it of one weight, in blocks: the fp64 copies of a whole head took more memory than
    its gradient."""
    size = 2**18 if one_N.device.type == "cpu" else 2**26
    total = one_N.new_zeros(2, 2, dtype=torch.float64)
    for a, b in zip(one_N.split(size), other_N.split(size), strict=True):
        pair = torch.stack((a, b)).double()
        total += pair @ pair.T
    return total


def norm(gradient: Gradient) -> Tensor:
    """Computes the Euclidean norm over all weights, in fp32 at least."""
    return torch.stack([g.float().norm() if g.dtype.itemsize < 4 else g.norm()
                        for g in gradient.values()]).norm()  # fmt: skip


def with_gradient(value: Tensor, parameters: Mapping[str, nn.Parameter], of: Gradient) -> Tensor:
    """Returns the value with a given gradient by the parameters, which a backward through it
    yields."""
    names = list(parameters)
    given = [of[name].to(parameters[name].dtype) for name in names]
    return value.detach() + _Given.apply(given, *(parameters[name] for name in names))


class _Given(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return parameters[0].new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        if ctx.gradients is None:
            raise RuntimeError(
                "The gradient of a step rule was differentiated a second time; it is made once and "
                "handed over. Compute the loss anew."
            )
        # Handed over, not kept: what nobody else holds becomes the parameter's gradient uncopied.
        gradients, ctx.gradients = ctx.gradients, None
        if grad.device.type != "cpu" or grad != 1:  # on a GPU, to ask would be to wait
            gradients = [gradient * grad.to(gradient) for gradient in gradients]
        return (None, *gradients)
