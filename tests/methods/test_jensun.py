"""JensUn against its paper's formula: both divergences, and the refusal along the answer."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from naive import answer_log_probs, gradients, mean_of, relative_error

from unlearning.errors import ConfigError
from unlearning.losses import TokenLosses
from unlearning.methods.jensun import JensUn, jsd_to_reference, jsd_to_token

from .test_rmu import pairs

REFUSAL = (7, 11, 5)


def jsd(log_p, log_q):
    """By its definition, of [V] log-probabilities; a probability of 0 counts as none."""
    p, q = log_p.exp(), log_q.exp()
    m = (p + q) / 2
    sides = [torch.where(x > 0, x * (x.clamp(min=1e-300) / m).log(), 0) for x in (p, q)]
    return sum(side.sum() for side in sides) / 2


def naive_forget(model, pairs):
    values = []
    for pair in pairs:
        tokens = []
        for place, log_p in enumerate(answer_log_probs(model, pair)):
            target = torch.full_like(log_p, -math.inf)
            target[REFUSAL[place % len(REFUSAL)]] = 0.0
            tokens.append(jsd(log_p, target))
        values.append(torch.stack(tokens).mean())
    return mean_of(values)


def naive_retain(model, reference, pairs):
    values = []
    for pair in pairs:
        ours = answer_log_probs(model, pair)
        theirs = answer_log_probs(reference, pair).detach()
        values.append(torch.stack([jsd(p, q) for p, q in zip(ours, theirs, strict=True)]).mean())
    return mean_of(values)


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_the_loss_is_the_naive_one(make_model, make_data, layout):
    module = JensUn(make_model(), refusal=REFUSAL, reference="copy").double()
    module.build_reference()
    reference = copy.deepcopy(module.policy)
    with torch.no_grad():
        for parameter in module.policy.parameters():
            parameter.mul_(1.1)
    data = make_data(mismatch_per_prompt=0)
    data.setup()
    data.layout = layout
    batch = data.batch_at(1)
    forgotten, kept = (pairs(data, batch, role) for role in ("forget", "retain"))
    found = module.loss(batch)
    forget = naive_forget(module.policy, forgotten)
    retain = naive_retain(module.policy, reference, kept)
    assert found.terms["forget"].item() == pytest.approx(forget.item(), rel=1e-12)
    assert found.terms["retain"].item() == pytest.approx(retain.item(), rel=1e-12)
    theirs = gradients(forget + retain, module.policy)
    assert relative_error(gradients(found.total, module.policy), theirs) < 1e-10
    once = module.term_gradients(batch)("forget")
    theirs = gradients(naive_forget(module.policy, forgotten), module.policy)
    ours = {name.removeprefix("policy."): gradient for name, gradient in once.items()}
    assert relative_error(ours, theirs) < 1e-10


def test_the_refusal_is_repeated_along_every_answer_and_nothing_else_changes(make_model, make_data):
    module = JensUn(make_model(), refusal=REFUSAL)
    data = make_data()
    data.setup()
    batch = data.batch_at(0)
    refusing = module.refusing(batch)
    targets, sequence = refusing.answers["forget"].targets, batch.answers["forget"].sequence
    for number in range(batch.answers["forget"].num_sequences):
        mine = targets[sequence == number].tolist()
        assert mine == [REFUSAL[n % 3] for n in range(len(mine))]
    assert torch.equal(refusing.rows.input_ids, batch.rows.input_ids)
    assert refusing.answers["retain"] is batch.answers["retain"]


def test_divergences_by_hand_and_their_bounds():
    nll = torch.tensor([math.log(2), 0.0, 500.0])  # p = 1/2, 1 and 0
    half = 0.5 * (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(2) + math.log(1 / 0.75))
    for n, expected in enumerate([half, 0.0, math.log(2)]):
        found = jsd_to_token(TokenLosses(nll[n : n + 1], torch.tensor([0]), 1))
        assert found.item() == pytest.approx(expected, abs=1e-7)
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]]).log()
    found = jsd_to_reference(logits, torch.tensor([0, 0]), logits.flip(0))
    expected = jsd(logits[0].double(), logits[1].double()).item()
    assert found.tolist() == pytest.approx([expected, expected])  # it is symmetric
    same = jsd_to_reference(logits, torch.tensor([0, 0]), logits)
    assert same.abs().max() < 1e-7


def test_the_target_has_the_mass_of_one_token_and_not_of_all_the_refusals():
    """The first released code gives every token of the refusal probability 1 at every position."""
    logits = torch.zeros(1, 4)  # p = 1/4
    nll = -logits.log_softmax(-1)[:, 0]
    ours = jsd_to_token(TokenLosses(nll, torch.tensor([0]), 1)).item()
    p, q = torch.full((4,), 0.25), torch.tensor([1.0, 1.0, 0.0, 0.0])
    m = (p + q) / 2
    theirs = ((p * (p / m).log()).sum() + (q[:2] * (q[:2] / m[:2]).log()).sum()).item() / 2
    one = jsd(logits[0].log_softmax(-1).double(), torch.tensor([1.0, 0, 0, 0]).double().log())
    assert ours == pytest.approx(one.item(), rel=1e-6)
    assert theirs > 1.05 * ours


def test_a_text_is_tokenised_by_the_data(make_model, make_data, quiet_trainer, tokenizer):
    module = JensUn(make_model(), refusal="not hot")
    quiet_trainer(max_steps=1).fit(module, make_data())
    assert module._tokens == tuple(tokenizer.convert_tokens_to_ids(["not", "hot"]))
    assert module.trainer.callback_metrics["train/forget"] < math.log(2)


def test_what_is_missing_is_told(make_model, make_data, quiet_trainer):
    data = make_data()
    data.setup()
    with pytest.raises(ConfigError, match="give the refusal as tokens"):
        JensUn(make_model()).loss(data.batch_at(0))
    with pytest.raises(ConfigError, match="has no token"):
        quiet_trainer(max_steps=1).fit(JensUn(make_model(), refusal=""), make_data())


def test_the_configuration_composes(compose_config):
    config = compose_config("method=jensun")
    assert config.method.refusal == "No idea"
    assert {name: term.weight for name, term in config.objective.items()} == {
        "forget": 1.0, "retain": 1.0,
    }  # fmt: skip
