"""The paper's method as its file states it is what a step descends."""

from __future__ import annotations

import pytest
from naive import gradients, relative_error

from unlearning.methods.paper import paper_loss, paper_terms
from unlearning.module import UnlearningModule
from unlearning.objective import PAPER_TERMS


def test_the_equation_is_the_objective(make_model, make_data):
    module = UnlearningModule(make_model("llama"), terms=paper_terms(0.3, 0.7, 2.0)).double()
    data = make_data()
    data.setup()
    module.build_reference()
    for parameter in module.policy.parameters():
        parameter.data.mul_(1.05)
    batch = data.batch_at(0)
    tokens = module.token_losses(batch)
    total = paper_loss(tokens["forget"], tokens["mismatch"], tokens["retain"], 0.3, 0.7, 2.0)
    found = module.loss(batch).total
    assert found.item() == pytest.approx(total.item(), rel=1e-12)
    theirs = gradients(total, module.policy)
    assert relative_error(gradients(found, module.policy), theirs) < 1e-11


def test_the_weights_are_the_papers():
    assert paper_terms() == PAPER_TERMS
    assert [PAPER_TERMS[n]["weight"] for n in ("forget", "mismatch", "retain")] == [0.5, 1.0, 1.0]
