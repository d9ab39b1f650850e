"""Examples in a file without a name: what went in comes out, in every process."""

from __future__ import annotations

import copy
import hashlib
import pickle

import numpy as np
import pytest
from torch.utils.data import DataLoader

from unlearning.data.records.source import fingerprint
from unlearning.data.stored_examples import BLOCK, StoredExamples, store, take
from unlearning.types import Example

EXAMPLES = [
    Example("Wo ist Köln?", "Am Rhein.\r\n\u2028\0"),
    Example("", ""),
    Example("𝄞 e\u0301", ""),
    Example("half a pair \ud83d", "\udc00 and the other half"),
    Example("last", "end"),
]


def test_every_text_comes_back():
    stored = store(iter(EXAMPLES))
    assert len(stored) == 5 and list(stored) == EXAMPLES
    assert [stored[n] for n in range(-5, 5)] == EXAMPLES + EXAMPLES
    for part in (slice(1, 3), slice(None), slice(None, None, -2), slice(9, 12)):
        assert stored[part] == EXAMPLES[part]
    for number in (5, -6):
        with pytest.raises(IndexError):
            stored[number]


def test_equal_is_what_holds_the_same_examples():
    stored = store(EXAMPLES)
    assert stored == EXAMPLES and stored == EXAMPLES and stored == store(EXAMPLES)
    assert stored != EXAMPLES[:4] and stored != EXAMPLES[::-1] and stored != 5


def test_nothing_is_stored_too():
    assert list(store([])) == [] == store([])[:] and not store([])
    assert list(store([Example("", "")])) == [Example("", "")]


def test_more_than_a_block_is_gone_through_once():
    many = [Example(str(n), str(-n)) for n in range(2 * BLOCK + 1)]
    assert list(store(many)) == many


def test_a_view_of_a_view_has_an_order_of_its_own():
    view = store(EXAMPLES).take(np.array([4, 0, 3])).take(np.array([2, 0]))
    assert isinstance(view, StoredExamples)
    assert list(view) == [EXAMPLES[3], EXAMPLES[4]] == take(EXAMPLES, np.array([3, 4]))


def test_a_pickle_and_a_copy_hold_the_same():
    view = store(EXAMPLES).take(np.array([3, 1]))
    assert pickle.loads(pickle.dumps(view)) == [EXAMPLES[3], EXAMPLES[1]] == copy.deepcopy(view)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_worker_reads_the_same_and_leaves_it_open():
    stored = store(EXAMPLES)
    loader = DataLoader(
        stored, batch_size=2, num_workers=1, collate_fn=list, multiprocessing_context="fork"
    )
    assert [example for batch in loader for example in batch] == EXAMPLES == list(stored)


def test_no_file_is_left_in_the_folder_that_is_made(tmp_path):
    stored = store(EXAMPLES, tmp_path / "made/here")
    assert list((tmp_path / "made/here").iterdir()) == []
    assert list(stored) == EXAMPLES


def test_examples_are_written_as_they_come():
    """Not gathered first: the generator sees none of its Examples kept."""

    class Counted(Example):
        alive = 0

        def __init__(self, *texts):
            super().__init__(*texts)
            Counted.alive += 1

        def __del__(self):
            Counted.alive -= 1

    def come():
        for n in range(100):
            assert Counted.alive <= 1
            yield Counted(str(n), str(n))

    assert len(store(come())) == 100


def test_alternatives_and_labels_are_kept_and_cost_nothing_where_there_are_none():
    plain = [Example(f"p{i}", f"r{i}") for i in range(3)]
    rich = Example("q", "yes", {"choices": ["no", "yes \ud83d"], "paraphrased": ["aye"]}, 1)
    only_label = Example("q2", "no", label=0)
    examples = [plain[0], rich, plain[1], only_label, plain[2]]
    stored = store(examples)
    assert list(stored) == examples and stored[1].alternative("choices") == ("no", "yes \ud83d")
    assert list(stored.take(np.array([3, 1, 4]))) == [only_label, rich, plain[2]]
    assert list(pickle.loads(pickle.dumps(stored))) == examples
    assert store(plain)._more is None


def test_examples_with_alternatives_hash_and_compare():
    first = Example("q", "a", {"b": ["x"], "a": ("y", "z")})
    second = Example("q", "a", (("a", ("y", "z")), ("b", ("x",))))
    assert first == second and len({first, second, Example("q", "a")}) == 2
    assert first.alternative("nothing") == ()


def test_fingerprints_are_those_of_before_alternatives_and_tell_them_apart():
    plain = [Example("a", "b"), Example("ü", "\ud83d")]
    expected = hashlib.sha256(b'["a", "b"]\n["\\u00fc", "\\ud83d"]\n').hexdigest()
    assert fingerprint(plain) == expected
    others = [{"x": ["c"]}, {"x": ["d"]}, {"y": ["c"]}]
    found = {fingerprint([Example("a", "b", more)]) for more in others}
    found |= {fingerprint([Example("a", "b", label=n)]) for n in (0, 1)}
    assert len(found | {fingerprint([Example("a", "b")])}) == 6
