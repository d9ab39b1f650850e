"""Fused, chunked linear NLL, KL and token quantities for losses that are separable over tokens.

A loss is separable where it is a sum over tokens of functions of one value each, as the paper's
objective is of the NLL and the KL. The gradient by a chunk's logits is then known as soon as the
logits are, so that no logits are computed twice or kept. `unlearning.head.token_losses` and
`unlearning.head.quantity` serve every other objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from unlearning.head.gradients import HeadGradients
from unlearning.head.logit_gradients import kl_gradient_, nll_gradient_, through_cap_
from unlearning.head.logits import Head, chunk_rows, chunks, logits_of, softcap_slope
from unlearning.head.quantity import value_and_gradient
from unlearning.head.tied_gradient import TiedGradient
from unlearning.quantities import TokenQuantity


@dataclass(frozen=True)
class Answers:
    """Hidden states of some answers, and the loss's derivative by their values.

    Args:
        hidden: [N, D], the policy's, at the positions that predict the targets.
        targets: [N], the tokens to predict.
        slopes: the N tokens' values -> [N], the loss's derivative by each: of the quantity, or the
            KL where there is a reference, or the NLL. It is called when only some values are known;
            the others are 0.
        reference_hidden: [N, D], the reference's at the same positions; None where the loss is one
            of the NLL, or of a quantity without it.
        quantity: what the loss is separable in, where that is neither NLL nor KL.
    """

    hidden: Tensor
    targets: Tensor
    slopes: Callable[[Tensor], Tensor]
    reference_hidden: Tensor | None = None
    quantity: TokenQuantity | None = None


class Values(NamedTuple):
    """Values [N] of answers, without gradient; None for what was not computed."""

    nll: Tensor
    kl: Tensor | None = None
    reference_nll: Tensor | None = None
    quantity: Tensor | None = None


def separable_loss(
    answers: list[Answers],
    head: Head,
    reference_head: Head | None = None,
    chunk_size: int | None = None,
    grad_buffer: Tensor | None = None,
    tied: TiedGradient | None = None,
) -> tuple[Tensor, list[Values]]:
    """Computes NLL, KL and token quantities of answers and the gradient of a separable loss of
    them, in one pass over the head.

    Args:
        head: the policy's output head.
        reference_head: the reference's; needed where answers have hidden states of it.
        chunk_size: positions whose logits are held at once; None chooses, see `logits.chunk_rows`.
        grad_buffer: [V, D] fp32 memory to make the head's gradient in. On a CPU, new memory of that
            size costs more than filling it.
        tied: receives the weight's gradient where head and embedding are one weight, and has
            embedded the rows.

    Returns:
        A scalar 0, differentiable once in the policy's hidden states and head: added to the loss's
        value it gives it its gradient. And for each of the answers its tokens' values, in fp32
        (fp64 for fp64 input).

    Raises:
        ValueError: if hidden states of the reference come without its head.
    """
    if reference_head is None and any(a.reference_hidden is not None for a in answers):
        raise ValueError("reference_hidden was given without reference_head.")
    # Those of the NLL first: their chunks may run on from one to the next.
    order = sorted(range(len(answers)), key=lambda n: _passes(answers[n]))
    hidden = torch.cat([answers[n].hidden for n in order])
    device = hidden.device.type
    if torch.is_autocast_enabled(device):  # one dtype for the whole pass, chosen here
        hidden = hidden.to(torch.get_autocast_dtype(device))
    found: list[Values] = []
    chunk_size = chunk_size or chunk_rows(head.weight)
    with torch.autocast(device, enabled=False):
        zero = _SeparableLoss.apply(
            hidden, *head, [answers[n] for n in order], reference_head, chunk_size, grad_buffer,
            tied, found,
        )  # fmt: skip
    losses = dict(zip(order, found, strict=True))
    return zero, [losses[n] for n in range(len(answers))]


def _passes(some: Answers) -> int:
    """Chooses the pass of answers: 0 NLL, 1 KL, 2 a token quantity."""
    return 2 if some.quantity is not None else int(some.reference_hidden is not None)


class _SeparableLoss(torch.autograd.Function):
    """Autograd function of `separable_loss`: with p the policy's and q the reference's
    distribution, d nll / d logits = p - onehot(target) and d KL(q || p) / d logits = p - q, each
    times the slope of a soft cap."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx: Any,
        hidden,
        weight,
        bias,
        softcap,
        answers,
        reference_head,
        chunk_size,
        grad_buffer,
        tied,
        losses,
    ):
        accum_dtype = torch.promote_types(hidden.dtype, torch.float32)
        gradients = HeadGradients(
            hidden, weight, bias, accum_dtype, ctx.needs_input_grad, grad_buffer
        )
        if reference_head is not None:
            reference_head = reference_head.cast(hidden.dtype)
        heads = (Head(weight, bias, softcap).cast(hidden.dtype), reference_head)
        plain = [some for some in answers if _passes(some) == 0]
        losses += _nll_pass(plain, hidden, heads[0], gradients, chunk_size)
        row = sum(len(some.targets) for some in plain)
        for some in answers[len(plain) :]:
            make = _kl_pass if some.quantity is None else _quantity_pass
            losses.append(make(some, hidden, row, heads, gradients, chunk_size))
            row += len(some.targets)
        ctx.tied, ctx.gradients = tied, gradients
        return hidden.new_zeros((), dtype=accum_dtype)

    @staticmethod
    def backward(ctx: Any, grad):  # type: ignore[no-untyped-def]
        if ctx.gradients is None:
            raise RuntimeError(
                "separable_loss was differentiated a second time; its gradient is made once and "
                "handed over. Compute the loss anew, or take unlearning.head.token_losses."
            )
        # Handed over, not kept: what nobody else holds becomes the parameter's gradient uncopied.
        gradients, ctx.gradients = ctx.gradients, None
        if grad.device.type != "cpu" or grad != 1:  # on a GPU, to ask would be to wait
            gradients.scale_(grad)
        if ctx.tied is not None:
            ctx.tied.put(gradients.weight)
            gradients.weight = None
        return (*gradients.finished(), None, None, None, None, None, None, None)


Heads = tuple[Head, Head | None]
"""The policy's head and the reference's, in the dtype of the products."""


def _nll_pass(
    plain: list[Answers], hidden: Tensor, head: Head, gradients: HeadGradients, chunk_size: int
) -> list[Values]:
    """Computes the NLL of the first answers in the hidden states; chunks run over their ends."""
    if not plain:
        return []
    targets = torch.cat([some.targets for some in plain])
    nll = hidden.new_zeros(len(targets), dtype=gradients.accum_dtype)
    of_each = nll.split([len(some.targets) for some in plain])
    for part in chunks(len(nll), chunk_size):
        logits = logits_of(hidden[part], head, gradients.accum_dtype)
        capped = softcap_slope(logits, head.softcap)
        gradient, nll[part] = nll_gradient_(logits, targets[part, None])
        slopes = [some.slopes(each) for some, each in zip(plain, of_each, strict=True)]
        gradient = through_cap_(gradient, capped)
        gradients.add(hidden[part], head.weight, gradient, torch.cat(slopes)[part], part)
    return [Values(each) for each in of_each]


def _kl_pass(
    some: Answers,
    hidden: Tensor,
    first: int,
    heads: Heads,
    gradients: HeadGradients,
    chunk_size: int,
) -> Values:
    """Computes KL and both NLLs of the answers whose hidden states begin at row `first`."""
    nll, kl, reference_nll = hidden.new_zeros(3, len(some.targets), dtype=gradients.accum_dtype)
    for part in chunks(len(nll), max(1, chunk_size // 2)):  # two or three sets of logits
        rows = slice(first + part.start, first + part.stop)
        logits = logits_of(hidden[rows], heads[0], gradients.accum_dtype)
        capped = softcap_slope(logits, heads[0].softcap)
        others = _reference_logits(some, part, hidden.dtype, heads)
        found = kl_gradient_(logits, others, some.targets[part, None])
        gradient, nll[part], kl[part], reference_nll[part] = found
        gradient = through_cap_(gradient, capped)
        gradients.add(hidden[rows], heads[0].weight, gradient, some.slopes(kl)[part], rows)
    return Values(nll, kl, reference_nll)


def _quantity_pass(
    some: Answers,
    hidden: Tensor,
    first: int,
    heads: Heads,
    gradients: HeadGradients,
    chunk_size: int,
) -> Values:
    """Computes a token quantity, and the NLL, of the answers whose hidden states begin at row
    `first`."""
    assert some.quantity is not None
    nll, values = hidden.new_zeros(2, len(some.targets), dtype=gradients.accum_dtype)
    for part in chunks(len(nll), max(1, chunk_size // 4)):  # autograd keeps a few sets of logits
        rows, target = slice(first + part.start, first + part.stop), some.targets[part]
        logits = logits_of(hidden[rows], heads[0], gradients.accum_dtype)
        others = None
        if some.quantity.needs_reference:
            others = _reference_logits(some, part, hidden.dtype, heads)
        values[part], gradient = value_and_gradient(some.quantity, logits, target, others)
        nll[part] = functional.cross_entropy(logits, target, reduction="none")
        gradient = through_cap_(gradient, softcap_slope(logits, heads[0].softcap))
        gradients.add(hidden[rows], heads[0].weight, gradient, some.slopes(values)[part], rows)
    return Values(nll, quantity=values)


def _reference_logits(some: Answers, part: slice, dtype: torch.dtype, heads: Heads) -> Tensor:
    """Computes the reference's logits, in fp32 at least."""
    assert some.reference_hidden is not None and heads[1] is not None
    accum_dtype = torch.promote_types(dtype, torch.float32)
    return logits_of(some.reference_hidden[part].to(dtype), heads[1], accum_dtype)
