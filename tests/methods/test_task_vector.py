"""Task-vector negation by hand."""

from __future__ import annotations

import copy

import pytest
import torch

from unlearning.errors import ConfigError
from unlearning.methods.task_vector import TaskVector


def test_weights_move_away_from_the_tuned_ones(make_model):
    policy, tuned = make_model(), make_model(seed=1)
    start = {n: p.detach().clone() for n, p in policy.named_parameters()}
    TaskVector(alpha=0.5).edit(policy, {"tuned": tuned})
    others = dict(tuned.named_parameters())
    for name, weight in policy.named_parameters():
        torch.testing.assert_close(weight, start[name] - 0.5 * (others[name] - start[name]))
    tied = policy.get_input_embeddings().weight
    assert tied is policy.get_output_embeddings().weight  # once, not twice


def test_the_tuned_model_with_alpha_minus_one_would_be_reached(make_model):
    """Negating twice with opposite signs leads back."""
    policy, tuned = make_model(), make_model(seed=1)
    start = copy.deepcopy(policy)
    TaskVector(alpha=1.0).edit(policy, {"tuned": tuned})
    middle = {n: (p + q) / 2 for (n, p), q in
              zip(policy.named_parameters(), tuned.parameters(), strict=True)}  # fmt: skip
    for name, weight in start.named_parameters():
        torch.testing.assert_close(middle[name], weight)


def test_a_tuned_model_of_another_shape_is_refused(make_model):
    with pytest.raises(ConfigError, match="has other weights than the policy"):
        TaskVector().edit(make_model(), {"tuned": make_model("llama")})


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf")])
def test_alpha_is_a_number_above_0(alpha):
    with pytest.raises(ConfigError, match="must be a number above 0"):
        TaskVector(alpha=alpha)
