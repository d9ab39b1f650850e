"""A loss in which every token counts by itself: value and gradient in one pass over the head.

The paper's objective is one: sums of the tokens' NLL and KL, each with a weight. What a chunk's
logits change of such a loss is known as soon as they are there, so their gradient is made at once
and none of them is computed twice or kept. `unlearning.head.token_losses` serves every other
objective.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unlearning.head.tied_gradient import TiedGradient
from unlearning.head.token_losses import Head, cast_head


@dataclass(frozen=True)
class Answers:
    """Some rows of hidden states, and what they do to the loss.

    Args:
        hidden: [N, D], the policy's, at the positions that predict the targets.
        targets: [N], the tokens to predict.
        slopes: the N tokens' NLL, or their KL where there is a reference -> [N], the loss's
            derivative by each. It is asked when only some are known; the others are 0.
        reference_hidden: [N, D], the reference's at the same positions; None where the loss is one
            of the NLL.
    """

    hidden: Tensor
    targets: Tensor
    slopes: Callable[[Tensor], Tensor]
    reference_hidden: Tensor | None = None


def separable_loss(
    answers: list[Answers],
    head: Head,
    reference_head: Head | None = None,
    chunk_size: int | None = None,
    grad_buffer: Tensor | None = None,
    tied: TiedGradient | None = None,
) -> tuple[Tensor, list[tuple[Tensor, Tensor | None, Tensor | None]]]:
    """The gradient of a loss with the given slopes, and the tokens' losses.

    Args:
        head: the policy's output head.
        reference_head: the reference's; needed where answers have hidden states of it.
        chunk_size: positions whose logits are held at once; None chooses, see `chunk_rows`.
        grad_buffer: [V, D] fp32 memory to make the head's gradient in. On a CPU, new memory of that
            size costs more than filling it.
        tied: where the head's weight is the embedding's, too, and embedded the rows: it is given
            the weight's gradient.

    Returns:
        A scalar 0, differentiable once in the policy's hidden states and head: added to the loss's
        value it gives it its gradient. And for each of the answers nll_N, kl_N and
        reference_nll_N, without gradient, in fp32 (fp64 for fp64 input).

    Raises:
        ValueError: if hidden states of the reference come without its head.
    """
    if reference_head is None and any(a.reference_hidden is not None for a in answers):
        raise ValueError("reference_hidden was given without reference_head.")
    # Those with a reference last: the others' chunks may run on from one to the next.
    order = sorted(range(len(answers)), key=lambda n: answers[n].reference_hidden is not None)
    hidden = torch.cat([answers[n].hidden for n in order])
    device = hidden.device.type
    if torch.is_autocast_enabled(device):  # one dtype for the whole pass, chosen here
        hidden = hidden.to(torch.get_autocast_dtype(device))
    found: list[tuple[Tensor, Tensor | None, Tensor | None]] = []
    chunk_size = chunk_size or chunk_rows(head[0])
    with torch.autocast(device, enabled=False):
        zero = _SeparableLoss.apply(
            hidden, *head, [answers[n] for n in order], reference_head, chunk_size, grad_buffer,
            tied, found,
        )  # fmt: skip
    losses = dict(zip(order, found, strict=True))
    return zero, [losses[n] for n in range(len(answers))]


class _SeparableLoss(torch.autograd.Function):
    """With p the policy's and q the reference's distribution, d nll / d logits = p - onehot(target)
    and d KL(q || p) / d logits = p - q."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx: Any,
        hidden,
        weight,
        bias,
        answers,
        reference_head,
        chunk_size,
        grad_buffer,
        tied,
        losses,
    ):
        accum_dtype = torch.promote_types(hidden.dtype, torch.float32)
        gradients = _Gradients(hidden, weight, bias, accum_dtype, ctx.needs_input_grad, grad_buffer)
        head = cast_head((weight, bias), hidden.dtype)
        plain = [some for some in answers if some.reference_hidden is None]
        compared = answers[len(plain) :]
        targets = torch.cat([some.targets for some in plain]) if plain else hidden.new_empty(0)
        nll = hidden.new_zeros(len(targets), dtype=accum_dtype)
        of_each = nll.split([len(some.targets) for some in plain])
        for part in _parts(len(nll), chunk_size):
            logits = _logits(hidden[part], head).to(accum_dtype)
            gradient, nll[part] = _nll_gradient_(logits, targets[part, None])
            slopes = [some.slopes(each) for some, each in zip(plain, of_each, strict=True)]
            gradients.add(hidden[part], head[0], gradient, torch.cat(slopes)[part], part)
        losses += [(each, None, None) for each in of_each]
        row = len(nll)
        if compared:
            reference_head = cast_head(reference_head, hidden.dtype)
        for some in compared:
            nll, kl, reference_nll = hidden.new_zeros(3, len(some.targets), dtype=accum_dtype)
            for part in _parts(len(nll), max(1, chunk_size // 2)):  # two or three sets of logits
                rows = slice(row + part.start, row + part.stop)
                logits = _logits(hidden[rows], head).to(accum_dtype)
                reference_hidden = some.reference_hidden[part].to(hidden.dtype)
                others = _logits(reference_hidden, reference_head).to(accum_dtype)
                found = _kl_gradient_(logits, others, some.targets[part, None])
                gradient, nll[part], kl[part], reference_nll[part] = found
                gradients.add(hidden[rows], head[0], gradient, some.slopes(kl)[part], rows)
            losses.append((nll, kl, reference_nll))
            row += len(nll)
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
        return (*gradients.finished(), None, None, None, None, None, None)


ROWS = 16
"""Products of so many rows, or of a multiple, are quicker on a CPU than those of some less."""
BLOCK = 4096
"""Tokens of the vocabulary whose logits are made at once on a CPU."""


def _parts(count: int, most: int) -> Iterator[slice]:
    """As few chunks as it takes, of like size: a small last one would cost nearly a whole one's
    reading of the head."""
    if not count:
        return
    even = -(-count // -(-count // most))
    size = min(-(-even // ROWS) * ROWS, most)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _logits(hidden: Tensor, head: Head) -> Tensor:
    """[N, V]: `functional.linear`, in an order of its own on a CPU.

    There, few rows times a transposed weight run at half the speed of the weight times the rows'
    transpose, which is made in blocks and turned."""
    weight, bias = head
    if hidden.device.type != "cpu" or hidden.dtype != torch.float32:
        return functional.linear(hidden, weight, bias)
    rows = len(hidden)
    columns = hidden.new_zeros(hidden.shape[1], -(-rows // ROWS) * ROWS)
    columns[:, :rows] = hidden.t()
    logits = hidden.new_empty(rows, len(weight))
    for start in range(0, len(weight), BLOCK):
        part = slice(start, start + BLOCK)
        logits[:, part] = (weight[part] @ columns)[:, :rows].t()
    return logits if bias is None else logits.add_(bias)


def chunk_rows(head_weight_VD: Tensor) -> int:
    """Rows of logits that are worth holding at once.

    On a CPU, as many as fit in 32 MB of fp32: the largest piece that the C library reuses; above,
    each is fetched from the system page by page, which took longer than the softmax. On a GPU,
    enough for products at full speed."""
    if head_weight_VD.device.type != "cpu":
        return 1024
    return max(32, 2**25 // (4 * len(head_weight_VD)) // 32 * 32)


def _nll_gradient_(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """[N, V] d nll / d logits, in the place of the logits, and nll_N, for targets [N, 1]."""
    chosen = logits.gather(1, target).squeeze(1)
    p, total = _softmax_(logits)
    p.scatter_add_(1, target, p.new_full((1, 1), -1).expand_as(target))
    return p, total - chosen


def _kl_gradient_(
    logits: Tensor, others: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """[N, V] d KL / d logits, in the place of the logits; nll_N, kl_N and reference_nll_N.

    Args:
        others: the reference's logits; overwritten.
    """
    chosen, reference_chosen = (each.gather(1, target).squeeze(1) for each in (logits, others))
    difference = others - logits
    (p, total), (q, reference_total) = _softmax_(logits), _softmax_(others)
    # KL = sum q (log q - log p), whose logarithms are logits less one number a row.
    kl = torch.bmm(q[:, None], difference[:, :, None]).flatten() + total - reference_total
    return p.sub_(q), total - chosen, kl, reference_total - reference_chosen


def _softmax_(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities, in the place of the logits, and the logarithm of what they are divided by.

    The largest probability is at least 1/V, so that its logarithm is exact enough to go by."""
    top, at = logits.max(dim=1)
    p = torch.softmax(logits, dim=1, out=logits)
    return p, top - p.gather(1, at[:, None]).squeeze(1).log()


class _Gradients:
    """Of hidden states, head and bias, as far as they are needed, added up over chunks.

    A token's slope is applied to its hidden states on one side of a product and to their gradient
    on the other, both far smaller than its logits. Sums over chunks are in fp32: many small bf16
    addends would lose their low bits."""

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        accum_dtype: torch.dtype,
        needed: Any,
        grad_buffer: Tensor | None,
    ) -> None:
        self.dtype, self.begun = weight.dtype, False
        self.hidden = torch.empty_like(hidden) if needed[0] else None
        self.weight = None
        if needed[1]:
            fits = (
                grad_buffer is not None
                and grad_buffer.shape == weight.shape
                and grad_buffer.dtype == accum_dtype
            )
            self.weight = grad_buffer if fits else torch.empty_like(weight, dtype=accum_dtype)
        self.bias = (
            None if bias is None or not needed[2] else torch.zeros_like(bias, dtype=accum_dtype)
        )

    def add(
        self, hidden: Tensor, head_weight: Tensor, grad: Tensor, slopes: Tensor, part: slice
    ) -> None:
        """What follows from a chunk's gradient of the logits, before the slopes."""
        if self.bias is not None:
            self.bias += slopes @ grad
        grad = grad.to(hidden.dtype)
        weights = slopes[:, None].to(hidden.dtype)
        if self.hidden is not None:
            torch.mul(grad @ head_weight, weights, out=self.hidden[part])
        if self.weight is None:
            return
        if grad.dtype != self.weight.dtype:
            made = grad.t() @ (hidden * weights)
            self.weight.add_(made) if self.begun else self.weight.copy_(made)
        else:
            keep = 1 if self.begun else 0  # 0: what stood there before is not read
            torch.addmm(self.weight, grad.t(), hidden * weights, beta=keep, out=self.weight)
        self.begun = True

    def scale_(self, factor: Tensor) -> None:
        for gradient in (self.hidden, self.weight, self.bias):
            if gradient is not None:
                gradient.mul_(factor)

    def finished(self) -> list[Tensor | None]:
        both = (self.weight, self.bias)
        return [self.hidden, *(None if g is None else g.to(self.dtype) for g in both)]
