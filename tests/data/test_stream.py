from __future__ import annotations

import pytest
import torch

from unlearning.data.stream import BatchStream, ShuffledOrder, pinned
from unlearning.errors import ConfigError
from unlearning.types import Batch, Rows


def numbered(number: int) -> Batch:
    empty = torch.empty(0)
    return Batch(Rows(empty, empty, empty), {}, index=number)


def test_every_epoch_is_another_permutation():
    order = ShuffledOrder(10, "forget", seed=0)
    epochs = [[order[epoch * 10 + n] for n in range(10)] for epoch in range(4)]
    for number, epoch in enumerate(epochs):
        assert {e for e, _ in epoch} == {number}
        assert sorted(n for _, n in epoch) == list(range(10))
    orders = [[n for _, n in epoch] for epoch in epochs]
    assert len({tuple(o) for o in orders}) == 4
    assert list(range(10)) not in orders  # the released code's forget loader is not shuffled


def test_an_order_is_a_function_of_its_position():
    straight = ShuffledOrder(7, "forget", seed=3)
    expected = [straight[n] for n in range(30)]
    backwards = ShuffledOrder(7, "forget", seed=3)
    assert [backwards[n] for n in reversed(range(30))][::-1] == expected


@pytest.mark.parametrize(("name", "seed"), [("retain", 3), ("forget", 4)])
def test_orders_differ_by_name_and_seed(name, seed):
    ours, other = ShuffledOrder(20, "forget", 3), ShuffledOrder(20, name, seed)
    assert [ours[n] for n in range(20)] != [other[n] for n in range(20)]


def test_a_stream_goes_on_where_it_stands():
    stream = BatchStream(numbered, batches_per_epoch=3)
    assert len(stream) == 3
    assert [batch.index for batch in stream] == [0, 1, 2]
    assert [batch.index for batch in stream] == [3, 4, 5]


@pytest.mark.parametrize("taken", range(7))
def test_a_stream_resumes_at_any_batch(taken):
    straight = BatchStream(numbered, batches_per_epoch=3)
    whole = [batch.index for _ in range(3) for batch in straight]
    first = BatchStream(numbered, batches_per_epoch=3)
    for _ in range(taken // 3):
        list(first)
    iterator = iter(first)
    for _ in range(taken % 3):
        next(iterator)
    resumed = BatchStream(numbered, batches_per_epoch=3)
    resumed.load_state_dict(first.state_dict())
    assert next(iter(resumed)).index == whole[taken]


def test_a_place_in_the_stream_is_that_of_so_many_ranks(make_data):
    data = make_data()
    assert data.state_dict() == {"next_batch": 0, "ranks": 1}
    data.load_state_dict({"next_batch": 3, "ranks": 1})
    assert data.train_dataloader().next_batch == 3
    with pytest.raises(ConfigError, match="saved by 2 processes, and there are 1 now"):
        data.load_state_dict({"next_batch": 4, "ranks": 2})
    assert data.state_dict()["next_batch"] == 3


def test_an_open_stream_goes_to_a_loaded_place(make_data):
    data = make_data()
    stream = data.train_dataloader()
    data.load_state_dict({"next_batch": 2, "ranks": 1})
    assert next(iter(stream)).index == 2
    assert data.state_dict()["next_batch"] == 3


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    parts = {"rows": batch.rows, **batch.answers}
    return {
        f"{name}.{field}": value
        for name, part in parts.items()
        for field, value in vars(part).items()
        if isinstance(value, torch.Tensor)
    }


def test_every_tensor_of_a_batch_is_pinned(monkeypatch, make_data):
    """Marked instead, since pinning itself takes a GPU."""
    batch = make_data().train_dataloader().batch_at(0)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.to("meta"))
    found = pinned(batch)
    assert len(tensors(batch)) >= 3 * (1 + len(batch.answers)) == 12
    assert tensors(found).keys() == tensors(batch).keys()
    for name, value in tensors(found).items():
        assert value.is_meta and value.shape == tensors(batch)[name].shape, name
    assert (found.index, found.widths) == (batch.index, batch.widths)
    for role, answers in batch.answers.items():
        theirs = found.answers[role]
        assert (theirs.num_sequences, theirs.examples) == (answers.num_sequences, answers.examples)
        assert theirs.row_range == answers.row_range


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_fetches_a_batch_without_a_wait(make_data):
    data = make_data()
    batch, device = data.train_dataloader().batch_at(0), torch.device("cuda", 0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        sent = data.transfer_batch_to_device(batch, device, 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name, value in tensors(sent).items():
        assert value.device == device and value.cpu().equal(tensors(batch)[name]), name


def test_elsewhere_a_batch_is_not_pinned(make_data, monkeypatch):
    data = make_data()
    batch = data.train_dataloader().batch_at(0)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pytest.fail("pinned"))
    sent = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert all(value.is_meta for value in tensors(sent).values())
    assert sent.answers.keys() == batch.answers.keys()
