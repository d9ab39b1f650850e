"""Loss functions of unlearning: short pure functions of the answer tokens' values.

A loss reads values per answer token: the negative log-likelihood (NLL), and what it declares with
`needs`: the forward KL divergence from a frozen reference, token quantities, hidden states.

The reduction is declared here and nowhere else: the mean over a sequence's answer tokens, then over
sequences, in fp32. The paper (arXiv 2405.15152, Section 3) writes sums over tokens and its code
takes means; with means the weights e1, e2, e3 do not depend on how long answers are.
`reduction="sum"` is the paper's formula to the letter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from unlearning.quantities import QuantityFunction, TokenQuantity
from unlearning.ranges import NotNegative, Positive

Reduction = Literal["mean", "sum"]
Need = Literal["kl", "reference_nll", "hidden", "reference_hidden"] | QuantityFunction
"""What a loss looks at beside the NLL: a field of `TokenLosses`, or a token quantity."""
F = TypeVar("F", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class TokenLosses:
    """The values of one role's answer tokens, from which a loss is computed.

    Args:
        nll: [N] fp32, -log p_theta(token), in nats.
        sequence: [N] int64, the sequence each token belongs to, 0..S-1.
        num_sequences: S.
        reduction: over the tokens of one sequence, see the module's docstring.
        kl: [N] fp32, KL(p_reference || p_theta) at the position that predicts the token, in nats;
            None where no reference ran on this role.
        reference_nll: [N] fp32, -log p_reference(token); None likewise.
        values: [N] by token quantity; `tokens[quantity]` looks one up.
        prompt: [S] int64, which of the batch's prompts each sequence answers: it pairs the answers
            of two roles. None where it is not known.
        hidden: [N, D], hidden states at the term's layer and the positions that predict the tokens;
            None without a layer.
        reference_hidden: [N, D], the reference's; None likewise.

    Examples:
        >>> answers = torch.tensor([0, 0, 1])  # two tokens of the first, one of the second
        >>> tokens = TokenLosses(torch.tensor([1.0, 3.0, 4.0]), answers, num_sequences=2)
        >>> tokens.reduce(tokens.nll)  # ((1 + 3) / 2 + 4) / 2
        tensor(3.)
        >>> tokens.per_sequence(tokens.nll, "sum")
        tensor([4., 4.])
    """

    nll: Tensor
    sequence: Tensor
    num_sequences: int
    reduction: Reduction = "mean"
    kl: Tensor | None = None
    reference_nll: Tensor | None = None
    values: Mapping[TokenQuantity, Tensor] = field(default_factory=dict)
    prompt: Tensor | None = None
    hidden: Tensor | None = None
    reference_hidden: Tensor | None = None

    def __getitem__(self, quantity: QuantityFunction | TokenQuantity) -> Tensor:
        """Returns the values [N] of a token quantity that the loss has declared with `needs`."""
        key = quantity if isinstance(quantity, TokenQuantity) else TokenQuantity.of(quantity)
        if key not in self.values:
            raise ValueError(f"{key.function!r} was not computed; declare it with @needs(...).")
        return self.values[key]

    def reduce(self, values_N: Tensor) -> Tensor:
        """Reduces token values to one number: over each sequence's tokens, then the mean over
        sequences."""
        return reduce_sequences(self.per_sequence(values_N, self.reduction))

    def per_sequence(self, values_N: Tensor, reduction: Reduction) -> Tensor:
        """Reduces token values to the sum or the mean of each sequence, [S]."""
        sums_S = values_N.new_zeros(self.num_sequences).index_add(0, self.sequence, values_N)
        if reduction == "sum":
            return sums_S
        ones_N = torch.ones_like(values_N)
        counts_S = torch.zeros_like(sums_S).index_add(0, self.sequence, ones_N)
        return sums_S / counts_S


def reduce_sequences(values_S: Tensor) -> Tensor:
    """Computes the mean over sequences, so that equal batches average to the big batch's value."""
    return values_S.mean()


def needs(*what: Need) -> Callable[[F], F]:
    """Declares what a loss reads beside the NLL, so that it is computed.

    Args:
        what: `kl`, `reference_nll`, `hidden`, `reference_hidden` or a function declared with
            `token_quantity`. All but `hidden`, and quantities that take none, need the reference.
    """

    def declare(loss: F) -> F:
        loss.needs = frozenset(what) | getattr(loss, "needs", frozenset())  # type: ignore[attr-defined]
        return loss

    return declare


def separable_in(quantity: Literal["nll", "kl"] | QuantityFunction) -> Callable[[F], F]:
    """Declares a loss separable: a sum over tokens of functions of one quantity each.

    That is, L = sum_n f_n(q_n), with q the NLL, the KL or a token quantity: what a token's value
    changes does not depend on another's. A step then makes value and gradient in one pass over the
    output head, see `unlearning.head.fused`; without the declaration it takes two. A declaration
    that is not true is refused when the objective is made.
    """

    def declare(loss: F) -> F:
        loss.separable_in = quantity  # type: ignore[attr-defined]
        return loss if quantity == "nll" else needs(quantity)(loss)  # type: ignore[arg-type]

    return declare


@separable_in("nll")
def gradient_ascent(tokens: TokenLosses) -> Tensor:
    """L_fgt: minus the NLL of the answer to forget (arXiv 2405.15152, Section 3.1).

    Minimising it climbs the NLL. It has no lower bound: the further a token is forgotten, the
    larger its NLL, and nothing stops it; see `bounded_ascent`.

    Examples:
        >>> gradient_ascent(TokenLosses(torch.tensor([1.0, 3.0]), torch.tensor([0, 0]), 1))
        tensor(-2.)
    """
    return -tokens.reduce(tokens.nll)


@separable_in("nll")
def bounded_ascent(tokens: TokenLosses, cap: Positive = 10.0) -> Tensor:
    """Gradient ascent that stops for a token once its NLL has reached `cap` nats.

    L = -mean(min(nll, cap)). A token above the cap adds a constant and no gradient, so that weights
    are not spent on tokens that are forgotten already. A sensible cap is a little above log V, the
    NLL of a uniform guess (10.8 for OPT's 50,272 tokens). Not in the paper.

    Raises:
        ValueError: if cap is not positive.

    Examples:
        >>> tokens = TokenLosses(torch.tensor([4.0, 20.0]), torch.tensor([0, 0]), num_sequences=1)
        >>> bounded_ascent(tokens, cap=10.0)  # -(4 + 10) / 2
        tensor(-7.)
    """
    if not cap > 0:
        raise ValueError(
            f"bounded_ascent needs a cap above 0 nats, got {cap}; try log(vocabulary)."
        )
    return -tokens.reduce(tokens.nll.clamp(max=cap))


@needs("reference_nll")
def ascent_to_reference(tokens: TokenLosses, margin: NotNegative = 0.0) -> Tensor:
    """Gradient ascent that stops for a token once it is as unlikely as in the reference model.

    L = -mean(min(nll, reference_nll + margin)). Where the reference never saw the answers
    (`reference.of=base` of a model that was taught them), margin 0 aims at what it learned and no
    more: a common word may stay likely, where `bounded_ascent` raises every token to one and the
    same cap. It is a limit and no target: nothing pulls back a token that other tokens' gradients
    have carried past it; `match_reference` does. Not in the paper.

    Raises:
        ValueError: if margin is negative, or no reference ran on this role.

    Examples:
        >>> nll, reference_nll = torch.tensor([1.0, 5.0]), torch.tensor([2.0, 3.0])
        >>> tokens = TokenLosses(nll, torch.tensor([0, 0]), 1, reference_nll=reference_nll)
        >>> ascent_to_reference(tokens)  # -(1 + 3) / 2
        tensor(-2.)
    """
    if tokens.reference_nll is None:
        raise ValueError("ascent_to_reference needs a reference, and tokens.reference_nll is None.")
    if not margin >= 0:
        raise ValueError(f"ascent_to_reference needs a margin of 0 nats or more, got {margin}.")
    bound_N = tokens.reference_nll + margin
    return -tokens.reduce(torch.where(tokens.nll < bound_N, tokens.nll, bound_N))


@needs("reference_nll")
def match_reference(tokens: TokenLosses) -> Tensor:
    """Brings each token's NLL to the reference model's, from below and from above.

    L = mean(h(nll - reference_nll)), with Huber's h(d) = d^2 / 2 up to 1 nat and |d| - 1/2 beyond.
    A token likelier than in the reference is ascended as in `ascent_to_reference`; one that other
    tokens' gradients have carried past it is pulled back. For a reference that never saw the
    answers (`reference.of=base`). Not in the paper.

    Raises:
        ValueError: if no reference ran on this role.

    Examples:
        >>> nll, reference_nll = torch.tensor([1.0, 5.0]), torch.tensor([1.5, 3.0])
        >>> tokens = TokenLosses(nll, torch.tensor([0, 0]), 1, reference_nll=reference_nll)
        >>> match_reference(tokens)  # (0.5^2 / 2 + 2 - 0.5) / 2
        tensor(0.8125)
    """
    if tokens.reference_nll is None:
        raise ValueError("match_reference needs a reference, and tokens.reference_nll is None.")
    return tokens.reduce(functional.huber_loss(tokens.nll, tokens.reference_nll, reduction="none"))


@separable_in("nll")
def random_mismatch(tokens: TokenLosses) -> Tensor:
    """L_rdn: NLL of irrelevant answers to the forget prompts (arXiv 2405.15152, Section 3.1).

    The K answers of a prompt count alike, so the mean over all sequences is the mean over the K of
    every prompt, then over prompts. The data set draws the irrelevant answers.
    """
    return tokens.reduce(tokens.nll)


@separable_in("kl")
def kl_to_reference(tokens: TokenLosses) -> Tensor:
    """L_nor: forward KL(h_reference || h_theta) over the positions of the retain answer
    (arXiv 2405.15152, Section 3.1).

    Raises:
        ValueError: if no reference ran on this role.
    """
    if tokens.kl is None:
        raise ValueError("kl_to_reference needs a reference, and tokens.kl is None.")
    return tokens.reduce(tokens.kl)


@separable_in("nll")
def nll(tokens: TokenLosses) -> Tensor:
    """Mean NLL, for GradDiff's retain term and for fine-tuning."""
    return tokens.reduce(tokens.nll)


_MOVED = {"npo": "unlearning.methods.npo"}
"""Where names of version 0.9 are today; configurations and checkpoints have the old paths."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _MOVED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MOVED[name]), name)
