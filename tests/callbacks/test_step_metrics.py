from __future__ import annotations

import torch

from unlearning.callbacks.step_metrics import StepMetrics, on_host


def test_scalars_are_read_in_order_and_each_with_its_own_digits():
    exact = torch.tensor(0.1, dtype=torch.float64)
    found = on_host([3, torch.tensor(0.5), 0.25, exact, torch.tensor(7)])
    assert found == [3, 0.5, 0.25, 0.1, 7]
    assert isinstance(found[0], int)
    assert on_host([]) == []


def test_scalars_of_a_device_are_read_at_once(monkeypatch):
    reads, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: reads.append(t.shape) or tolist(t))
    assert on_host(torch.tensor(float(n)) for n in range(50)) == [*map(float, range(50))]
    assert reads == [(50,)]


def test_a_step_is_the_mean_of_its_batches():
    metrics = StepMetrics()
    for value in (1.0, 3.0):
        metrics.add({"loss": torch.tensor(value)})
    assert metrics.pop()["loss"] == 2 and metrics.pop() == {}
