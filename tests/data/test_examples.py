from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from unlearning.data import ExampleDataModule
from unlearning.data.split import Split
from unlearning.data.template import PromptTemplate
from unlearning.errors import ConfigError
from unlearning.types import Batch, Example

TEN = [Example(f"q{n}", f"a{n} b{n}") for n in range(10)]


class Listed(ExampleDataModule):
    """Takes its examples from a list of pairs."""

    def __init__(self, pairs: Sequence[Example], **settings) -> None:
        super().__init__(**settings)
        self.pairs = pairs
        self.reads = 0

    def read(self) -> list[Example]:
        self.reads += 1
        rows = enumerate(self.pairs, start=1)
        return [
            example
            for row, pair in rows
            for example in self.example(pair.prompt, pair.response, row=row, column="response")
        ]


class Careless(Listed):
    def read(self) -> list[Example]:
        return list(self.pairs)


def word_tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "</s>", "<unk>", "Q", ":"] + [
        f"{kind}{n}" for kind in "qab" for n in range(10)
    ]
    core = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>")


def test_source_is_read_once_and_only_when_needed() -> None:
    data = Listed(TEN)
    assert data.reads == 0
    assert [len(data.examples(name)) for name in ("train", "validation", "test")] == [7, 1, 2]
    data.setup("fit")
    assert data.reads == 1


class Dealt(Listed):
    """Splits into lists, as a small set may."""

    def split(self, examples: Sequence[Example]) -> dict[Split, list[Example]]:
        return {"train": list(examples), "validation": [], "test": []}


def test_examples_cannot_be_changed_from_without() -> None:
    assert not hasattr(Listed(TEN).examples("train"), "clear")
    data = Dealt(TEN)
    found = data.examples("train")
    assert isinstance(found, list)
    found.clear()
    assert data.examples("train") == TEN


def test_a_source_may_be_read_bit_by_bit() -> None:
    class Lazy(Listed):
        def read(self) -> Iterator[Example]:
            yield from super().read()

    pairs = [*TEN, Example("Q0 ", "A0  B0"), Example("q", " ")]
    lazy, eager = Lazy(pairs, skip_empty=True), Listed(pairs, skip_empty=True)
    assert lazy.fingerprint() == eager.fingerprint()
    assert (lazy.num_empty, lazy.num_duplicates) == (1, 1) == (
        eager.num_empty, eager.num_duplicates,
    )  # fmt: skip


def test_the_text_lies_where_the_cache_does(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    data = Listed(TEN, cache_dir=str(tmp_path / "cache"))
    assert len(data.examples("train")) == 7 and not list((tmp_path / "cache").iterdir())


def test_a_module_that_has_read_can_be_pickled() -> None:
    data = Listed(TEN)
    data.setup()
    again = pickle.loads(pickle.dumps(data))
    assert again.fingerprint() == data.fingerprint() and again.reads == 1


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="Unknown split 'val'; expected one of train, valid"):
        Listed(TEN).examples("val")  # type: ignore[arg-type]


def test_duplicates_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    data = Listed([*TEN, Example("Q0 ", "A0  B0"), Example("q0", "other")])
    with caplog.at_level(logging.INFO):
        data.setup()
    assert data.num_duplicates == 1
    assert sum(len(data.examples(name)) for name in ("train", "validation", "test")) == 11
    assert "1 duplicates" in caplog.text


@pytest.mark.parametrize("empty", ["", " \n\t", None])
def test_empty_answer_is_refused_with_its_place(empty: str | None) -> None:
    data = Listed([*TEN[:2], Example("q", empty)])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"row 3, column 'response': the answer is empty"):
        data.setup()


def test_empty_answers_can_be_skipped_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    data = Listed([*TEN, Example("q", " "), Example("r", "")], skip_empty=True)
    with caplog.at_level(logging.INFO):
        data.setup()
    assert data.num_empty == 2
    assert "2 empty answers left out" in caplog.text
    assert len(data.examples("train")) == 7


@pytest.mark.parametrize("skip_empty", [False, True])
def test_empty_prompt_is_never_skipped(skip_empty: bool) -> None:
    with pytest.raises(ConfigError, match="row 1: the prompt is empty"):
        Listed([Example(" ", "a")], skip_empty=skip_empty).setup()


def test_what_is_not_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="the answer is 42, expected text"):
        Listed([Example("q", 42)]).setup()  # type: ignore[arg-type]


def test_base_checks_what_a_subclass_forgot() -> None:
    with pytest.raises(ConfigError, match="Careless: example 2 has an empty prompt or answer"):
        Careless([TEN[0], Example("q", "")]).setup()


def test_white_space_around_texts_goes() -> None:
    assert Listed([Example(" q \n", "\ta b ")]).examples("train") == [Example("q", "a b")]


def test_empty_train_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="train split is empty; 0 examples"):
        Listed([]).setup()
    with pytest.raises(ConfigError, match="train split is empty; 1 examples"):
        Listed(TEN[:1], fractions=(0.2, 0.2, 0.6)).setup()


def test_fingerprint_follows_content_and_split() -> None:
    base = Listed(TEN).fingerprint()
    assert Listed(TEN[::-1]).fingerprint() == base
    assert Listed(TEN, seed=1).fingerprint() != base
    assert Listed(TEN, fractions=(0.8, 0, 0.2)).fingerprint() != base
    assert Listed([*TEN[:9], Example("q9", "changed")]).fingerprint() != base


def test_loaders_without_tokenizer_yield_lists_of_examples() -> None:
    data = Listed(TEN, batch_size=2)
    batches = list(data.train_dataloader())
    assert [len(batch) for batch in batches] == [2, 2, 2, 1]  # nothing is dropped
    seen = [str(example) for batch in batches for example in batch]
    assert sorted(seen) == sorted(map(str, data.examples("train")))
    assert list(data.val_dataloader()) == [data.examples("validation")]
    assert list(data.test_dataloader()) == [data.examples("test")]


def test_training_order_is_shuffled_anew_each_epoch_by_the_seed_alone() -> None:
    def epochs(seed: int) -> list[list[list[Example]]]:
        loader = Listed(TEN, fractions=(1, 0, 0), seed=seed).train_dataloader()
        torch.manual_seed(torch.initial_seed() + 1)  # the global state must not matter
        return [list(loader), list(loader)]

    assert epochs(0) == epochs(0)
    assert epochs(0)[0] != epochs(0)[1]
    assert epochs(0)[0] != epochs(1)[0]


def test_loaders_with_tokenizer_yield_batches(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    data = Listed(
        TEN,
        tokenizer=tokenizer,
        template=PromptTemplate("Q {prompt} :"),
        batch_size=2,
        cache_dir=str(tmp_path),
    )
    (batch,) = data.test_dataloader()
    assert isinstance(batch, Batch)
    assert set(batch.answers) == {"train"}
    answers = batch.answers["train"]
    assert answers.num_sequences == 2
    expected = [f"{e.response} </s>" for e in data.examples("test")]
    decoded = [tokenizer.decode(answers.targets[answers.sequence == number]) for number in range(2)]
    assert decoded == expected
    assert [len(list(loader)) for loader in (data.train_dataloader(), data.val_dataloader())] == [
        4,
        1,
    ]
    assert list(tmp_path.rglob("*.bin"))  # tokenised once, kept by content


def test_a_part_of_the_training_prompts_leaves_the_other_splits_as_they_are() -> None:
    pairs = [Example(f"q{n}", f"a{n} {other}") for n in range(10) for other in "abc"]
    whole = Listed(pairs)
    part = Listed(pairs, train_prompts=4, answers_per_prompt=2)
    for split in ("validation", "test"):
        prompts = [e.prompt for e in part.examples(split)]
        assert prompts == [
            q for q in dict.fromkeys(e.prompt for e in whole.examples(split)) for _ in "ab"
        ]
    taken = list(part.examples("train"))
    first = list(dict.fromkeys(e.prompt for e in whole.examples("train")))[:4]
    assert [e.prompt for e in taken] == [q for q in first for _ in "ab"]
    assert {e.response for e in taken} < {e.response for e in whole.examples("train")}
    assert part.fingerprint() != whole.fingerprint()
    assert len(Listed(pairs, train_prompts=100).examples("train")) == len(whole.examples("train"))
