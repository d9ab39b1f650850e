"""Token quantities as losses, held to naive computations with all logits."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from naive import answer_log_probs, gradients, mean_of, relative_error
from torch import Tensor
from torch.nn import functional

from unlearning.data.layout import Answer, Tree, make_batch
from unlearning.errors import ConfigError
from unlearning.losses import TokenLosses, needs, separable_in
from unlearning.models.decoder import frozen_copy
from unlearning.models.load import disable_dropout
from unlearning.objective import Objective
from unlearning.probes import check_quantity
from unlearning.quantities import TokenQuantity, token_quantity
from unlearning.reference import build_reference
from unlearning.training.batch_loss import BatchLoss

PROMPTS = ((5, 9, 3), (7, 8))
FORGET = ((11, 12, 13), (14, 2))
RETAIN = ((20, 21), (22, 23, 24, 2))


@token_quantity(needs_reference=True)
def undial(
    logits_NV: Tensor, targets_N: Tensor, reference_NV: Tensor, beta: float = 10.0
) -> Tensor:
    """Cross-entropy to the reference with the target's logit lowered (arXiv 2402.10052, Eq. 3)."""
    lowered = reference_NV - beta * functional.one_hot(targets_N, logits_NV.shape[1])
    return -(lowered.softmax(-1) * logits_NV.log_softmax(-1)).sum(-1)


@token_quantity()
def hinge(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """1 + p_y - max over the other tokens (arXiv 2408.06621, Eq. 4)."""
    p = logits_NV.softmax(-1)
    chosen = p.gather(1, targets_N[:, None]).squeeze(1)
    return 1 + chosen - p.scatter(1, targets_N[:, None], 0.0).amax(1)


@needs(hinge)
def worst_sequence(tokens: TokenLosses) -> Tensor:
    """Joins the tokens in a way that is not separable."""
    return tokens.per_sequence(tokens[hinge], "mean").logsumexp(0)


@separable_in(hinge)
def squared(tokens: TokenLosses) -> Tensor:
    return tokens.reduce(tokens[hinge] ** 2)


@pytest.fixture
def policies(make_model):
    """A policy in fp64 that has moved away from its reference."""
    policy = make_model("opt").double()
    disable_dropout(policy)
    reference = frozen_copy(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.1)
    return policy, reference


def batch(layout: str = "tree"):
    trees = [Tree(p, (Answer("forget", n, FORGET[n]),)) for n, p in enumerate(PROMPTS)]
    trees += [Tree(p, (Answer("retain", n, RETAIN[n]),)) for n, p in enumerate(PROMPTS)]
    return make_batch(trees, layout, pad_token_id=1)  # type: ignore[arg-type]


def values(policies, terms: dict[str, Any], chunk_size: int = 2, layout: str = "tree"):
    policy, reference = policies
    other = build_reference("copy", policy, model=reference)
    return BatchLoss(Objective(terms), chunk_size=chunk_size)(policy, batch(layout), other)


def naive_undial(policy, reference, pair, beta: float) -> Tensor:
    log_p = answer_log_probs(policy, pair)
    with torch.no_grad():
        prompt, answer = pair
        ids = torch.tensor([[*prompt, *answer]])
        logits = reference(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].clone()
        for row, token in enumerate(answer):
            logits[row, token] -= beta
    return -(logits.softmax(-1) * log_p).sum(-1).mean()


def naive_hinges(policy, pair) -> Tensor:
    p = answer_log_probs(policy, pair).exp()
    return torch.stack([
        1 + row[token] - torch.cat([row[:token], row[token + 1 :]]).max()
        for row, token in zip(p, pair[1], strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("chunk_size", [1, 2, 64])
def test_a_quantity_as_a_loss_is_the_naive_one(policies, layout, chunk_size):
    policy, reference = policies
    term = {"loss": undial, "role": "forget", "weight": 0.7, "options": {"beta": 3.0}}
    found = values(policies, {"forget": term}, chunk_size, layout)
    pairs = zip(PROMPTS, FORGET, strict=True)
    expected = mean_of(naive_undial(policy, reference, pair, 3.0) for pair in pairs)
    assert found.terms["forget"].item() == pytest.approx(expected.item(), rel=1e-12)
    theirs = gradients(0.7 * expected, policy)
    assert relative_error(gradients(found.total, policy), theirs) < 1e-11


def test_a_quantity_is_differentiated_in_one_pass_and_joined_losses_in_two(policies):
    objective = Objective({"a": {"loss": hinge, "role": "forget"}})
    assert objective.separable_in("forget") == TokenQuantity.of(hinge)
    joined = Objective({"a": {"loss": worst_sequence, "role": "forget"}})
    assert joined.separable_in("forget") is None
    policy, _ = policies
    found = values(policies, {"a": {"loss": worst_sequence, "role": "forget"}})
    each = [naive_hinges(policy, pair).mean() for pair in zip(PROMPTS, FORGET, strict=True)]
    expected = torch.stack(each).logsumexp(0)
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-12)
    assert relative_error(gradients(found.total, policy), gradients(expected, policy)) < 1e-11


def test_a_loss_separable_in_a_quantity(policies):
    policy, _ = policies
    found = values(policies, {"a": {"loss": squared, "role": "retain", "weight": 2.0}})
    each = [naive_hinges(policy, pair).pow(2).mean() for pair in zip(PROMPTS, RETAIN, strict=True)]
    expected = 2 * mean_of(each)
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-12)
    assert relative_error(gradients(found.total, policy), gradients(expected, policy)) < 1e-11
    assert not found.tokens["retain"].nll.requires_grad


def test_nll_kl_and_quantities_side_by_side(policies):
    """Three roles' worth of passes share one call, each with its own chunks."""
    policy, _ = policies
    terms = {
        "undial": {"loss": undial, "role": "forget"},
        "kl": {"loss": "unlearning.losses.kl_to_reference", "role": "retain", "weight": 3.0},
    }
    found = values(policies, terms)
    alone = [values(policies, {name: term}) for name, term in terms.items()]
    total = sum(each.total.item() for each in alone)
    assert found.total.item() == pytest.approx(total, rel=1e-12)
    parts = [gradients(each.total, policy) for each in alone]
    expected = {name: parts[0][name] + parts[1][name] for name in parts[0]}
    assert relative_error(gradients(found.total, policy), expected) < 1e-11


def test_no_more_logits_than_a_chunk_holds_are_ever_made(policies):
    seen: list[int] = []

    @token_quantity()
    def spy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        seen.append(len(logits_NV))
        return logits_NV.logsumexp(-1)

    for loss in (spy, needs(spy)(lambda tokens: tokens[spy].max())):
        values(policies, {"a": {"loss": loss, "role": "forget"}}, chunk_size=4)
    of_probes = 4
    assert max(n for n in seen if n != of_probes) <= 1 and seen.count(1) >= 5


# --- declarations --------------------------------------------------------------------------------


def test_a_quantity_that_mixes_positions_is_refused():
    @token_quantity()
    def centred(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        return (logits_NV - logits_NV.mean(0)).amax(-1)

    with pytest.raises(ConfigError, match="mixes positions"):
        Objective({"a": {"loss": centred, "role": "forget"}})


def test_a_quantity_that_does_not_declare_its_reference_is_refused():
    @token_quantity()
    def hidden_need(logits_NV: Tensor, targets_N: Tensor, reference_NV: Tensor) -> Tensor:
        return (logits_NV - reference_NV).amax(-1)

    with pytest.raises(ConfigError, match="cannot take options"):
        Objective({"a": {"loss": hidden_need, "role": "forget"}})


def test_a_quantity_of_another_shape_is_refused():
    whole = token_quantity()(lambda logits_NV, targets_N: logits_NV.log_softmax(-1))
    with pytest.raises(ConfigError, match=r"returned shape \(4, 11\) for 4 positions"):
        check_quantity(TokenQuantity.of(whole))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (separable_in("nll")(lambda t: t.reduce(t.nll) ** 2), "declared separable in 'nll'"),
        (separable_in("kl")(lambda t: t.reduce(t.nll * t.kl)), "declared separable in 'kl'"),
        (separable_in(hinge)(lambda t: t[hinge].max()), "declared separable in <function hinge"),
        (separable_in("kl")(lambda t: t.reduce(t.kl) + t.reduce(t.nll)), "separable in 'kl'"),
        (separable_in(hinge)(lambda t: t.reduce(t[hinge] + t.nll)), "separable in <function hinge"),
        (lambda t: t.reduce(t.kl), "fails on made-up tokens"),
        (lambda t: t.reduce(t[hinge]), r"declare it with @needs"),
        (lambda t: t.nll, r"expected a tensor of shape \(\)"),
    ],
)
def test_a_declaration_that_is_not_true_is_refused_at_construction(loss, message):
    with pytest.raises(ConfigError, match=message):
        Objective({"a": {"loss": loss, "role": "retain"}})


def test_a_capped_loss_is_separable_on_both_sides_of_its_cap():
    term = {"loss": "unlearning.losses.bounded_ascent", "role": "forget", "options": {"cap": 1.0}}
    assert Objective({"a": term}).separable_in("forget") == "nll"


def test_declarations_reach_through_a_partial():
    loss = functools.partial(undial, beta=2.0)
    objective = Objective({"a": {"loss": loss, "role": "forget"}})
    assert objective.reference_roles == {"forget"}


def test_a_layer_and_a_loss_of_logits_do_not_fit_together():
    term = {"loss": "unlearning.losses.nll", "role": "forget", "layer": 1}
    with pytest.raises(ConfigError, match="do not fit together"):
        Objective({"a": term})


def test_a_layers_loss_that_reads_the_nll_is_refused():
    mixed = needs("hidden")(lambda t: t.reduce(t.hidden.pow(2).mean(-1)) + t.reduce(t.nll))
    with pytest.raises(ConfigError, match="looks at the NLL as well"):
        Objective({"a": {"loss": mixed, "role": "forget", "layer": 0}})


def test_a_quantity_may_name_tokens_and_take_lists():
    @token_quantity()
    def of_tokens(logits_NV: Tensor, targets_N: Tensor, tokens: tuple[int, ...]) -> Tensor:
        return logits_NV.log_softmax(-1)[:, list(tokens)].sum(-1)

    term = {"loss": of_tokens, "role": "forget", "options": {"tokens": [42, 95]}}
    assert Objective({"a": term}).separable_in("forget") is not None


def test_what_the_data_never_draw_is_no_role():
    with pytest.raises(ConfigError, match="Unknown role 'train'"):
        Objective({"a": {"loss": "unlearning.losses.nll", "role": "train"}})


# --- several roles -------------------------------------------------------------------------------


@needs("reference_nll")
def dpo(wanted: TokenLosses, unwanted: TokenLosses, beta: float = 0.5) -> Tensor:
    """Direct preference optimisation: the alternate answer over the one to forget."""
    gains = []
    for tokens in (wanted, unwanted):
        assert tokens.reference_nll is not None
        gains.append(tokens.per_sequence(tokens.reference_nll - tokens.nll, "sum"))
    assert wanted.prompt is not None and unwanted.prompt is not None
    first, second = wanted.prompt.argsort(), unwanted.prompt.argsort()
    return -(2 / beta) * functional.logsigmoid(beta * (gains[0][first] - gains[1][second])).mean()


def naive_dpo(policy, reference, alternates, beta: float) -> Tensor:
    def gain(pair) -> Tensor:
        chosen = [answer_log_probs(m, pair)[range(len(pair[1])), list(pair[1])].sum()
                  for m in (policy, reference)]  # fmt: skip
        return chosen[0] - chosen[1].detach()

    each = [
        -2 / beta * functional.logsigmoid(beta * (gain((p, w)) - gain((p, y))))
        for p, w, y in zip(PROMPTS, alternates, FORGET, strict=True)
    ]
    return mean_of(each)


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_a_term_over_two_answers_to_one_prompt_is_the_naive_one(policies, layout):
    policy, reference = policies
    alternates = ((30, 31, 2), (32, 33))
    trees = [
        Tree(p, (Answer("forget", n, FORGET[n]), Answer("alternate", n, alternates[n])))
        for n, p in enumerate(PROMPTS)
    ]
    term = {"loss": dpo, "role": ["alternate", "forget"], "weight": 0.3}
    other = build_reference("copy", policy, model=reference)
    made = make_batch(trees, layout, pad_token_id=1)  # type: ignore[arg-type]
    found = BatchLoss(Objective({"dpo": term}), chunk_size=3)(policy, made, other)
    expected = 0.3 * naive_dpo(policy, reference, alternates, 0.5)
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-12)
    assert relative_error(gradients(found.total, policy), gradients(expected, policy)) < 1e-11
