"""KTO held to a naive computation, one unpadded sequence at a time."""

from __future__ import annotations

import math

import pytest
import torch
from naive import gradients, mean_of, relative_error, token_nlls
from pairs import RETAIN, made, moved_policy, pairs, ratio, terms_of, values_of

from unlearning.errors import ConfigError
from unlearning.methods.kto import desirable, undesirable
from unlearning.objective import Objective


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def naive_kto(policy, reference, z0: float, beta: float, role: str) -> torch.Tensor:
    """1 - v, with the paper's value function of a desirable or an undesirable answer."""

    def value(r: torch.Tensor) -> torch.Tensor:
        above = z0 - r if role == "forget" else r - z0
        return 1 / (1 + torch.exp(-beta * above))

    return mean_of(1 - value(ratio(policy, reference, pair)) for pair in pairs(role))


def terms(**changes):
    """The file's terms, with the desirable one."""
    found = terms_of("kto")
    found["desirable"]["weight"] = 1.5
    for name in ("forget", "desirable"):
        found[name].update(changes)
    return found


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("swapped", [False, True])
def test_the_loss_is_the_naive_one(make_model, layout, swapped):
    """Once with a reference point above 0, once with one that is cut to 0."""
    policy, reference = moved_policy(make_model)
    if swapped:
        state = {name: value.clone() for name, value in policy.state_dict().items()}
        policy.load_state_dict(reference.state_dict())
        reference.load_state_dict(state)
    found = values_of(policy, reference, terms(), layout)
    mean = mean_of(ratio(policy, reference, pair) for pair in pairs("mismatch")).item()
    assert abs(mean) > 0.1
    z0 = max(0.0, mean)
    expected = {
        "forget": naive_kto(policy, reference, z0, 0.1, "forget"),
        "desirable": naive_kto(policy, reference, z0, 0.1, "retain"),
        "retain": mean_of(token_nlls(policy, pair).mean() for pair in RETAIN),
    }
    for name, value in expected.items():
        assert found.terms[name].item() == pytest.approx(value.item(), rel=1e-12), name
    total = expected["forget"] + 1.5 * expected["desirable"] + expected["retain"]
    theirs = gradients(total, policy)
    assert relative_error(gradients(found.total, policy), theirs) < 1e-10


def test_the_reference_point_of_one_model_is_above_0_and_of_the_other_cut(make_model):
    """Otherwise the test above would not have tried both."""
    policy, reference = moved_policy(make_model)
    mean = mean_of(ratio(policy, reference, pair) for pair in pairs("mismatch")).item()
    back = mean_of(ratio(reference, policy, pair) for pair in pairs("mismatch")).item()
    assert mean * back < 0


def test_by_hand():
    answers = made([[1.0, 2.0], [5.0]], [[2.0, 2.5], [1.0]])  # log-ratios 1.5 and -4
    mismatched = made([[1.0], [4.0, 1.0]], [[3.0], [4.0, 2.0]])  # 2 and 1
    found = undesirable(answers, mismatched, beta=0.5)
    bad = [1 - sigmoid(0.5 * (1.5 - r)) for r in (1.5, -4)]
    assert found.item() == pytest.approx(sum(bad) / 2, rel=1e-12)
    good = [1 - sigmoid(0.5 * (r - 1.5)) for r in (1.5, -4)]
    found = desirable(answers, mismatched, beta=0.5)
    assert found.item() == pytest.approx(sum(good) / 2, rel=1e-12)


@pytest.mark.parametrize(("loss", "sign"), [(undesirable, -1), (desirable, 1)])
def test_where_policy_and_reference_agree_it_is_a_half_and_moves_the_right_way(loss, sign):
    answers = made([[1.0, 2.0]], [[1.0, 2.0]])
    value = loss(answers, made([[3.0]], [[3.0]]), beta=0.2)
    assert value.item() == pytest.approx(0.5, rel=1e-12)
    (slope,) = torch.autograd.grad(value, answers.nll)
    assert slope.tolist() == pytest.approx([sign * 0.2 / 4] * 2, rel=1e-12)  # beta sigma'(0)


@pytest.mark.parametrize("loss", [undesirable, desirable])
@pytest.mark.parametrize("r", [-900.0, 900.0])
def test_it_is_bounded_and_saturates_on_both_sides(loss, r):
    """The paper's claim on answers that the model will not learn, or has learnt."""
    answers = made([[1000.0]], [[1000.0 + r]])
    value = loss(answers, beta=0.1)
    (slope,) = torch.autograd.grad(value, answers.nll)
    assert 0 <= value.item() <= 1 and abs(slope.item()) < 1e-30


def test_a_reference_point_below_0_is_cut_to_0():
    """In the released code of NPO (arXiv 2404.05868), which has a KTO, it is not."""
    answers, fallen = made([[1.0]], [[2.0]]), made([[9.0]], [[1.0]])
    for loss in (undesirable, desirable):
        assert loss(answers, fallen).item() == loss(answers).item()


def test_beta_multiplies_the_reference_point_too():
    """In the released code of NPO it multiplies the log-ratio alone."""
    answers, mismatched = made([[1.0]], [[3.0]]), made([[1.0]], [[6.0]])
    for beta in (0.1, 0.7):
        found = undesirable(answers, mismatched, beta).item()
        assert found == pytest.approx(sigmoid(beta * (2 - 5)), rel=1e-12)


def test_the_reference_point_has_no_gradient():
    answers, mismatched = made([[1.0]], [[3.0]]), made([[1.0]], [[6.0]])
    for loss in (undesirable, desirable):
        value = loss(answers, mismatched)
        found = torch.autograd.grad(value, (answers.nll, mismatched.nll), allow_unused=True)
        assert abs(found[0].item()) > 0.01 and found[1] is None


def test_the_reference_point_is_one_for_all_answers():
    answers = made([[1.0], [1.0]], [[3.0], [3.0]])
    mismatched = made([[1.0], [1.0]], [[9.0], [1.0]])  # 8 and 0: 4 for both
    assert undesirable(answers, mismatched).item() == pytest.approx(sigmoid(0.1 * (2 - 4)))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_log_ratios_are_sums_whatever_the_reduction(reduction):
    answers = made([[1.0, 1.0]], [[2.0, 3.0]], reduction=reduction)
    mismatched = made([[1.0, 1.0]], [[1.5, 1.5]], reduction=reduction)
    assert undesirable(answers, mismatched, 1.0).item() == pytest.approx(sigmoid(3 - 1))


@pytest.mark.parametrize("name", ["forget", "desirable"])
def test_a_term_of_one_role_has_the_reference_point_0(make_model, name):
    policy, reference = moved_policy(make_model)
    role = "forget" if name == "forget" else "retain"
    only = {name: {**terms()[name], "role": role, "weight": 1.0}}
    assert Objective(only).reference_roles == {role}
    found = values_of(policy, reference, only)
    expected = naive_kto(policy, reference, 0.0, 0.1, role)
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-12)
    theirs = gradients(expected, policy)
    assert relative_error(gradients(found.total, policy), theirs) < 1e-10


def test_the_desirable_term_is_off_until_it_gets_a_weight():
    objective = Objective(terms_of("kto"))
    assert list(objective.terms) == ["forget", "retain"]
    assert objective.reference_roles == {"forget", "mismatch"}


@pytest.mark.parametrize("beta", [0.0, -0.1, math.inf, math.nan])
@pytest.mark.parametrize("loss", [undesirable, desirable])
def test_a_beta_that_is_no_number_above_0_is_refused(loss, beta):
    with pytest.raises(ValueError, match=f"kto.{loss.__name__}: beta=.* must be a number above 0"):
        loss(made([[1.0]], [[1.0]]), beta=beta)


@pytest.mark.parametrize("loss", [undesirable, desirable])
def test_answers_without_a_reference_are_refused(loss):
    answers, alone = made([[1.0]], [[1.0]]), made([[1.0]])
    for given in ((alone,), (answers, alone)):
        with pytest.raises(ValueError, match="needs a reference"):
            loss(*given)


def test_a_wrong_beta_is_named_before_training():
    with pytest.raises(ConfigError, match="beta=0"):
        Objective(terms(options={"beta": 0}))
