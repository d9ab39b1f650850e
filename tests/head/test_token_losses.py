from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unlearning.head.logits import Head
from unlearning.head.token_losses import token_losses

LN2 = math.log(2)


def test_nll_of_a_head_by_hand():
    # Logits are log of (1, 2, 1) and of (1, 1, 6): probabilities 1/4 1/2 1/4 and 1/8 1/8 3/4.
    logits = torch.tensor([[1.0, 2.0, 1.0], [1.0, 1.0, 6.0]]).log()
    found, kl, reference_nll = token_losses(logits, Head(torch.eye(3)), torch.tensor([1, 0]))
    assert found.tolist() == pytest.approx([LN2, 3 * LN2])
    assert kl is None and reference_nll is None


def test_kl_of_a_head_by_hand():
    # q = (1/2, 1/4, 1/4) is the reference, p = (1/4, 1/2, 1/4) the policy:
    # KL(q || p) = 1/2 ln 2 - 1/4 ln 2 = 1/4 ln 2. With q = (3/4, 1/8, 1/8) it is
    # 3/4 ln 3 + 1/8 ln(1/4) + 1/8 ln(1/2), while KL(p || q) would be another number.
    policy = torch.tensor([[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]]).log()
    reference = torch.tensor([[2.0, 1.0, 1.0], [6.0, 1.0, 1.0]]).log()
    targets = torch.tensor([0, 2])
    _, kl, reference_nll = token_losses(
        policy, Head(torch.eye(3)), targets, reference, Head(torch.eye(3))
    )
    assert kl is not None and reference_nll is not None
    assert kl.tolist() == pytest.approx([LN2 / 4, 0.75 * math.log(3) - 3 / 8 * LN2])
    assert reference_nll.tolist() == pytest.approx([LN2, 3 * LN2])


def head_inputs(
    positions: int = 11, dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, trained: bool = True) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_(trained)

    return {
        "hidden_ND": normal(positions, 6),
        "head_weight_VD": normal(13, 6),
        "head_bias_V": normal(13),
        "targets_N": torch.randint(13, (positions,), generator=generator),
        "reference_hidden_ND": normal(positions, 6, trained=False),
        "reference_weight_VD": normal(13, 6, trained=False),
        "reference_bias_V": normal(13, trained=False),
    }


def losses_of(inputs: dict[str, Tensor], chunk_size: int = 512):
    return token_losses(
        inputs["hidden_ND"], Head(inputs["head_weight_VD"], inputs["head_bias_V"]),
        inputs["targets_N"], inputs["reference_hidden_ND"],
        Head(inputs["reference_weight_VD"], inputs["reference_bias_V"]), chunk_size,
    )  # fmt: skip


def naive_head(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The same three numbers by torch's own losses, from all logits at once."""
    logits = inputs["hidden_ND"] @ inputs["head_weight_VD"].T + inputs["head_bias_V"]
    reference = inputs["reference_hidden_ND"] @ inputs["reference_weight_VD"].T
    reference = reference + inputs["reference_bias_V"]
    kl = functional.kl_div(
        logits.log_softmax(-1), reference.log_softmax(-1), reduction="none", log_target=True
    )
    target = inputs["targets_N"]
    return (
        functional.cross_entropy(logits, target, reduction="none"),
        kl.sum(-1),
        functional.cross_entropy(reference, target, reduction="none"),
    )


@pytest.mark.parametrize("chunk_size", [1, 4, 11, 512])
def test_head_equals_torch_whatever_the_chunk_size(chunk_size):
    inputs = head_inputs()
    trained = [inputs[name] for name in ("hidden_ND", "head_weight_VD", "head_bias_V")]
    mix = torch.linspace(-1, 2, 11)  # another weight for every position, of either sign
    ours, theirs = losses_of(inputs, chunk_size), naive_head(inputs)
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    ours_total = (mix * ours[0]).sum() + (mix.flip(0) * ours[1]).sum()
    theirs_total = (mix * theirs[0]).sum() + (mix.flip(0) * theirs[1]).sum()
    for found, expected in zip(
        torch.autograd.grad(ours_total, trained),
        torch.autograd.grad(theirs_total, trained),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_gradcheck(with_reference, with_bias):
    inputs = head_inputs(5, torch.float64)
    reference_head = Head(inputs["reference_weight_VD"], inputs["reference_bias_V"])
    reference = (inputs["reference_hidden_ND"], reference_head) if with_reference else ()

    def outputs(hidden, weight, bias=None):
        found = token_losses(
            hidden, Head(weight, bias), inputs["targets_N"], *reference, chunk_size=2
        )
        assert found[0].dtype == torch.float64
        return found[:2] if with_reference else found[0]

    trained = [inputs["hidden_ND"], inputs["head_weight_VD"]]
    trained += [inputs["head_bias_V"]] if with_bias else []
    assert torch.autograd.gradcheck(outputs, trained)


def test_a_frozen_head_gets_no_gradient():
    inputs = head_inputs()
    weight = inputs["head_weight_VD"].detach()
    found, _, _ = token_losses(inputs["hidden_ND"], Head(weight), inputs["targets_N"])
    found.sum().backward()
    assert weight.grad is None and inputs["hidden_ND"].grad is not None


def test_kl_of_equal_heads_is_exactly_zero_and_so_is_its_gradient():
    inputs = head_inputs()
    for name in ("hidden_ND", "weight_VD", "bias_V"):
        own = name if name == "hidden_ND" else f"head_{name}"
        inputs[f"reference_{name}"] = inputs[own].detach()
    _, kl, _ = losses_of(inputs, 3)
    assert kl is not None and torch.equal(kl, torch.zeros(11))
    (gradient,) = torch.autograd.grad(kl.sum(), inputs["hidden_ND"])
    assert gradient.abs().max() == 0


def test_an_unlikely_token_has_a_finite_loss():
    # The released code takes log(p + 1e-12), which cannot exceed 27.6 and loses its gradient there.
    logits = torch.tensor([[0.0, 200.0]], requires_grad=True)
    found, _, _ = token_losses(logits, Head(torch.eye(2)), torch.tensor([0]))
    assert found.item() == pytest.approx(200.0)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert gradient.tolist() == [[-1.0, 1.0]]


def test_autocast_computes_in_bf16_and_reduces_in_fp32():
    inputs = head_inputs(64)
    trained = [inputs[name] for name in ("hidden_ND", "head_weight_VD", "head_bias_V")]
    exact, exact_kl, _ = losses_of(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found, kl, _ = losses_of(inputs, 7)
        whole, _, _ = losses_of(inputs)
    assert kl is not None and exact_kl is not None
    assert found.dtype == kl.dtype == torch.float32
    # Products in bf16, and what follows in fp32.
    low = (each.bfloat16() for each in trained)
    logits = functional.linear(*low).float()
    expected = functional.cross_entropy(logits, inputs["targets_N"], reduction="none")
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-5)
    assert (whole - exact).abs().max() > 1e-3
    torch.testing.assert_close(found, exact, atol=0.1, rtol=0.02)
    torch.testing.assert_close(kl, exact_kl, atol=0.1, rtol=0.02)
    for low, high in zip(
        torch.autograd.grad(found.mean() + kl.mean(), trained),
        torch.autograd.grad(exact.mean() + exact_kl.mean(), trained),
        strict=True,
    ):
        assert low.dtype == torch.float32
        assert (low - high).norm() <= 0.02 * high.norm()


def test_a_reference_needs_its_head():
    inputs = head_inputs()
    with pytest.raises(ValueError, match="reference_head"):
        token_losses(
            inputs["hidden_ND"],
            Head(inputs["head_weight_VD"]),
            inputs["targets_N"],
            reference_hidden_ND=inputs["reference_hidden_ND"],
        )
