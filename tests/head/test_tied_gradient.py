from __future__ import annotations

import copy

import pytest
import torch
from naive import gradients, relative_error
from test_objective import trees
from torch import nn

from unlearning.data.layout import make_batch
from unlearning.head.tied_gradient import TiedGradient, only_looks_up
from unlearning.models.adapter import add_lora
from unlearning.models.decoder import frozen_copy, tied_gradient
from unlearning.models.load import disable_dropout
from unlearning.objective import PAPER_TERMS, Objective
from unlearning.reference import build_reference
from unlearning.training.batch_loss import BatchLoss


def test_the_sum_of_both_gradients_by_hand():
    # Of (2 e_0 + 3 e_2 + 5 e_0) by e is 7, 0, 3 a row; the head's was all ones.
    embedding = nn.Embedding(3, 2)
    tied = TiedGradient(embedding)
    found = tied.embed(torch.tensor([[0, 2, 0]]))
    torch.testing.assert_close(found, embedding(torch.tensor([[0, 2, 0]])), atol=0, rtol=0)
    tied.put(torch.ones(3, 2))
    (found * torch.tensor([2.0, 3.0, 5.0])[:, None]).sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.tolist() == [[8.0, 8.0], [1.0, 1.0], [4.0, 4.0]]


def test_the_padding_token_of_an_embedding_is_not_moved_and_nothing_put_is_zero():
    embedding = nn.Embedding(3, 2, padding_idx=1)
    TiedGradient(embedding).embed(torch.tensor([[1, 2]])).sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.tolist() == [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]


def test_a_sum_in_fp32_is_rounded_once():
    """1 + 2^-9 is no bf16 number: two such additions to 1 are lost one by one."""
    embedding = nn.Embedding(2, 1, dtype=torch.bfloat16)
    tied = TiedGradient(embedding)
    found = tied.embed(torch.tensor([0, 0, 0, 0]))
    tied.put(torch.ones(2, 1))
    (found * 2**-9).sum().backward()
    assert embedding.weight.grad is not None and embedding.weight.grad.dtype == torch.bfloat16
    assert embedding.weight.grad.tolist() == [[1 + 2**-7], [1.0]]


def policy_of(make_model, architecture: str):
    model = make_model(architecture)
    disable_dropout(model)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    return model


def loss_of(policy, reference, batch, tied: bool = True) -> torch.Tensor:
    step = BatchLoss(Objective(PAPER_TERMS), chunk_size=4)
    other = build_reference("copy", policy, model=reference)
    gradient = tied_gradient(policy) if tied else None
    assert (gradient is not None) == tied
    return step(policy, batch, other, tied=gradient).total


@pytest.mark.parametrize("architecture", ["opt", "gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_a_step_has_the_gradient_that_autograd_adds_up(make_model, architecture, layout):
    policy = policy_of(make_model, architecture).double()
    reference = frozen_copy(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.05)
    batch = make_batch(trees(), layout, pad_token_id=1)  # OPT's padding token, in rows that pad
    plain = gradients(loss_of(policy, reference, batch, tied=False), policy)
    found = gradients(loss_of(policy, reference, batch), policy)
    assert relative_error(found, plain) < 1e-12


def test_a_prompt_with_the_padding_token_in_it_has_autograds_gradient(make_model):
    policy = policy_of(make_model, "opt").double()
    reference = frozen_copy(policy)
    assert policy.get_input_embeddings().padding_idx == 1
    batch = make_batch(trees(), "tree", pad_token_id=1)
    batch.rows.input_ids[batch.rows.input_ids == 9] = 1  # a token of a prompt
    plain = gradients(loss_of(policy, reference, batch, tied=False), policy)
    found = gradients(loss_of(policy, reference, batch), policy)
    assert relative_error(found, plain) < 1e-12


def test_two_losses_before_one_backward_keep_their_gradients_apart(make_model):
    policy = policy_of(make_model, "opt").double()
    reference = frozen_copy(policy)
    batches = [make_batch(some, "tree", pad_token_id=1) for some in (trees(), trees()[:3])]
    for batch in batches:
        batch.answers = {role: a for role, a in batch.answers.items() if a.num_sequences}
    plain = [gradients(loss_of(policy, reference, b, tied=False), policy) for b in batches]
    both = sum(loss_of(policy, reference, batch) for batch in batches)
    found = gradients(both, policy)
    wanted = {name: plain[0][name] + plain[1][name] for name in found}
    assert relative_error(found, wanted) < 1e-12


class Scaled(nn.Embedding):
    """As Gemma's, which multiplies what it looks up."""

    def forward(self, ids):
        return 3 * super().forward(ids)


def test_what_does_more_than_look_up_is_left_alone(make_model):
    assert only_looks_up(nn.Embedding(3, 2))
    assert not only_looks_up(Scaled(3, 2))
    assert not only_looks_up(nn.Embedding(3, 2, max_norm=1.0))
    assert not only_looks_up(nn.Embedding(3, 2, sparse=True))
    assert not only_looks_up(nn.Embedding(3, 2, scale_grad_by_freq=True))
    policy = policy_of(make_model, "opt")
    handle = policy.get_input_embeddings().register_forward_hook(lambda *_: None)
    assert tied_gradient(policy) is None
    handle.remove()
    assert tied_gradient(policy) is not None
    assert tied_gradient(add_lora(copy.deepcopy(policy), r=2, alpha=4)) is None  # frozen
    policy.lm_head.weight = nn.Parameter(policy.lm_head.weight.detach().clone())
    assert tied_gradient(policy) is None


def test_a_decoder_that_wants_tokens_is_found_by_trying(make_model):
    policy = policy_of(make_model, "opt")
    decoder = policy.get_decoder()
    forward = decoder.forward
    decoder.forward = lambda *a, inputs_embeds=None, **k: forward(*a, **k)
    assert tied_gradient(policy) is None
