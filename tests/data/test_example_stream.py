from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator
from functools import partial

import pytest

from unlearning.data.example_stream import ExampleStream, Numbered
from unlearning.errors import ConfigError
from unlearning.types import Example

SIZES = (7, 0, 4, 12)


def open_part(part: int, sizes: tuple[int, ...] = SIZES) -> Iterator[Numbered]:
    for index in range(sizes[part]):
        yield 100 * part + index, Example(f"p{part}", f"r{index}")


def stream_of(
    sizes: tuple[int, ...] = SIZES, buffer_size: int = 5, name: str = "corpus", seed: int = 0
) -> ExampleStream:
    return ExampleStream(partial(open_part, sizes=sizes), len(sizes), buffer_size, name, seed)


def numbers(stream: ExampleStream, count: int, start: int = 0) -> list[int]:
    return [stream[start + n][1] for n in range(count)]


ALL = sorted(100 * part + n for part, size in enumerate(SIZES) for n in range(size))


@pytest.mark.parametrize("buffer_size", [1, 5, 23, 24, 100])
def test_every_example_once_an_epoch(buffer_size):
    """Also where the blocks fill the epoch exactly, and where the corpus is below one buffer."""
    stream = stream_of(buffer_size=buffer_size)
    epochs = []
    for epoch in range(4):
        found = [stream[23 * epoch + n] for n in range(23)]
        assert {e for e, _, _ in found} == {epoch}
        assert sorted(number for _, number, _ in found) == ALL
        assert all(
            example == dict(open_part(number // 100))[number] for _, number, example in found
        )
        epochs.append(tuple(number for _, number, _ in found))
    assert len(set(epochs)) == 4 or buffer_size == 1  # then only the parts are shuffled
    assert stream.size == 23


def test_a_block_is_shuffled_within_and_parts_are_in_another_order():
    stream = stream_of((40, 40), buffer_size=10)
    found = numbers(stream, 160)
    for start in range(0, 160, 10):
        block = found[start : start + 10]
        assert sorted(block) == list(range(min(block), min(block) + 10))
        assert block != sorted(block)
    orders = {tuple(n // 100 for n in found[e * 80 : (e + 1) * 80 : 40]) for e in range(2)}
    firsts = {numbers(stream_of((40, 40), 10, seed=s), 1)[0] // 100 for s in range(8)}
    assert orders <= {(0, 1), (1, 0)} and firsts == {0, 1}


@pytest.mark.parametrize("buffer_size", [4, 23])
def test_what_stands_at_a_position_does_not_depend_on_what_was_asked_before(buffer_size):
    straight = stream_of(buffer_size=buffer_size)
    expected = [straight[n] for n in range(70)]
    for position in range(70):
        assert stream_of(buffer_size=buffer_size)[position] == expected[position]
    backwards = stream_of(buffer_size=buffer_size)
    assert [backwards[n] for n in reversed(range(70))][::-1] == expected
    jumps = stream_of(buffer_size=buffer_size)
    assert [jumps[n * 37 % 70] for n in range(70)] == [expected[n * 37 % 70] for n in range(70)]


@pytest.mark.parametrize("other", [{"seed": 1}, {"name": "another"}, {"buffer_size": 6}])
def test_another_seed_name_or_buffer_is_another_order(other):
    assert numbers(stream_of(), 23) != numbers(stream_of(**other), 23)


def test_the_head_ends_with_the_epoch():
    assert [number for number, _ in stream_of().head(4)] == numbers(stream_of(), 4)
    assert sorted(number for number, _ in stream_of().head(1000)) == ALL


class Counted(Example):
    """An Example that knows how many of its kind are alive."""

    alive = most = 0

    def __init__(self, prompt: str, response: str) -> None:
        super().__init__(prompt, response)
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self) -> None:
        Counted.alive -= 1


@pytest.mark.parametrize("factor", [1, 4, 16])
def test_no_more_than_a_block_is_in_memory(factor):
    def examples(part: int) -> Iterator[Numbered]:
        for index in range(50 * factor):
            yield index, Counted("p", f"r{index}")

    gc.collect()
    Counted.alive = Counted.most = 0
    stream = ExampleStream(examples, 3, 20, "corpus", 0)
    for position in range(2 * 150 * factor):
        stream[position]
    assert stream.size == 150 * factor
    assert Counted.most <= 20 + 2  # the block, the one being read, the one in the loop


def test_going_on_reads_every_part_once_an_epoch():
    opened = []

    def counting(part: int) -> Iterator[Numbered]:
        opened.append(part)
        yield from open_part(part)

    stream = ExampleStream(counting, 4, 5, "corpus", 0)
    numbers(stream, 46)
    # Part 1 is known to be empty by the second epoch.
    assert sorted(opened[:4]) == [0, 1, 2, 3] and sorted(opened[4:]) == [0, 2, 3]
    # A jump, too, opens no part that lies before its place as a whole.
    opened.clear()
    stream[22]
    assert len(opened) <= 2


def test_after_a_failure_it_reads_again():
    """As when a connection breaks, and the caller tries once more."""
    broken = [True]

    def failing(part: int) -> Iterator[Numbered]:
        for number, item in enumerate(open_part(part)):
            if number == 3 and broken:
                broken.pop()
                raise ConnectionError
            yield item

    stream = ExampleStream(failing, 4, 5, "corpus", 0)
    with pytest.raises(ConnectionError):
        numbers(stream, 46)
    assert numbers(stream, 46) == numbers(stream_of(), 46)


def test_nothing_to_train_on():
    for sizes in ((), (0, 0)):
        with pytest.raises(ConfigError, match="corpus has no training window"):
            stream_of(sizes)[0]


def test_a_stream_travels_to_a_process_without_its_open_file():
    stream = stream_of()
    expected = numbers(stream, 40)
    stream[7]
    travelled = pickle.loads(pickle.dumps(stream))
    assert travelled.size == 23 and numbers(travelled, 40) == expected
