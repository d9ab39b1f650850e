from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unlearning.head import gradients, logits
from unlearning.head.fused import Answers, separable_loss
from unlearning.head.logits import Head, chunk_rows
from unlearning.head.token_losses import token_losses

LN2 = math.log(2)


def ones(values: Tensor) -> Tensor:
    return torch.ones_like(values)


def test_nll_and_its_gradient_by_hand():
    # Probabilities 1/4 1/2 1/4; the target is the second: nll = ln 2, and with a slope of 3 the
    # gradient by the logits is 3 (p - onehot) = 3/4, -3/2, 3/4; the head is the identity.
    logits = torch.tensor([[1.0, 2.0, 1.0]]).log().requires_grad_()
    head = torch.eye(3, requires_grad=True)
    some = Answers(logits, torch.tensor([1]), lambda nll: 3 * ones(nll))
    zero, [(nll, kl, reference_nll, _)] = separable_loss([some], Head(head))
    zero.backward()
    assert zero.item() == 0 and kl is None and reference_nll is None
    assert nll.tolist() == pytest.approx([LN2])
    assert logits.grad is not None and head.grad is not None
    slopes = torch.tensor([[0.75, -1.5, 0.75]])
    torch.testing.assert_close(logits.grad, slopes)
    torch.testing.assert_close(head.grad, slopes.T @ logits.detach())


def test_kl_and_its_gradient_by_hand():
    # q = (1/2, 1/4, 1/4) is the reference, p = (1/4, 1/2, 1/4): KL(q || p) = 1/4 ln 2, and
    # d KL / d logits = p - q = (-1/4, 1/4, 0).
    logits = torch.tensor([[1.0, 2.0, 1.0]]).log().requires_grad_()
    reference = torch.tensor([[2.0, 1.0, 1.0]]).log()
    some = Answers(logits, torch.tensor([0]), ones, reference)
    zero, [(nll, kl, reference_nll, _)] = separable_loss(
        [some], Head(torch.eye(3)), Head(torch.eye(3))
    )
    zero.backward()
    assert kl is not None and reference_nll is not None and logits.grad is not None
    assert kl.tolist() == pytest.approx([LN2 / 4])
    assert (nll.tolist(), reference_nll.tolist()) == (
        pytest.approx([2 * LN2]),
        pytest.approx([LN2]),
    )
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.25, 0.25, 0.0]]))


def inputs(dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, trained: bool = True) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_(trained)

    return {
        "first": normal(11, 6), "second": normal(7, 6), "weight": normal(13, 6), "bias": normal(13),
        "reference": normal(7, 6, trained=False), "reference_weight": normal(13, 6, trained=False),
        "reference_bias": normal(13, trained=False),
        "targets": torch.randint(13, (18,), generator=generator),
    }  # fmt: skip


def capped(nll: Tensor) -> Tensor:
    """Slopes of sum -min(nll, 3): a token's depends on its own NLL."""
    return -(nll < 3).to(nll)


def both_ways(given: dict[str, Tensor], chunk_size: int) -> tuple[list[Tensor], list[Tensor]]:
    """Losses and gradients of sum -min(nll, 3) over the first and 2 sum kl over the second."""
    trained = [given[name] for name in ("first", "second", "weight", "bias")]
    head = Head(given["weight"], given["bias"])
    reference_head = Head(given["reference_weight"], given["reference_bias"])
    first, second = given["targets"][:11], given["targets"][11:]
    zero, losses = separable_loss(
        [
            Answers(given["first"], first, capped),
            Answers(given["second"], second, lambda kl: 2 * ones(kl), given["reference"]),
        ],
        head, reference_head, chunk_size,
    )  # fmt: skip
    ours = [loss for each in losses for loss in each if loss is not None]
    ours += torch.autograd.grad(zero, trained)
    nll, _, _ = token_losses(given["first"], head, first)
    other = token_losses(given["second"], head, second, given["reference"], reference_head)
    assert other[1] is not None
    total = -nll.clamp(max=3).sum() + 2 * other[1].sum()
    return ours, [nll, *other, *torch.autograd.grad(total, trained)]  # type: ignore[list-item]


@pytest.mark.parametrize("chunk_size", [1, 4, 11, 512])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_what_autograd_makes_of_the_token_losses(chunk_size, dtype):
    given = inputs(dtype)
    found, expected = both_ways(given, chunk_size)
    assert 0 < (expected[0] < 3).sum() < 11  # on both sides of the cap
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, theirs.detach(), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("block", [4096, 8])  # all of the vocabulary at once, or parts of it
def test_autocast_computes_in_bf16_and_adds_up_in_fp32(monkeypatch, block):
    monkeypatch.setattr(gradients, "BLOCK", block)
    exact, _ = both_ways(inputs(), 512)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = both_ways(inputs(), 4)
    for ours, theirs, low in zip(found, exact, expected, strict=True):
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, theirs)  # it really is bf16
        assert (ours - theirs).norm() <= 0.02 * theirs.norm() + 1e-3
        assert (ours - low).norm() <= 0.02 * theirs.norm() + 1e-3


def test_kl_of_equal_heads_is_exactly_zero_and_so_is_its_gradient():
    given = inputs()
    some = Answers(given["second"], given["targets"][11:], ones, given["second"].detach())
    head = Head(given["weight"], given["bias"])
    frozen = Head(given["weight"].detach(), given["bias"].detach())
    zero, [(_, kl, _, _)] = separable_loss([some], head, frozen, 3)
    assert kl is not None and torch.equal(kl, torch.zeros(7))
    for gradient in torch.autograd.grad(zero, [given["second"], given["weight"], given["bias"]]):
        assert gradient.abs().max() == 0


def test_an_unlikely_token_has_a_finite_loss():
    logits = torch.tensor([[0.0, 200.0]], requires_grad=True)
    zero, [(nll, *_)] = separable_loss(
        [Answers(logits, torch.tensor([0]), ones)], Head(torch.eye(2))
    )
    assert nll.item() == pytest.approx(200.0)
    (gradient,) = torch.autograd.grad(zero, logits)
    assert gradient.tolist() == [[-1.0, 1.0]]


def test_the_gradient_is_scaled_by_what_comes_from_above():
    given = inputs()
    some = Answers(given["first"], given["targets"][:11], ones)
    gradients = []
    for scale in (1.0, 0.25):
        zero, _ = separable_loss([some], Head(given["weight"], given["bias"]))
        gradients.append(torch.autograd.grad(scale * zero, [given["first"], given["weight"]]))
    for whole, quarter in zip(*gradients, strict=True):
        torch.testing.assert_close(whole / 4, quarter)


@pytest.mark.parametrize("rows", [1, 15, 16, 40])
@pytest.mark.parametrize("vocabulary", [13, logits.BLOCK, 2 * logits.BLOCK + 7])
@pytest.mark.parametrize("with_bias", [False, True])
def test_logits_in_an_order_of_their_own_are_those_of_a_linear_layer(rows, vocabulary, with_bias):
    hidden, weight = torch.randn(rows, 6), torch.randn(vocabulary, 6)
    bias = torch.randn(vocabulary) if with_bias else None
    expected = torch.nn.functional.linear(hidden, weight, bias)
    found = logits.logits_of(hidden, Head(weight, bias), torch.float32)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("count", "most", "sizes"),
    [(0, 160, []), (7, 160, [7]), (160, 160, [160]), (330, 160, [112, 112, 106]),
     (161, 160, [96, 65]), (5, 2, [2, 2, 1])],
)  # fmt: skip
def test_chunks_are_of_like_size(count, most, sizes):
    parts = list(logits.chunks(count, most))
    assert [part.stop - part.start for part in parts] == sizes
    assert [n for part in parts for n in range(part.start, part.stop)] == list(range(count))


def test_spare_memory_is_used_and_its_content_is_not():
    given = inputs()
    some = Answers(given["first"], given["targets"][:11], ones)
    grad_buffer = torch.full_like(given["weight"], math.nan, requires_grad=False)
    zero, _ = separable_loss([some], Head(given["weight"]), chunk_size=4)
    (expected,) = torch.autograd.grad(zero, given["weight"])
    zero, _ = separable_loss([some], Head(given["weight"]), chunk_size=4, grad_buffer=grad_buffer)
    (found,) = torch.autograd.grad(zero, given["weight"])
    assert torch.equal(found, expected) and found.data_ptr() == grad_buffer.data_ptr()
    other = torch.zeros(2, 2)  # of another head: left alone
    separable_loss([some], Head(given["weight"]), grad_buffer=other)
    assert torch.equal(other, torch.zeros(2, 2))


def test_a_frozen_head_gets_no_gradient():
    given = inputs()
    weight = given["weight"].detach()
    some = Answers(given["first"], given["targets"][:11], ones)
    zero, _ = separable_loss([some], Head(weight))
    zero.backward()
    assert weight.grad is None and given["first"].grad is not None


def test_a_second_differentiation_is_refused():
    given = inputs()
    some = Answers(given["first"], given["targets"][:11], ones)
    zero, _ = separable_loss([some], Head(given["weight"]))
    zero.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="a second time"):
        zero.backward()


def test_a_reference_needs_its_head():
    given = inputs()
    some = Answers(given["second"], given["targets"][11:], ones, given["reference"])
    with pytest.raises(ValueError, match="reference_head"):
        separable_loss([some], Head(given["weight"]))


def test_chunks_of_logits_fit_in_32_megabytes_unless_the_vocabulary_is_large():
    assert chunk_rows(torch.empty(50_272, 1)) == 160  # 160 x 50,272 x 4 bytes = 30.7 MB
    assert chunk_rows(torch.empty(10**6, 1)) == 128  # the head is not read for fewer


def test_slopes_are_taken_by_the_kl():
    """Of sum kl^2 / 2: a token's slope is its KL."""
    given = inputs()
    trained = [given[name] for name in ("second", "weight", "bias")]
    head = Head(given["weight"], given["bias"])
    reference_head = Head(given["reference_weight"], given["reference_bias"])
    targets = given["targets"][11:]
    some = Answers(given["second"], targets, lambda kl: kl, given["reference"])
    zero, _ = separable_loss([some], head, reference_head, chunk_size=4)
    _, kl, _ = token_losses(given["second"], head, targets, given["reference"], reference_head)
    assert kl is not None
    expected = torch.autograd.grad((kl**2).sum() / 2, trained)
    for ours, theirs in zip(torch.autograd.grad(zero, trained), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_values_come_in_the_order_of_the_answers():
    """Whatever is made first, and each of its own rows."""
    given = inputs()
    head, reference_head = Head(given["weight"], given["bias"]), Head(given["reference_weight"])
    plain = Answers(given["first"], given["targets"][:11], ones)
    compared = [
        Answers(states, given["targets"][11:], ones, given["reference"])
        for states in (given["second"], given["first"][:7])
    ]
    _, found = separable_loss([compared[0], plain, compared[1]], head, reference_head)
    assert [len(values.nll) for values in found] == [7, 11, 7] and found[1].kl is None
    for some, values in zip(compared, (found[0], found[2]), strict=True):
        expected = token_losses(some.hidden, head, some.targets, given["reference"], reference_head)
        for ours, theirs in zip(values[:3], expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
