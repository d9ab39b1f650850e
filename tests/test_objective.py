from __future__ import annotations

import math

import pytest
import torch
from naive import forget_loss, gradients, mismatch_loss, relative_error, retain_loss

from unlearning.data.layout import Answer, Tree, make_batch
from unlearning.errors import ConfigError
from unlearning.head.token_losses import token_losses
from unlearning.losses import TokenLosses
from unlearning.models.decoder import decode, frozen_copy, output_head
from unlearning.models.load import disable_dropout
from unlearning.objective import PAPER_TERMS, Objective

FORGET = [((5, 9, 3, 12), (40, 41, 42)), ((7, 8), (50, 51, 52, 53, 54))]
MISMATCH = [(60, 61), (62,), (63, 64, 65, 66), (67, 68)]  # two for each prompt
RETAIN = [((20, 21, 22), (70, 71, 72, 73)), ((23, 24, 25, 26, 27), (74,)), ((28,), (75, 76))]


def trees() -> list[Tree]:
    forget = [
        Tree(
            prompt,
            (
                Answer("forget", n, answer),
                Answer("mismatch", 2 * n, MISMATCH[2 * n]),
                Answer("mismatch", 2 * n + 1, MISMATCH[2 * n + 1]),
            ),
        )
        for n, (prompt, answer) in enumerate(FORGET)
    ]
    retain = [
        Tree(prompt, (Answer("retain", n, answer),)) for n, (prompt, answer) in enumerate(RETAIN)
    ]
    return [retain[0], *forget, *retain[1:]]  # the layout sorts them


def our_tokens(policy, reference, layout: str) -> dict[str, TokenLosses]:
    batch = make_batch(trees(), layout, pad_token_id=1)
    hidden = decode(policy, batch.rows).flatten(0, 1)
    with torch.no_grad():
        reference_hidden = decode(reference, batch.rows).flatten(0, 1)
    tokens = {}
    for role, answers in batch.answers.items():
        index = answers.loss_index
        nll, kl, reference_nll = token_losses(
            hidden[index], output_head(policy), answers.targets,
            reference_hidden[index], output_head(reference), chunk_size=4,
        )  # fmt: skip
        tokens[role] = TokenLosses(
            nll, answers.sequence, answers.num_sequences, "mean", kl, reference_nll
        )
    return tokens


def naive_terms(policy, reference) -> dict[str, torch.Tensor]:
    pairs = [(FORGET[n // 2][0], answer) for n, answer in enumerate(MISMATCH)]
    return {
        "forget": forget_loss(policy, FORGET),
        "mismatch": mismatch_loss(policy, pairs),
        "retain": retain_loss(policy, reference, RETAIN),
    }


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox"])
def test_tree_padded_and_naive_agree_in_loss_and_gradient(make_model, architecture):
    policy, reference = make_model(architecture, seed=0), make_model(architecture, seed=1).eval()
    disable_dropout(policy)
    objective = Objective(PAPER_TERMS)
    expected = naive_terms(policy, reference)
    expected["total"] = 0.5 * expected["forget"] + expected["mismatch"] + expected["retain"]
    expected_gradients = {name: gradients(value, policy) for name, value in expected.items()}
    assert all(abs(value.item()) > 0.1 for value in expected.values())
    for layout in ("tree", "padded"):
        found = objective(our_tokens(policy, reference, layout))
        found["total"] = objective.total(found)
        for name, value in expected.items():
            assert found[name].item() == pytest.approx(value.item(), rel=1e-5, abs=1e-5)
            error = relative_error(gradients(found[name], policy), expected_gradients[name])
            assert error < 1e-5, (layout, name)


def test_the_whole_batch_is_the_mean_of_its_halves(model):
    """Of equally many sequences each, however long they are."""
    disable_dropout(model)
    reference = frozen_copy(model)
    model.lm_head.weight.data.mul_(1.1)
    objective = Objective({"retain": PAPER_TERMS["retain"]})

    def value(pairs) -> torch.Tensor:
        rows = [Tree(p, (Answer("retain", n, a),)) for n, (p, a) in enumerate(pairs)]
        batch = make_batch(rows, "tree", pad_token_id=1)
        answers = batch.answers["retain"]
        ours, theirs = (
            decode(m, batch.rows).flatten(0, 1)[answers.loss_index] for m in (model, reference)
        )
        nll, kl, _ = token_losses(
            ours, output_head(model), answers.targets, theirs.detach(), output_head(reference),
        )  # fmt: skip
        tokens = {"retain": TokenLosses(nll, answers.sequence, len(pairs), "mean", kl)}
        return objective.total(objective(tokens))

    pairs = [*RETAIN, FORGET[1]]
    halves = (value(pairs[:2]) + value(pairs[2:])) / 2
    assert value(pairs).item() == pytest.approx(halves.item(), rel=1e-5)


# --- terms ---------------------------------------------------------------------------------------


def scaled(tokens: TokenLosses, by: float = 2.0) -> torch.Tensor:
    """A loss of a user's own."""
    return by * tokens.reduce(tokens.nll)


def tokens(*values: float) -> TokenLosses:
    return TokenLosses(torch.tensor(values), torch.zeros(len(values), dtype=torch.long), 1)


def test_the_papers_objective():
    objective = Objective(PAPER_TERMS)
    assert {name: term.weight for name, term in objective.terms.items()} == {
        "forget": 0.5,
        "mismatch": 1.0,
        "retain": 1.0,
    }
    assert objective.roles == {"forget", "mismatch", "retain"}
    assert objective.reference_roles == {"retain"}
    values = {
        name: torch.tensor(v) for name, v in {"forget": 4.0, "mismatch": 3.0, "retain": 7.0}.items()
    }
    assert objective.total(values).item() == 12.0


def test_a_term_by_callable_and_by_import_path():
    terms = {
        "callable": {"loss": scaled, "role": "retain", "options": {"by": 3.0}},
        "path": {"loss": f"{__name__}.scaled", "role": "retain", "weight": 2.0},
    }
    objective = Objective(terms)
    values = objective({"retain": tokens(1.0, 2.0)})
    assert {name: value.item() for name, value in values.items()} == {"callable": 4.5, "path": 3.0}
    assert objective.total(values).item() == 10.5


def test_a_weight_of_zero_leaves_a_term_out():
    objective = Objective({**PAPER_TERMS, "retain": {**PAPER_TERMS["retain"], "weight": 0}})
    assert set(objective.terms) == {"forget", "mismatch"} and not objective.reference_roles


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": -0.5}, r"must be 0 or a positive number, got -0\.5.*loss's sign"),
        ({"weight": math.nan}, "got nan"),
        ({"weight": math.inf}, "got inf"),
        (
            {"role": "normal"},
            r"Unknown role 'normal'; choose one of \('forget', 'alternate', 'mismatch', 'retain'",
        ),
        (
            {"loss": "unlearning.losses.gradient_asent"},
            r"did you mean unlearning\.losses\.gradient_ascent\?",
        ),
        ({"loss": "unlearning.lossess.npo"}, "Cannot import 'unlearning.lossess.npo'"),
        ({"loss": "npo"}, r"Cannot import 'npo'.*package\.module\.name"),
        ({"options": {"cap": 3}}, "cannot take options {'cap': 3}"),
        ({"wieght": 1.0}, r"Term 'forget'.*wieght.*a term takes loss, role, weight"),
    ],
)
def test_malformed_terms_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        Objective({"forget": {**PAPER_TERMS["forget"], **change}})


def test_all_weights_zero_is_refused():
    terms = {name: {**term, "weight": 0} for name, term in PAPER_TERMS.items()}
    with pytest.raises(ConfigError, match=r"All weights are 0 \(forget, mismatch, retain\)"):
        Objective(terms)
    with pytest.raises(ConfigError, match="no terms"):
        Objective({})
