"""What losses declare, what an objective makes of it, and what becomes of a wrong declaration."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unlearning.errors import ConfigError
from unlearning.losses import (
    TokenLosses,
    gradient_ascent,
    kl_to_reference,
    needs,
    separable_in,
)
from unlearning.losses import nll as plain_nll
from unlearning.methods.npo import npo
from unlearning.objective import PAPER_TERMS, Objective
from unlearning.terms import Term

# Two answers, of two tokens and of one.
TOKENS = TokenLosses(
    torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 1]), 2,
    kl=torch.tensor([0.1, 0.2, 0.3]), reference_nll=torch.ones(3),
)  # fmt: skip


@separable_in("nll")
def product(tokens: TokenLosses) -> Tensor:
    """Not separable: a token's slope is the product of the others."""
    return tokens.nll.prod()


def undeclared(tokens: TokenLosses) -> Tensor:
    """It looks at the reference, and does not say so."""
    assert tokens.reference_nll is not None
    return tokens.reduce(tokens.nll - tokens.reference_nll)


def test_slopes_by_hand():
    """A token of an answer of n tokens among S counts 1 / (n S), times the term's weight."""
    objective = Objective({"forget": {"loss": gradient_ascent, "role": "forget", "weight": 0.5}})
    assert objective.slopes("forget", TOKENS).tolist() == [-0.125, -0.125, -0.25]
    terms = {
        "a": {"loss": kl_to_reference, "role": "retain", "weight": 2.0},
        "b": {"loss": kl_to_reference, "role": "retain", "weight": 1.0},
    }
    assert Objective(terms).slopes("retain", TOKENS).tolist() == [0.75, 0.75, 1.5]


@pytest.mark.parametrize("second", [npo, kl_to_reference])
@pytest.mark.parametrize("turned", [False, True])
def test_terms_of_two_kinds_on_a_role_take_two_passes(second, turned):
    terms = {
        "first": {"loss": plain_nll, "role": "retain"},
        "second": {"loss": second, "role": "retain"},
    }
    assert Objective({"first": terms["first"]}).separable_in("retain") == "nll"
    both = dict(reversed(terms.items())) if turned else terms
    assert Objective(both).separable_in("retain") is None


def test_what_a_loss_needs_adds_up():
    @separable_in("kl")
    @needs("reference_nll")
    def both(tokens: TokenLosses) -> Tensor:
        return tokens.reduce(tokens.kl)

    assert both.needs == {"kl", "reference_nll"}


def test_the_reference_runs_where_a_term_needs_it():
    assert Objective(PAPER_TERMS).reference_roles == {"retain"}
    terms = {"forget": {"loss": npo, "role": "forget"}, "retain": PAPER_TERMS["retain"]}
    assert Objective(terms).reference_roles == {"forget", "retain"}
    told = Term(undeclared, "mismatch", needs_reference=True)
    assert told.needs_reference
    assert Objective({"mine": vars_of(told)}).reference_roles == {"mismatch"}


def vars_of(term: Term) -> dict[str, object]:
    return {"loss": term.loss, "role": term.role, "needs_reference": term.needs_reference}


def test_a_wrong_declaration_is_refused_at_construction():
    with pytest.raises(ConfigError, match=r"declared separable in 'nll'.*other tokens"):
        Term(product, "forget")
    with pytest.raises(ConfigError, match=r"undeclared.* fails on made-up tokens"):
        Term(undeclared, "forget")
    assert Term(product, "forget", weight=0).weight == 0  # left out, and not tried
