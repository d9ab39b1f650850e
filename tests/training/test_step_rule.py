"""The inner products of gradients, and how a rule's gradient reaches the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unlearning.training.step_rule import StepRule, gram, with_gradient


def test_inner_products_of_weights_larger_than_a_block():
    """Against numpy in fp64, a weight that ends within a block, and one that is none."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"large": (700, 900), "small": (3,), "none": (0,)}
    one, other = (
        {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        for _ in "ab"
    )
    flat = [torch.cat([g.reshape(-1) for g in each.values()]).double() for each in (one, other)]
    expected = [[float(a @ b) for b in flat] for a in flat]
    torch.testing.assert_close(gram(one, other), torch.tensor(expected, dtype=torch.float64))


def test_large_parts_that_cancel_leave_the_small_one():
    one = {"w": torch.tensor([1e6, 1.0, 1e6])}
    other = {"w": torch.tensor([1e6, 1.0, -1e6])}
    assert gram(one, other)[0, 1] == 1.0  # in fp32 0


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_backward_leaves_the_given_gradient_at_the_weights(scale):
    weight = nn.Parameter(torch.ones(2))
    given = torch.tensor([2.0, -4.0])
    value = with_gradient(torch.tensor(7.0), {"w": weight}, {"w": given})
    assert value.item() == 7.0
    (value * scale).backward()
    torch.testing.assert_close(weight.grad, scale * given)
    weight.grad.zero_()  # as zero_grad and clipping do, in place
    assert given.tolist() == [2.0, -4.0]  # a rule that keeps it keeps its values


def test_a_gradient_that_nobody_keeps_is_not_copied():
    weight = nn.Parameter(torch.ones(2))
    step = {"w": torch.tensor([2.0, -4.0])}
    place = step["w"].data_ptr()
    value = with_gradient(torch.tensor(7.0), {"w": weight}, step)
    del step
    value.backward()
    assert weight.grad.data_ptr() == place


def test_a_second_backward_is_told():
    weight = nn.Parameter(torch.ones(2))
    value = with_gradient(torch.tensor(7.0), {"w": weight}, {"w": torch.ones(2)})
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="a second time"):
        value.backward()


def test_a_rule_that_says_nothing_asks_for_each_term_by_itself():
    class Zero(StepRule):
        def gradient(self, terms):
            return {name: torch.zeros_like(p) for name, p in terms.parameters.items()}

    assert Zero().together(["forget", "retain"]) == [("forget",), ("retain",)]
