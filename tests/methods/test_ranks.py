"""Two ranks make the step of one, also where a step is more than a sum of gradients."""

from __future__ import annotations

import os

import pytest
from two_processes import run_ranks

pytestmark = [
    pytest.mark.ddp,
    pytest.mark.slow,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores"),
]


@pytest.mark.parametrize("method", ["sam", "rmu", "on_policy"])
def test_two_ranks_make_the_step_of_one(method):
    (one,) = run_ranks("methods.two_ranks_methods", method, world=1)
    first, second = run_ranks("methods.two_ranks_methods", method, world=2)
    assert first == second
    assert first["weights"] == pytest.approx(one["weights"], rel=1e-4, abs=2e-5)
    for ours, theirs in zip(first["curve"], one["curve"], strict=True):
        for name in ("train/total", "train/forget", "train/retain"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-5), name
    if method == "on_policy":  # both ranks' continuations are in the checkpoint
        (alone,), (ours, theirs) = one["sampled"], first["sampled"]
        assert ours and alone == {n: ours[n] + theirs[n] for n in ours}
    assert one["curve"][0]["train/retain"] == 0 < one["curve"][-1]["train/retain"]  # it moves
