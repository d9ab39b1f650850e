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


METHODS = ["sam", "rmu", "on_policy", "gru", "pdu", "loku", "jensun", "rerouting", "altpo"]
BEFORE = {"sam": 0.0, "rmu": 0.0, "on_policy": 0.0, "jensun": 0.0}
"""The retain term at the first step, where it is a distance to the reference."""


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_make_the_step_of_one(method):
    (one,) = run_ranks("methods.two_ranks_methods", method, world=1)
    first, second = run_ranks("methods.two_ranks_methods", method, world=2)
    assert first == second
    assert first["weights"] == pytest.approx(one["weights"], rel=1e-8, abs=1e-10)
    for ours, theirs in zip(first["curve"], one["curve"], strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-8, abs=1e-10), name
    if method == "gru":
        assert one["heldout"].keys() >= {"validation/forget", "validation/nll_forget"}
        assert first["heldout"] == pytest.approx(one["heldout"], rel=1e-6)
    if method == "on_policy":  # both ranks' continuations are in the checkpoint
        (alone,), (ours, theirs) = one["sampled"], first["sampled"]
        assert ours and alone == {n: ours[n] + theirs[n] for n in ours}
    for name in {"limit", "dual", "smoothed", "taken"} & one.keys():
        assert first[name] == pytest.approx(one[name], rel=1e-8, abs=1e-10), name
    assert_it_is_at_work(method, one)


def assert_it_is_at_work(method, one):
    """Else there would be nothing in which two ranks could differ."""
    curve = one["curve"]
    assert one["moved"] > 5e-4
    if method in BEFORE:
        assert curve[0]["train/retain"] == pytest.approx(0, abs=1e-6) != curve[-1]["train/retain"]
    if method == "gru":
        assert min(row["train/cosine"] for row in curve) < -0.02
    if method == "pdu":  # an epoch is a step here, the first of which does not move it
        first, second, third = (row["train/dual"] for row in curve[::2])
        assert first == second == 2.0 and third != 2.0 and one["dual"] != third
    if method == "loku":
        assert max(map(abs, one["taken"])) > 1e-2
        assert abs(curve[0]["train/forget"] - curve[-1]["train/forget"]) > 1e-3
    if method == "rerouting":
        assert 0.1 < curve[0]["train/forget_0"] < 0.999
